"""Samples that cannot be used: counted by kind, written down, and too many of them stop the run."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import ConfigError

# Before so many samples a share says nothing.
ENOUGH_TO_JUDGE = 200

# Every kind there is, so that all ranks report the same counters.
KINDS = {
    "truncated_image": "an image or video file ends too early",
    "unreadable_image": "an image file that no decoder knows",
    "unreadable_video": "a video file without frames, or that no decoder knows",
    "too_large_image": "more pixels than any honest picture has: a decompression bomb",
    "too_small": "an image below min_image_side",
    "too_long_a_shape": "an image above max_image_aspect",
    "too_dissimilar": "an image below min_similarity",
    "no_image": "no image where one should be",
    "no_text": "no text",
    "undecodable_text": "text that is not UTF-8",
    "broken_json": "a page that says nothing, or of no known layout",
    "missing_pair": "one half of a sample is not there",
    "no_target": "no token to predict within L",
    "special_token": "a text that would forge <image> or <EOC>",
    "climbing_path": "a tar member that wants to lie outside its folder",
    "too_large_member": "a tar member above 1 GB",
    "duplicate_member": "two tar members of one name",
    "broken_tar": "a shard that is damaged, with what lies behind the damage",
    "missing_shard": "a shard that vanished or stalled, after all retries",
}


class BadSample(Exception):
    """A sample that cannot be used.

    Args:
        kind: one of ``KINDS``, to count it under.
        reason: for a person.
    """

    def __init__(self, kind: str, reason: str) -> None:
        assert kind in KINDS, kind
        self.kind, self.reason = kind, reason
        super().__init__(f"{kind}: {reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        """It crosses from a worker to the training process."""
        return BadSample, (self.kind, self.reason)


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
        # Images of pages that are good without them.
        self.left_out: Counter[str] = Counter()

    def add(self, shard: str, sample: str, bad: BadSample) -> None:
        """Count one bad sample or shard.

        Raises:
            ConfigError: the share of bad samples is above the limit; the worst shard is named.
        """
        self.kinds[bad.kind] += 1
        self.shards[shard] += 1
        self._write(shard, sample, bad.kind, bad.reason)
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

    def leave_out(self, kinds: Sequence[str]) -> None:
        """Count images that a usable page goes without; small ones are many, so no line is written."""
        self.left_out.update(kinds)

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return {
            "seen": self.seen,
            "kinds": dict(self.kinds),
            "shards": dict(self.shards),
            "left_out": dict(self.left_out),
        }

    def load_states(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on counting from the sum of saved counts."""
        self.seen = sum(state["seen"] for state in states)
        for name in ("kinds", "shards", "left_out"):
            # Checkpoints of version 0.1 know no left_out.
            setattr(self, name, sum((Counter(state.get(name, {})) for state in states), Counter()))

    def _write(self, shard: str, sample: str, kind: str, reason: str) -> None:
        if self.path is None:
            return
        line = {"dataset": self.dataset, "shard": shard, "sample": sample, "kind": kind, "reason": reason}
        # One short append a line, so that lines of several ranks do not mix.
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
