"""What is evaluated: a Flamingo of ours, exported or as a checkpoint, or any other image-text model of transformers."""

from .load import open_model
from .model import Answerer, ModelSource, Reader

__all__ = ["Answerer", "ModelSource", "Reader", "open_model"]
