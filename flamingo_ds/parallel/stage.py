"""A pipeline stage is a Flamingo with the other stages' modules taken out.

Other stages' LM blocks become pass-throughs; embedding, learned positions, final norm and head are there where they
are used. The LM's own ``forward`` runs on ``inputs_embeds``, so its masks and rotary embeddings work unchanged, and
what is left keeps its canonical name.

Legend: B sequences, L tokens, H LM width, T images, R latents, D their width, V words.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig

from ..model import FlamingoForConditionalGeneration
from ..model.chunked_cross_entropy import applies_to
from ..model.decoder_blocks import decoder_blocks
from ..model.new_tokens import embed


@dataclass(frozen=True)
class FamilyParts:
    """What a family of LMs has around its blocks, as paths inside the causal LM.

    Attributes:
        on_first: used before the first block only.
        on_last: used behind the last block only, the head apart.
        positions: learned position embeddings, added to whatever comes in.
        tuples: its blocks return tuples.
    """

    on_last: tuple[str, ...]
    on_first: tuple[str, ...] = ()
    positions: str | None = None
    tuples: bool = False


LLAMA = FamilyParts(on_last=("model.norm",))
FAMILIES = {
    "gemma3_text": LLAMA,
    "gpt2": FamilyParts(on_last=("transformer.ln_f",), positions="transformer.wpe"),
    "gpt_neox": FamilyParts(on_last=("gpt_neox.final_layer_norm",)),
    "gptj": FamilyParts(on_last=("transformer.ln_f",), tuples=True),
    "llama": LLAMA,
    "mistral": LLAMA,
    "mpt": FamilyParts(on_last=("transformer.norm_f",), tuples=True),
    "olmo2": LLAMA,
    "opt": FamilyParts(
        on_last=("model.decoder.final_layer_norm", "model.decoder.project_out"),
        on_first=("model.decoder.project_in",),
        positions="model.decoder.embed_positions",
    ),
    "phi3": LLAMA,
    "qwen3": LLAMA,
}


class PassThrough(nn.Module):
    """In place of an LM block that another stage has."""

    def __init__(self, tuples: bool) -> None:
        super().__init__()
        self.tuples = tuples

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor | tuple[torch.Tensor]:
        """What came in."""
        return (hidden_states,) if self.tuples else hidden_states


class NoPositions(nn.Module):
    """In place of learned positions that the first stage has added already."""

    def forward(self, positions: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """A zero that adds to anything."""
        return torch.zeros((), device=positions.device)


def check_family(text_config: PreTrainedConfig) -> None:
    """Refuse a language model that cannot be cut into stages.

    Raises:
        ValueError: its family, or a cap on its logits, which every stage would apply to its hidden states.
    """
    family = text_config.model_type
    if family not in FAMILIES:
        raise ValueError(f"a language model of one of {', '.join(FAMILIES)}; {family} has not been tried")
    if not applies_to(text_config):
        raise ValueError("a language model without final_logit_softcapping")


def prune(model: FlamingoForConditionalGeneration, bounds: tuple[int, ...], stage: int) -> None:
    """Take out what the other stages have, in place.

    Args:
        model: whole; its parameters may be on the meta device.
        bounds: LM blocks ``bounds[s]`` to ``bounds[s + 1] - 1`` are stage s's, with the gated blocks before them.
        stage: which to leave.
    """
    family = FAMILIES[model.config.text_config.model_type]
    language_model = model.language_model
    own = range(bounds[stage], bounds[stage + 1])
    blocks = decoder_blocks(language_model)
    for index in range(len(blocks)):
        if index not in own:
            blocks[index] = PassThrough(family.tuples)
    for key in list(model.gated_cross_attention):
        if int(key) not in own:
            del model.gated_cross_attention[key]
    if stage > 0:
        model.vision_model = nn.Identity()
        model.resampler = nn.Identity()  # type: ignore[assignment]
        model.new_token_embedding = None
        language_model.set_input_embeddings(nn.Identity())  # type: ignore[arg-type]
        _replace(language_model, family.on_first, nn.Identity())
        if family.positions is not None:
            language_model.set_submodule(family.positions, NoPositions())
    if stage < len(bounds) - 2:
        model.new_token_head = None
        language_model.set_output_embeddings(nn.Identity())  # type: ignore[arg-type]
        _replace(language_model, family.on_last, nn.Identity())


def _canonical_names(model: nn.Module) -> dict[str, str]:
    """Every name of every parameter -> the one that the whole model calls it by, the first where it is tied."""
    first: dict[int, str] = {}
    return {
        name: first.setdefault(id(parameter), name)
        for name, parameter in model.named_parameters(remove_duplicate=False)
    }


def _replace(language_model: nn.Module, paths: tuple[str, ...], module: nn.Module) -> None:
    for path in paths:
        parent, _, name = path.rpartition(".")
        holder = language_model.get_submodule(parent)
        if getattr(holder, name) is not None:  # not every model of a family has every part
            setattr(holder, name, module)


class FlamingoStage(nn.Module):
    """What one stage does to a micro-batch; the layer of a ``PipelineModule``.

    What crosses to the next stage is one floating tensor, hidden states (B, L, H) and as long as gated blocks are to
    come the latents (B, T, R, D), flattened, one behind the other; and the text (3, B, L): attention mask, media ids,
    labels, or (2, B, L) without labels where logits are wanted. One tensor, because DeepSpeed walks a stage's graph
    backwards once for each floating tensor that left it, and because every tensor that crosses must get a gradient,
    which latents that nobody looks at would not.

    Args:
        model: whole; it is pruned in place.
        bounds: see :func:`prune`.
        stage: which one.
    """

    def __init__(self, model: FlamingoForConditionalGeneration, bounds: tuple[int, ...], stage: int) -> None:
        super().__init__()
        self.is_first, self.is_last = stage == 0, stage == len(bounds) - 2
        self.canonical = _canonical_names(model)
        self.language_model_trains = any(weight.requires_grad for weight in model.language_model.parameters())
        gated = model.config.gated_block_indices
        self.media_comes_in = not self.is_first and any(index >= bounds[stage] for index in gated)
        self.media_goes_on = any(index >= bounds[stage + 1] for index in gated)
        prune(model, bounds, stage)
        self.model = model

    @property
    def has_ties(self) -> bool:
        """Whether first and last stage of the model have weights in common; the same on all stages."""
        return any(alias != name for alias, name in self.canonical.items())

    def train(self, mode: bool = True) -> "FlamingoStage":
        """As the whole model: a stage whose own blocks are all frozen does what the others do (dropout)."""
        super().train(mode)
        if self.language_model_trains:
            self.model.language_model.train(mode)
        return self

    def named_weights(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Parameters by canonical name; a tied weight is the first stage's."""
        copies = {id(parameter) for _, parameter in self.tied_parameters()} if not self.is_first else set()
        for name, parameter in self.model.named_parameters():
            if id(parameter) not in copies:
                yield name, parameter

    def tied_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Parameters that first and last stage both have, by canonical name."""
        tied = {name for alias, name in self.canonical.items() if alias != name}
        if self.is_first or self.is_last:
            for name, parameter in self.model.named_parameters():
                if self.canonical[name] in tied:
                    yield self.canonical[name], parameter

    def forward(self, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor] | torch.Tensor:
        """One micro-batch through this stage.

        Args:
            inputs: on the first stage the tensors of a :class:`~flamingo_ds.batch.FlamingoBatch`, in the order of its
                fields, where labels without a row ask for logits; elsewhere what the stage before gave.

        Returns:
            What crosses to the next stage; on the last one () the summed cross-entropy over the labels, or (B, L, V)
            logits.
        """
        hidden, media, text = self._start(*inputs) if self.is_first else self._unpack(*inputs)
        attention_mask, media_ids, *labels = text
        wants_loss = self.is_last and bool(labels)
        outputs = self.model.decode(
            hidden,
            media,
            media_ids,
            labels[0] if wants_loss else None,
            num_items_in_batch=1,
            return_logits=not wants_loss,
            attention_mask=attention_mask,
            use_cache=False,
        )
        result = outputs.loss if wants_loss else outputs.logits
        assert result is not None
        if self.is_last:
            return result
        crossing = [result.to(hidden.dtype)]  # the head is taken out: these are hidden states
        if self.media_goes_on:
            assert media is not None
            crossing.append(media)
        return torch.cat([tensor.flatten() for tensor in crossing]), text

    def _start(
        self,
        input_ids: torch.Tensor,
        labels: torch.Tensor,
        attention_mask: torch.Tensor,
        media_ids: torch.Tensor,
        pixel_values: torch.Tensor,
        num_images: torch.Tensor,
        num_frames: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        model = self.model
        media = model.encode_media(pixel_values, num_images, num_frames)
        first_id = model.config.first_new_token_id
        hidden = embed(model.language_model, model.new_token_embedding, input_ids, first_id)
        text = [attention_mask, media_ids, labels] if len(labels) else [attention_mask, media_ids]
        return hidden, media, torch.stack(text)

    def _unpack(
        self, crossed: torch.Tensor, text: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        config = self.model.config
        _, batch, length = text.shape
        size = batch * length * config.text_config.hidden_size
        hidden = crossed[:size].view(batch, length, -1)
        if not self.media_comes_in:
            return hidden, None, text
        return hidden, crossed[size:].view(batch, -1, config.resampler_latents, config.resampler_width), text
