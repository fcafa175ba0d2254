"""Tasks by name, each read from one folder in its official layout. A new one is a small file and a row in ``TASKS``."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from ...config import ConfigError
from ..task import Task
from . import captions, hateful_memes, imagenet, jsonl, video_captions, video_questions, visual_questions
from .finish import finish
from .folder import KEY

TASKS: Mapping[str, Callable[[Path], Task]] = {
    "coco": captions.coco,
    "flickr30k": captions.flickr30k,
    "hateful_memes": hateful_memes.load,
    "imagenet": imagenet.load,
    "ivqa": video_questions.ivqa,
    "jsonl": jsonl.load,
    "msrvtt_qa": video_questions.msrvtt_qa,
    "msvd": video_captions.msvd,
    "msvd_qa": video_questions.msvd_qa,
    "okvqa": visual_questions.okvqa,
    "textvqa": visual_questions.textvqa,
    "vatex": video_captions.vatex,
    "vizwiz": visual_questions.vizwiz,
    "vqav2": visual_questions.vqav2,
}


def load_task(name: str, path: Path, support_limit: int | None = None) -> Task:
    """The task of a folder, ready to be asked.

    What cannot be used is left out and counted in ``Task.skipped``: pictures and videos that are not there, samples
    without an answer, texts that no tokenizer takes. Kinds of the support set begin with ``support_``.

    Args:
        name: of ``TASKS``.
        path: its folder.
        support_limit: most support samples, chosen at random, always the same ones, as many of each class as of any
            other. None: as in the paper (appendix B.1.4), 2,048, or 32 a class where that is more. Where the task
            itself chooses the examples there is no limit.

    Raises:
        ConfigError: an unknown name, a folder of another layout, two samples of one key, an answer outside the list,
            or nothing left to ask.
    """
    if name not in TASKS:
        raise ConfigError(KEY, name, f"one of {', '.join(sorted(TASKS))}, or retrieval alone")
    if not path.is_dir():
        raise ConfigError(KEY, str(path), f"the folder of {name}")
    if support_limit is not None and support_limit < 1:
        raise ConfigError("--support-limit", support_limit, "1 or more")
    return finish(replace(TASKS[name](path), name=name), path, support_limit)
