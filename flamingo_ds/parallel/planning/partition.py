"""Which LM blocks each pipeline stage gets: costs in, bounds out. Pure arithmetic, the same on every rank.

Stage s of S holds LM blocks ``bounds[s]`` up to ``bounds[s + 1]``, with the gated blocks that stand before them. The
first stage also has what comes before the LM blocks (vision encoder, resampler, embedding), the last what comes behind
(norm, head). In a 1F1B schedule stage s keeps up to S - s micro-batches between forward and backward pass, so
the same block needs more memory on an early stage.

All costs are integers, so that sums are exact and a tie is a tie on every machine.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise


@dataclass(frozen=True)
class Cost:
    """Of one LM block with its gated block, or of what stands before all blocks, or behind them.

    Attributes:
        time: of all its forward and backward work in a step, in any unit (FLOPs).
        resident: bytes that are always there: weights, gradients, optimizer.
        in_flight: bytes for each micro-batch between its forward and its backward pass.
        transient: bytes while it is being computed, and at no other time.
        trains: whether it holds a parameter that trains.
    """

    time: int = 0
    resident: int = 0
    in_flight: int = 0
    transient: int = 0
    trains: bool = False


NOTHING = Cost()


@dataclass(frozen=True)
class StageCost:
    """Of one stage: the sum of its costs' ``time``, and its bytes at the worst moment."""

    time: int
    memory: int


def stage_costs(
    bounds: Sequence[int], blocks: Sequence[Cost], first: Cost, last: Cost, micro_batches: int, each: Cost = NOTHING
) -> list[StageCost]:
    """What each stage of given bounds costs; arguments as of :func:`stage_bounds`."""
    spans = _Spans(blocks, first, last, each, len(bounds) - 1, micro_batches)
    return [spans.cost(stage, start, end) for stage, (start, end) in enumerate(pairwise(bounds))]


def stage_bounds(
    blocks: Sequence[Cost],
    first: Cost,
    last: Cost,
    stages: int,
    micro_batches: int,
    memory_limit: int | None = None,
    each: Cost = NOTHING,
) -> tuple[int, ...]:
    """The bounds whose slowest stage is fastest; exact.

    Every stage gets at least one block and something that trains, for a stage without has nothing to optimize, and
    the tensor that leaves it would carry no gradient. Of equally fast bounds those with the smaller largest memory
    are taken, and of those the smallest in the order of tuples: early stages, which keep more in flight, the shortest.

    Args:
        blocks: a cost for each LM block.
        first: of what the first stage has besides.
        last: of what the last stage has besides.
        stages: S.
        micro_batches: of one rank in a step, over all datasets: no stage keeps more in flight.
        memory_limit: bytes a rank may hold.
        each: of what every stage has besides, as buffers.

    Returns:
        S + 1 rising numbers from 0 to the number of blocks.

    Raises:
        ValueError: no bounds fit, and why.
    """
    if stages < 1:
        raise ValueError(f"{stages} stages; expected at least 1")
    if stages > len(blocks):
        raise ValueError(f"{stages} stages of {len(blocks)} LM blocks: each stage needs one at least")
    spans = _Spans(blocks, first, last, each, stages, micro_batches)
    if not spans.reaches_end():
        most = _most_stages(blocks, first, last)
        hint = f"at most {most} are possible" if most else "nothing trains at all"
        raise ValueError(
            f"{stages} stages: one would hold nothing that trains (gated blocks stand too far apart); {hint}"
        )
    least = spans.smallest_maximum("memory")
    if memory_limit is not None:
        if least > memory_limit:
            raise ValueError(
                f"{stages} stages: the fullest needs {least / 1e9:.3f} GB at best; "
                f"the limit is {memory_limit / 1e9:.3f}"
            )
        spans.most_memory = memory_limit
    spans.most_time = spans.smallest_maximum("time")
    spans.most_memory = spans.smallest_maximum("memory")
    return spans.smallest_bounds()


def _most_stages(blocks: Sequence[Cost], first: Cost, last: Cost) -> int:
    """Cutting behind the first block that gives a stage something that trains is never worse than cutting later."""
    stages, trains = 0, first.trains
    for block in blocks[:-1]:
        trains = trains or block.trains
        if trains:
            stages, trains = stages + 1, False
    return stages + (trains or blocks[-1].trains or last.trains)


