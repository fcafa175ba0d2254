"""The vision encoder and its image transform, from where the recipe says."""

from typing import Any

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    CLIPImageProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    TimmWrapperConfig,
)

from ..config import ConfigError
from ..config.schema import Library, VisionEncoderConfig
from ..model.vision_encoder import CONVOLUTIONAL, VITS
from . import open_clip_vision
from .backbone_weights import BackboneWeights, WholeWeights, stream
from .language_source import spelled_out
from .sources import COMPLAIN, require_whole, source_errors
from .timm_vision import grid_width, input_size

KEY = "model.vision_encoder"
WEIGHTS = "vision weights"


def image_processor(encoder: VisionEncoderConfig) -> Any:
    """The transform that the encoder was trained with, at the recipe's image size.

    Raises:
        ConfigError: a source that is not there or holds none.
    """
    if encoder.library is Library.open_clip:
        return open_clip_vision.describe(encoder).image_processor
    if encoder.architecture is not None and not encoder.source:
        found = vision_config(encoder)
        side = input_size(found) if isinstance(found, TimmWrapperConfig) else found.image_size
        return _sized(CLIPImageProcessor(), encoder.image_size or side)
    with source_errors(f"{KEY}.source", encoder.source, "a transformers image processor"):
        return _sized(AutoImageProcessor.from_pretrained(encoder.source), encoder.image_size)


def vision_config(encoder: VisionEncoderConfig) -> PreTrainedConfig:
    """The encoder's configuration.

    Raises:
        ConfigError: a source that is not there, or an encoder of a kind that is not supported.
    """
    if encoder.library is Library.open_clip:
        if encoder.architecture is not None:
            raise ConfigError(f"{KEY}.architecture", encoder.architecture, "none, or library: transformers")
        return open_clip_vision.describe(encoder).config
    if encoder.architecture is not None:
        found = spelled_out(f"{KEY}.architecture", encoder.architecture)
    else:
        with source_errors(f"{KEY}.source", encoder.source, "a transformers vision model"):
            found = AutoConfig.from_pretrained(encoder.source)
    vision: PreTrainedConfig = getattr(found, "vision_config", found)
    if vision.model_type not in (*VITS, CONVOLUTIONAL):
        known = ", ".join((*VITS, CONVOLUTIONAL))
        raise ConfigError(f"{KEY}.source", encoder.source, f"one of {known}, not a {vision.model_type}")
    if vision.model_type == "siglip_vision_model":
        # Its pooling, which a Flamingo reads the tokens before; older transformers ask for this without having it.
        vision.vision_use_head = False
    if isinstance(vision, TimmWrapperConfig):
        vision.do_pooling = False
    return vision


def width(vision: PreTrainedConfig) -> int:
    """Channels of the encoder's tokens.

    Raises:
        ConfigError: a timm network without a feature map.
    """
    if not isinstance(vision, TimmWrapperConfig):
        return int(vision.hidden_size)
    try:
        return grid_width(vision)
    except ValueError as error:
        raise ConfigError(f"{KEY}.architecture", vision.architecture, str(error)) from error


def weights(encoder: VisionEncoderConfig, skeleton: PreTrainedModel, seed: int) -> BackboneWeights:
    """The encoder's weights; drawn at random where the recipe spells out its architecture.

    Args:
        encoder: of the recipe.
        skeleton: the encoder without memory.
        seed: of what is drawn.

    Raises:
        ConfigError: weights that are not there or do not fit; some formats only when they are first read.
    """
    vision = skeleton.config
    if encoder.library is Library.open_clip:
        return WholeWeights(lambda: open_clip_vision.load(encoder), seed)
    if encoder.architecture is not None:
        return WholeWeights(lambda: AutoModel.from_config(vision), seed)
    with source_errors(f"{KEY}.source", encoder.source, WEIGHTS):
        return stream(encoder.source, None, skeleton) or WholeWeights(lambda: _load(encoder, vision), seed)


def _load(encoder: VisionEncoderConfig, vision: PreTrainedConfig) -> PreTrainedModel:
    with source_errors(f"{KEY}.source", encoder.source, WEIGHTS):
        loaded: Any = AutoModel.from_pretrained(encoder.source, config=vision, dtype="auto", **COMPLAIN)
        require_whole(loaded[1])
        return loaded[0]


def _sized(processor: Any, side: int | None) -> Any:
    """The transform at another size, whichever way it names its size."""
    if side is None:
        return processor
    if getattr(processor, "do_center_crop", False):
        processor.size = {"shortest_edge": side}
        processor.crop_size = {"height": side, "width": side}
    else:
        processor.size = {"height": side, "width": side}
    return processor
