"""Hateful Memes: is a meme hateful? Its text is in the prompt (paper, appendix B.1.5), ROC-AUC is the score.

::

    hateful_memes/train.jsonl          {"id": 42953, "img": "img/42953.png", "label": 0, "text": "..."}
    hateful_memes/dev_seen.jsonl
    hateful_memes/img/42953.png
"""

from pathlib import Path

from ..task import Answering, Sample, Task
from .folder import field, find, read_jsonl

INSTRUCTION = 'is an image with written: "{question}" on it. Is it hateful? Answer:'
OPTIONS = ("no", "yes")  # label 0, label 1
SCORES = ("roc_auc", "accuracy")


def load(root: Path) -> Task:
    """The train split is the support set, dev_seen is asked."""
    support, queries = _read(root, "train.jsonl"), _read(root, "dev_seen.jsonl")
    return Task("hateful_memes", Answering.close_ended, support, queries, SCORES, INSTRUCTION, OPTIONS)


def _read(root: Path, name: str) -> list[Sample]:
    file = find(root, name)
    samples = []
    for _, entry in read_jsonl(file):
        label = entry.get("label")
        # The test splits come without labels; any other label is one outside the list.
        answers = () if label is None else (OPTIONS[label] if label in (0, 1) else str(label),)
        image = root / field(entry, "img", file)
        samples.append(Sample(str(field(entry, "id", file, (int, str))), (image,), field(entry, "text", file), answers))
    return samples
