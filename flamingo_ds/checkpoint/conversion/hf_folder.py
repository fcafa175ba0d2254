"""What a published folder holds besides weights."""

from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import GenerationConfig

from ...config import to_yaml
from ...model import FlamingoConfig, FlamingoForConditionalGeneration, FlamingoProcessor
from ..model_card import model_card
from ..names import MANIFEST
from .source_checkpoint import SourceCheckpoint

AUTO_CLASSES = ("AutoModel", "AutoModelForImageTextToText", "AutoModelForMultimodalLM")
RECIPE = "recipe.yaml"


def write_all_but_weights(folder: Path, source: SourceCheckpoint) -> None:
    """Configuration, generation settings, modelling code, processor, card, and the recipe, to go on from."""
    write_configuration(folder, source.model)
    FlamingoProcessor.from_pretrained(source.checkpoint.path / "model").save_pretrained(folder)
    (folder / "README.md").write_text(model_card(source.checkpoint, source.recipe, source.config), encoding="utf-8")
    (folder / RECIPE).write_text(to_yaml(source.recipe), encoding="utf-8")


def write_configuration(folder: Path, model: FlamingoForConditionalGeneration) -> None:
    """What ``save_pretrained`` writes besides weights. Aside: in a folder with shards it would clear them away."""
    model.generation_config = generation_config(model.config)
    name_code(model)
    with TemporaryDirectory(dir=folder) as aside:
        model.save_pretrained(aside, state_dict={})
        for path in Path(aside).iterdir():
            if path.suffix != ".safetensors":
                path.replace(folder / path.name)


def is_export(folder: Path) -> bool:
    """Whether an earlier conversion wrote it."""
    return (folder / MANIFEST).is_file() and (folder / RECIPE).is_file()


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
