"""The Flamingo model as transformers classes; an exported model carries a copy of this folder's files."""

from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from .configuration import FlamingoConfig
from .modeling import FlamingoForConditionalGeneration
from .processing import FlamingoProcessor

# Where this package is installed, the Auto classes know its models without trust_remote_code.
AutoConfig.register(FlamingoConfig.model_type, FlamingoConfig, exist_ok=True)
AutoModelForImageTextToText.register(FlamingoConfig, FlamingoForConditionalGeneration, exist_ok=True)
AutoProcessor.register(FlamingoConfig, FlamingoProcessor, exist_ok=True)

__all__ = ["FlamingoConfig", "FlamingoForConditionalGeneration", "FlamingoProcessor"]
