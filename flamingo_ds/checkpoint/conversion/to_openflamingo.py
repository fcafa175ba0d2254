"""A training checkpoint as a ``.pt`` that OpenFlamingo 2.0.1 loads.

It has what their own files have: what trained, and the embedding whole. Their loader is not strict about names.
"""

from pathlib import Path

import torch

from ...config import ConfigError, to_yaml
from ...model import FlamingoProcessor
from ...model.decoder_blocks import BLOCK_PATHS
from .. import language_source
from ..backbone_weights import HEAD
from ..files import beside, complete_or_absent, finish_file, readable_mode
from ..model_card import openflamingo_card
from ..names import OPENFLAMINGO
from ..openflamingo_names import openflamingo_table
from ..stored_tensor import StoredTensor
from .folder import require_free, write_manifest
from .hf_folder import RECIPE, is_export
from .openflamingo_rules import TOKENS, require_openflamingo
from .source_checkpoint import TRAINED, SourceCheckpoint
from .to_hf import ExportOptions


def export_openflamingo(path: Path, out: Path, dtype: torch.dtype = torch.float32) -> Path:
    """Write ``{"model_state_dict": ...}``.

    Args:
        path: of a checkpoint.
        out: the file; complete at the end or untouched.
        dtype: of all weights.

    Raises:
        ConfigError: no checkpoint, a damaged one, a wrong base, or a model that their class cannot be.
    """
    source = SourceCheckpoint.open(path)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = beside(out, ".tmp")
    try:
        _write(source, partial, dtype)
        finish_file(partial, readable_mode())
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return out


def export_openflamingo_folder(path: Path, out: Path, options: ExportOptions) -> Path:
    """The file with a README and a manifest, as a folder to publish.

    Args:
        path: of a checkpoint.
        out: complete at the end or untouched; an existing export is replaced.
        options: its dtype counts; frozen weights are never written.

    Raises:
        ConfigError: see :func:`export_openflamingo`; or ``out`` is something else than an export.
    """
    require_free(out, is_export)
    source = SourceCheckpoint.open(path)
    with complete_or_absent(out) as partial:
        state = _write(source, partial / OPENFLAMINGO, options.dtype or torch.float32)
        write_manifest(partial, state, source.about(TRAINED))
        card = openflamingo_card(source.checkpoint, source.recipe, source.config)
        (partial / "README.md").write_text(card, encoding="utf-8")
        (partial / RECIPE).write_text(to_yaml(source.recipe), encoding="utf-8")
    return out


def _write(source: SourceCheckpoint, out: Path, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    require_openflamingo(source.config)
    if source.recipe.model.extra_tokens:
        raise ConfigError("model.extra_tokens", source.recipe.model.extra_tokens, "none, as OpenFlamingo has none")
    state = _state(source, dtype)
    torch.save({"model_state_dict": state}, out)
    return state


def _state(source: SourceCheckpoint, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    model = source.model
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    embedding = names[id(model.get_input_embeddings().weight)]
    head = names[id(model.get_output_embeddings().weight)]
    ours = {name: source.stored(name).value().to(dtype) for name in source.trained if not name.startswith("new_token")}
    ours[embedding] = _with_new_rows(source, embedding, "new_token_embedding.weight").to(dtype)
    if head == embedding:
        ours["language_model.lm_head.weight"] = ours[embedding]
    else:
        ours[head] = _with_new_rows(source, head, "new_token_head.weight").to(dtype)
    if source.config.text_config.model_type == "gpt_neox":
        # Its head has one name before transformers 5 and another since; theirs runs on both.
        for name in HEAD:
            ours[f"language_model.{name}weight"] = ours[head]
    return openflamingo_table(BLOCK_PATHS[source.config.text_config.model_type]).to_theirs(ours)


def _with_new_rows(source: SourceCheckpoint, known: str, new: str) -> torch.Tensor:
    """Their matrix: the LM's own tokens, then the new ones in their order, and one more where they add ``<PAD>``."""
    tokenizer = FlamingoProcessor.from_pretrained(source.checkpoint.path / "model").tokenizer
    first = source.config.first_new_token_id
    rows = [tokenizer.convert_tokens_to_ids(token) - first for token in TOKENS[: source.config.num_new_tokens]]
    if language_source.tokenizer(source.recipe.model.language_model).pad_token is None:
        rows.append(rows[0])  # nobody attends to it
    added = source.stored(new).value()
    kept: StoredTensor = source.stored(known).rows(0, first)
    return torch.cat([kept.value().to(added.dtype), added[rows]])
