"""What the runner asks of a model: first what its configuration and tokenizer know, then, with its weights, answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from ...config import ConfigError
from ..rices import Encoder
from ..task import Prompt

# As the command line calls a model.
KEY = "MODEL"


class Reader(Protocol):
    """A model without its weights.

    Attributes:
        context_length: of its language model, in tokens; None where it names none.
        identity: what tells its weights from others, without reading them.
    """

    context_length: int | None
    identity: str

    def text(self, prompt: Prompt) -> str:
        """What the model reads, a mark at the place of each picture."""
        ...

    def count_tokens(self, prompt: Prompt) -> int:
        """Tokens of a prompt with its pictures."""
        ...

    def longest(self, options: Sequence[str]) -> int:
        """Tokens of the longest of some answers, with what ends them."""
        ...


class Answerer(Protocol):
    """A model that answers."""

    def see(self, path: Path) -> None:
        """Read a picture or video before it is asked about.

        Raises:
            BadSample: unreadable.
        """
        ...

    def write(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[str]:
        """Open-ended: what the best of three beams wrote behind each prompt, up to ``<EOC>``."""
        ...

    def log_likelihoods(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        """Close-ended: of each whole answer, ``<EOC>`` with it; a sum over its tokens, not divided by their number."""
        ...

    def encoder(self) -> Encoder:
        """Its vision encoder.

        Raises:
            ConfigError: one that gives no features.
        """
        ...


class ModelSource(Protocol):
    """Where a model comes from."""

    @property
    def reader(self) -> Reader:
        """What is known without weights."""
        ...

    def load(self, dtype: torch.dtype | None, device: torch.device) -> Answerer:
        """With weights.

        Raises:
            ConfigError: they are not there, damaged or another model's.
        """
        ...


@dataclass(frozen=True)
class Beams:
    """How open-ended answers are searched for (paper, appendix B.1: three beams).

    Attributes:
        count: of beams.
        length_penalty: 0: the greatest log-likelihood, whatever its length; the paper names none.
    """

    count: int = 3
    length_penalty: float = 0.0


def require_fit(length: int, context: int | None) -> None:
    """Refuse a prompt that with its answer is longer than the model reads.

    Raises:
        ConfigError: both lengths.
    """
    if context is not None and length > context:
        raise ConfigError("--shots", f"{length} tokens", f"prompts of at most {context} tokens with their answer")


def media_paths(prompt: Prompt) -> list[Path]:
    """Of a whole prompt, in reading order."""
    return [path for turn in prompt for path in turn.media]
