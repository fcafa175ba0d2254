"""Classes of images: a folder a class, as ImageNet has them; any folder of that layout will do.

::

    imagenet/train/n01440764/n01440764_10026.JPEG
    imagenet/val/n01440764/ILSVRC2012_val_00000293.JPEG
    imagenet/LOC_synset_mapping.txt                               n01440764 tench, Tinca tinca
"""

import os
from collections import Counter
from pathlib import Path

from ...config import ConfigError
from ..task import IMAGE_SUFFIXES, Answering, Sample, Task
from .folder import KEY, find, read_text

MAPPING = "LOC_synset_mapping.txt"


def load(root: Path) -> Task:
    """Images of train are the support set, those of val are asked.

    A class is called by its first name in the mapping; all its names stand where the first is another class's too;
    what is the same even then ("crane", the bird and the machine) is one option. Without a mapping it is called as its
    folder is, with spaces for underscores.

    Raises:
        ConfigError: a folder is missing, or a class has no name.
    """
    train, val = find(root, "train"), find(root, "val")
    folders = sorted({entry.name for split in (train, val) for entry in os.scandir(split) if entry.is_dir()})
    if not folders:
        raise ConfigError(KEY, str(root), "a folder a class: train/CLASS/*, val/CLASS/*")
    names = _names(root / MAPPING, folders)
    options = tuple(dict.fromkeys(names[folder] for folder in folders))
    support, queries = _images(train, names), _images(val, names)
    return Task("imagenet", Answering.close_ended, support, queries, ("accuracy",), options=options)


def _names(mapping: Path, folders: list[str]) -> dict[str, str]:
    if not mapping.exists():
        return {folder: folder.replace("_", " ") for folder in folders}
    all_names = {}
    for line in read_text(mapping).splitlines():
        folder, _, name = line.strip().partition(" ")
        all_names[folder] = name.strip()
    if unnamed := [folder for folder in folders if not all_names.get(folder)]:
        raise ConfigError(KEY, str(mapping), f"a line for each class; it has none for {unnamed[0]}")
    first = {folder: name.split(",")[0].strip() for folder, name in all_names.items()}
    times = Counter(first.values())
    return {folder: first[folder] if times[first[folder]] == 1 else all_names[folder] for folder in folders}


def _images(split: Path, names: dict[str, str]) -> list[Sample]:
    samples = []
    for folder, name in names.items():
        where = split / folder
        answers = (name,)
        files = sorted(os.listdir(where)) if where.is_dir() else []
        samples += [
            Sample(f"{split.name}/{folder}/{file}", (where / file,), answers=answers)
            for file in files
            if file.rpartition(".")[2].lower() in IMAGE_SUFFIXES
        ]
    return samples
