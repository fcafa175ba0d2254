"""Close-ended answers: how much faster options are scored over one prompt's cache than each with its whole prompt.

    python tools/benchmark_options.py --json options.json

A small random Flamingo scores a thousand options of one to five tokens both ways and compares their log-likelihoods.
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from PIL import Image  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: E402
from transformers import CLIPImageProcessor, CLIPVisionConfig, LlamaConfig, PreTrainedTokenizerFast  # noqa: E402

from flamingo_ds.evaluation.models.flamingo import FlamingoAnswerer, FlamingoReader  # noqa: E402
from flamingo_ds.evaluation.task import Prompt, Turn  # noqa: E402
from flamingo_ds.model import FlamingoConfig, FlamingoForConditionalGeneration, FlamingoProcessor  # noqa: E402
from tools.benchmark.machine import describe_machine  # noqa: E402

WORDS, IMAGE_SIZE = 2000, 32


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--options", type=int, default=1000)
    parser.add_argument("--shots", default="0,8", help="examples in the prompt, separated by commas")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    options = draw_options(arguments.options)
    rows = []
    with TemporaryDirectory() as folder:
        for shots in map(int, arguments.shots.split(",")):
            prompt = draw_prompt(Path(folder), shots, options)
            rows.append({"shots": shots, **compare(prompt, options)})
    show(rows)
    report = {"machine": describe_machine(ROOT, arguments.threads), "options": arguments.options, "rows": rows}
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def draw_options(count: int) -> list[str]:
    """Names of one to five words, some of them the beginning of others."""
    rng = random.Random(0)
    return [" ".join(f"w{rng.randrange(WORDS)}" for _ in range(rng.randint(1, 5))) for _ in range(count)]


def draw_prompt(folder: Path, shots: int, options: list[str]) -> Prompt:
    """Pictures of noise, answered with some of the options."""
    rng, turns = random.Random(1), []
    for number in range(shots + 1):
        path = folder / f"{number}.png"
        Image.frombytes("RGB", (IMAGE_SIZE, IMAGE_SIZE), rng.randbytes(3 * IMAGE_SIZE**2)).save(path)
        turns.append(Turn((path,), "Output:", rng.choice(options) if number < shots else None))
    return tuple(turns)


def build() -> tuple[FlamingoForConditionalGeneration, FlamingoReader]:
    """Six blocks of width 256 in fp32, gates half open."""
    words = ["<pad>", "<unk>", "<image>", "<EOC>", "Output:", *(f"w{number}" for number in range(WORDS))]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")
    fast.add_special_tokens({"additional_special_tokens": ["<image>", "<EOC>"]})
    text = LlamaConfig(
        vocab_size=len(words),
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=8,
        initializer_range=0.05,
    )
    vision = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=8,
    )
    torch.manual_seed(0)
    config = FlamingoConfig(
        text,
        vision,
        resampler_depth=2,
        resampler_latents=16,
        initial_gate=0.5,
        image_token_id=2,
        eoc_token_id=3,
        pad_token_id=0,
    )
    size = {"shortest_edge": IMAGE_SIZE}
    processor = FlamingoProcessor(CLIPImageProcessor(size=size, crop_size=IMAGE_SIZE), fast)
    return FlamingoForConditionalGeneration(config).eval(), FlamingoReader(config, processor, "random")


def compare(prompt: Prompt, options: list[str]) -> dict[str, float]:
    """Both ways once, after the pictures are encoded and one option has warmed everything up."""
    model, reader = build()
    found, seconds = [], []
    for shares in (True, False):
        answerer = FlamingoAnswerer(model, reader, shares_cache=shares)
        answerer.log_likelihoods(prompt, options[:1])
        began = time.perf_counter()
        found.append(answerer.log_likelihoods(prompt, options))
        seconds.append(time.perf_counter() - began)
    return {
        "prompt_tokens": reader.count_tokens(prompt),
        "shared_cache_s": seconds[0],
        "plain_s": seconds[1],
        "speed_up": seconds[1] / seconds[0],
        "largest_difference": max(abs(one - other) for one, other in zip(*found, strict=True)),
        "largest_log_likelihood": max(map(abs, found[1])),
    }


def show(rows: list[dict[str, float]]) -> None:
    """As a table."""
    table = Table(*(name.replace("_", " ") for name in rows[0]))
    for row in rows:
        table.add_row(*(f"{value:.4g}" for value in row.values()))
    Console(width=120).print(table)


if __name__ == "__main__":
    sys.exit(main())
