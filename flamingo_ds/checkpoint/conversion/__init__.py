"""Checkpoints to published models and back: planned first, then streamed, then checked."""
