"""A checkpoint as a Hugging Face model folder that needs nothing but transformers."""

import json
from pathlib import Path

import torch
from transformers import GenerationConfig

from ..config import ConfigError, RunConfig, load_recipe
from ..config.schema import Precision
from ..model import FlamingoConfig, FlamingoForConditionalGeneration, FlamingoProcessor
from .files import complete_or_absent
from .fingerprint import fingerprint, require_same_base
from .model_card import model_card
from .pretrained import build_model
from .store import Checkpoint

TRAINING_DTYPES = {Precision.bf16: torch.bfloat16, Precision.fp32: torch.float32}
AUTO_CLASSES = ("AutoModel", "AutoModelForImageTextToText", "AutoModelForMultimodalLM")


def load_trained_model(checkpoint: Checkpoint, recipe: RunConfig) -> FlamingoForConditionalGeneration:
    """The model of a checkpoint: frozen weights from their source, trained ones from the checkpoint.

    Raises:
        ConfigError: a base that is not the checkpoint's, or weights that do not fit the model.
    """
    config = FlamingoConfig.from_pretrained(checkpoint.path / "model")
    model = build_model(config, recipe.model, recipe.seed)
    require_same_base(checkpoint.about["base"], fingerprint(model, recipe.model), str(checkpoint.path))
    load_trainable(model, checkpoint)
    return model


@torch.no_grad()
def load_trainable(model: FlamingoForConditionalGeneration, checkpoint: Checkpoint) -> None:
    """Copy a checkpoint's weights over the trainable parameters.

    Raises:
        ConfigError: names or shapes differ.
    """
    weights = checkpoint.weights()
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if odd := sorted(weights.keys() ^ trainable.keys()):
        where = "checkpoint" if odd[0] in weights else "model"
        raise ConfigError(
            "checkpoint", str(checkpoint.path), f"the model's trainable weights; {odd[0]} is only in the {where}"
        )
    for name, parameter in trainable.items():
        if parameter.shape != weights[name].shape:
            shapes = f"{name} {tuple(parameter.shape)}, not {tuple(weights[name].shape)}"
            raise ConfigError("checkpoint", str(checkpoint.path), f"the model's shapes: {shapes}")
        parameter.copy_(weights[name])


def export_to_hf(checkpoint_path: Path, out: Path, dtype: torch.dtype | None) -> Path:
    """Write a folder that ``AutoModelForImageTextToText`` and ``AutoProcessor`` load with ``trust_remote_code=True``.

    Args:
        checkpoint_path: of a training run.
        out: complete at the end or untouched; an existing export is replaced.
        dtype: of all weights; None: the precision of the training.

    Raises:
        ConfigError: no checkpoint, a wrong base, or ``out`` is something else than an export.
    """
    checkpoint = Checkpoint(checkpoint_path)
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]) and not _is_export(out):
        raise ConfigError("OUT", str(out), "a new folder, or an earlier export to replace")
    recipe = load_recipe(str(checkpoint.path / "recipe.yaml"))
    model = load_trained_model(checkpoint, recipe)
    model.merge_new_tokens()
    dtype = dtype or TRAINING_DTYPES[recipe.train.precision]
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)  # parameters only: rotary frequencies stay fp32
    processor = FlamingoProcessor.from_pretrained(checkpoint.path / "model")
    model.generation_config = _generation_config(model.config)
    _name_code(model)
    with complete_or_absent(out) as partial:
        model.save_pretrained(partial)
        processor.save_pretrained(partial)
        (partial / "README.md").write_text(model_card(checkpoint, recipe, model.config), encoding="utf-8")
    return out


def _is_export(folder: Path) -> bool:
    config = folder / "config.json"
    return (
        config.is_file()
        and json.loads(config.read_text(encoding="utf-8")).get("model_type") == FlamingoConfig.model_type
    )


def _generation_config(config: FlamingoConfig) -> GenerationConfig:
    """Stop at the end of a chunk; never write an image."""
    return GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eoc_token_id,
        pad_token_id=config.pad_token_id,
        suppress_tokens=[config.image_token_id],
    )


def _name_code(model: FlamingoForConditionalGeneration) -> None:
    """Have ``save_pretrained`` copy the modelling code along and name it in ``auto_map``."""
    FlamingoConfig.register_for_auto_class("AutoConfig")
    FlamingoForConditionalGeneration.register_for_auto_class("AutoModelForImageTextToText")
    FlamingoProcessor.register_for_auto_class("AutoProcessor")
    module = FlamingoForConditionalGeneration.__module__.rsplit(".", 1)[-1]
    model.config.auto_map = dict.fromkeys(AUTO_CLASSES, f"{module}.{FlamingoForConditionalGeneration.__name__}")
