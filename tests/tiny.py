"""Tiny random models that every test can afford, and what goes into them.

Weights are drawn wide (RANGE) and gates stand at 0.5: with small weights, or gates at 0, the branches under test would
hardly show in the logits and most comparisons would hold for nothing.
"""

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image
from safetensors.torch import save_model
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    CLIPImageProcessor,
    CLIPVisionConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
)

from flamingo_ds.batch import IGNORED_LABEL, FlamingoBatch
from flamingo_ds.config import DatasetConfig, ModelConfig, RunConfig
from flamingo_ds.config.freeze_presets import freeze_rows
from flamingo_ds.config.schema import (
    DataConfig,
    LanguageModelConfig,
    ResamplerConfig,
    SampleFormat,
    TrainConfig,
    VisionEncoderConfig,
)
from flamingo_ds.model import FlamingoConfig, FlamingoForConditionalGeneration, FlamingoProcessor
from flamingo_ds.model.freeze import FreezeRow, apply_freeze_table
from flamingo_ds.model.processing import EOC_TOKEN
from flamingo_ds.model.prompt_media import IMAGE_TOKEN
from flamingo_ds.model.tanh_gate import TanhGate

RANGE = 0.2
VOCABULARY = 96
IMAGE_ID, EOC_ID, PAD_ID = VOCABULARY, VOCABULARY + 1, 0
IMAGE_SIZE = 16

_LLAMA = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
_GPT = {"n_embd": 32, "n_layer": 3, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2}
_GROUPED = {**_LLAMA, "num_key_value_heads": 2}
# Gemma 3 alternates: the second block sees four tokens back, the others everything.
_SLIDING = {"layer_types": ["full_attention", "sliding_attention", "full_attention"], "sliding_window": 4}

# transformers model_type -> what makes it tiny.
FAMILIES: dict[str, dict[str, Any]] = {
    "gemma3_text": {**_GROUPED, **_SLIDING, "head_dim": 8, "query_pre_attn_scalar": 8},
    "gpt2": _GPT,
    "gpt_neox": _LLAMA,
    "gptj": {**_GPT, "rotary_dim": 4},
    "llama": _LLAMA,
    "mistral": _GROUPED,
    "mpt": {"d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": 64},
    "olmo2": {**_LLAMA, "eos_token_id": 2},
    "opt": {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 64, "num_hidden_layers": 3, "init_std": RANGE}
    | {"num_attention_heads": 4},
    "phi3": {**_GROUPED, "eos_token_id": 2},
    "qwen3": {**_GROUPED, "head_dim": 8},
}


def tiny_text_config(family: str = "llama", **changes: Any) -> PreTrainedConfig:
    """Configuration of a three-block LM of 32 channels."""
    settings = {"vocab_size": VOCABULARY, "initializer_range": RANGE, "pad_token_id": PAD_ID, **FAMILIES[family]}
    return AutoConfig.for_model(family, **(settings | changes))


