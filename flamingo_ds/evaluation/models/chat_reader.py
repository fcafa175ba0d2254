"""How any other image-text model of transformers reads a prompt: through its own chat template and processor.

Every example is a user's turn with its picture and the assistant's answer; the model reads what its template makes of
it, so its scores stand beside ours without a line of code for each family.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from ...config import ConfigError
from ..frames import load_frames
from ..options import OptionTokens, join_options
from ..prompts import chat
from ..task import Prompt, is_video
from .identity import one_line
from .model import KEY, media_paths

# An answer like no word of a template: what is written around it is written around every answer.
PROBE = "Q7z"
# Decoded: examples come again with the next query.
PICTURES_KEPT = 128


class ChatReader:
    """Configuration and processor.

    Args:
        name: of the model, for messages.
        config: of transformers.
        processor: with a chat template.
        identity: see :class:`~.model.Reader`.

    Raises:
        ConfigError: a processor without a chat template or a tokenizer.
    """

    def __init__(self, name: str, config: Any, processor: Any, identity: str) -> None:
        self.name, self.processor, self.identity = name, processor, identity
        self.tokenizer: Any = getattr(processor, "tokenizer", None)
        if self.tokenizer is None or not getattr(processor, "chat_template", None):
            raise ConfigError(KEY, name, f"a processor with a chat template; {type(processor).__name__} has none")
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        text_config = config.get_text_config()
        self.context_length: int | None = getattr(text_config, "max_position_embeddings", None)
        self.picture = lru_cache(maxsize=PICTURES_KEPT)(_picture)
        self.marks = [str(token) for token in self.tokenizer.get_added_vocab()]

    def text(self, prompt: Prompt) -> str:
        """What the template makes of it."""
        if videos := [str(path) for path in media_paths(prompt) if is_video(path)]:
            raise ConfigError("--task", videos[0], f"pictures: {self.name} is shown no videos")
        return self._templated(chat(prompt, self.marks), True)

    def count_tokens(self, prompt: Prompt) -> int:
        """With what the processor puts in for each picture."""
        return int(self.inputs([prompt])["input_ids"].shape[1])

    def longest(self, options: Sequence[str]) -> int:
        """With the end of a turn."""
        return max(len(self._encode(option)) for option in options) + 4

    def inputs(self, prompts: Sequence[Prompt]) -> Any:
        """A batch as the model takes it, padded on the left."""
        texts = [self.text(prompt) for prompt in prompts]
        images = [[self.picture(path) for path in media_paths(prompt)] for prompt in prompts]
        given = {"images": images if len(prompts) > 1 else images[0]} if any(images) else {}
        # The template has written <bos> where the model wants one.
        special = not (self.tokenizer.bos_token and texts[0].startswith(self.tokenizer.bos_token))
        return self.processor(
            text=texts, **given, padding=True, return_tensors="pt", text_kwargs={"add_special_tokens": special}
        )

    def with_options(self, prompt: Prompt, ids: list[int], options: Sequence[str]) -> OptionTokens:
        """A prompt, its ids from :meth:`inputs`, with the options behind it and the end of a turn behind each."""
        text = self.text(prompt)
        before, behind = self._around_answer(prompt, text)
        starts = {text.rfind(mark) for mark in self.marks if mark in text}
        for start in sorted(starts, reverse=True):  # from the last special token on a text is tokenised alone
            tail = self._encode(text[start:])
            if tail and ids[-len(tail) :] == tail:
                rows = [self._encode(text[start:] + before + option + behind) for option in options]
                return join_options(ids, tail, rows)
        raise ConfigError(KEY, self.name, f"a prompt that ends as its text {text[-40:]!r} is tokenised")

    def _around_answer(self, prompt: Prompt, text: str) -> tuple[str, str]:
        """What the template writes before an answer and behind it, ``<eos>`` at the least; no last line break."""
        answered = [*chat(prompt, self.marks), {"role": "assistant", "content": [{"type": "text", "text": PROBE}]}]
        whole = self._templated(answered, False)
        if not whole.startswith(text):
            return "", str(self.tokenizer.eos_token)
        before, _, behind = whole[len(text) :].partition(PROBE)
        return before, behind.rstrip() or str(self.tokenizer.eos_token)

    def _templated(self, messages: list[dict[str, Any]], answers: bool) -> str:
        try:
            return str(self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=answers))
        except Exception as error:  # a template raises what it likes
            raise ConfigError(KEY, self.name, f"a template that takes examples: {one_line(error)}") from error

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def _picture(path: Path) -> Image.Image:
    return load_frames(path)[0]
