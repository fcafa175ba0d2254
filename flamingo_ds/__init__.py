"""flamingo_ds: train Flamingo visual language models with DeepSpeed, ship them as Hugging Face models."""

__version__ = "0.1.0"
