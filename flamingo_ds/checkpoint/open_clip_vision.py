"""open_clip's image towers as transformers models.

Its own ViTs become CLIP vision models, so that an exported model needs transformers alone. Its timm towers with a 2-D
feature map (NFNet as in the paper, ConvNeXt, ...) become timm networks in transformers' wrapper.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedConfig,
    PreTrainedModel,
    TimmWrapperModel,
)

from ..config import ConfigError
from ..config.schema import VisionEncoderConfig
from .timm_vision import timm_config

KEY = "model.vision_encoder.source"

# open_clip name -> transformers name, as regular expressions on a whole parameter name.
RENAMES = [
    (r"class_embedding", r"embeddings.class_embedding"),
    (r"positional_embedding", r"embeddings.position_embedding.weight"),
    (r"conv1\.weight", r"embeddings.patch_embedding.weight"),
    (r"ln_pre\.(weight|bias)", r"pre_layrnorm.\1"),
    (r"ln_post\.(weight|bias)", r"post_layernorm.\1"),
    (r"transformer\.resblocks\.(\d+)\.ln_([12])\.(weight|bias)", r"encoder.layers.\1.layer_norm\2.\3"),
    (r"transformer\.resblocks\.(\d+)\.attn\.out_proj\.(weight|bias)", r"encoder.layers.\1.self_attn.out_proj.\2"),
    (r"transformer\.resblocks\.(\d+)\.mlp\.c_fc\.(weight|bias)", r"encoder.layers.\1.mlp.fc1.\2"),
    (r"transformer\.resblocks\.(\d+)\.mlp\.c_proj\.(weight|bias)", r"encoder.layers.\1.mlp.fc2.\2"),
]
FUSED = re.compile(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)")
# Settings of an image tower that transformers' CLIP has too, or that do not touch the tokens of its last block.
FITTING = {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "pos_embed_type"} | {
    "pool_type",
    "final_ln_after_pool",
    "output_tokens",
}
DROPPED = {"proj"}  # projects the pooled token into the contrastive space; a Flamingo reads the tokens before it


@dataclass(frozen=True)
class OpenClipVision:
    """What open_clip says of one image tower, before its weights are read."""

    config: PreTrainedConfig
    image_processor: CLIPImageProcessor


def describe(encoder: VisionEncoderConfig) -> OpenClipVision:
    """Configuration and image processor of a tower, without reading weights.

    Raises:
        ConfigError: unknown model, missing folder, or a tower that is neither a plain ViT nor a convolutional one.
    """
    content = _model_config(encoder.source)
    vision = content["vision_cfg"]
    processor = _image_processor(encoder, encoder.image_size or vision["image_size"])
    if name := vision.get("timm_model_name"):
        try:
            return OpenClipVision(timm_config(name), processor)
        except ValueError as error:
            raise ConfigError(KEY, encoder.source, str(error)) from error
    return OpenClipVision(_clip_config(encoder, content), processor)


def _clip_config(encoder: VisionEncoderConfig, content: dict[str, Any]) -> CLIPVisionConfig:
    vision = content["vision_cfg"]
    odd = {key for key, value in vision.items() if value} - FITTING
    if odd or not isinstance(vision.get("layers"), int):
        raise ConfigError(KEY, encoder.source, f"a plain ViT; its vision_cfg has {sorted(odd) or vision.get('layers')}")
    # The weights' tag knows better than the model's name: open_clip itself only warns where they differ.
    tag = open_clip.get_pretrained_cfg(encoder.source, encoder.pretrained or "") or {}
    quick_gelu = bool(content.get("quick_gelu") or tag.get("quick_gelu"))
    width = vision["width"]
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=int(width * vision.get("mlp_ratio", 4.0)),
        num_hidden_layers=vision["layers"],
        num_attention_heads=width // vision.get("head_width", 64),
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        hidden_act="quick_gelu" if quick_gelu else "gelu",
        layer_norm_eps=1e-5,
    )


def load(encoder: VisionEncoderConfig) -> PreTrainedModel:
    """The tower with its weights, fp32.

    Raises:
        ConfigError: see :func:`describe`; also weights that do not fit or are not there.
    """
    config = describe(encoder).config
    model: PreTrainedModel = (
        CLIPVisionModel(config) if isinstance(config, CLIPVisionConfig) else TimmWrapperModel(config)  # type: ignore[arg-type]
    )
    try:
        # Without weights open_clip would give a random tower, and frozen it would stay so.
        clip = open_clip.create_model(encoder.source, pretrained=encoder.pretrained, require_pretrained=True)
        weights = clip.visual.state_dict()
        if isinstance(model, CLIPVisionModel):
            model.load_state_dict(to_transformers_names(weights))
        else:
            _load_trunk(model, weights)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(KEY, encoder.source, f"open_clip weights that load: {reason}") from error
    return model


def _load_trunk(model: PreTrainedModel, visual: dict[str, torch.Tensor]) -> None:
    """The timm network without what comes behind its feature map: pooling and projections."""
    trunk = {f"timm_model.{name.removeprefix('trunk.')}": value for name, value in visual.items()}
    missing, _ = model.load_state_dict(trunk, strict=False)
    if missing:
        raise ValueError(f"{len(missing)} weights are not there, such as {missing[0]}")


def to_transformers_names(visual: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """open_clip's image tower state under the names of transformers' CLIP; fused projections are split.

    Raises:
        ValueError: a name that the table does not know.
    """
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in visual.items():
        if name in DROPPED:
            continue
        if fused := FUSED.fullmatch(name):
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                renamed[f"encoder.layers.{fused[1]}.self_attn.{part}_proj.{fused[2]}"] = piece.clone()
            continue
        targets = [match.expand(new) for old, new in RENAMES if (match := re.fullmatch(old, name))]
        if len(targets) != 1:
            raise ValueError(f"open_clip parameter {name} has no transformers name: its tower is no plain ViT")
        renamed[targets[0]] = tensor
    return renamed


def _model_config(source: str) -> dict[str, Any]:
    try:
        content = open_clip.get_model_config(source)
    except (OSError, ValueError) as error:
        raise ConfigError(KEY, source, f"an open_clip model: {error}") from error
    if content is None:
        raise ConfigError(KEY, source, "an open_clip model name, hf-hub:ORG/NAME or local-dir:FOLDER")
    return content


def _image_processor(encoder: VisionEncoderConfig, image_size: int) -> CLIPImageProcessor:
    """The transform that the weights were trained with: their mean and deviation, never a guess."""
    if ":" in encoder.source:
        schema, _, where = encoder.source.partition(":")
        preprocess = _preprocess_of_folder(schema, where)
    else:
        preprocess = open_clip.get_pretrained_cfg(encoder.source, encoder.pretrained or "") or {}
    resample = {"bicubic": 3, "bilinear": 2}.get(preprocess.get("interpolation") or "bicubic", 3)
    return CLIPImageProcessor(
        size={"shortest_edge": image_size},
        crop_size={"height": image_size, "width": image_size},
        image_mean=list(preprocess.get("mean") or open_clip.OPENAI_DATASET_MEAN),
        image_std=list(preprocess.get("std") or open_clip.OPENAI_DATASET_STD),
        resample=resample,
    )


def _preprocess_of_folder(schema: str, where: str) -> dict[str, Any]:
    if schema == "local-dir":
        path = Path(where) / "open_clip_config.json"
    else:
        path = Path(hf_hub_download(where, "open_clip_config.json"))
    return dict(json.loads(path.read_text(encoding="utf-8")).get("preprocess_cfg") or {})
