"""Processes to be killed, forked from a server that has imported everything: a start costs a moment, not ten seconds.

The server imports this module, so that what is imported here is there already when a process starts.
"""

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import deepspeed
import deepspeed.runtime.zero.muon.muon_optimizer  # DeepSpeed imports it at its start, and it compiles at import
import setuptools  # noqa: F401 (DeepSpeed's operators)
import torch
import transformers.models.llama.modeling_llama  # noqa: F401
from PIL import Image

import flamingo_ds.train
import flamingo_ds.training.dry_run
import flamingo_ds.training.setup

ROOT = Path(__file__).parents[1]
Image.init()
_ = deepspeed.ops.__compatible_ops__  # tries a compiler


def start(function: Callable[..., Any], *arguments: Any) -> multiprocessing.process.BaseProcess:
    """A process that calls a function of an importable module."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    before = dict(os.environ)
    # For the server, a new interpreter: it shall import this tree, and have large tensors in pages of their own, so
    # that what is freed is given back and memory can be measured.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), before.get("PYTHONPATH"))))
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    try:
        process = context.Process(target=function, args=arguments, daemon=True)
        process.start()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return process


def train(arguments: Sequence[str], output: Path, variables: Mapping[str, str] | None = None) -> None:
    """``python -m flamingo_ds.train ARGUMENTS`` with what it prints in a file, and its exit code.

    Args:
        arguments: of the command line.
        output: file to append to.
        variables: of the environment, as a launcher sets them for one of several ranks.
    """
    os.environ.update(variables or {})
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(descriptor, stream.fileno())
    torch.set_num_threads(1)
    try:
        code = flamingo_ds.train.main(arguments)
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
