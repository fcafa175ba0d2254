"""Any other image-text model of transformers as a model to evaluate."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from ...config import ConfigError
from ..options import sum_log_likelihoods
from ..shared_cache import can_share, share
from ..task import Prompt
from .chat_encoder import ChatEncoder
from .chat_reader import ChatReader
from .identity import files_identity, one_line
from .model import KEY, Beams, require_fit
from .ours import UNREADABLE, require_whole

# Inputs with a place for each token: they grow with the text.
PER_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")


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


def _cut(inputs: Any, length: int) -> dict[str, Any]:
    """The first tokens of a prompt; a token that an answer may join is its row's."""
    return {name: value[:, :length] if name in PER_TOKEN else value for name, value in inputs.items()}