def tiny_llama(seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A Llama with random weights."""
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(tiny_text_config("llama", **changes)).eval()


def tiny_vision_config(**changes: Any) -> CLIPVisionConfig:
    """Configuration of a two-block ViT with four patches."""
    settings = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return CLIPVisionConfig(**(settings | {"image_size": IMAGE_SIZE, "patch_size": 8} | changes))


def tiny_siglip_config(**changes: Any) -> SiglipVisionConfig:
    """Configuration of a two-block SigLIP with four patches."""
    settings = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return SiglipVisionConfig(**(settings | {"image_size": IMAGE_SIZE, "patch_size": 8} | changes))


def tiny_config(text: PreTrainedConfig | None = None, **changes: Any) -> FlamingoConfig:
    """Configuration of a Flamingo around any tiny LM, with two new tokens after the LM's last row."""
    settings: dict[str, Any] = {
        "text_config": text or tiny_text_config(),
        "vision_config": tiny_vision_config(),
        "resampler_depth": 2,
        "resampler_latents": 4,
        "resampler_heads": 2,
        "resampler_head_width": 8,
        "max_frames": 3,
        "initial_gate": 0.5,
        "num_new_tokens": 2,
        "first_new_token_id": VOCABULARY,
        "image_token_id": IMAGE_ID,
        "eoc_token_id": EOC_ID,
        "pad_token_id": PAD_ID,
    }
    return FlamingoConfig(**(settings | changes))


def tiny_flamingo(
    text: PreTrainedConfig | None = None, seed: int = 0, **changes: Any
) -> FlamingoForConditionalGeneration:
    """A Flamingo with random weights in eval mode, frozen as in the paper."""
    torch.manual_seed(seed)
    model = FlamingoForConditionalGeneration(tiny_config(text, **changes))
    if model.new_token_embedding is not None:
        # As wide as the LM's own rows: drawn at 0.02 the new tokens would say next to nothing.
        torch.nn.init.normal_(model.new_token_embedding.weight, std=RANGE)
    apply_freeze_table(model, [FreezeRow(row.pattern, row.trainable) for row in freeze_rows(ModelConfig())])
    return model.eval()


@torch.no_grad()
def set_gates(model: torch.nn.Module, value: float) -> None:
    """Both gates of every gated block."""
    for module in model.modules():
        if isinstance(module, TanhGate):
            module.gate.fill_(value)


def tiny_batch(seed: int = 0, dtype: torch.dtype = torch.float32) -> FlamingoBatch:
    """Two sequences of nine tokens: one of two images, one of one image with padding behind it."""
    rows = [
        [5, IMAGE_ID, 7, 8, EOC_ID, IMAGE_ID, 9, 10, EOC_ID],
        [IMAGE_ID, 6, 7, EOC_ID, 11, 12, PAD_ID, PAD_ID, PAD_ID],
    ]
    input_ids = torch.tensor(rows)
    num_images = (input_ids == IMAGE_ID).sum(-1)
    pixels = torch.randn(2, 2, 1, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(seed))
    pixels[1, 1] = 0.0
    return FlamingoBatch(
        input_ids=input_ids,
        labels=input_ids.masked_fill((input_ids == PAD_ID) | (input_ids == IMAGE_ID), IGNORED_LABEL),
        attention_mask=(input_ids != PAD_ID).long(),
        media_ids=(input_ids == IMAGE_ID).cumsum(-1),
        pixel_values=pixels.to(dtype),
        num_images=num_images,
        num_frames=(torch.arange(2) < num_images[:, None]).long(),
    )


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of a few sentences, without ``<image>`` and ``<EOC>``."""
    bpe = ByteLevelBPETokenizer()
    texts = ["a picture of a red square", "a picture of a blue circle"] * 4
    bpe.train_from_iterator(texts, vocab_size=280, special_tokens=["<pad>", "<s>", "</s>"], show_progress=False)
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, **names)


def tiny_processor() -> FlamingoProcessor:
    """A processor around the tiny tokenizer, with the two new tokens."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN, EOC_TOKEN]})
    return FlamingoProcessor(
        CLIPImageProcessor(size={"shortest_edge": IMAGE_SIZE}, crop_size=IMAGE_SIZE, do_convert_rgb=True), tokenizer
    )


def tiny_image(seed: int = 0, width: int = 20, height: int = 24) -> Image.Image:
    """Coloured noise; neither square nor of the encoder's size, so that every step of a transform shows."""
    noise = torch.randint(256, (height, width, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Image.fromarray(noise.numpy())


def tiny_open_clip(**changes: Any) -> dict[str, Any]:
    """An open_clip model configuration."""
    vision = {"image_size": IMAGE_SIZE, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
    text = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
    return {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text} | changes


def write_open_clip(folder: Path, seed: int = 0, **changes: Any) -> open_clip.CLIP:
    """A random open_clip model as a ``local-dir:`` folder."""
    torch.manual_seed(seed)
    content = tiny_open_clip(**changes)
    model = open_clip.CLIP(**content).eval()
    folder.mkdir(parents=True)
    save_model(model, str(folder / "open_clip_model.safetensors"))
    preprocess = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear"}
    about = {"model_cfg": content, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(about), encoding="utf-8")
    return model


def write_tiny_backbones(folder: Path, seed: int = 0, **llama: Any) -> ModelConfig:
    """``folder/lm`` and ``folder/clip`` on disk, and the part of a recipe that names them."""
    tokenizer = tiny_tokenizer()
    tiny_llama(seed, **({"vocab_size": len(tokenizer)} | llama)).save_pretrained(folder / "lm")
    tokenizer.save_pretrained(folder / "lm")
    write_open_clip(folder / "clip", seed)
    recipe = ModelConfig(
        language_model=LanguageModelConfig(source=str(folder / "lm")),
        vision_encoder=VisionEncoderConfig(source=f"local-dir:{folder / 'clip'}"),
        resampler=ResamplerConfig(depth=1, latents=4, heads=2, head_width=8, max_frames=2),
    )
    recipe.gated_cross_attention.initial_gate = 0.5
    return recipe


def tiny_recipe(folder: Path, model: ModelConfig) -> RunConfig:
    """A whole recipe around a model; its shards need not be there."""
    dataset = DatasetConfig(format=SampleFormat.image_text, shards=str(folder / "pairs-*.tar"), batch_size=2)
    return RunConfig(
        run_dir=str(folder / "run"),
        model=model,
        data=DataConfig(datasets={"pairs": dataset}),
        train=TrainConfig(max_steps=2, precision="fp32"),
    )
