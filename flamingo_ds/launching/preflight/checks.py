"""What one rank can say of its own node without torch."""

import os
import platform
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# A rehearsal: the node with this name calls itself bad.
REHEARSAL_VARIABLE = "FLAMINGO_PREFLIGHT_BAD"
PCI_DEVICES = Path("/sys/bus/pci/devices")
# Vendor, and the first digits of the class: display controllers, processing accelerators.
GPU_VENDORS = ("0x10de", "0x1002")
GPU_CLASSES = ("0x0300", "0x0302", "0x0380", "0x1200")


@dataclass(frozen=True)
class NodeReport:
    """One rank's word on its node; it travels as JSON.

    Attributes:
        rank, node: who speaks.
        python, torch: versions; torch's is empty where it is not installed.
        gpus_on_bus: what the machine has, whatever its driver says.
        free_gb: of the run folder's disk; 0 if it cannot be asked.
        problem: why this node is bad; empty if it is not.
    """

    rank: int
    node: str
    python: str
    torch: str
    gpus_on_bus: int
    free_gb: float
    problem: str = ""


def look(run_dir: Path, rank: int, node: str, min_free_gb: float, environ: Mapping[str, str]) -> NodeReport:
    """Look at this node.

    Args:
        run_dir: that training will write to.
        rank, node: of this process.
        min_free_gb: less free space there (GB of 1e9 bytes) is a problem.
        environ: may ask for a rehearsal.
    """
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = ""
    free, problem = _disk(run_dir, rank, min_free_gb)
    if not torch:
        problem = problem or "torch is not installed"
    if environ.get(REHEARSAL_VARIABLE) == node:
        problem = f"a rehearsal: {REHEARSAL_VARIABLE}={node}"
    return NodeReport(rank, node, platform.python_version(), torch, gpus_on_bus(), free, problem)


def gpus_on_bus(devices: Path = PCI_DEVICES) -> int:
    """NVIDIA's and AMD's GPUs on the PCI bus."""
    count = 0
    for device in devices.glob("*"):
        try:
            vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
        except OSError:
            continue
        count += vendor in GPU_VENDORS and kind.startswith(GPU_CLASSES)
    return count


def _disk(run_dir: Path, rank: int, min_free_gb: float) -> tuple[float, str]:
    """Free GB of the run folder, and what is wrong with writing to it."""
    text = f"preflight of rank {rank}"
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(run_dir).free / 1e9
        with tempfile.NamedTemporaryFile("w+", dir=run_dir, prefix=".preflight-") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            same = file.read() == text
    except OSError as error:
        return 0.0, f"cannot write to {run_dir}: {error.strerror}"
    if not same:
        return free, f"what is written to {run_dir} is not what is read back"
    if free < min_free_gb:
        return free, f"{free:.1f} GB free in {run_dir}, less than {min_free_gb:g}"
    return free, ""
