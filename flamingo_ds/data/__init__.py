"""From webdataset shards to batches: read, check, tokenise, decode, mix, collate. Nothing here knows the model."""

from .build import Place, Tokens, build_mixture
from .dataset import ShardDataset
from .mixture import MicroBatch, Mixture, MixtureOutline
from .sequence import SequenceRules

__all__ = [
    "MicroBatch",
    "Mixture",
    "MixtureOutline",
    "Place",
    "SequenceRules",
    "ShardDataset",
    "Tokens",
    "build_mixture",
]
