"""A training checkpoint in ``idefics`` style as a folder of transformers' own Idefics: no code of ours is needed.

Its attention has a key and a value a head: those of grouped heads are repeated. Its processor sets images between
tokens that a model of ours may not know; the folder's README says how to prompt without them.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    IdeficsForVisionText2Text,
    IdeficsImageProcessor,
    IdeficsProcessor,
)

from ...config import to_yaml
from ...model import FlamingoProcessor
from ...model.prompt_media import IMAGE_TOKEN
from ...parallel import parameters_on_meta
from ..idefics_names import idefics_table
from ..model_card import idefics_card
from ..stored_tensor import StoredTensor
from .folder import ShardPlan, require_free, write_folder
from .hf_folder import RECIPE, is_export
from .idefics_config import FAKE_TOKEN, to_idefics
from .outputs import Output, asked_for, check_outputs, merged_outputs, row_blocks
from .source_checkpoint import SourceCheckpoint
from .to_hf import ExportOptions

KEYS_VALUES = re.compile(r"language_model\.model\.layers\.\d+\.self_attn\.[kv]_proj\.weight")


def export_idefics(path: Path, out: Path, options: ExportOptions) -> Path:
    """Write a folder that ``IdeficsForVisionText2Text`` loads.

    Args:
        path: of a checkpoint.
        out: complete at the end or untouched; an existing export is replaced.
        options: see there; frozen weights are always written.

    Raises:
        ConfigError: no checkpoint, a damaged one, a wrong base, or a model that its class cannot be.
    """
    require_free(out, is_export)
    source = SourceCheckpoint.open(path)
    dtype = options.dtype or source.training_dtype
    processor = FlamingoProcessor.from_pretrained(source.checkpoint.path / "model")
    known = processor.tokenizer.get_vocab()
    processor.tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN, FAKE_TOKEN]})
    to_idefics(source.config, source.config.vocab_size)  # refuse before anything is planned
    outputs = merged_outputs(source.model, source.stored, dtype)
    rows = max(source.config.text_config.vocab_size, len(processor.tokenizer))
    config = to_idefics(source.config, rows)
    config.dtype = dtype
    with parameters_on_meta():
        theirs = IdeficsForVisionText2Text(config)
    planned = _renamed(source, outputs, rows)
    check_outputs(planned, {name: tensor.shape for name, tensor in asked_for(theirs).items()}, "Idefics")

    def write_rest(folder: Path) -> None:
        config.save_pretrained(folder)
        image_id, fake_id = processor.tokenizer.convert_tokens_to_ids([IMAGE_TOKEN, FAKE_TOKEN])
        GenerationConfig(
            bos_token_id=config.bos_token_id,
            eos_token_id=config.eos_token_id,
            pad_token_id=config.pad_token_id,
            suppress_tokens=[image_id, fake_id],
        ).save_pretrained(folder)
        images: Any = processor.image_processor
        side = source.config.vision_config.image_size
        transform = IdeficsImageProcessor(image_size=side, image_mean=images.image_mean, image_std=images.image_std)
        IdeficsProcessor(transform, processor.tokenizer, image_size=side).save_pretrained(folder)
        card = idefics_card(source.checkpoint, source.recipe, source.config, knows_fake_token=FAKE_TOKEN in known)
        (folder / "README.md").write_text(card, encoding="utf-8")
        (folder / RECIPE).write_text(to_yaml(source.recipe), encoding="utf-8")

    plan = ShardPlan.of(planned, options.max_shard_size)
    identity = {**source.identity(), "dtype": str(dtype), "format": "idefics"}
    write_folder(out, plan, identity, write_rest, source.about())
    return out


def idefics_inputs(batch: Mapping[str, torch.Tensor], image_token_id: int) -> dict[str, torch.Tensor]:
    """What its ``forward`` takes for one of our batches of images: each token sees the last image before it.

    Args:
        batch: ``input_ids``, ``attention_mask`` (B, L) and ``pixel_values`` (B, T, 1, C, H, W).
        image_token_id: of ``<image>``.
    """
    seen = (batch["input_ids"] == image_token_id).cumsum(-1)
    slots = torch.arange(1, batch["pixel_values"].shape[1] + 1)
    return {
        "input_ids": batch["input_ids"],
        "attention_mask": batch["attention_mask"],
        "pixel_values": batch["pixel_values"].squeeze(2),
        "image_attention_mask": (seen.unsqueeze(-1) == slots).long(),
    }


def _renamed(source: SourceCheckpoint, outputs: list[Output], rows: int) -> list[Output]:
    """Under their names; fused projections apart, grouped keys and values repeated, rows for all of their tokens."""
    table, text = idefics_table(source.config.gated_block_indices), source.config.text_config
    model = source.model
    matrices = {id(module.weight) for module in (model.get_input_embeddings(), model.get_output_embeddings())}
    vocabulary = {name for name, parameter in model.named_parameters() if id(parameter) in matrices}
    groups = text.num_attention_heads // text.num_key_value_heads
    renamed = []
    for output in outputs:
        if output.name in vocabulary:
            output = _with_rows(output, rows)
        elif KEYS_VALUES.fullmatch(output.name) and groups > 1:
            output = _repeated(output, text.num_key_value_heads, groups)
        names = table.theirs_of(output.name)
        if len(names) == 1:
            renamed.append(Output(names[0], output.dtype, output.shape, output.pieces))
        else:
            shape = (output.shape[0] // len(names), *output.shape[1:])
            blocks = [
                Output(name, output.dtype, shape, row_blocks(output, len(names), [i])) for i, name in enumerate(names)
            ]
            renamed += blocks
    return renamed


def _with_rows(output: Output, rows: int) -> Output:
    """Rows of zeros at the end for tokens that the model never had."""
    missing = rows - output.shape[0]
    if missing <= 0:
        return output
    zeros = StoredTensor.plain(torch.zeros(1, dtype=output.dtype).expand(missing, *output.shape[1:]))
    pieces = output.pieces
    return Output(output.name, output.dtype, (rows, *output.shape[1:]), lambda: [*pieces(), zeros])


def _repeated(output: Output, heads: int, groups: int) -> Output:
    order = [head for head in range(heads) for _ in range(groups)]
    return Output(
        output.name, output.dtype, (output.shape[0] * groups, *output.shape[1:]), row_blocks(output, heads, order)
    )
