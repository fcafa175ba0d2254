"""A folder of transformers' Idefics as a training checkpoint.

It holds its language model and vision encoder with everything else, merged into one. They are written apart, as folders
that a recipe can name: ``OUT-base/language_model`` and ``OUT-base/vision_encoder``.
"""

import json
from pathlib import Path
from typing import Any

from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    CLIPImageProcessor,
    CLIPVisionModel,
    IdeficsConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from ...config import ConfigError, load_recipe
from ...model.prompt_media import IMAGE_TOKEN
from ...parallel import parameters_on_meta
from ..files import complete_or_absent
from ..idefics_names import idefics_table
from ..names import WEIGHTS
from ..stored_tensor import StoredTensor
from .folder import require_free
from .folder_tensors import FolderTensors
from .idefics_config import recipe_keys_of, text_of, vision_of
from .new_checkpoint import Target, is_checkpoint, write_checkpoint
from .outputs import Output, Pieces, asked_for
from .shards import write_shard

# A vocabulary matrix -> the rows that it has beside, of tokens that were added to it.
ADDITIONAL = {
    "model.embed_tokens.weight": "model.embed_tokens.additional_embedding.weight",
    "lm_head.weight": "lm_head.additional_fc.weight",
}


def checkpoint_from_idefics(folder: Path, out: Path, recipe: str, overrides: list[str]) -> Path:
    """Write ``out`` as a checkpoint of step 0 that ``--resume`` takes, and its bases beside it.

    Args:
        folder: theirs.
        out: complete at the end or untouched.
        recipe: name or file: data and training; its model is replaced by theirs.
        overrides: of the recipe.

    Raises:
        ConfigError: something that ours cannot be, or weights that are missing or do not fit.
    """
    require_free(out, is_checkpoint)
    try:
        theirs = IdeficsConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ConfigError("MODEL", str(folder), f"an Idefics config.json; {error}") from error
    keys = recipe_keys_of(theirs)
    tensors = FolderTensors(folder)
    base = out.absolute().with_name(out.name + "-base")
    _write_language_model(base / "language_model", folder, theirs, tensors)
    _write_vision_encoder(base / "vision_encoder", folder, theirs, tensors)
    encoder: dict[str, Any] = {"library": "transformers", "source": str(base / "vision_encoder"), "pretrained": None}
    encoder |= {"features": "pre_norm", "class_token": True, "image_size": None, "architecture": None}
    keys |= {f"model.vision_encoder.{key}": value for key, value in encoder.items()}
    language: dict[str, Any] = {"source": str(base / "language_model"), "revision": None}
    language |= {"architecture": None, "from_scratch": False}
    keys |= {f"model.language_model.{key}": value for key, value in language.items()}
    ours = [f"{key}={json.dumps(value)}" for key, value in keys.items()]
    target = Target.of(load_recipe(recipe, [*overrides, *ours]))
    return write_checkpoint(out, target, _Finder(target, tensors).find, folder.name)


def is_idefics(folder: Path) -> bool:
    """Whether its config.json says so."""
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("model_type") == IdeficsConfig.model_type


class _Finder:
    """Finds our weights among theirs."""

    def __init__(self, target: Target, tensors: FolderTensors) -> None:
        self.target, self.tensors = target, tensors
        self.table = idefics_table(target.config.gated_block_indices)

    def find(self, name: str) -> list[StoredTensor]:
        """See :data:`~.new_checkpoint.FindTrained`."""
        if name == "new_token_embedding.weight":
            return self._new_rows(name, "model.embed_tokens.weight")
        if name == "new_token_head.weight":
            return self._new_rows(name, "lm_head.weight")
        return [piece for theirs in self.table.theirs_of(name) for piece in _pieces(self.tensors, theirs)()]

    def _new_rows(self, ours: str, theirs: str) -> list[StoredTensor]:
        """Tokens that it knows have their rows; ``<EOC>`` it never had, and gets what a new model starts with."""
        first, count = self.target.config.first_new_token_id, self.target.config.num_new_tokens
        drawn = self.target.initial.stored(ours)
        known = _pieces(self.tensors, theirs)()
        total = sum(piece.shape[0] for piece in known)
        return [
            _row(known, row) if row < total else drawn.rows(row - first, row - first + 1)
            for row in range(first, first + count)
        ]


def _row(pieces: list[StoredTensor], row: int) -> StoredTensor:
    for piece in pieces:
        if row < piece.shape[0]:
            return piece.rows(row, row + 1)
        row -= piece.shape[0]
    raise IndexError(row)


def _pieces(tensors: FolderTensors, name: str) -> Pieces:
    """A tensor of theirs, a vocabulary's with the rows that were added to it."""
    if name not in tensors:
        raise ConfigError("MODEL", name, "a tensor of that name in the folder")
    names = [name, ADDITIONAL[name]] if ADDITIONAL.get(name) in tensors else [name]
    return lambda: [StoredTensor.plain(tensors[each]) for each in names]


def _write_language_model(out: Path, folder: Path, theirs: IdeficsConfig, tensors: FolderTensors) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if IMAGE_TOKEN not in tokenizer.get_vocab():
        raise ConfigError("MODEL", str(folder), f"a tokenizer with {IMAGE_TOKEN}")
    with parameters_on_meta():
        model = LlamaForCausalLM(text_of(theirs))
    _write_base(out, model, {name: _pieces(tensors, name) for name in asked_for(model)}, tokenizer)


def _write_vision_encoder(out: Path, folder: Path, theirs: IdeficsConfig, tensors: FolderTensors) -> None:
    images: Any = AutoImageProcessor.from_pretrained(folder)
    vision = vision_of(theirs)
    side: Any = {"height": vision.image_size, "width": vision.image_size}
    statistics = {"image_mean": images.image_mean, "image_std": images.image_std}
    transform = CLIPImageProcessor(size=side, do_center_crop=False, **statistics)
    with parameters_on_meta():
        model = CLIPVisionModel(vision)
    names = {name: f"model.vision_model.{name.removeprefix('vision_model.')}" for name in asked_for(model)}
    _write_base(out, model, {name: _pieces(tensors, their) for name, their in names.items()}, transform)


def _write_base(out: Path, model: PreTrainedModel, pieces: dict[str, Pieces], processor: Any) -> None:
    """A backbone's folder, streamed."""
    outputs = []
    for name, tensor in asked_for(model).items():
        found = pieces[name]()
        if sum(piece.tensor.numel() for piece in found) != tensor.numel():
            shapes = " and ".join(str(tuple(piece.shape)) for piece in found)
            raise ConfigError("MODEL", f"{name} of {shapes}", f"{tuple(tensor.shape)}, as its config.json says")
        outputs.append(Output(name, found[0].dtype, tuple(tensor.shape), pieces[name]))
    config: PreTrainedConfig = model.config
    config.dtype = next(output.dtype for output in outputs if output.dtype.is_floating_point)
    config.architectures = [type(model).__name__]
    with complete_or_absent(out) as partial:
        write_shard(partial / WEIGHTS, outputs, lambda count: None)
        config.save_pretrained(partial)
        processor.save_pretrained(partial)
