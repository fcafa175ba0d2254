"""What the planner says a rank needs is what it needs: within 10 % at the worst moment of a step, measured."""

import pytest

from flamingo_ds.parallel.planning import Layout
from tools.measure import memory
from tools.measure.model import Case
from tools.measure.predicted import predict

from .conftest import Pools

CASES = [
    Case(Layout(1, 2), bf16=True),
    Case(Layout(3, 2, every=1), bf16=True),
    Case(Layout(1, 1, 2), bf16=True),
    Case(Layout(1, 1, 2, every=1), bf16=False),
    Case(Layout(1, 2, 2, shard_frozen=True), bf16=True),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.layout.name} {'bf16' if case.bf16 else 'fp32'}")
def test_predicted_is_measured(pools: Pools, case: Case) -> None:
    bounds, predicted = predict(case)
    measured = pools.run(case.layout.ranks, memory.by_allocator, case, bounds)
    for told, seen in zip(predicted, measured, strict=True):
        assert told.resting == pytest.approx(seen.resting, rel=0.02)
        assert told.total == pytest.approx(seen.peak, rel=0.10)
