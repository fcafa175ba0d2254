"""Parameters and FLOPs of a recipe's model, beside the paper's where it is one of its sizes.

Built on the meta device: no weights, and for the paper's sizes no network either.

    python tools/model_sizes.py
    python tools/model_sizes.py llama-3.2-1b model.gated_cross_attention.every=4 --json sizes.json
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from flamingo_ds.checkpoint.language_source import text_config
from flamingo_ds.checkpoint.pretrained import TokenIds, describe_model, skeleton
from flamingo_ds.checkpoint.timm_vision import input_size
from flamingo_ds.config import EXIT_BAD_INPUT, EXIT_DONE, ConfigError, ModelConfig, load_recipe
from flamingo_ds.model import FlamingoForConditionalGeneration
from flamingo_ds.model.flops import count_flops, total_flops

# Table 5, in millions: language model, vision encoder, gated cross-attention, resampler, all together.
PAPER = {
    "flamingo-3b": (1400, 435, 1200, 194, 3200),
    "flamingo-9b": (7100, 435, 1600, 194, 9300),
    "flamingo-80b": (70000, 435, 10000, 194, 80000),
}
NOTE = """The paper does not add up by itself. The shapes of its table 4 give, as here, 1,158, 1,804 and 8,355 million
for the gated blocks, 170 for the resampler (5 more project NFNet-F6's 3,072 channels to its 1,536) and, with
feed-forwards of four widths, 1,340, 8,317 and 64,957 for the language models."""
TOKENS, IMAGES = 256, 5


def main() -> int:
    """Print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE|KEY=VALUE", help="default: the paper's three sizes")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    names = [name for name in arguments.recipes if "=" not in name] or list(PAPER)
    overrides = [override for override in arguments.recipes if "=" in override]
    report = {}
    try:
        for name in names:
            report[name] = measure(load_recipe(name, overrides).model)
            show(name, report[name])
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_INPUT
    if any(name in PAPER for name in names):
        print(NOTE)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return EXIT_DONE


def measure(recipe: ModelConfig) -> dict[str, Any]:
    """Figures of one model: parameters in all, FLOPs a token, an image and a sequence.

    Raises:
        ConfigError: backbones that are not there or do not fit.
    """
    words = text_config(recipe.language_model).vocab_size
    config = describe_model(recipe, TokenIds(first_new=words, num_new=2, image=words, eoc=words + 1))
    model, freeze = skeleton(config, recipe)
    size = recipe.vision_encoder.image_size
    if size is None and config.vision_features == "grid":
        size = input_size(config.vision_config)
    parts = count_flops(model, TOKENS, image_size=size)
    sequence = total_flops(parts, TOKENS, IMAGES)
    parameters = _parameters(model)
    return {
        "parameters": parameters,
        "freeze_table": {row.pattern: {"trainable": row.trainable, "frozen": row.frozen} for row in freeze},
        "flops": {
            "forward_per_token": sum(part.forward for part in parts.values() if part.unit == "token"),
            "backward_per_token": sum(part.backward for part in parts.values() if part.unit == "token"),
            "forward_per_image": sum(part.forward for part in parts.values() if part.unit == "image"),
            "backward_per_image": sum(part.backward for part in parts.values() if part.unit == "image"),
            "training_per_sequence": sequence.forward + sequence.backward,
            "six_times_parameters": 6 * TOKENS * parameters["all"],
        },
    }


def _parameters(model: FlamingoForConditionalGeneration) -> dict[str, int]:
    modules: dict[str, torch.nn.Module] = {
        "language model": model.language_model,
        "vision encoder": model.vision_model,
        "gated cross-attention": model.gated_cross_attention,
        "resampler": model.resampler,
        "all": model,
    }
    return {name: sum(parameter.numel() for parameter in module.parameters()) for name, module in modules.items()}


def show(name: str, figures: dict[str, Any]) -> None:
    """One recipe's tables."""
    console = Console(width=120)
    table = Table("million parameters", "here", *(["paper"] if name in PAPER else []), title=name)
    for index, (part, count) in enumerate(figures["parameters"].items()):
        paper = [f"{PAPER[name][index]:,}"] if name in PAPER else []
        table.add_row(part, f"{count / 1e6:,.0f}", *paper)
    console.print(table)
    freeze = Table("freeze table", "trainable", "frozen")
    for pattern, row in figures["freeze_table"].items():
        freeze.add_row(pattern, f"{row['trainable']:,}", f"{row['frozen']:,}")
    console.print(freeze)
    flops = figures["flops"]
    table = Table("FLOPs", "forward", "backward")
    table.add_row("a token", f"{flops['forward_per_token']:.3g}", f"{flops['backward_per_token']:.3g}")
    table.add_row("an image", f"{flops['forward_per_image']:.3g}", f"{flops['backward_per_image']:.3g}")
    console.print(table)
    training, usual = flops["training_per_sequence"], flops["six_times_parameters"]
    console.print(
        f"a sequence of {TOKENS} tokens and {IMAGES} images in training: {training:.3g}, "
        f"which is {training / usual:.2f} of six FLOPs a parameter and token\n"
    )


if __name__ == "__main__":
    sys.exit(main())
