"""Captions of images: COCO and Flickr30k, in the Karpathy splits or as COCO publishes them.

::

    coco/dataset_coco.json                                     or, where that is not there, coco/annotations/
    coco/train2014/COCO_train2014_000000000009.jpg                 captions_train2014.json, captions_val2014.json
    coco/val2014/COCO_val2014_000000000042.jpg

    flickr30k/dataset_flickr30k.json
    flickr30k/flickr30k-images/1000092795.jpg
"""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..task import Answering, Sample, Task
from .folder import field, find, read_json

SCORES = ("cider", "bleu4")
MAX_NEW_TOKENS = 30
SUPPORT_SPLITS = ("train", "restval")
QUERY_SPLIT = "test"


def coco(root: Path) -> Task:
    """COCO: Karpathy's train and restval for support and his test to ask, else the train and val of 2014."""
    if not (root / "dataset_coco.json").exists() and (root / "annotations").exists():
        return _task("coco", _published(root, "train2014"), _published(root, "val2014"))
    file = find(root, "dataset_coco.json")
    return _of_karpathy(
        "coco", file, lambda entry: root / field(entry, "filepath", file) / field(entry, "filename", file)
    )


def flickr30k(root: Path) -> Task:
    """Flickr30k: Karpathy's train for support and his test to ask."""
    file = find(root, "dataset_flickr30k.json")
    images = find(root, "flickr30k-images", "flickr30k_images", "images")
    return _of_karpathy("flickr30k", file, lambda entry: images / field(entry, "filename", file))


def _of_karpathy(name: str, file: Path, path_of: Callable[[Any], Path]) -> Task:
    """``{"images": [{"filename", "split", "sentences": [{"raw"}]}]}``."""
    images = field(read_json(file, dict, "Karpathy's splits"), "images", file, list)
    support, queries = [], []
    for image in images:
        captions = [field(sentence, "raw", file).strip() for sentence in field(image, "sentences", file, list)]
        path = path_of(image)
        sample = Sample(path.name, (path,), answers=tuple(captions))
        split = field(image, "split", file)
        if split in SUPPORT_SPLITS:
            support.append(sample)
        elif split == QUERY_SPLIT:
            queries.append(sample)
    return _task(name, support, queries)


def _published(root: Path, split: str) -> list[Sample]:
    """``{"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}``."""
    file = find(root, f"annotations/captions_{split}.json")
    content = read_json(file, dict, "COCO's captions")
    captions: dict[Any, list[str]] = defaultdict(list)
    for annotation in field(content, "annotations", file, list):
        captions[field(annotation, "image_id", file, (int, str))].append(field(annotation, "caption", file).strip())
    samples = []
    for image in field(content, "images", file, list):
        name = field(image, "file_name", file)
        answers = tuple(captions[field(image, "id", file, (int, str))])
        samples.append(Sample(name, (root / split / name,), answers=answers))
    return samples


def _task(name: str, support: list[Sample], queries: list[Sample]) -> Task:
    return Task(name, Answering.open_ended, support, queries, SCORES, max_new_tokens=MAX_NEW_TOKENS)
