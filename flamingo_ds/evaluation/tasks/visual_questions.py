"""Questions on images: VQAv2, OK-VQA, TextVQA and VizWiz; the train split is the support set, val is asked.

::

    vqav2/v2_OpenEnded_mscoco_{train,val}2014_questions.json           TextVQA's OCR tokens are not read,
    vqav2/v2_mscoco_{train,val}2014_annotations.json                   as in the paper (appendix B.1.5)
    vqav2/{train,val}2014/COCO_train2014_000000000009.jpg
                                                                       textvqa/TextVQA_0.5.1_{train,val}.json
    okvqa/OpenEnded_mscoco_{train,val}2014_questions.json              textvqa/train_images/0a0bc91825468c45.jpg
    okvqa/mscoco_{train,val}2014_annotations.json
    okvqa/{train,val}2014/COCO_train2014_000000000009.jpg              vizwiz/{train,val}.json
                                                                       vizwiz/{train,val}/VizWiz_train_00000000.jpg
"""

from pathlib import Path
from typing import Any

from ..task import Answering, Sample, Task
from .folder import field, find, listed, most_common_first, read_json

QUESTION = "Question: {question} Answer:"
MAX_NEW_TOKENS = 10


def vqav2(root: Path) -> Task:
    """VQAv2."""
    return _task("vqav2", _of_coco(root, "v2_", "train2014"), _of_coco(root, "v2_", "val2014"))


def okvqa(root: Path) -> Task:
    """OK-VQA."""
    return _task("okvqa", _of_coco(root, "", "train2014"), _of_coco(root, "", "val2014"))


def textvqa(root: Path) -> Task:
    """TextVQA; the images of val lie among those of train, as published."""
    return _task("textvqa", _of_textvqa(root, "train"), _of_textvqa(root, "val"))


def vizwiz(root: Path) -> Task:
    """VizWiz."""
    return _task("vizwiz", _of_vizwiz(root, "train"), _of_vizwiz(root, "val"))


def _of_coco(root: Path, version: str, split: str) -> list[Sample]:
    """``{"questions": [...]}`` and ``{"annotations": [...]}``, which meet in ``question_id``."""
    name = f"{version}mscoco_{split}_annotations.json"
    file = find(root, name, f"annotations/{name}")
    answers = {}
    for annotation in field(read_json(file, dict, "VQA's annotations"), "annotations", file, list):
        number = field(annotation, "question_id", file, (int, str))
        answers[number] = _answers(field(annotation, "answers", file, list), file)
    name = f"{version}OpenEnded_mscoco_{split}_questions.json"
    file = find(root, name, f"questions/{name}")
    samples = []
    for question in field(read_json(file, dict, "VQA's questions"), "questions", file, list):
        number = field(question, "question_id", file, (int, str))
        image = f"COCO_{split}_{field(question, 'image_id', file, int):012d}.jpg"
        text = field(question, "question", file)
        samples.append(Sample(str(number), (root / split / image,), text, answers.get(number, ())))
    return samples


def _of_textvqa(root: Path, split: str) -> list[Sample]:
    """``{"data": [{"question_id", "image_id", "question", "answers": [...]}]}``."""
    file = find(root, f"TextVQA_0.5.1_{split}.json")
    images = find(root, "train_images")
    samples = []
    for entry in field(read_json(file, dict, "TextVQA 0.5.1"), "data", file, list):
        key = str(field(entry, "question_id", file, (int, str)))
        image = images / f"{field(entry, 'image_id', file)}.jpg"
        answers = most_common_first([str(answer).strip() for answer in listed(entry, "answers", file)])
        samples.append(Sample(key, (image,), field(entry, "question", file), answers))
    return samples


def _of_vizwiz(root: Path, split: str) -> list[Sample]:
    """``[{"image", "question", "answers": [{"answer"}]}]``; an image has one question."""
    file = find(root, f"{split}.json", f"Annotations/{split}.json", f"annotations/{split}.json")
    images = find(root, split)
    samples = []
    for entry in read_json(file, list, "VizWiz's list of questions"):
        image = field(entry, "image", file)
        answers = _answers(listed(entry, "answers", file), file)
        samples.append(Sample(image, (images / image,), field(entry, "question", file), answers))
    return samples


def _answers(entries: list[Any], file: Path) -> tuple[str, ...]:
    return most_common_first([field(entry, "answer", file).strip() for entry in entries])


def _task(name: str, support: list[Sample], queries: list[Sample]) -> Task:
    scores = ("vqa_accuracy",)
    return Task(name, Answering.open_ended, support, queries, scores, QUESTION, max_new_tokens=MAX_NEW_TOKENS)