class _Spans:
    """Every span of blocks that a stage may have, and dynamic programming over them.

    ``most_time`` and ``most_memory`` narrow down what a stage may cost; None is no limit.
    """

    def __init__(
        self, blocks: Sequence[Cost], first: Cost, last: Cost, each: Cost, stages: int, micro_batches: int
    ) -> None:
        self.blocks, self.first, self.last, self.each = blocks, first, last, each
        self.stages, self.micro_batches = stages, micro_batches
        self.most_time: int | None = None
        self.most_memory: int | None = None
        self.times = [0, *accumulate(block.time for block in blocks)]
        self.resident = [0, *accumulate(block.resident for block in blocks)]
        self.in_flight = [0, *accumulate(block.in_flight for block in blocks)]
        self.training = [0, *accumulate(int(block.trains) for block in blocks)]

    def cost(self, stage: int, start: int, end: int) -> StageCost:
        """Of blocks ``start`` to ``end`` as a stage."""
        return self._cost(stage, start, end, max(block.transient for block in self.blocks[start:end]))

    def reaches_end(self) -> bool:
        """Whether any bounds leave every stage something that trains."""
        return bool(self._backwards("time")[0][0] is not None)

    def smallest_maximum(self, what: str) -> int:
        """The least possible ``time`` or ``memory`` of the costliest stage."""
        least = self._backwards(what)[0][0]
        assert least is not None
        return least

    def smallest_bounds(self) -> tuple[int, ...]:
        """The first in the order of tuples."""
        table = self._backwards("time")
        bounds = [0]
        for stage in range(self.stages):
            fitting = (end for end, _ in self._ends(stage, bounds[-1]) if table[stage + 1][end] is not None)
            bounds.append(min(fitting))
        return tuple(bounds)

    def _backwards(self, what: str) -> list[list[int | None]]:
        """[s][i]: the least maximum of stages s to the last over blocks i to the last; None: there is no way."""
        count = len(self.blocks)
        table: list[list[int | None]] = [[None] * (count + 1) for _ in range(self.stages + 1)]
        table[self.stages][count] = 0
        for stage in reversed(range(self.stages)):
            starts = range(stage, count - (self.stages - stage) + 1) if stage else range(1)
            for start in starts:
                best: int | None = None
                for end, cost in self._ends(stage, start):
                    rest = table[stage + 1][end]
                    if rest is not None:
                        maximum = max(rest, getattr(cost, what))
                        best = maximum if best is None else min(best, maximum)
                table[stage][start] = best
        return table

    def _ends(self, stage: int, start: int) -> Iterator[tuple[int, StageCost]]:
        """Where a stage that begins at a block may end, with its cost."""
        is_last = stage == self.stages - 1
        extra = (stage == 0 and self.first.trains) or (is_last and self.last.trains)
        transient = 0
        for end in range(start + 1, len(self.blocks) - (self.stages - 1 - stage) + 1):
            transient = max(transient, self.blocks[end - 1].transient)
            if is_last and end < len(self.blocks):
                continue
            cost = self._cost(stage, start, end, transient)
            if self._exceeds(cost):
                return  # both only grow with more blocks
            if extra or self.training[end] > self.training[start]:
                yield end, cost

    def _cost(self, stage: int, start: int, end: int, transient: int) -> StageCost:
        extras = [self.each] + [self.first] * (stage == 0) + [self.last] * (stage == self.stages - 1)
        time = self.times[end] - self.times[start] + sum(extra.time for extra in extras)
        resident = self.resident[end] - self.resident[start] + sum(extra.resident for extra in extras)
        kept = self.in_flight[end] - self.in_flight[start] + sum(extra.in_flight for extra in extras)
        for extra in extras:
            transient = max(transient, extra.transient)
        flights = min(self.stages - stage, self.micro_batches)
        return StageCost(time, resident + flights * kept + transient)

    def _exceeds(self, cost: StageCost) -> bool:
        too_slow = self.most_time is not None and cost.time > self.most_time
        return too_slow or (self.most_memory is not None and cost.memory > self.most_memory)
