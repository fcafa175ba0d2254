"""A Flamingo from a training checkpoint, built in memory, or from an exported folder."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from ...checkpoint.conversion.source_checkpoint import SourceCheckpoint
from ...checkpoint.initial_weights import trained_over
from ...checkpoint.store import Checkpoint
from ...config import ConfigError
from ...model import FlamingoConfig, FlamingoForConditionalGeneration, FlamingoProcessor
from ...parallel import Filler
from .flamingo import FlamingoAnswerer, FlamingoReader
from .identity import files_identity, one_line
from .model import KEY

UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError)


class ExportSource:
    """An exported folder, or a published one by its name on a hub.

    Args:
        name: of either.

    Raises:
        ConfigError: a damaged configuration or processor.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        config, processor = _config_and_processor(name)
        path = Path(name)
        identity = files_identity(path) if path.is_dir() else f"{name} {getattr(config, '_commit_hash', None)}"
        self.reader = FlamingoReader(config, processor, identity)

    def load(self, dtype: torch.dtype | None, device: torch.device) -> FlamingoAnswerer:
        """See :meth:`~.model.ModelSource.load`."""
        try:
            loaded: Any = FlamingoForConditionalGeneration.from_pretrained(
                self.name, dtype=dtype or "auto", output_loading_info=True
            )
        except UNREADABLE as error:
            raise ConfigError(KEY, self.name, f"a whole export: {one_line(error)}") from error
        model, report = loaded
        require_whole(self.name, report)
        return FlamingoAnswerer(model.to(device), self.reader)


class CheckpointSource:
    """A training checkpoint; its frozen base is read from where the recipe says.

    Args:
        path: of the checkpoint.

    Raises:
        ConfigError: none, or a damaged one.
    """

    def __init__(self, path: Path) -> None:
        self.checkpoint = Checkpoint(path)
        config, processor = _config_and_processor(str(self.checkpoint.path / "model"))
        self.reader = FlamingoReader(config, processor, files_identity(self.checkpoint.path))

    def load(self, dtype: torch.dtype | None, device: torch.device) -> FlamingoAnswerer:
        """In the training's precision unless told otherwise; a base that is not the one trained on is refused."""
        source = SourceCheckpoint.open(self.checkpoint.path)
        model: Any = source.model
        Filler(trained_over(source.initial.read, source.trained)).fill(model)
        for parameter in model.parameters():  # as an export has it; rotary frequencies and other buffers stay in fp32
            parameter.data = parameter.data.to(dtype or source.training_dtype)
        model.merge_new_tokens()
        return FlamingoAnswerer(model.to(device), self.reader)


def require_whole(name: str, report: dict[str, Any]) -> None:
    """Refuse weights that transformers would have drawn at random.

    Args:
        name: of the model.
        report: transformers' own on what it loaded.

    Raises:
        ConfigError: the first weight that is missing or of another shape.
    """
    for kind in ("missing_keys", "mismatched_keys"):
        if found := sorted(map(str, report.get(kind) or ())):
            raise ConfigError(KEY, name, f"all weights of its configuration; {kind.replace('_', ' ')}: {found[0]}")


def _config_and_processor(name: str) -> tuple[FlamingoConfig, FlamingoProcessor]:
    try:
        return FlamingoConfig.from_pretrained(name), FlamingoProcessor.from_pretrained(name)
    except UNREADABLE as error:
        raise ConfigError(KEY, name, f"a Flamingo with its processor: {one_line(error)}") from error
