"""A checkpoint as a Hugging Face model folder that needs nothing but transformers."""

import json
from pathlib import Path

import torch
from transformers import GenerationConfig

from ..config import ConfigError, RunConfig, load_recipe
from ..config.schema import Precision
from ..model import FlamingoConfig, FlamingoForConditionalGeneration, FlamingoProcessor
from ..parallel import Filler
from .files import complete_or_absent
from .fingerprint import fingerprint, frozen_names, require_same_base
from .initial_weights import InitialWeights, require_fit, trained_over
from .model_card import model_card
from .pretrained import skeleton
from .store import Checkpoint

TRAINING_DTYPES = {Precision.bf16: torch.bfloat16, Precision.fp32: torch.float32}
AUTO_CLASSES = ("AutoModel", "AutoModelForImageTextToText", "AutoModelForMultimodalLM")


def load_trained_model(checkpoint: Checkpoint, recipe: RunConfig) -> FlamingoForConditionalGeneration:
    """The model of a checkpoint: frozen weights from their source, trained ones from the checkpoint.

    Raises:
        ConfigError: a base that is not the checkpoint's, or weights that do not fit the model.
    """
    config = FlamingoConfig.from_pretrained(checkpoint.path / "model")
    model, _ = skeleton(config, recipe.model)
    initial = InitialWeights(model, recipe.model, recipe.seed)
    trained = checkpoint.weights()
    require_fit(model, {name: tensor.shape for name, tensor in trained.items()}, str(checkpoint.path))
    base = fingerprint(frozen_names(model), initial.read, recipe.model)
    require_same_base(checkpoint.about.get("base"), base, str(checkpoint.path))
    Filler(trained_over(initial.read, trained)).fill(model)
    return model


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
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]) and not is_export(out):
        raise ConfigError("OUT", str(out), "a new folder, or an earlier export to replace")
    recipe = load_recipe(str(checkpoint.path / "recipe.yaml"))
    model = load_trained_model(checkpoint, recipe)
    model.merge_new_tokens()
    dtype = dtype or TRAINING_DTYPES[recipe.train.precision]
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)  # parameters only: rotary frequencies stay fp32
    processor = FlamingoProcessor.from_pretrained(checkpoint.path / "model")
    model.generation_config = generation_config(model.config)
    name_code(model)
    with complete_or_absent(out) as partial:
        model.save_pretrained(partial)
        processor.save_pretrained(partial)
        (partial / "README.md").write_text(model_card(checkpoint, recipe, model.config), encoding="utf-8")
    return out


def is_export(folder: Path) -> bool:
    config = folder / "config.json"
    return (
        config.is_file()
        and json.loads(config.read_text(encoding="utf-8")).get("model_type") == FlamingoConfig.model_type
    )


def generation_config(config: FlamingoConfig) -> GenerationConfig:
    """Stop at the end of a chunk; never write an image."""
    return GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eoc_token_id,
        pad_token_id=config.pad_token_id,
        suppress_tokens=[config.image_token_id],
    )


def name_code(model: FlamingoForConditionalGeneration) -> None:
    """Have ``save_pretrained`` copy the modelling code along and name it in ``auto_map``."""
    FlamingoConfig.register_for_auto_class("AutoConfig")
    FlamingoForConditionalGeneration.register_for_auto_class("AutoModelForImageTextToText")
    FlamingoProcessor.register_for_auto_class("AutoProcessor")
    module = FlamingoForConditionalGeneration.__module__.rsplit(".", 1)[-1]
    model.config.auto_map = dict.fromkeys(AUTO_CLASSES, f"{module}.{FlamingoForConditionalGeneration.__name__}")
