"""A published folder back into a training checkpoint, to go on or to fine-tune from.

What trained is taken from the folder, in its precision; the moments start at zero. What is frozen stays where it came
from, and must be what the folder holds, or the folder was not trained on that base.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ...config import ConfigError, load_recipe, to_yaml
from ...model import FlamingoConfig, FlamingoForConditionalGeneration, FlamingoProcessor
from ..files import complete_or_absent, write_json
from ..fingerprint import fingerprint, frozen_names
from ..initial_weights import InitialWeights
from ..names import ABOUT, FORMAT, STATE_KINDS, index_name, shard_name
from ..pretrained import TokenIds, describe_model, skeleton
from .folder import require_free
from .hf_folder import RECIPE
from .outputs import Output, Pieces
from .shards import write_shard


class FolderTensors(Mapping[str, torch.Tensor]):
    """Tensors of a folder's safetensors files, mapped.

    Raises:
        ConfigError: no such files, or damaged ones.
    """

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, Any] = {}
        for path in sorted(folder.glob("*.safetensors")):
            try:
                file = safe_open(path, framework="pt")
            except (OSError, SafetensorError) as error:
                raise ConfigError("MODEL", str(path), f"a whole safetensors file: {error}") from error
            self.files |= dict.fromkeys(file.keys(), file)
        if not self.files:
            raise ConfigError("MODEL", str(folder), "a folder with safetensors files")

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.files[name].get_tensor(name)  # type: ignore[no-any-return]

    def __contains__(self, name: object) -> bool:
        return name in self.files

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def checkpoint_from_hf(folder: Path, out: Path, overrides: list[str]) -> Path:
    """Write ``out`` as a checkpoint of step 0 that ``--resume`` takes.

    Args:
        folder: an export of this project, whole or of what trains alone.
        out: complete at the end or untouched.
        overrides: of the recipe that lies in the folder, such as another place of the base.

    Raises:
        ConfigError: no such folder, another base, or tensors that do not fit.
    """
    if not (folder / RECIPE).is_file():
        raise ConfigError("MODEL", str(folder), f"a folder that tools/convert_to_hf.py wrote; it has no {RECIPE}")
    require_free(out, lambda path: (path / ABOUT).is_file())
    recipe = load_recipe(str(folder / RECIPE), overrides)
    processor = FlamingoProcessor.from_pretrained(folder)
    config = describe_model(recipe.model, TokenIds.of(processor))
    model, _ = skeleton(config, recipe.model)
    tensors = FolderTensors(folder)
    initial = InitialWeights(model, recipe.model, recipe.seed)
    frozen = frozen_names(model)
    _require_same_frozen(model, tensors, initial, folder)
    base = fingerprint(frozen, initial.read, recipe.model)
    outputs = {name: _trained(model, tensors, name) for name in _trainable(model)}
    with complete_or_absent(out) as partial:
        for kind in STATE_KINDS:
            written = [output if kind == STATE_KINDS[0] else _zeros(output) for output in outputs.values()]
            file = shard_name(kind, 0, 1)
            write_shard(partial / file, written, lambda count: None)
            size = sum(output.nbytes for output in written)
            write_json(
                partial / index_name(kind),
                {"metadata": {"total_size": size}, "weight_map": dict.fromkeys(outputs, file)},
            )
        config.save_pretrained(partial / "model")
        processor.save_pretrained(partial / "model")
        (partial / "recipe.yaml").write_text(to_yaml(recipe), encoding="utf-8")
        about = {"format": FORMAT, "step": 0, "ranks": 0, "data_ranks": 0, "layout": f"converted from {folder.name}"}
        write_json(partial / ABOUT, {**about, "base": base.to_json()})
    return out


def _trainable(model: FlamingoForConditionalGeneration) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in model.named_parameters() if parameter.requires_grad}


def _trained(model: FlamingoForConditionalGeneration, tensors: Mapping[str, torch.Tensor], name: str) -> Output:
    shape = tuple(model.get_parameter(name).shape)
    pieces = _where(model, tensors, name)
    found = sum(piece.numel() for piece in pieces())
    if found != torch.Size(shape).numel():
        raise ConfigError("MODEL", name, f"a tensor of shape {shape}; it has {found} elements")
    return Output(name, torch.float32, shape, pieces)


def _where(model: FlamingoForConditionalGeneration, tensors: Mapping[str, torch.Tensor], name: str) -> Pieces:
    """Of a trained weight in the folder: under its own name, or rows of the merged matrix."""
    if name in tensors:
        return lambda: [tensors[name]]
    config: FlamingoConfig = model.config
    merged = {
        "new_token_embedding.weight": model.get_input_embeddings(),
        "new_token_head.weight": model.get_output_embeddings(),
    }
    if name not in merged:
        raise ConfigError("MODEL", name, "a tensor of that name in the folder")
    whole = next(key for key, parameter in model.named_parameters() if parameter is merged[name].weight)
    first, count = config.first_new_token_id, config.num_new_tokens
    return lambda: [tensors[whole][first : first + count]]


def _zeros(output: Output) -> Output:
    count = torch.Size(output.shape).numel()
    return Output(output.name, torch.float32, output.shape, lambda: [torch.zeros(1).expand(count)])


def _require_same_frozen(
    model: FlamingoForConditionalGeneration, tensors: Mapping[str, torch.Tensor], initial: InitialWeights, folder: Path
) -> None:
    """Where the folder has frozen weights, they must be those of the recipe's base."""
    first, count = model.config.first_new_token_id, model.config.num_new_tokens
    merged = {id(module.weight) for module in (model.get_input_embeddings(), model.get_output_embeddings())}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad or name not in tensors:
            continue
        theirs, ours = tensors[name], initial.read(name)
        rows = [(theirs, ours)]
        if id(parameter) in merged:
            rows = [(theirs[:first], ours[:first]), (theirs[first + count :], ours[first + count :])]
        if any(their.shape != our.shape or not torch.equal(their, our.to(their.dtype)) for their, our in rows):
            raise ConfigError("MODEL", str(folder), f"the base that its recipe names; {name} is another there")
