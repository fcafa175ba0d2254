"""Samples that cannot be used: counted by kind, written down, and too many of them stop the run."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import ConfigError

# Before so many samples a share says nothing.
ENOUGH_TO_JUDGE = 200


class BadSample(Exception):
    """A sample that cannot be used.

    Args:
        kind: short name to count it under.
        reason: for a person.
    """

    def __init__(self, kind: str, reason: str) -> None:
        self.kind, self.reason = kind, reason
        super().__init__(f"{kind}: {reason}")


class BadSampleLog:
    """Counts of one dataset, and a line in the run folder for each bad sample.

    Args:
        dataset: its name.
        max_share: the run stops above this share of bad samples.
        path: ``bad_samples.jsonl`` of the run, or None to only count.
    """

    def __init__(self, dataset: str, max_share: float, path: Path | None) -> None:
        self.dataset, self.max_share, self.path = dataset, max_share, path
        self.seen = 0
        self.kinds: Counter[str] = Counter()
        self.shards: Counter[str] = Counter()

    def add(self, shard: str, sample: str, bad: BadSample) -> None:
        """Count one bad sample or shard.

        Raises:
            ConfigError: the share of bad samples is above the limit; the worst shard is named.
        """
        self.kinds[bad.kind] += 1
        self.shards[shard] += 1
        if self.path is not None:
            line = {
                "dataset": self.dataset,
                "shard": shard,
                "sample": sample,
                "kind": bad.kind,
                "reason": bad.reason,
            }
            # One short append a line, so that lines of several ranks do not mix.
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        share = self.kinds.total() / max(self.seen, 1)
        if self.seen >= ENOUGH_TO_JUDGE and share > self.max_share:
            worst, count = self.shards.most_common(1)[0]
            kinds = ", ".join(f"{kind} {number}" for kind, number in self.kinds.most_common())
            raise ConfigError(
                f"data.datasets.{self.dataset}",
                f"{share:.1%} bad samples",
                f"at most {self.max_share:.1%} (data.max_bad_share); "
                f"{count} of {self.kinds.total()} are in {worst}; kinds: {kinds}",
            )

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return {"seen": self.seen, "kinds": dict(self.kinds), "shards": dict(self.shards)}

    def load_states(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on counting from the sum of saved counts."""
        self.seen = sum(state["seen"] for state in states)
        self.kinds = sum((Counter(state["kinds"]) for state in states), Counter())
        self.shards = sum((Counter(state["shards"]) for state in states), Counter())
