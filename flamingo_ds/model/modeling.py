"""Flamingo: frozen vision encoder, Perceiver Resampler, gated cross-attention before the blocks of a frozen LM.

Legend: B sequences, L tokens, T images a sequence, F frames an image, P vision tokens, D vision width, R latents,
H LM width, V logits, J gated blocks, I heads times head width of their attention.
"""

import inspect
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.utils import ModelOutput

from .build_layers import build_gated_block, build_resampler
from .chunked_cross_entropy import IGNORED, applies_to, summed_loss_instead_of_logits
from .configuration import FlamingoConfig
from .decoder_blocks import decoder_blocks, gated_blocks_before
from .generation import FlamingoGeneration
from .input_checks import check_key_values, check_media, check_shapes, check_text
from .media_mask import by_image_pays, media_ids_from, media_view
from .new_tokens import embed, merge, new_token_logits
from .perceiver_resampler import PerceiverResampler
from .tanh_gate import TanhGate
from .vision_encoder import encode_images


@dataclass
class FlamingoOutput(ModelOutput):
    """What a forward pass gives.

    Attributes:
        loss: () mean cross-entropy over the labels, or their sum over ``num_items_in_batch``.
        logits: (B, L, V), or None where only the loss was asked for.
        past_key_values: the LM's cache.
        hidden_states, attentions: the LM's, where they were asked for.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class FlamingoForConditionalGeneration(FlamingoGeneration, PreTrainedModel, GenerationMixin):
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
        text = config.text_config
        self.vision_model = AutoModel.from_config(config.vision_config)
        self.language_model = AutoModelForCausalLM.from_config(text)
        self.resampler = build_resampler(config)
        self.gated_cross_attention = nn.ModuleDict(
            {str(index): build_gated_block(config) for index in config.gated_block_indices}
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
        elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
            init.ones_(module.weight)
            if isinstance(module, nn.LayerNorm):
                init.zeros_(module.bias)
        elif isinstance(module, PerceiverResampler):
            # As large as a normed vector: with small ones all latents would come out alike and learn the same.
            init.normal_(module.latents, mean=0.0, std=1.0)
            if module.frame_encodings is not None:
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

    def encode_media(
        self,
        pixel_values: torch.Tensor,
        num_images: torch.Tensor | None = None,
        num_frames: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Latents of every image or video; only real frames are computed, padding gets zeros.

        Args:
            pixel_values: (B, T, F, C, H, W).
            num_images: (B,) real images of each sequence, the rest of T is padding; None means all are real.
            num_frames: (B, T) real frames of each image, the rest of F is padding; None means all are real.

        Returns:
            (B, T, R, D).

        Raises:
            ValueError: shapes that do not fit.
        """
        check_shapes(pixel_values, num_images, num_frames)
        batch, slots, frames = pixel_values.shape[:3]
        device = pixel_values.device
        real = torch.ones(batch, slots, dtype=torch.bool, device=device)
        if num_images is not None:
            real = torch.arange(slots, device=device) < num_images.unsqueeze(1)
        images = pixel_values[real]
        lengths = None if num_frames is None or frames == 1 else num_frames[real]  # a single frame is always real
        # A batch without images still runs the vision path on one blank, or ranks of ZeRO-3 would wait for one
        # another: every rank must gather the same layers in the same order.
        blank = images.shape[0] == 0
        if blank:
            images, lengths = pixel_values.new_zeros(1, *pixel_values.shape[2:]), None
        shown = torch.ones(len(images), frames, dtype=torch.bool, device=device)
        if lengths is not None:
            shown = torch.arange(frames, device=device) < lengths.unsqueeze(1)
        tokens = encode_images(
            self.vision_model,
            images[shown].to(self.vision_model.dtype),
            self.config.vision_features,
            self.config.vision_class_token,
        )
        features = tokens.new_zeros(*shown.shape, *tokens.shape[1:])
        features = features.masked_scatter(shown[..., None, None], tokens)
        latents = self.resampler(features, lengths)
        padded = latents.new_zeros(batch, slots, *latents.shape[1:])
        if blank:
            return padded + 0.0 * latents.sum()
        return padded.masked_scatter(real[..., None, None], latents)

    def project_media(self, latents: torch.Tensor) -> torch.Tensor:
        """Keys and values of all J gated blocks, for texts that go on: (B, T, R, D) to (B, J, T, R, 2 I).

        The LM's cache spares it the tokens before; this spares the gated blocks the images.
        """
        blocks: Any = self.gated_cross_attention.values()
        return torch.stack([block.attention.to_keys_values(latents) for block in blocks], dim=1)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        num_images: torch.Tensor | None = None,
        num_frames: torch.Tensor | None = None,
        media_ids: torch.Tensor | None = None,
        media_key_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        return_logits: bool | None = None,
        logits_to_keep: int = 0,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> FlamingoOutput:
        """Logits of the next token, or the loss where labels are given, or both.

        Args:
            input_ids: (B, L).
            attention_mask: (B, L), 1 for real tokens.
            pixel_values: (B, T, F, C, H, W), image t of a sequence belongs to its t-th ``<image>`` token.
            num_images: (B,) real images of each sequence; None means T.
            num_frames: (B, T) real frames of each image; None means F.
            media_ids: (B, L) 1-based image of each token, 0 for none; None: by the configuration's rule, after
                checking text and images against one another. Whoever gives them vouches for the batch.
            media_key_values: (B, J, T, R, 2 I) of :meth:`project_media` instead of ``pixel_values``.
            labels: (B, L), -100 where nothing is to be predicted; shifted here.
            num_items_in_batch: divisor of the summed loss; None: the number of labels.
            return_logits: None: unless labels are given in training, where the loss is computed in chunks and
                logits would be most of the memory.
            logits_to_keep: only of the last so many tokens; 0 for all.
            position_ids: (B, L), which ``generate`` counts from each prompt's first real token; dropped where the LM
                takes none (ALiBi).
            past_key_values, use_cache, kwargs: the LM's own.

        Raises:
            ValueError: text and images that do not fit one another or the model.
        """
        if media_ids is None:
            if past_key_values is not None and past_key_values.get_seq_length():
                raise ValueError("media_ids is None with a cache; expected the new tokens' own, from the whole text")
            media_ids = self._media_ids(input_ids)
            check_text(self.config, input_ids, attention_mask)
            if media_key_values is not None:
                check_key_values(self.config, input_ids, media_key_values)
            else:
                check_media(input_ids, self.config.image_token_id, pixel_values, num_images, num_frames)
        media = media_key_values
        if media is None and pixel_values is not None:
            media = self.encode_media(pixel_values, num_images, num_frames)
        if labels is not None and labels.shape != input_ids.shape:
            raise ValueError(f"labels has shape {tuple(labels.shape)}; expected {tuple(input_ids.shape)} as input_ids")
        if return_logits is None:
            return_logits = labels is None or not self.training
        # What only some language models take.
        known = inspect.signature(self.language_model.forward).parameters
        special = {"position_ids": position_ids, "logits_to_keep": logits_to_keep or None}
        kwargs |= {name: value for name, value in special.items() if value is not None and name in known}
        return self.decode(
            embed(self.language_model, self.new_token_embedding, input_ids, self.config.first_new_token_id),
            media,
            media_ids,
            labels,
            num_items_in_batch,
            return_logits,
            projected=media_key_values is not None,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            use_cache=bool(use_cache),
            **kwargs,
        )

    def decode(
        self,
        embeddings: torch.Tensor,
        media: torch.Tensor | None,
        media_ids: torch.Tensor,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        return_logits: bool = True,
        projected: bool = False,
        **kwargs: Any,
    ) -> FlamingoOutput:
        """From where text and images have come together: the LM with its gated blocks, and the loss.

        Args:
            embeddings: (B, L, H).
            media: (B, T, R, D) latents, or with ``projected`` (B, J, T, R, 2 I) keys and values, or None.
            media_ids, labels, num_items_in_batch, return_logits: as in :meth:`forward`.
            projected: see ``media``.
            kwargs: the LM's own.
        """
        chunked = labels is not None and not return_logits and applies_to(self.config.text_config)
        with self._head(labels if chunked else None):
            outputs = self._run_language_model(embeddings, media, media_ids, projected, **kwargs)
        loss = None if labels is None else self._loss(outputs.logits, labels, num_items_in_batch, chunked)
        return FlamingoOutput(
            loss,
            outputs.logits if return_logits else None,
            outputs.past_key_values,
            outputs.hidden_states,
            outputs.attentions,
        )

    def _loss(
        self, logits: torch.Tensor, labels: torch.Tensor, num_items: torch.Tensor | int | None, chunked: bool
    ) -> torch.Tensor:
        """Sum over the labels by ``num_items``, or their number; with ``chunked``, ``logits`` is the sum already."""
        if num_items is None:
            num_items = (labels[:, 1:] != IGNORED).sum().clamp(min=1)  # nothing to predict is a loss of 0, not 0 / 0
        if chunked:
            return logits.sum() / num_items
        return self.loss_function(logits, labels, vocab_size=logits.shape[-1], num_items_in_batch=num_items)

    def _head(self, labels: torch.Tensor | None) -> AbstractContextManager[None]:
        """The LM's head with the new tokens' rows: giving logits, or where there are labels their summed loss."""
        first = self.config.first_new_token_id
        if labels is None:
            return new_token_logits(self.language_model, self.new_token_head, first)
        head = self.language_model.get_output_embeddings()
        return summed_loss_instead_of_logits(head, self.new_token_head, first, labels)

    def _run_language_model(
        self,
        embeddings: torch.Tensor,
        media: torch.Tensor | None,
        media_ids: torch.Tensor,
        projected: bool,
        **kwargs: Any,
    ) -> ModelOutput:
        """The LM's own forward, gated blocks before its blocks."""
        view = None
        if media is not None:
            slots, latents = media.shape[-3:-1]
            by_image = by_image_pays(slots)
            view = media_view(media_ids, slots, latents, self.config.media_rule, by_image)
        blocks = decoder_blocks(self.language_model)
        with gated_blocks_before(blocks, self.gated_cross_attention, media, view, projected):
            return self.language_model(inputs_embeds=embeddings, **kwargs)

    def _media_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        return media_ids_from(input_ids, self.config.image_token_id, self.config.media_rule)
