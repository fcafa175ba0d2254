"""A checkpoint of any size on disk, made without ever being in memory: for what conversion costs."""

from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from flamingo_ds.checkpoint.conversion.new_checkpoint import Target, write_checkpoint
from flamingo_ds.checkpoint.conversion.outputs import Output, asked_for
from flamingo_ds.checkpoint.conversion.shards import write_shard
from flamingo_ds.checkpoint.names import WEIGHTS
from flamingo_ds.checkpoint.stored_tensor import StoredTensor
from flamingo_ds.config import DatasetConfig, ModelConfig, RunConfig
from flamingo_ds.config.schema import (
    DataConfig,
    LanguageModelConfig,
    Library,
    ResamplerConfig,
    SampleFormat,
    TrainConfig,
    VisionEncoderConfig,
)
from flamingo_ds.parallel import parameters_on_meta

WIDTH = 2048
BLOCK_BYTES = 2 * (4 * WIDTH**2 + 3 * WIDTH * 4 * WIDTH)


def write_large_checkpoint(folder: Path, gigabytes: float) -> Path:
    """Bases and a checkpoint around them.

    Args:
        folder: for everything.
        gigabytes: of its export in bf16, about; a gated block of 50 million parameters trains.

    Returns:
        The checkpoint's folder.
    """
    trained_bytes = 2 * 12 * WIDTH**2
    blocks = max(1, round((gigabytes * 1e9 - trained_bytes) / BLOCK_BYTES))
    _write_language_model(folder / "lm", blocks)
    _write_vision_encoder(folder / "vision")
    model = ModelConfig(
        LanguageModelConfig(source=str(folder / "lm")),
        VisionEncoderConfig(library=Library.transformers, source=str(folder / "vision")),
        ResamplerConfig(depth=1, latents=8, heads=2, head_width=16, max_frames=0),
    )
    model.gated_cross_attention.every = blocks
    pairs = DatasetConfig(format=SampleFormat.image_text, shards=str(folder / "none.tar"), batch_size=1)
    recipe = RunConfig(str(folder / "run"), 0, model, DataConfig({"pairs": pairs}), TrainConfig(max_steps=1))
    target = Target.of(recipe)
    shapes = {name: parameter.shape for name, parameter in target.model.named_parameters()}
    return write_checkpoint(folder / "checkpoint", target, lambda name: [_repeated(shapes[name])], "a pattern")


def _repeated(shape: torch.Size) -> StoredTensor:
    """A tensor of any size with some kilobytes of memory: one pattern over and over, read a row at a time."""
    generator = torch.Generator().manual_seed(shape.numel())
    row = torch.randn(shape[-1], generator=generator) * 0.02
    return StoredTensor.plain(row.expand(shape))


def _write_language_model(folder: Path, blocks: int) -> None:
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(["a few words"], vocab_size=260, special_tokens=["<s>", "</s>"], show_progress=False)
    names = {"bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, **names)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=blocks,
        num_attention_heads=16,
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    )
    with parameters_on_meta():
        model = LlamaForCausalLM(config)
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    outputs = [
        Output(name, torch.bfloat16, tuple(tensor.shape), lambda tensor=tensor: [_repeated(tensor.shape)])  # type: ignore[misc]
        for name, tensor in asked_for(model).items()
    ]
    write_shard(folder / WEIGHTS, outputs, lambda count: None)


def _write_vision_encoder(folder: Path) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=16, patch_size=8)).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=16).save_pretrained(folder)
