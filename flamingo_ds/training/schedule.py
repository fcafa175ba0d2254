"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

import math

from ..config.schema import OptimizerConfig, ScheduleConfig, ScheduleKind


def learning_rate(step: int, max_steps: int, optimizer: OptimizerConfig, schedule: ScheduleConfig) -> float:
    """The rate of optimizer step ``step`` (the first is 0).

    Linear from 0 to the peak over the warm-up, reached at its end (paper, appendix B.1.2); then constant, or a cosine
    that would be 0 at ``max_steps``.
    """
    peak, warmup = optimizer.learning_rate, schedule.warmup_steps
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule.kind is ScheduleKind.constant:
        return peak
    progress = (step - warmup) / max(max_steps - warmup, 1)
    return peak * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
