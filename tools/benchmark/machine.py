"""What a figure was measured on."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path


def describe_machine(root: Path, threads: int) -> dict[str, object]:
    """Processor, threads, versions and commit."""
    cpu = next(
        (line.split(":")[1].strip() for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")),
        platform.processor(),
    )
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, check=False
    ).stdout.strip()
    packages = ("torch", "torchvision", "transformers", "open_clip_torch", "pillow", "simplejpeg")
    return {
        "cpu": cpu,
        "threads": threads,
        "python": platform.python_version(),
        "commit": commit,
        **{name: version(name) for name in packages},
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
