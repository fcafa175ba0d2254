"""One conversion in a process of its own, its seconds and memory as JSON.

    python -m tools.benchmark.conversion WAY SOURCE OUT

Memory is the process's own (anonymous: mapped files can be given back) and counts from when everything was imported.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

SAMPLE_SECONDS = 0.002


class NoHash:
    """In place of sha256, to see what hashing costs."""

    def __init__(self, content: bytes = b"") -> None: ...

    def update(self, content: memoryview) -> None:
        """Do not."""

    def hexdigest(self) -> str:
        """Nothing."""
        return "0" * 64


def own_bytes() -> int:
    """Anonymous memory of this process in RAM."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.split("RssAnon:")[1].split()[0])


def ours(source: Path, out: Path) -> None:
    """As tools/convert_to_hf.py does it."""
    from flamingo_ds.checkpoint.conversion.to_hf import ExportOptions, export_checkpoint

    export_checkpoint(source, out, ExportOptions())


def ours_without_hashes(source: Path, out: Path) -> None:
    """The same with hashes of zeros; the frozen base is then compared with nothing."""
    from flamingo_ds.checkpoint import fingerprint
    from flamingo_ds.checkpoint.conversion import folder, shards, source_checkpoint

    source_checkpoint.require_same_base = lambda *_: None
    for module in (fingerprint, folder, shards):
        module.hashlib = SimpleNamespace(sha256=NoHash)  # type: ignore[attr-defined]
    ours(source, out)


def deepspeed_s(source: Path, out: Path) -> None:
    """DeepSpeed's zero_to_fp32, to safetensors."""
    from deepspeed.utils.zero_to_fp32 import convert_zero_checkpoint_to_fp32_state_dict

    convert_zero_checkpoint_to_fp32_state_dict(str(source), str(out), safe_serialization=True)


def copied(source: Path, out: Path) -> None:
    """``cp`` of a folder, flushed as ours is."""
    subprocess.run(["cp", "-r", str(source), str(out)], check=True)
    for path in out.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


WAYS: dict[str, Callable[[Path, Path], None]] = {
    "ours": ours,
    "ours without hashes": ours_without_hashes,
    "zero_to_fp32": deepspeed_s,
    "cp": copied,
}


def measure(way: str, source: Path, out: Path) -> dict[str, float]:
    """Do it once; what it wrote is deleted."""
    # Imports are no part of it.
    import transformers.models.clip.modeling_clip
    import transformers.models.llama.modeling_llama  # noqa: F401
    from huggingface_hub import ModelCard  # noqa: F401

    import flamingo_ds.checkpoint.conversion.to_hf  # noqa: F401

    before, peak, done = own_bytes(), own_bytes(), threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(SAMPLE_SECONDS):
            peak = max(peak, own_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    WAYS[way](source, out)
    seconds = time.monotonic() - began
    done.set()
    watcher.join()
    shutil.rmtree(out)
    return {"seconds": seconds, "peak_anonymous_mb": (peak - before) / 1e6}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))
