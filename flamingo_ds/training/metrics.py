"""One line a step in ``metrics.jsonl``, the same values in TensorBoard."""

import json
import resource
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter

from ..checkpoint.files import replace_text


class MetricsLog:
    """Metrics of a run, continued behind ``start_step``: lines of steps that are trained again are taken out.

    Args:
        jsonl: file to append to.
        tensorboard: folder of event files.
        start_step: steps done so far.
    """

    def __init__(self, jsonl: Path, tensorboard: Path, start_step: int) -> None:
        kept = [line for line in _lines(jsonl) if json.loads(line)["step"] <= start_step]
        replace_text(jsonl, "".join(f"{line}\n" for line in kept))
        self.file = jsonl.open("a", encoding="utf-8", buffering=1)
        self.board = SummaryWriter(str(tensorboard), purge_step=start_step + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        """One step's values."""
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush both."""
        self.file.close()
        self.board.close()


def memory_gb() -> float:
    """Peak memory of this process in GB (1e9 bytes): of its GPU where there is one, else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _lines(path: Path) -> list[str]:
    """Whole lines; a killed run may have left half of one."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return text[: text.rfind("\n") + 1].splitlines()
