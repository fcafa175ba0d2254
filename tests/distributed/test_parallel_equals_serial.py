"""Every layout is the same model: losses, gradient norms, weights and moments of plain PyTorch on the whole batch.

All runs are fp32 and differ only in the order of additions: over ranks, over micro-steps, over a sharded norm.
Measured, as the largest difference over all stages: losses 1.8e-7 relative, gradient norms 2.3e-7, weights 8e-7
absolute (two micro-steps), first moments 7e-9, second moments 6e-12. The limits are four to ten times that, for another
machine's order of additions.
"""

import pytest
import torch

from . import tiny_run
from .pool import WorkerPool
from .tiny_run import Outcome

STEPS = range(4)
LIMITS = {"weight": 4e-6, "exp_avg": 5e-8, "exp_avg_sq": 6e-11}
LAYOUTS = [
    pytest.param(stage, checkpointing, id=f"zero{stage}{'-checkpointing' if checkpointing else ''}")
    for stage in (0, 1, 2, 3)
    for checkpointing in (False, True)
]


@pytest.fixture(scope="module")
def serial() -> Outcome:
    return tiny_run.train_serial(STEPS)


def assert_same(outcome: Outcome, reference: Outcome) -> None:
    for step, (losses, expected) in enumerate(zip(outcome.losses, reference.losses, strict=True)):
        assert losses == pytest.approx(expected, rel=1e-6), f"step {step}"
    assert outcome.grad_norms == pytest.approx(reference.grad_norms, rel=1e-6)
    assert outcome.state.keys() == reference.state.keys()
    for name, tensors in outcome.state.items():
        for kind, limit in LIMITS.items():
            difference = (tensors[kind] - reference.state[name][kind]).abs().max().item()
            assert difference <= limit, f"{name} {kind}: {difference}"


@pytest.mark.parametrize(("stage", "checkpointing"), LAYOUTS)
def test_zero_on_two_ranks_equals_one_process(
    two_ranks: WorkerPool, serial: Outcome, stage: int, checkpointing: bool
) -> None:
    first, second = two_ranks.run(tiny_run.train_parallel, stage, checkpointing, STEPS)
    assert_same(first, serial)
    assert second.losses == first.losses
    assert second.grad_norms == first.grad_norms


def test_micro_steps_change_nothing(two_ranks: WorkerPool, serial: Outcome) -> None:
    first, _ = two_ranks.run(tiny_run.train_parallel, 3, False, STEPS, 2)
    assert_same(first, serial)


def test_tied_language_model_under_zero3(two_ranks: WorkerPool) -> None:
    first, _ = two_ranks.run(tiny_run.train_parallel, 3, True, STEPS, 1, False, True)
    assert_same(first, tiny_run.train_serial(STEPS, tied=True))
    assert "new_token_head.weight" not in first.state


@pytest.mark.parametrize("stage", [1, 3])
def test_checkpointing_is_bit_identical(two_ranks: WorkerPool, stage: int) -> None:
    """Recomputing does the same arithmetic again, so nothing may differ at all, in bf16 either."""
    kept = two_ranks.run(tiny_run.train_parallel, stage, False, STEPS, 1, True)[0]
    recomputed = two_ranks.run(tiny_run.train_parallel, stage, True, STEPS, 1, True)[0]
    assert recomputed.losses == kept.losses
    for name, tensors in kept.state.items():
        assert torch.equal(recomputed.state[name]["weight"], tensors["weight"]), name


def test_the_reference_learns(serial: Outcome) -> None:
    """A reference that does not move would agree with anything."""
    before = dict(tiny_run.tiny_model().named_parameters())
    for name, tensors in serial.state.items():
        assert not torch.equal(tensors["weight"], before[name]), name
