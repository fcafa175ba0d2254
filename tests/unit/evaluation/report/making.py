"""A report with everything in it: captions, questions with options, two seeds, what is missing."""

import numpy
from PIL import Image

from flamingo_ds.evaluation.results import Cell, Interval, Prediction, Report, TaskResult
from flamingo_ds.evaluation.scores import SCORES, interval

ANIMALS = ("cat", "dog", "bird & bee")


def pictures(folder, count=6, size=(80, 60)):
    rng = numpy.random.default_rng(0)
    paths = []
    for number in range(count):
        path = folder / f"picture-{number}.png"
        colours = rng.integers(0, 256, (3, 4, 3), dtype=numpy.uint8)
        Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC).save(path)
        paths.append(str(path))
    return paths


def captions(paths, shots, good):
    made = []
    for number in range(12):
        media = [paths[(number + place) % len(paths)] for place in range(shots + 1)]
        examples = "".join(f"<image>Output: a {ANIMALS[place % 3]} sits<EOC>" for place in range(shots))
        said = f"a {ANIMALS[number % 3]} sits on mat number {number}"
        text = said if number < good else "" if number == 11 else "two dogs"
        references = (said, f"some {ANIMALS[number % 3]} by the window")
        made.append(
            Prediction(
                f"caption-{number}",
                text,
                references,
                media=(media[-1],),
                examples=tuple(f"e{place}" for place in range(shots)),
                prompt=f"{examples}<image>Output:",
                prompt_media=tuple(media),
            )
        )
    return made


def classes(paths, shots, good):
    made = []
    for number in range(20):
        right = ANIMALS[number % 3]
        chosen = right if number < good else ANIMALS[(number + 1) % 3]
        likelihoods = {name: -0.5 if name == chosen else -2.0 - number for name in ANIMALS}
        prompt = f"{'<image>Output: cat<EOC>' * shots}<image>Output:"
        media = (paths[number % len(paths)],)
        made.append(Prediction(f"class-{number}", chosen, (right,), "", media, (), prompt, likelihoods))
    return made


def cell(predictions, shots, scores, seed=0, skipped=None):
    return Cell(
        shots, seed, {name: interval(SCORES[name], predictions, 200) for name in scores}, predictions, skipped or {}
    )


def report(folder, model="runs/alpha", better=0):
    paths = pictures(folder)
    coco = [
        cell(captions(paths, shots, good + better), shots, ("cider", "bleu4"))
        for shots, good in ((0, 3), (4, 6), (8, 8))
    ]
    animals = [
        cell(classes(paths, shots, good + better), shots, ("accuracy",), seed, {"unreadable_image": 1} if seed else {})
        for shots, good in ((0, 7), (4, 12), (16, 17))
        for seed in (0, 1)
    ]
    nan = float("nan")
    memes = [Cell(4, 0, {"roc_auc": Interval(nan, nan, nan)}, [])]
    tasks = [
        TaskResult("coco", "/data/coco", coco, {"missing_image": 2}),
        TaskResult("animals", "/data/animals", animals),
        TaskResult("memes", "/data/memes", memes),
    ]
    return Report(model, {"select": "rices", "ensemble": 1, "seeds": [0, 1]}, tasks)
