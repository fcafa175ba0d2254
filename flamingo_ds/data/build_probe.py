"""From a recipe to its probe."""

from collections import Counter
from collections.abc import Sequence

from ..config import BatchPlan, ConfigError, RunConfig
from ..config.schema import SampleFormat
from .bad_samples import BadSample
from .build import Place, Tokens, build_decoder, patience_of
from .decoder import Decoder
from .image_transform import ImageTransform
from .probe_set import ProbeOutline, ProbeSet
from .segments import StreamPosition
from .sequence import TokenSequence
from .shards import expand_shards
from .stream import SampleStream


def outline_probe(recipe: RunConfig, plans: Sequence[BatchPlan]) -> list[ProbeOutline]:
    """The probe's datasets for a rank that reads nothing; see :func:`build_probe`."""
    return [ProbeOutline(plan, recipe.probe.batches, _shots(recipe, plan)) for plan in plans]


def build_probe(
    recipe: RunConfig, plans: Sequence[BatchPlan], tokens: Tokens, transform: ImageTransform, place: Place
) -> list[ProbeOutline]:
    """Read the probe's sequences: the first usable ones of the validation shards in an order drawn by the seed.

    Every rank reads all of them and keeps its share, so they are the same on any number of ranks.

    Args:
        recipe: checked.
        plans: how a batch of each dataset is cut.
        tokens: of the model.
        transform: of the vision encoder.
        place: whose share.

    Raises:
        ConfigError: shards that are not there, or that hold too little.
    """
    sets: list[ProbeOutline] = []
    for plan in plans:
        decoder = build_decoder(recipe.probe.datasets[plan.dataset], tokens, transform, recipe.model.media_rule)
        sequences, bad = _read(recipe, plan, decoder)
        try:
            probe = ProbeSet(plan, recipe.probe.batches, _shots(recipe, plan), sequences, decoder, place, bad)
        except ValueError as error:
            expected = "more sequences, so that images can be shuffled among them"
            raise ConfigError(
                f"probe.datasets.{plan.dataset}.batch_size", plan.batch_size, f"{expected}; {error}"
            ) from error
        sets.append(probe)
    return sets


def _shots(recipe: RunConfig, plan: BatchPlan) -> list[int]:
    """Examples are made of pairs; a page has examples of its own."""
    interleaved = recipe.probe.datasets[plan.dataset].format is SampleFormat.interleaved
    return [] if interleaved else recipe.probe.shots


def _read(recipe: RunConfig, plan: BatchPlan, decoder: Decoder) -> tuple[list[TokenSequence], Counter[str]]:
    """As many sequences as a probe takes, and by kind the samples before them that cannot be used."""
    config, key = recipe.probe.datasets[plan.dataset], f"probe.datasets.{plan.dataset}.shards"
    stream = SampleStream(
        expand_shards(key, config.shards), 0, 1, recipe.seed, config.shuffle_buffer, patience_of(recipe.data)
    )
    wanted = recipe.probe.batches * plan.batch_size
    sequences: list[TokenSequence] = []
    bad: Counter[str] = Counter()
    for sample, _ in stream.read_epoch(StreamPosition()):
        outcome = decoder(sample)
        if isinstance(outcome, BadSample):
            bad[outcome.kind] += 1
        else:
            sequences.append(outcome)
        if len(sequences) == wanted:
            return sequences, bad
    kinds = ", ".join(f"{kind} {number}" for kind, number in bad.most_common()) or "none"
    expected = f"probe.batches x batch_size = {wanted} usable samples; it has {len(sequences)}, and bad ones: {kinds}"
    raise ConfigError(key, config.shards, expected)
