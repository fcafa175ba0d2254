"""RICES: retrieval of in-context examples by similarity (Yang et al. 2022; paper, appendix A.2)."""

from .encoder import Encoder
from .index import Index, build_index
from .neighbours import neighbours

__all__ = ["Encoder", "Index", "build_index", "neighbours"]
