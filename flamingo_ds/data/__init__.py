"""From webdataset shards to batches: read, check, tokenise, mix, collate. Nothing here knows the model."""

from .dataset import ShardDataset
from .mixture import MicroBatch, Mixture, MixtureOutline
from .sequence import SequenceRules

__all__ = ["MicroBatch", "Mixture", "MixtureOutline", "SequenceRules", "ShardDataset"]
