"""Retrieval with a contrastive model: captions by images and images by captions."""

from .run import run_retrieval

__all__ = ["run_retrieval"]
