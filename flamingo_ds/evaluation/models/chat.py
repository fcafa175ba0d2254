"""Any other image-text model of transformers: prompts go through its own chat template and processor.

Every example is a user's turn with its picture and the assistant's answer; the model reads what its template makes of
it, so its scores stand beside ours without a line of code for each family.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from ...config import ConfigError
from ..frames import load_frames
from ..options import OptionTokens, join_options, sum_log_likelihoods
from ..prompts import chat
from ..shared_cache import can_share, share
from ..task import Prompt, is_video
from .chat_encoder import ChatEncoder
from .identity import files_identity, one_line
from .model import KEY, Beams, media_paths, require_fit
from .ours import UNREADABLE, require_whole

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


class ChatAnswerer:
    """See :class:`~.model.Answerer`.

    Args:
        model: with its weights, where it shall compute.
        reader: of the same model.
        beams: of the search for open-ended answers.
    """

    def __init__(self, model: Any, reader: ChatReader, beams: Beams | None = None) -> None:
        self.model, self.reader, self.beams = model.eval(), reader, beams or Beams()
        # Not every family goes on right from a cache that it did not make: asked of the first prompt.
        self.shares_cache: bool | None = None

    def see(self, path: Path) -> None:
        """Decode it."""
        self.reader.picture(path)

    @torch.inference_mode()
    def write(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[str]:
        """With the model's own end of a turn."""
        inputs = self._inputs(prompts)
        require_fit(inputs["input_ids"].shape[1] + max_new_tokens, self.reader.context_length)
        made = self.model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=self.beams.count,
            length_penalty=self.beams.length_penalty,
            pad_token_id=self.reader.tokenizer.pad_token_id,
        )
        answers = made[:, inputs["input_ids"].shape[1] :]
        texts = self.reader.tokenizer.batch_decode(answers, skip_special_tokens=True)
        return [text.strip() for text in texts]

    @torch.inference_mode()
    def log_likelihoods(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        """Over the prompt's cache where that gives the same as the plain way."""
        inputs = self._inputs([prompt])
        tokens = self.reader.with_options(prompt, inputs["input_ids"][0].tolist(), options)
        kept = len(tokens.prompt)
        require_fit(kept + max(map(len, tokens.rows)), self.reader.context_length)
        if self.shares_cache is None:
            self.shares_cache = self._agrees(inputs, kept, tokens.rows[:2])
        return self._scored(inputs, kept, tokens.rows, self.shares_cache)

    def encoder(self) -> ChatEncoder:
        """What the model makes of a picture before it reads it."""
        return ChatEncoder(self.model, self.reader.processor, self.reader.name)

    def _agrees(self, inputs: Any, kept: int, rows: list[list[int]]) -> bool:
        plain = self._scored(inputs, kept, rows, False)
        try:
            shared = self._scored(inputs, kept, rows, True)
        except Exception:  # whatever a family does not expect
            return False
        # In half precision logits of order 10 are rounded to 1/16.
        allowed = 1e-3 if self.model.dtype == torch.float32 else 0.25
        return max(abs(one - other) for one, other in zip(plain, shared, strict=True)) <= allowed

    def _scored(self, inputs: Any, kept: int, rows: list[list[int]], shared: bool) -> list[float]:
        prompt = _cut(inputs, kept)
        read = self.model(**prompt, use_cache=True)
        go_on = self._go_on_plainly(prompt)
        if shared:
            if not can_share(read.past_key_values):
                raise TypeError(f"a cache of {type(read.past_key_values).__name__}")
            go_on = self._go_on(kept, read.past_key_values)
        return sum_log_likelihoods(read.logits[0, -1], rows, go_on)

    def _go_on(self, length: int, cache: Any) -> Callable[[torch.Tensor], torch.Tensor]:
        def go_on(rows: torch.Tensor) -> torch.Tensor:
            mask = rows.new_ones(len(rows), length + rows.shape[1])
            read = self.model(input_ids=rows, attention_mask=mask, past_key_values=share(cache), use_cache=True)
            return read.logits

        return go_on

    def _go_on_plainly(self, prompt: dict[str, Any]) -> Callable[[torch.Tensor], torch.Tensor]:
        """One option after the other: how pictures are laid out in a batch is each family's own matter."""

        def go_on(rows: torch.Tensor) -> torch.Tensor:
            made = []
            for row in rows:
                whole = dict(prompt)
                for name, value in prompt.items():
                    if name in PER_TOKEN:
                        new = row if name == "input_ids" else torch.full_like(row, int(name == "attention_mask"))
                        whole[name] = torch.cat([value, new.unsqueeze(0).to(value.dtype)], dim=1)
                made.append(self.model(**whole).logits[0, -rows.shape[1] :])
            return torch.stack(made)

        return go_on

    def _inputs(self, prompts: Sequence[Prompt]) -> Any:
        inputs = self.reader.inputs(prompts).to(self.model.device)
        return {
            name: value.to(self.model.dtype) if torch.is_tensor(value) and value.is_floating_point() else value
            for name, value in inputs.items()
        }


# Inputs with a place for each token: they grow with the text.
PER_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")


class ChatSource:
    """A folder or the name of a model on a hub.

    Args:
        name: of either.
        config: of transformers.
        trust_remote_code: run code that comes with it.

    Raises:
        ConfigError: no image-text model, or a processor that takes no conversation.
    """

    def __init__(self, name: str, config: Any, trust_remote_code: bool) -> None:
        self.name, self.trust = name, trust_remote_code
        try:
            processor = AutoProcessor.from_pretrained(name, trust_remote_code=trust_remote_code)
        except UNREADABLE as error:
            raise ConfigError(KEY, name, f"a model with a processor: {one_line(error)}") from error
        path = Path(name)
        identity = files_identity(path) if path.is_dir() else f"{name} {getattr(config, '_commit_hash', None)}"
        self.reader = ChatReader(name, config, processor, identity)

    def load(self, dtype: torch.dtype | None, device: torch.device) -> ChatAnswerer:
        """See :meth:`~.model.ModelSource.load`."""
        try:
            loaded: Any = AutoModelForImageTextToText.from_pretrained(
                self.name, dtype=dtype or "auto", output_loading_info=True, trust_remote_code=self.trust
            )
        except UNREADABLE as error:
            raise ConfigError(KEY, self.name, f"an image-text model: {one_line(error)}") from error
        model, report = loaded
        require_whole(self.name, report)
        return ChatAnswerer(model.to(device), self.reader)


def _picture(path: Path) -> Image.Image:
    return load_frames(path)[0]


def _cut(inputs: Any, length: int) -> dict[str, Any]:
    """The first tokens of a prompt; a token that an answer may join is its row's."""
    return {name: value[:, :length] if name in PER_TOKEN else value for name, value in inputs.items()}
