"""The same training step by each project: built with the same weights, run in turn, timed part by part."""

import ctypes
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip
import torch
from transformers import (
    AutoModelForCausalLM,
    CLIPVisionConfig,
    IdeficsConfig,
    IdeficsForVisionText2Text,
    LlamaConfig,
)

from flamingo_ds.checkpoint.idefics_names import idefics_table
from flamingo_ds.checkpoint.open_clip_vision import to_transformers_names
from flamingo_ds.checkpoint.openflamingo_names import openflamingo_table
from flamingo_ds.model import FlamingoConfig, FlamingoForConditionalGeneration

M_MMAP_THRESHOLD = -3  # of mallopt(3)
TRAINED = ("resampler.", "gated_cross_attention.", "perceiver", "gated_cross_attn")


@dataclass(frozen=True)
class Size:
    """Of the model and its batch."""

    blocks: int
    width: int
    vocabulary: int
    vision: str
    vision_blocks: int
    sequences: int
    tokens: int
    images: int
    every: int = 2

    @property
    def image_token(self) -> int:
        """The last id of the vocabulary."""
        return self.vocabulary - 1


FULL = Size(
    blocks=8, width=512, vocabulary=32000, vision="ViT-B-32", vision_blocks=12, sequences=2, tokens=256, images=5
)
TINY = Size(blocks=2, width=64, vocabulary=500, vision="ViT-B-32", vision_blocks=12, sequences=1, tokens=32, images=3)


@dataclass
class Contestant:
    """A model ready to step.

    Attributes:
        model: with what it trains requiring gradients.
        parts: modules whose forward is timed.
        loss: of the batch.
        seconds: of the parts of the step that runs.
    """

    model: Any
    parts: dict[str, torch.nn.Module]
    loss: Callable[[], torch.Tensor]
    seconds: dict[str, float] = field(default_factory=dict)

    def step(self) -> dict[str, float]:
        """Forward and backward; seconds of each part."""
        self.model.zero_grad(set_to_none=True)
        self.seconds = dict.fromkeys(self.parts, 0.0)
        with self._timed():
            began = time.perf_counter()
            loss = self.loss()
            forward = time.perf_counter() - began
        began = time.perf_counter()
        loss.backward()
        backward = time.perf_counter() - began
        parts = self.seconds | {"language model": forward - sum(self.seconds.values())}
        return parts | {"forward": forward, "backward": backward, "step": forward + backward}

    def memory(self) -> dict[str, float]:
        """Megabytes by which memory rises at most in each pass; a step of its own, as measuring it takes time."""
        self.model.zero_grad(set_to_none=True)
        with memory_peak() as forward_mb:
            loss = self.loss()
        with memory_peak() as backward_mb:
            loss.backward()
        return {"forward MB": forward_mb[0], "backward MB": backward_mb[0]}

    @contextmanager
    def _timed(self) -> Iterator[None]:
        handles = []
        for name, module in self.parts.items():
            starts: list[float] = []
            handles.append(module.register_forward_pre_hook(lambda *_, to=starts: to.append(time.perf_counter())))
            handles.append(module.register_forward_hook(lambda *_, name=name, to=starts: self._add(name, to.pop())))
        yield
        for handle in handles:
            handle.remove()

    def _add(self, name: str, start: float) -> None:
        self.seconds[name] += time.perf_counter() - start


def alternate(contestants: dict[str, Contestant], rounds: int) -> dict[str, list[dict[str, float]]]:
    """One step of each in turn, after one of each to measure its memory."""
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    memory = {name: contestant.memory() for name, contestant in contestants.items()}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            taken[name].append(contestant.step() | memory[name])
    return taken


def contestants(size: Size, real: int, dtype: torch.dtype) -> dict[str, Contestant]:
    """All four, their inputs alike: ``real`` of the images are, the others are padding."""
    torch.manual_seed(0)
    ids = torch.randint(3, size.image_token - 1, (size.sequences, size.tokens))
    ids[:, torch.arange(real) * size.tokens // real] = size.image_token
    pixels = torch.randn(size.sequences, size.images, 1, 3, 224, 224, dtype=dtype)
    labels = ids.masked_fill(ids == size.image_token, -100)
    batch = Batch(ids, labels, torch.ones_like(ids), pixels, torch.full((size.sequences,), real))
    theirs = _openflamingo(size)
    idefics = _idefics(size)
    ours, ours_idefics = _as_ours(theirs, size), _idefics_as_ours(idefics, size)
    made = {
        "ours": Contestant(ours, _our_parts(ours), lambda: batch.our_loss(ours)),
        "openflamingo": Contestant(
            theirs,
            {"vision": theirs.vision_encoder, "resampler": theirs.perceiver},
            lambda: theirs(batch.pixels, batch.ids, batch.mask, labels=batch.labels).loss,
        ),
        "ours, idefics style": Contestant(ours_idefics, _our_parts(ours_idefics), lambda: batch.our_loss(ours_idefics)),
        "idefics": Contestant(
            idefics,
            {"vision": idefics.model.vision_model, "resampler": idefics.model.perceiver_resampler},
            lambda: batch.idefics_loss(idefics, size),
        ),
    }
    for name, contestant in made.items():
        contestant.model.to(dtype).train()
        for parameter, tensor in contestant.model.named_parameters():
            tensor.requires_grad_(any(trained in parameter for trained in TRAINED))
        # Left in training mode a frozen open_clip tower is several times slower; no trainer should.
        contestant.parts["vision"].eval()
        if name == "openflamingo":
            contestant.model.lang_encoder.get_input_embeddings().requires_grad_(True)  # as the project trains it
    return made


@dataclass(frozen=True)
class Batch:
    """What every project is given."""

    ids: torch.Tensor
    labels: torch.Tensor
    mask: torch.Tensor
    pixels: torch.Tensor
    num_images: torch.Tensor

    def our_loss(self, model: FlamingoForConditionalGeneration) -> torch.Tensor:
        """As our trainer calls it: media ids were made with the batch."""
        media_ids = (self.ids == model.config.image_token_id).cumsum(-1)
        return model(self.ids, self.mask, self.pixels, self.num_images, media_ids=media_ids, labels=self.labels).loss

    def idefics_loss(self, model: IdeficsForVisionText2Text, size: Size) -> torch.Tensor:
        """With the attention mask that means: the last image before a token."""
        seen = (self.ids == size.image_token).cumsum(-1).unsqueeze(-1)
        last = (seen == torch.arange(1, size.images + 1)).long()
        return model(
            input_ids=self.ids,
            attention_mask=self.mask,
            pixel_values=self.pixels.squeeze(2),
            image_attention_mask=last,
            labels=self.labels,
        ).loss


def _our_parts(model: FlamingoForConditionalGeneration) -> dict[str, torch.nn.Module]:
    return {"vision": model.vision_model, "resampler": model.resampler}


def _llama(size: Size) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        intermediate_size=4 * size.width,
        num_hidden_layers=size.blocks,
        num_attention_heads=8,
        rms_norm_eps=1e-6,
    )


