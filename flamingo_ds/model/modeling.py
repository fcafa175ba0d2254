"""Flamingo: frozen vision encoder, Perceiver Resampler, gated cross-attention before the blocks of a frozen LM.

Legend: B sequences, L tokens, T images a sequence, F frames an image, N real images of the whole batch,
P vision tokens, D vision width, R latents, H LM width, V logits.
"""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.utils import ModelOutput

from .configuration import FlamingoConfig
from .decoder_blocks import decoder_blocks, gated_blocks_before
from .gated_cross_attention import GatedCrossAttentionBlock
from .media_mask import media_ids_from, media_mask
from .new_tokens import embed, merge, new_token_logits
from .perceiver_resampler import PerceiverResampler
from .tanh_gate import TanhGate
from .vision_encoder import encode_images


@dataclass
class FlamingoOutput(ModelOutput):
    """What a forward pass gives.

    Attributes:
        loss: () mean cross-entropy over the labels, or their sum over ``num_items_in_batch``.
        logits: (B, L, V).
        past_key_values: the LM's cache.
        media_latents: (B, T, R, D), to pass on instead of ``pixel_values`` while generating.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    past_key_values: Cache | None = None
    media_latents: torch.Tensor | None = None


class FlamingoForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """A visual language model around an untouched transformers LM and vision encoder (paper, section 2).

    The backbones keep the parameter names of their own libraries under ``language_model.`` and ``vision_model.``.
    """

    config_class = FlamingoConfig
    config: FlamingoConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ("image", "text")  # type: ignore[assignment]
    _supports_sdpa = True

    def __init__(self, config: FlamingoConfig) -> None:
        super().__init__(config)
        text, vision = config.text_config, config.vision_config
        self.vision_model = AutoModel.from_config(vision)
        self.language_model = AutoModelForCausalLM.from_config(text)
        self.resampler = PerceiverResampler(
            vision.hidden_size,
            config.resampler_depth,
            config.resampler_latents,
            config.resampler_heads,
            config.resampler_head_width,
            config.max_frames,
            config.feed_forward_multiplier,
        )
        self.gated_cross_attention = nn.ModuleDict(
            {
                str(index): GatedCrossAttentionBlock(
                    text.hidden_size,
                    vision.hidden_size,
                    config.cross_attention_heads,
                    config.cross_attention_head_width,
                    config.feed_forward_multiplier,
                    config.initial_gate,
                )
                for index in config.gated_block_indices
            }
        )
        self.new_token_embedding: nn.Embedding | None = None
        self.new_token_head: nn.Linear | None = None
        if config.num_new_tokens:
            self.new_token_embedding = nn.Embedding(config.num_new_tokens, text.hidden_size)
            self.new_token_head = nn.Linear(text.hidden_size, config.num_new_tokens, bias=False)
            if config.tie_word_embeddings:
                self._tied_weights_keys = {"new_token_head.weight": "new_token_embedding.weight"}
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initial values of the trained layers; the backbones' own classes initialise theirs.

        Matrices by their fan-in, so that a branch's output is as large as its input at every width.
        """
        std = 0.02
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, mean=0.0, std=module.in_features**-0.5)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=std)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, PerceiverResampler):
            # As large as a normed vector: with small ones all latents would come out alike and learn the same.
            init.normal_(module.latents, mean=0.0, std=1.0)
            init.normal_(module.frame_encodings, mean=0.0, std=std)
        elif isinstance(module, TanhGate):
            init.constant_(module.gate, module.initial)

    def train(self, mode: bool = True) -> "FlamingoForConditionalGeneration":
        """As always, but a wholly frozen backbone stays in eval mode: dropout in it would only blur what it knows."""
        super().train(mode)
        for backbone in (self.vision_model, self.language_model):
            if not any(parameter.requires_grad for parameter in backbone.parameters()):
                backbone.eval()
        return self

    def get_input_embeddings(self) -> nn.Module:
        """The LM's embedding."""
        return self.language_model.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        """The LM's head."""
        return self.language_model.get_output_embeddings()

    def get_decoder(self) -> nn.Module:
        """The LM without its head; generation looks at its cache and mask settings."""
        return self.language_model.get_decoder()

    def merge_new_tokens(self) -> None:
        """Move the new tokens' rows into the LM's matrices, in place; logits stay the same (DESIGN: export)."""
        if self.new_token_embedding is None or self.new_token_head is None:
            return
        merge(self.language_model, self.new_token_embedding, self.new_token_head, self.config.first_new_token_id)
        self.new_token_embedding = self.new_token_head = None
        self.config.num_new_tokens = 0
        self.config.text_config.vocab_size = self.language_model.config.vocab_size
        self._tied_weights_keys = {}
        self.all_tied_weights_keys = self.get_expanded_tied_weights_keys(all_submodels=True)

    def encode_media(self, pixel_values: torch.Tensor, num_images: torch.Tensor | None = None) -> torch.Tensor:
        """Latents of every image; only the real ones are computed, padding gets zeros.

        Args:
            pixel_values: (B, T, F, C, H, W).
            num_images: (B,) real images of each sequence, the rest of T is padding; None means all are real.

        Returns:
            (B, T, R, D).
        """
        _check_pixels(pixel_values, num_images)
        batch, slots, frames = pixel_values.shape[:3]
        real = torch.ones(batch, slots, dtype=torch.bool, device=pixel_values.device)
        if num_images is not None:
            real = torch.arange(slots, device=pixel_values.device) < num_images.unsqueeze(1)
        images = pixel_values[real]
        # A batch without images still runs the vision path on one blank, or ranks of ZeRO-3 would wait for one
        # another: every rank must gather the same layers in the same order.
        blank = images.shape[0] == 0
        if blank:
            images = pixel_values.new_zeros(1, *pixel_values.shape[2:])
        tokens = encode_images(
            self.vision_model,
            images.flatten(0, 1).to(self.vision_model.dtype),
            self.config.vision_features,
            self.config.vision_class_token,
        )
        latents = self.resampler(tokens.unflatten(0, (-1, frames)))
        padded = latents.new_zeros(batch, slots, *latents.shape[1:])
        if blank:
            return padded + 0.0 * latents.sum()
        return padded.masked_scatter(real[..., None, None], latents)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        num_images: torch.Tensor | None = None,
        media_ids: torch.Tensor | None = None,
        media_latents: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> FlamingoOutput:
        """Logits of the next token, and the loss where labels are given.

        Args:
            input_ids: (B, L).
            attention_mask: (B, L), 1 for real tokens.
            pixel_values: (B, T, F, C, H, W), image t of a sequence belongs to its t-th ``<image>`` token.
            num_images: (B,) real images of each sequence; None means T.
            media_ids: (B, L) 1-based image of each token, 0 for none; None: the last image before it.
            media_latents: (B, T, R, D) instead of ``pixel_values``, from an earlier call.
            labels: (B, L), -100 where nothing is to be predicted; shifted here.
            num_items_in_batch: divisor of the summed loss; None: the number of labels.
            position_ids: (B, L), which ``generate`` counts from each prompt's first real token; dropped where the LM
                takes none (ALiBi).
            past_key_values, use_cache, kwargs: the LM's own.

        Raises:
            ValueError: more images named in the text than given.
        """
        if media_latents is None and pixel_values is not None:
            media_latents = self.encode_media(pixel_values, num_images)
        if media_ids is None:
            media_ids = media_ids_from(input_ids, self.config.image_token_id)
            _check_media_ids(media_ids, media_latents, num_images)
        if position_ids is not None and "position_ids" in inspect.signature(self.language_model.forward).parameters:
            kwargs["position_ids"] = position_ids
        first = self.config.first_new_token_id
        with new_token_logits(self.language_model, self.new_token_head, first):
            outputs = self._run_language_model(
                embed(self.language_model, self.new_token_embedding, input_ids, first),
                media_latents,
                media_ids,
                attention_mask=attention_mask,
                past_key_values=past_key_values,
                use_cache=bool(use_cache),
                **kwargs,
            )
        loss = None
        if labels is not None:
            loss = self.loss_function(
                outputs.logits, labels, vocab_size=outputs.logits.shape[-1], num_items_in_batch=num_items_in_batch
            )
        return FlamingoOutput(loss, outputs.logits, outputs.past_key_values, media_latents)

    def _run_language_model(
        self, embeddings: torch.Tensor, media_latents: torch.Tensor | None, media_ids: torch.Tensor, **kwargs: Any
    ) -> ModelOutput:
        """The LM's own forward, gated blocks before its blocks; without media it is the bare LM."""
        if media_latents is None:
            return self.language_model(inputs_embeds=embeddings, **kwargs)
        mask = media_mask(media_ids, media_latents.shape[1], media_latents.shape[2])
        blocks = decoder_blocks(self.language_model)
        with gated_blocks_before(blocks, self.gated_cross_attention, media_latents.flatten(1, 2), mask):
            return self.language_model(inputs_embeds=embeddings, **kwargs)

    def prepare_inputs_for_generation(  # type: ignore[override]
        self, input_ids: torch.LongTensor, **kwargs: Any
    ) -> dict[str, Any]:
        """Media ids come from the whole text so far; the images are encoded once, at the first step."""
        media_ids = media_ids_from(input_ids, self.config.image_token_id)
        inputs = super().prepare_inputs_for_generation(input_ids, **kwargs)
        inputs["media_ids"] = media_ids[:, -inputs["input_ids"].shape[1] :]
        if inputs.get("media_latents") is not None:
            inputs["pixel_values"] = inputs["num_images"] = None
        else:
            _check_media_ids(media_ids, inputs.get("pixel_values"), inputs.get("num_images"))
        return inputs

    def _update_model_kwargs_for_generation(  # type: ignore[override]
        self, outputs: FlamingoOutput, model_kwargs: dict[str, Any], **kwargs: Any
    ) -> dict[str, Any]:
        model_kwargs = super()._update_model_kwargs_for_generation(outputs, model_kwargs, **kwargs)
        model_kwargs["media_latents"] = outputs.media_latents
        return model_kwargs


def _check_pixels(pixel_values: torch.Tensor, num_images: torch.Tensor | None) -> None:
    """Refuse pixel values of another shape than the legend's."""
    if pixel_values.ndim != 6:
        raise ValueError(f"pixel_values has shape {tuple(pixel_values.shape)}; expected (B, T, F, C, H, W)")
    if num_images is not None and num_images.shape != pixel_values.shape[:1]:
        raise ValueError(f"num_images has shape {tuple(num_images.shape)}; expected ({pixel_values.shape[0]},)")


def _check_media_ids(media_ids: torch.Tensor, media: torch.Tensor | None, num_images: torch.Tensor | None) -> None:
    """Refuse a text that names more images than there are; runs on ids made here, not on a trainer's hot path."""
    named = media_ids.amax(-1)
    given = torch.full_like(named, 0 if media is None else media.shape[1])
    if num_images is not None and media is not None:
        given = torch.minimum(given, num_images)
    if bool((named > given).any()):
        raise ValueError(f"the text names {named.tolist()} images a sequence but {given.tolist()} were given")
