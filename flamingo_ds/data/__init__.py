"""From webdataset shards to batches: read, check, tokenise, decode, mix, collate. Nothing here knows the model."""

from .build import Place, Tokens, build_mixture
from .build_probe import build_probe, outline_probe
from .dataset import ShardDataset
from .mixture import MicroBatch, Mixture, MixtureOutline
from .probe_set import ProbeOutline
from .sequence import SequenceRules

__all__ = [
    "MicroBatch",
    "Mixture",
    "MixtureOutline",
    "Place",
    "ProbeOutline",
    "SequenceRules",
    "ShardDataset",
    "Tokens",
    "build_mixture",
    "build_probe",
    "outline_probe",
]