def _openflamingo(size: Size) -> Any:
    from open_flamingo.src.flamingo import Flamingo
    from open_flamingo.src.flamingo_lm import FlamingoLMMixin
    from open_flamingo.src.utils import extend_instance

    language_model = AutoModelForCausalLM.from_config(_llama(size))
    extend_instance(language_model, FlamingoLMMixin)
    language_model.set_decoder_layers_attr_name("model.layers")
    clip = open_clip.create_model(size.vision, pretrained=None)
    clip.visual.output_tokens = True
    return Flamingo(clip, language_model, 0, size.image_token, vis_dim=768, cross_attn_every_n_layers=size.every)


def _as_ours(theirs: Any, size: Size) -> FlamingoForConditionalGeneration:
    config = _our_config(size, "openflamingo", vision_features="post_norm", cross_attention_offset=size.every - 1)
    model = FlamingoForConditionalGeneration(config)
    state = dict(theirs.state_dict())
    vision = {name.removeprefix("vision_encoder."): state.pop(name) for name in list(state) if "vision_encoder" in name}
    renamed = openflamingo_table("model.layers").to_ours(state)
    renamed |= {f"vision_model.{name}": tensor for name, tensor in to_transformers_names(vision).items()}
    model.load_state_dict(renamed)
    return model


def _idefics(size: Size) -> IdeficsForVisionText2Text:
    shape = {"embed_dim": 768, "image_size": 224, "patch_size": 32, "num_hidden_layers": size.vision_blocks}
    resampler = {"resampler_n_latents": 64, "resampler_depth": 6, "resampler_n_heads": 8, "resampler_head_dim": 64}
    config = IdeficsConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        intermediate_size=4 * size.width,
        num_hidden_layers=size.blocks,
        num_attention_heads=8,
        cross_layer_interval=size.every,
        use_resampler=True,
        vision_config=shape | {"num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu"},
        perceiver_config=resampler,
    )
    return IdeficsForVisionText2Text(config)


def _idefics_as_ours(theirs: IdeficsForVisionText2Text, size: Size) -> FlamingoForConditionalGeneration:
    model = FlamingoForConditionalGeneration(_our_config(size, "idefics", vision_class_token=True))
    model.load_state_dict(idefics_table(model.config.gated_block_indices).to_ours(theirs.state_dict()))
    return model


def _our_config(size: Size, style: str, **more: Any) -> FlamingoConfig:
    vision = CLIPVisionConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=size.vision_blocks,
        num_attention_heads=12,
        image_size=224,
        patch_size=32,
        hidden_act="gelu",
        layer_norm_eps=1e-5,
    )
    return FlamingoConfig(
        text_config=_llama(size),
        vision_config=vision,
        style=style,
        resampler_depth=6,
        resampler_latents=64,
        resampler_heads=8,
        resampler_head_width=64,
        max_frames=0,
        cross_attention_every=size.every,
        image_token_id=size.image_token,
        **more,
    )


@contextmanager
def memory_peak() -> Iterator[list[float]]:
    """Megabytes by which resident memory rose at most while this was open; Linux with glibc alone knows it.

    Blocks of 64 KiB and more are mapped one by one meanwhile and given back when they are freed: memory that the
    allocator keeps for later would hide what the next step takes.
    """
    peak, libc = [0.0], ctypes.CDLL("libc.so.6")
    libc.mallopt(M_MMAP_THRESHOLD, 1 << 16)
    libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the high-water mark starts again
    before = _status("VmRSS")
    yield peak
    peak[0] = (_status("VmHWM") - before) / 1e3
    libc.mallopt(M_MMAP_THRESHOLD, 1 << 25)


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(key))
