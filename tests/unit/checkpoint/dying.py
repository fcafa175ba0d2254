"""A save whose process dies at a chosen operation on the file system; imported by name in the dying process."""

import os
import threading
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from flamingo_ds.checkpoint.retention import Retention
from tests.saving import save

OPERATIONS = ("rename", "replace", "unlink", "rmdir", "mkdir", "symlink", "fsync", "chmod", "listdir", "scandir")
DIED = 9


def save_and_die(folder: Path, step: int, value: float, retention: Retention, at: int) -> None:
    """A save that is over just before its ``at``-th operation."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    lock, count = threading.Lock(), 0

    def counted(operation: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            with lock:
                count += 1
                if count == at:
                    os._exit(DIED)
            return operation(*arguments, **options)

        return call

    for name in OPERATIONS:
        setattr(os, name, counted(getattr(os, name)))
    save(folder, step, value, retention)
    os._exit(0)
