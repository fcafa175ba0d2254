"""The evaluation loss is one number, on whatever layout, and training goes on as if nobody had asked for it.

Layouts differ in the order of additions, as they do in training; the limit is that of the training losses.
"""

import pytest
import torch

from flamingo_ds.batch import FlamingoBatch

from . import tiny_run
from .conftest import STEPS, Pools
from .test_parallel_equals_serial import LAYOUTS, assert_identical
from .tiny_run import Layout, Outcome

# Two kinds of batch, so that shapes differ from micro-batch to micro-batch.
KINDS = ("pairs", "pages")
NAMES = ["one process", "zero1", "zero2", "zero3", "pipeline 2", "pipeline 2 x data 2 sharded"]


def batches(layout: Layout) -> list[FlamingoBatch]:
    """This rank's share, a sequence at a time."""
    topology = layout.topology()
    cut = []
    for kind in KINDS:
        share = tiny_run.global_batch(50, kind)[topology.data_rank :: topology.data_ranks]
        cut += [share[row : row + 1] for row in range(len(share))]
    return cut if topology.is_first else [FlamingoBatch.empty() for _ in cut]


def train_and_evaluate(layout: Layout) -> tuple[Outcome, list[float]]:
    """The evaluation loss before training and after each step, in between and twice."""
    engine = tiny_run.build(layout)
    outcome, losses = Outcome(), [engine.eval_loss(batches(layout))]
    for step in STEPS:
        taken = tiny_run.train_steps(engine, layout, range(step, step + 1))
        taken.losses, taken.grad_norms = outcome.losses + taken.losses, outcome.grad_norms + taken.grad_norms
        outcome = taken
        losses.append(engine.eval_loss(batches(layout)))
        assert engine.eval_loss(batches(layout)) == losses[-1]
    return outcome, losses


def serial_loss(state: dict[str, dict[str, torch.Tensor]]) -> float:
    """By the definition, on all sequences at once: sums of both kinds by the number of their targets."""
    model = tiny_run.tiny_model().eval()
    model.load_state_dict({name: tensors["weight"] for name, tensors in state.items()}, strict=False)
    total, targets = 0.0, 0
    with torch.no_grad():
        for kind in KINDS:
            batch = tiny_run.global_batch(50, kind)
            total += float(model(**batch.tensors(), num_items_in_batch=1).loss)
            targets += batch.num_targets()
    return total / targets


@pytest.mark.parametrize("name", NAMES)
def test_every_layout_gives_one_loss_and_trains_on_as_before(pools: Pools, name: str) -> None:
    ranks, layout = LAYOUTS[name]
    answers = pools.run(ranks, train_and_evaluate, layout)
    outcome, losses = tiny_run.whole_outcome([answer[0] for answer in answers]), answers[0][1]
    assert all(answer[1] == losses for answer in answers)
    assert losses[0] == pytest.approx(serial_loss({}), rel=1e-6)
    assert losses[-1] == pytest.approx(serial_loss(outcome.state), rel=1e-6)
    assert abs(losses[-1] - losses[0]) > 1e-3  # it is the trained model's
    assert_identical(outcome, pools.train(ranks, layout, STEPS))
