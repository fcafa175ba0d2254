"""When a probe is due, what it is called, and that every rank asks for the same in the same order."""

from collections.abc import Sequence
from typing import Any

from flamingo_ds.batch import FlamingoBatch
from flamingo_ds.config import BatchPlan
from flamingo_ds.data import ProbeOutline
from flamingo_ds.training.probe import Probe, describe_probe


class CountingEngine:
    """Answers with how many micro-batches it was given."""

    def eval_loss(self, batches: Sequence[FlamingoBatch]) -> float:
        return float(len(batches))


def probe(every: int) -> tuple[Probe, list[str]]:
    told: list[str] = []
    sets = [
        ProbeOutline(BatchPlan("pairs", 8, 4, 1), batches=3, shots=[1]),
        ProbeOutline(BatchPlan("pages", 4, 1, 2), batches=3, shots=[]),
    ]
    engine: Any = CountingEngine()
    return Probe(every, sets, engine, told.append), told


def test_it_follows_every_so_many_steps():
    assert [step for step in range(1, 10) if probe(3)[0].is_due(step)] == [3, 6, 9]
    assert not any(probe(0)[0].is_due(step) for step in range(1, 10))


def test_losses_by_their_stable_names_and_the_watchdog_hears_each():
    asked, told = probe(1)
    losses = asked.losses()
    assert losses == {
        "probe/pairs/loss": 3.0,
        "probe/pairs/loss_blank": 3.0,
        "probe/pairs/loss_shuffled": 3.0,
        "probe/pairs/loss_1_shots": 6.0,
        "probe/pages/loss": 6.0,
        "probe/pages/loss_blank": 6.0,
        "probe/pages/loss_shuffled": 6.0,
    }
    assert told == list(losses)


def test_a_line_for_a_person():
    losses = {"probe/pairs/loss": 0.5, "probe/pairs/loss_blank": 2.0, "probe/pairs/loss_4_shots": 0.25}
    assert describe_probe(losses | {"probe/pages/loss": 1.0}) == (
        "pairs loss 0.5000  blank 2.0000  4 shots 0.2500; pages loss 1.0000"
    )
