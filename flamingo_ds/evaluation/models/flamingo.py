"""A Flamingo of ours as a model to evaluate."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ...config import ConfigError
from ...model import FlamingoConfig, FlamingoForConditionalGeneration, FlamingoProcessor
from ...model.media_mask import media_ids_from
from ...model.vision_encoder import encode_images
from ..options import OptionTokens, join_options, sum_log_likelihoods
from ..prompts import encode, parts, render
from ..shared_cache import can_share, share
from ..task import Prompt, Turn
from .identity import weights_identity
from .media_store import MediaStore
from .model import Beams, media_paths, require_fit

ALL_PREVIOUS = "all_previous"


class FlamingoReader:
    """Configuration and processor.

    Args:
        config: of the model.
        processor: its own.
        identity: see :class:`~.model.Reader`.
    """

    def __init__(self, config: FlamingoConfig, processor: FlamingoProcessor, identity: str) -> None:
        self.config, self.processor, self.identity = config, processor, identity
        self.context_length = config.context_length
        self._rows = lru_cache(maxsize=4)(self._encode_rows)

    def text(self, prompt: Prompt) -> str:
        """With ``<image>`` at the place of each picture or video."""
        return render(prompt)

    def count_tokens(self, prompt: Prompt) -> int:
        """``<image>`` is one."""
        return len(self.ids(prompt))

    def longest(self, options: Sequence[str]) -> int:
        """With ``<EOC>``, and the space before it."""
        return max(map(len, self._rows("", tuple(options))[1]))

    def ids(self, prompt: Prompt) -> list[int]:
        """As in training."""
        return encode(prompt, self.processor.tokenizer, self.config.image_token_id, self.config.eoc_token_id)

    def with_options(self, prompt: Prompt, options: Sequence[str]) -> OptionTokens:
        """A prompt with the options behind it."""
        tail, rows = self._rows(prompt[-1].instruction, tuple(options))
        return join_options(self.ids(prompt), tail, rows)

    def _encode_rows(self, instruction: str, options: tuple[str, ...]) -> tuple[list[int], list[list[int]]]:
        """Ids of the last text of a prompt, and of that text with each option; most prompts of a task share them."""
        bare = Turn((), instruction, None)
        texts = [next(iter(parts((replace(bare, answer=option),)))) for option in options]
        plain = {"add_special_tokens": False, "split_special_tokens": True}
        tokenizer: Any = self.processor.tokenizer
        tail = tokenizer(instruction, **plain)["input_ids"] if instruction else []
        rows = tokenizer(texts, **plain)["input_ids"]
        return list(tail), [[*row, self.config.eoc_token_id] for row in rows]


class FlamingoAnswerer:
    """See :class:`~.model.Answerer`.

    Args:
        model: with its weights, where it shall compute.
        reader: of the same model.
        beams: of the search for open-ended answers.
        shares_cache: False computes every option with its whole prompt, the plain way, to compare with.
    """

    def __init__(
        self,
        model: FlamingoForConditionalGeneration,
        reader: FlamingoReader,
        beams: Beams | None = None,
        shares_cache: bool = True,
    ) -> None:
        self.model, self.reader, self.beams, self.shares_cache = model.eval(), reader, beams or Beams(), shares_cache
        self.media = MediaStore(self.model, reader.processor)

    @torch.inference_mode()
    def see(self, path: Path) -> None:
        """Encode it."""
        self.media.latents(path)

    @torch.inference_mode()
    def write(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[str]:
        """Prompts of unequal length are padded on the left."""
        rows = [self.reader.ids(prompt) for prompt in prompts]
        config, length = self.reader.config, max(map(len, rows))
        require_fit(length + max_new_tokens, config.context_length)
        padding = config.pad_token_id if config.pad_token_id is not None else config.eoc_token_id
        ids = torch.full((len(rows), length), padding)
        mask = torch.zeros(len(rows), length, dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, length - len(row) :] = torch.tensor(row)
            mask[place, length - len(row) :] = 1
        made = self.model.generate(
            input_ids=ids.to(self.model.device),
            attention_mask=mask.to(self.model.device),
            media_key_values=self.media.keys_values([media_paths(prompt) for prompt in prompts]),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=self.beams.count,
            length_penalty=self.beams.length_penalty,
            eos_token_id=config.eoc_token_id,
            pad_token_id=padding,
            suppress_tokens=[config.image_token_id],
        )
        return [self._decode(row) for row in made[:, length:].tolist()]

    @torch.inference_mode()
    def log_likelihoods(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        """The prompt is computed once; options go in batches over its keys and values."""
        tokens = self.reader.with_options(prompt, options)
        require_fit(len(tokens.prompt) + max(map(len, tokens.rows)), self.reader.context_length)
        ids = torch.tensor([tokens.prompt], device=self.model.device)
        media = self.media.keys_values([media_paths(prompt)])
        read = self.model(input_ids=ids, media_key_values=media, use_cache=True, logits_to_keep=1)
        first = read.logits[0, -1]
        if not (self.shares_cache and can_share(read.past_key_values)):
            return sum_log_likelihoods(first, tokens.rows, self._go_on_plainly(ids, media))
        if media is not None and self.reader.config.media_rule != ALL_PREVIOUS:
            media = media[:, :, -1:]  # of the images no other is seen by what stands behind them all
        return sum_log_likelihoods(first, tokens.rows, self._go_on(ids, media, read.past_key_values))

    def encoder(self) -> "FlamingoEncoder":
        """The frozen vision encoder."""
        return FlamingoEncoder(self.model, self.reader)

    def _decode(self, ids: list[int]) -> str:
        if (eoc := self.reader.config.eoc_token_id) in ids:
            ids = ids[: ids.index(eoc)]
        return str(self.reader.processor.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def _go_on(
        self, ids: torch.Tensor, media: torch.Tensor | None, cache: Any
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        """Options over the prompt's cache; ``media`` holds the images that they may see."""
        config = self.reader.config

        def go_on(rows: torch.Tensor) -> torch.Tensor:
            whole = torch.cat([ids.expand(len(rows), -1), rows], dim=1)
            seen = media_ids_from(whole, config.image_token_id, config.media_rule)[:, ids.shape[1] :]
            if media is not None and media.shape[2] == 1:
                seen = seen.clamp(max=1)
            return self.model(
                input_ids=rows,
                attention_mask=torch.ones_like(whole),
                media_ids=seen,
                media_key_values=None if media is None else media.expand(len(rows), -1, -1, -1, -1),
                past_key_values=share(cache),
                use_cache=True,
            ).logits

        return go_on

    def _go_on_plainly(self, ids: torch.Tensor, media: torch.Tensor | None) -> Callable[[torch.Tensor], torch.Tensor]:
        def go_on(rows: torch.Tensor) -> torch.Tensor:
            whole = torch.cat([ids.expand(len(rows), -1), rows], dim=1)
            keys_values = None if media is None else media.expand(len(rows), -1, -1, -1, -1)
            return self.model(input_ids=whole, media_key_values=keys_values).logits[:, ids.shape[1] :]

        return go_on


class FlamingoEncoder:
    """The frozen vision encoder: the mean of the tokens that the resampler would read.

    Args:
        model: with its weights.
        reader: of the same model.
    """

    def __init__(self, model: FlamingoForConditionalGeneration, reader: FlamingoReader) -> None:
        self.model, self.processor, self.config = model, reader.processor, reader.config
        vision = weights_identity(model.vision_model)
        self.key = f"{vision} mean of {reader.config.vision_features} tokens"

    @torch.inference_mode()
    def features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """(N, D) float32 on the CPU."""
        if not images:
            raise ConfigError("--select", "rices", "samples with a picture")
        pixels = torch.stack([self.processor.transform(image) for image in images])
        encoder = self.model.vision_model
        tokens = encode_images(
            encoder,
            pixels.to(self.model.device, encoder.dtype),
            self.config.vision_features,
            self.config.vision_class_token,
        )
        return tokens.float().mean(1).cpu()
