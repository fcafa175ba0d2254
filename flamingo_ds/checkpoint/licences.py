"""Under which licence a base model is published, as its own card says."""

from pathlib import Path

from huggingface_hub import ModelCard
from transformers.utils.hub import cached_file

from ..config import ModelConfig
from ..config.schema import Library

UNKNOWN = "not stated where it came from: ask its authors"


def licence_of(source: str) -> str:
    """The ``license`` of a folder's or hub repository's README.

    Args:
        source: a folder or a hub name.
    """
    try:
        readme = cached_file(source, "README.md", _raise_exceptions_for_missing_entries=False)
        found = ModelCard(Path(readme).read_text(encoding="utf-8")).data if readme else None
    except (OSError, ValueError):  # no such repository, no network, or front matter that is no YAML
        return UNKNOWN
    name = getattr(found, "license", None)
    if name == "other":
        name = getattr(found, "license_name", None) or name
    return str(name) if name else UNKNOWN


def vision_source_of(model: ModelConfig) -> str:
    """The vision encoder's folder or hub name; open_clip marks either with a word before it."""
    source = model.vision_encoder.source
    if model.vision_encoder.library is Library.open_clip:
        return source.removeprefix("local-dir:").removeprefix("hf-hub:")
    return source
