"""Recall at 1, 5 and 10 both ways, with several captions an image."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy
from PIL import Image

from ...data.pictures import Picture
from ...errors import ConfigError
from ...parallel.launch import Launch
from ..results import Cell, Interval, Prediction, TaskResult
from ..rices import build_index
from ..scores.bootstrap import resampled
from ..scores.per_query import mean
from ..task import Sample, Task
from ..tasks import load_task
from .contrastive import Contrastive
from .places import places

TASK = "retrieval"
AT = (1, 5, 10)
# What tells each layout; the queries of that task are the images with their captions.
LAYOUTS = {
    "dataset_coco.json": "coco",
    "annotations": "coco",
    "dataset_flickr30k.json": "flickr30k",
    "queries.jsonl": "jsonl",
}


def run_retrieval(model: str, path: Path, launch: Launch, features: Path, limit: int | None = None) -> TaskResult:
    """How well a contrastive model finds a caption by its image, and an image by its caption.

    An image's captions are all right answers to it. Images are encoded in shards over ranks, once (see ``rices/``);
    every rank gives the same result.

    Args:
        model: of :class:`~flamingo_ds.evaluation.retrieval.contrastive.Contrastive`.
        path: folder of a captioning task: COCO, Flickr30k (their test images), or ``queries.jsonl`` with ``image`` and
            ``answers``.
        launch: this rank's place; the process group stands where there are several.
        features: folder for indices that all ranks see.
        limit: so many images, drawn at random, always the same; recall is among these alone. None: all.

    Returns:
        One cell with recall both ways, ``image_to_text_recall_at_1`` first, and a prediction for each image, then for
        each caption.

    Raises:
        ConfigError: a folder of another layout, a model that cannot be loaded, or no readable image.
    """
    task = read_captions(path)
    samples = list(task.queries)
    if limit is not None and limit < len(samples):
        samples = [samples[place] for place in sorted(random.Random(0).sample(range(len(samples)), limit))]
    contrastive = Contrastive(model, launch)
    index = build_index(contrastive, samples, features, launch, _load)
    images, lost = index.features(), set(index.unreadable())
    kept = [place for place in range(len(samples)) if place not in lost]
    if not kept:
        raise ConfigError("--task", str(path), "images that can be read")
    cell = _evaluate(contrastive, [samples[place] for place in kept], images[kept])
    skipped = {"unreadable_image": len(lost)} if lost else {}
    return TaskResult(TASK, str(path), [replace(cell, skipped=skipped)], task.skipped)


def read_captions(path: Path) -> Task:
    """The captioning task of a folder.

    Raises:
        ConfigError: none of the layouts, or a sample of several pictures.
    """
    name = next((task for file, task in LAYOUTS.items() if (path / file).exists()), None)
    if name is None:
        raise ConfigError("--task", str(path), f"a folder with one of {', '.join(LAYOUTS)}")
    task = load_task(name, path, support_limit=1)
    if odd := next((sample.key for sample in task.queries if len(sample.media) != 1), None):
        raise ConfigError("--task", str(path), f"one image a line; {odd!r} has another number")
    return task


def _evaluate(model: Contrastive, samples: Sequence[Sample], images: numpy.ndarray) -> Cell:
    texts = [text for sample in samples for text in sample.answers]
    owners = [place for place, sample in enumerate(samples) for _ in sample.answers]
    # Captions of the same words are encoded once, and so are exactly alike.
    words = list(dict.fromkeys(texts))
    numbers = {text: number for number, text in enumerate(words)}
    entries = numpy.array([numbers[text] for text in texts])
    encoded = model.text_features(words)
    ends = numpy.cumsum([len(sample.answers) for sample in samples])
    captions = [numpy.arange(end - len(sample.answers), end) for end, sample in zip(ends, samples, strict=True)]
    to_text, first_texts = places(images, encoded, captions, entries)
    to_image, first_images = places(encoded[entries], images, [numpy.array([owner]) for owner in owners])
    found = [
        Prediction(sample.key, texts[first], sample.answers, media=(str(sample.media[0]),))
        for sample, first in zip(samples, first_texts, strict=True)
    ]
    for number, (text, owner, first) in enumerate(zip(texts, owners, first_images, strict=True)):
        owner_key, media = samples[owner].key, (str(samples[first].media[0]),)
        key = f"{owner_key} caption {number - captions[owner][0] + 1}"
        found.append(Prediction(key, samples[first].key, (owner_key,), question=text, media=media))
    scores = {f"image_to_text_recall_at_{count}": recall(to_text, count) for count in AT}
    scores |= {f"text_to_image_recall_at_{count}": recall(to_image, count) for count in AT}
    return Cell(0, 0, scores, found)


def recall(before: numpy.ndarray, count: int) -> Interval:
    """Share of queries with a right item among the first ``count``."""
    return resampled((before < count).astype(numpy.float64)[:, None], mean)


def _load(path: Path) -> list[Image.Image]:
    return [Image.fromarray(Picture(path.read_bytes()).decode())]
