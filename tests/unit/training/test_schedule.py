import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_ds.config.schema import OptimizerConfig, ScheduleConfig, ScheduleKind
from flamingo_ds.training.schedule import learning_rate

PEAK = 8.0
OPTIMIZER = OptimizerConfig(learning_rate=PEAK)


def rates(kind: ScheduleKind, warmup: int, max_steps: int) -> list[float]:
    schedule = ScheduleConfig(kind, warmup)
    return [learning_rate(step, max_steps, OPTIMIZER, schedule) for step in range(max_steps)]


def test_the_warm_up_rises_in_equal_steps_to_the_peak():
    assert rates(ScheduleKind.constant, 4, 6) == [2.0, 4.0, 6.0, 8.0, 8.0, 8.0]


def test_without_a_warm_up_the_first_step_is_at_the_peak():
    assert rates(ScheduleKind.constant, 0, 3) == [PEAK] * 3


def test_the_cosine_by_hand():
    # Four steps after the warm-up, at 0, 1/4, 1/2 and 3/4 of the way from the peak to 0.
    half = math.sqrt(0.5)
    expected = [4.0, 8.0, 8.0, 4 * (1 + half), 4.0, 4 * (1 - half)]
    assert rates(ScheduleKind.cosine, 2, 6) == pytest.approx(expected)


def test_the_cosine_would_be_zero_at_max_steps_and_stays_there():
    schedule = ScheduleConfig(ScheduleKind.cosine, 2)
    assert [learning_rate(step, 6, OPTIMIZER, schedule) for step in (6, 7, 100)] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("kind", ScheduleKind)
def test_a_run_shorter_than_its_warm_up_only_rises(kind):
    assert rates(kind, 8, 4) == [1.0, 2.0, 3.0, 4.0]


def test_a_longer_run_changes_no_step_of_a_constant_schedule():
    # A run that is resumed with more steps goes on as if it had been meant to.
    assert rates(ScheduleKind.constant, 3, 20)[:10] == rates(ScheduleKind.constant, 3, 10)


@given(st.sampled_from(ScheduleKind), st.integers(0, 50), st.integers(1, 100))
def test_every_step_of_a_run_learns_at_most_at_the_peak(kind, warmup, max_steps):
    values = rates(kind, warmup, max_steps)
    assert all(0 < value <= PEAK for value in values)
    assert values[:warmup] == sorted(values[:warmup])
    assert values[warmup:] == sorted(values[warmup:], reverse=True)
    if warmup < max_steps:
        assert max(values) == PEAK
