"""Captions of videos: MSVD and VATEX.

::

    msvd/AllVideoDescriptions.txt                  a line a caption: -4wsuPCjDBc_5_15 A squirrel is eating a peanut.
    msvd/train_list.txt, msvd/test_list.txt        a line a clip
    msvd/YouTubeClips/-4wsuPCjDBc_5_15.avi

    vatex/vatex_training_v1.0.json, vatex/vatex_validation_v1.0.json          [{"videoID", "enCap": [...]}]
    vatex/videos/-5TiBi_x8E_000007_000017.mp4

A video is a file (mp4, webm, mkv, mov, avi) or a folder of its frames.
"""

from collections import defaultdict
from pathlib import Path

from ...config import ConfigError
from ..task import Answering, Sample, Task
from .captions import MAX_NEW_TOKENS, SCORES
from .folder import KEY, field, find, read_json, read_text
from .media import Videos

FOLDERS = ("videos", "video")


def msvd(root: Path) -> Task:
    """MSVD: the train list is the support set, the test list is asked.

    Raises:
        ConfigError: a file or folder is missing, or a clip of a list has no caption.
    """
    videos = Videos(find(root, "YouTubeClips", *FOLDERS))
    file = find(root, "AllVideoDescriptions.txt")
    captions: dict[str, list[str]] = defaultdict(list)
    for line in read_text(file).splitlines():
        clip, _, caption = line.strip().partition(" ")
        if caption and not clip.startswith("#"):
            captions[clip].append(caption.strip())
    splits = []
    for name in ("train_list.txt", "test_list.txt"):
        listed = find(root, name)
        clips = [line.strip() for line in read_text(listed).splitlines() if line.strip()]
        if unknown := [clip for clip in clips if clip not in captions]:
            raise ConfigError(KEY, str(listed), f"clips of {file.name}; {unknown[0]!r} is none")
        splits.append([Sample(clip, (videos.path(clip),), answers=tuple(captions[clip])) for clip in clips])
    support, queries = splits
    return _task("msvd", support, queries)


def vatex(root: Path) -> Task:
    """VATEX, English: training is the support set, validation is asked."""
    videos = Videos(find(root, *FOLDERS))
    return _task("vatex", _of_vatex(root, "training", videos), _of_vatex(root, "validation", videos))


def _of_vatex(root: Path, split: str, videos: Videos) -> list[Sample]:
    file = find(root, f"vatex_{split}_v1.0.json")
    samples = []
    for entry in read_json(file, list, "VATEX's list of videos"):
        clip = field(entry, "videoID", file)
        captions = tuple(str(caption).strip() for caption in field(entry, "enCap", file, list))
        samples.append(Sample(clip, (videos.path(clip),), answers=captions))
    return samples


def _task(name: str, support: list[Sample], queries: list[Sample]) -> Task:
    return Task(name, Answering.open_ended, support, queries, SCORES, max_new_tokens=MAX_NEW_TOKENS)
