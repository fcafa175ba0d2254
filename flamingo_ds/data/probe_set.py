"""What a probe measures: validation sequences that are read once and stay as they are."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch

from ..batch import FlamingoBatch
from ..config import BatchPlan
from .buffers import PixelBuffers
from .build import Place
from .collate import collate
from .decoder import Decoder
from .probe_sequences import behind_examples, with_shuffled_images
from .sequence import TokenSequence

PLAIN, BLANK, SHUFFLED = "loss", "loss_blank", "loss_shuffled"


class ProbeOutline:
    """The micro-batches of one dataset's probe without a sequence in them, for ranks that read nothing.

    Args:
        plan: of one batch of the dataset.
        batches: how many of these a probe takes.
        shots: numbers of examples; none where the dataset is no pairs.

    Attributes:
        longest: tokens of the longest sequence, examples included; 0 where nothing is read.
    """

    longest = 0

    def __init__(self, plan: BatchPlan, batches: int, shots: Sequence[int]) -> None:
        self.dataset, self.share = plan.dataset, batches * plan.micro_steps * plan.micro_batch_size
        # k examples make a sequence k + 1 times as long: a micro-batch holds as many images and tokens as without.
        self.sizes = dict.fromkeys((PLAIN, BLANK, SHUFFLED), plan.micro_batch_size)
        self.sizes |= {shots_name(number): max(1, plan.micro_batch_size // (number + 1)) for number in shots}

    @property
    def kinds(self) -> list[str]:
        """Names of what is measured, the same on all ranks in the same order."""
        return list(self.sizes)

    def batches(self, kind: str) -> list[FlamingoBatch]:
        """This rank's micro-batches of one kind."""
        size = self.sizes[kind]
        return [self._batch(kind, slice(start, start + size)) for start in range(0, self.share, size)]

    def notes(self) -> list[str]:
        """What the user may not have meant, a line each."""
        return []

    def _batch(self, kind: str, rows: slice) -> FlamingoBatch:
        return FlamingoBatch.empty()


class ProbeSet(ProbeOutline):
    """The sequences of one dataset's probe, this rank's share of them.

    Args:
        plan, batches, shots: see :class:`ProbeOutline`.
        sequences: of all ranks, the same on each.
        decoder: of the dataset.
        place: whose share.
        bad: samples that were passed over, by kind.

    Raises:
        ValueError: images that cannot be shuffled.
    """

    def __init__(
        self,
        plan: BatchPlan,
        batches: int,
        shots: Sequence[int],
        sequences: Sequence[TokenSequence],
        decoder: Decoder,
        place: Place,
        bad: Counter[str],
    ) -> None:
        super().__init__(plan, batches, shots)
        shuffled = with_shuffled_images(sequences)
        whole = {PLAIN: sequences, BLANK: sequences, SHUFFLED: shuffled}
        whole |= {shots_name(number): behind_examples(sequences, number) for number in shots}
        self.longest = max(len(sequence.input_ids) for many in whole.values() for sequence in many)
        self.sequences = {kind: many[place.rank :: place.world_size] for kind, many in whole.items()}
        self.decoder, self.bad = decoder, bad

    def notes(self) -> list[str]:
        """Samples that were passed over."""
        if not self.bad:
            return []
        kinds = ", ".join(f"{kind} {number}" for kind, number in self.bad.most_common())
        return [f"note: probe.datasets.{self.dataset}: samples that cannot be used were passed over: {kinds}"]

    def _batch(self, kind: str, rows: slice) -> FlamingoBatch:
        decoder, sequences = self.decoder, self.sequences[kind][rows]
        # Buffers of its own: between probes there are bytes alone.
        batch = collate(sequences, decoder.rules.tokenizer.pad_token_id, decoder.transform, PixelBuffers())
        # Normalised pixels of 0 are the encoder's mean colour.
        return replace(batch, pixel_values=torch.zeros_like(batch.pixel_values)) if kind == BLANK else batch


def shots_name(shots: int) -> str:
    """The kind of so many examples."""
    return f"loss_{shots}_shots"
