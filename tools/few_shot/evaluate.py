"""Ask an exported model: MODEL/hf answers new episodes of held-back images under held-back names; MODEL/scores.json.

The digits that the adapters were trained on and those that they never saw are asked for apart.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).parents[1]))
from few_shot.digits import held_out_digits, load_splits
from few_shot.episodes import EpisodeRules
from few_shot.intervals import wilson
from few_shot.scoring import answer, require_same_inputs

GRADED_WAYS, GRADED_SHOTS = 4, (1, 2, 4, 8, 16)
"""The graded curve has four names and so many examples of all classes together, each drawn at random, with noise."""
GRADED_NOISE = 0.3
BALANCED_WAYS, BALANCED_SHOTS = 2, (2, 4, 8, 16, 32)
"""The balanced curve has two names and as many examples of each: nothing but more examples can make it rise."""
BALANCED_NOISE = 0.5


def main() -> int:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="run folder with hf/")
    parser.add_argument("--seed", type=int, default=0, help="of splits and episodes")
    parser.add_argument("--split", default="test", help="test is looked at once; use validation for trials")
    parser.add_argument("--episodes", type=int, default=1000, help="of each setting")
    parser.add_argument(
        "--curves", action="store_true", help="also accuracy over numbers of examples, the longest part"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    for folder in options.models:
        began = time.process_time()
        scores = evaluate(folder / "hf", options.seed, options.split, settings(options.curves), options.episodes)
        scores |= {"split": options.split, "seconds": round(time.process_time() - began, 1)}
        (folder / "scores.json").write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
        told = {name: score["accuracy"] for name, score in scores["settings"].items()}
        print(f"{folder}: {told} in {scores['seconds']} s", flush=True)
    return 0


Settings = dict[str, tuple[EpisodeRules, bool, bool]]


def settings(with_curves: bool) -> Settings:
    """Name -> rules, whether digits are the held-out ones, whether images are blanked."""
    plain = {
        "zero_shot": (EpisodeRules(2, 0), False, False),
        "two_way_4_shot": (EpisodeRules(2, 4), False, False),
        "four_way_8_shot": (EpisodeRules(4, 8), False, False),
        "blank_2way_4_shot": (EpisodeRules(2, 4), False, True),
        "held_out_2way_4_shot": (EpisodeRules(2, 4), True, False),
    }
    graded = {
        f"graded_{shots}": (EpisodeRules(GRADED_WAYS, shots, False, GRADED_NOISE), False, False)
        for shots in GRADED_SHOTS
    }
    balanced = {
        f"balanced_{shots}": (EpisodeRules(BALANCED_WAYS, shots, noise=BALANCED_NOISE), False, False)
        for shots in BALANCED_SHOTS
    }
    return plain | graded | balanced if with_curves else plain


def evaluate(folder: Path, seed: int, split: str, asked: Settings, count: int) -> dict[str, Any]:
    """Scores of every setting."""
    model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True).eval()
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    images, held_out = load_splits(seed)[split], held_out_digits(seed)
    trained = images.only([digit for digit in range(10) if digit not in held_out])
    scores = {}
    for name, (rules, on_held_out, blank) in asked.items():
        digits = images.only(held_out) if on_held_out else trained
        episodes = [rules.draw(digits, f"{split} {seed} {name} {number}") for number in range(count)]
        if rules.shots:
            require_same_inputs(processor, episodes[0])
        answers = answer(model, processor.tokenizer, episodes, blank)
        right = int(answers.right.sum())
        told = torch.tensor([any(name == one.answer for _, name in one.examples) for one in episodes])
        scores[name] = {
            "accuracy": round(right / count, 4),
            "interval": wilson(right, count),
            "free": round(answers.free.float().mean().item(), 4),
            "told": round(told.float().mean().item(), 4),
            "accuracy_where_told": round(answers.right[told].float().mean().item(), 4) if told.any() else None,
            "chance": round(1 / rules.ways, 4),
            "episodes": count,
        }
    return {"settings": scores, "held_out_digits": held_out}


if __name__ == "__main__":
    sys.exit(main())
