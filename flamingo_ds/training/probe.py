"""While training goes on: how well is validation data predicted, with its images, without them and with wrong ones?

A model that ignores its images has the same loss in all three; see docs/probes.md.
"""

from collections.abc import Mapping, Sequence

from ..data import ProbeOutline
from ..parallel import Doing, TrainEngine


class Probe:
    """Losses of the same validation sequences, every so many steps.

    Args:
        every: steps between probes; 0: never.
        sets: a dataset each, this rank's share.
        engine: that trains; nothing that it trains with changes.
        doing: is told what is measured.
    """

    def __init__(self, every: int, sets: Sequence[ProbeOutline], engine: TrainEngine, doing: Doing) -> None:
        self.every, self.sets, self.engine, self.doing = every, sets, engine, doing

    def is_due(self, step: int) -> bool:
        """Whether one follows this step."""
        return self.every > 0 and step % self.every == 0

    def losses(self) -> dict[str, float]:
        """Mean cross-entropy by ``probe/DATASET/KIND``, equal on all ranks; collective."""
        losses = {}
        for part in self.sets:
            for kind in part.kinds:
                name = f"probe/{part.dataset}/{kind}"
                self.doing(name)
                losses[name] = self.engine.eval_loss(part.batches(kind))
        return losses


def describe_probe(losses: Mapping[str, float]) -> str:
    """For a person, dataset by dataset: ``pairs loss 0.6012  blank 2.1000  shuffled 2.4000  4 shots 0.5983``."""
    by_dataset: dict[str, list[str]] = {}
    for name, loss in losses.items():
        _, dataset, kind = name.split("/")
        what = kind.removeprefix("loss_").replace("_", " ")
        by_dataset.setdefault(dataset, []).append(f"{what} {loss:.4f}")
    return "; ".join(f"{dataset} {'  '.join(parts)}" for dataset, parts in by_dataset.items())
