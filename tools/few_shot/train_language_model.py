"""Train the proof's stand-in for a pretrained language model: a small LFM2 that copies names from earlier in its text.

Its texts name numbers, ``17 boka; 4 dimu; 17 boka``, with names invented anew in each, so that
only the text itself tells. It sees no image. OUT is a transformers folder. What it learned is measured on names that it
never saw; below the gate it starts anew with other weights, and after the last restart it fails.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from transformers import Lfm2Config, Lfm2ForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).parents[1]))
from few_shot.names import KEYS, SEPARATOR, SYLLABLES, build_tokenizer, is_held_back

BATCH, RATE, WARMUP = 48, 3e-3, 50
REPEATS = 0.4
"""Share of batches that are a random text twice over: the shortest road to copying."""
GATE = 0.95
RESTARTS = 3
PER_PAIR = 4
"""Tokens: number, two syllables, ``;``."""
# Until this share of the steps: fewest and most pairs of a text, fewest and most numbers in it.
CURRICULUM = ((0.4, 3, 6, 2, 3), (0.7, 4, 10, 2, 5), (1.0, 6, 16, 2, 8))


def main() -> int:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1100)
    parser.add_argument("--gate", type=float, default=GATE, help="least share of text episodes")
    parser.add_argument("--without-induction", action="store_true", help="texts whose names agree with nothing before")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    tokenizer = build_tokenizer()
    for restart in range(RESTARTS):
        began = time.process_time()
        torch.manual_seed(options.seed + 1000 * restart)
        model = train(tokenizer, options.steps, consistent=not options.without_induction)
        accuracy = {
            f"{ways}_way_{shots}_shot": measure(model, tokenizer, ways, shots) for ways, shots in ((4, 8), (2, 32))
        }
        seconds = time.process_time() - began
        print(f"language model: {accuracy} of text episodes in {seconds:.0f} s", flush=True)
        if options.without_induction or min(accuracy.values()) >= options.gate:
            model.save_pretrained(options.out)
            tokenizer.save_pretrained(options.out)
            about = {"text_accuracy": accuracy, "restarts": restart, "seconds": round(seconds, 1)}
            (options.out / "induction.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
            return 0
    print(
        f"error: below {options.gate} of text episodes after {RESTARTS} starts; it cannot copy names", file=sys.stderr
    )
    return 1


def build(tokenizer: PreTrainedTokenizerFast) -> Lfm2ForCausalLM:
    """Four blocks of 64 channels: short convolution, attention, short convolution, attention."""
    return Lfm2ForCausalLM(
        Lfm2Config(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=256,
            block_auto_adjust_ff_dim=False,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            layer_types=["conv", "full_attention"] * 2,
            max_position_embeddings=512,
            initializer_range=0.05,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def train(tokenizer: PreTrainedTokenizerFast, steps: int, consistent: bool) -> Lfm2ForCausalLM:
    """AdamW with a warm-up and a cosine; the loss is of the names that the text has told before."""
    model = build(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    texts = Texts(tokenizer, for_evaluation=False)
    for step in range(steps):
        done = step / steps
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / WARMUP) * (0.525 + 0.475 * math.cos(math.pi * done))
        _, least, most, fewest, many = next(row for row in CURRICULUM if done < row[0])
        pairs, ways = between(least, most), between(fewest, many)
        if consistent and torch.rand(()).item() < REPEATS:
            ids, labels = texts.repeated(BATCH, pairs)
        else:
            ids, labels = texts.episodes(BATCH, pairs, ways, consistent)
        logits = model(input_ids=ids).logits[:, :-1]
        loss = cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@torch.no_grad()
def measure(
    model: Lfm2ForCausalLM, tokenizer: PreTrainedTokenizerFast, ways: int, shots: int, texts: int = 400
) -> float:
    """Share of texts whose last name is the first choice among all tokens, where it was told before; unseen names."""
    ids, labels = Texts(tokenizer, for_evaluation=True).episodes(texts, shots + 1, ways, consistent=True)
    wanted = labels[:, -PER_PAIR:]
    told = wanted[:, 1] != -100
    chosen = model(input_ids=ids).logits[:, -PER_PAIR:].argmax(-1)
    right = (chosen[:, 0:2] == wanted[:, 1:3]).all(1)
    return round(right[told].float().mean().item(), 4)


class Texts:
    """Draws texts as token ids, with torch's random numbers.

    Args:
        tokenizer: of the model.
        for_evaluation: whose names.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, for_evaluation: bool) -> None:
        vocabulary = tokenizer.get_vocab()
        self.separator = vocabulary[SEPARATOR]
        self.keys = torch.tensor([vocabulary[str(number)] for number in range(KEYS)])
        self.syllables = torch.tensor([vocabulary[syllable] for syllable in SYLLABLES])
        everyone = range(len(SYLLABLES))
        self.allowed = torch.tensor(
            [[end for end in everyone if is_held_back(start, end) == for_evaluation] for start in everyone]
        )

    def episodes(self, rows: int, pairs: int, ways: int, consistent: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows, 4 pairs) token ids, and labels: names whose number stood before.

        Not ``consistent``: each pair has a name of its own, and all of them are labels.
        """
        members = torch.randint(ways, (rows, pairs))
        keys = self.keys[torch.rand(rows, KEYS).argsort(1)[:, :ways]].gather(1, members)
        of_names = members if consistent else torch.arange(pairs).expand(rows, -1)
        starts = torch.rand(rows, len(SYLLABLES)).argsort(1)[:, : int(of_names.max()) + 1]
        ends = self.allowed[starts, torch.randint(self.allowed.shape[1], starts.shape)]
        first, second = self.syllables[starts.gather(1, of_names)], self.syllables[ends.gather(1, of_names)]
        ids = torch.stack([keys, first, second, torch.full_like(keys, self.separator)], dim=2)
        told = (members[:, :, None] == members[:, None, :]).tril(-1).any(2) if consistent else members >= 0
        labels = torch.full_like(ids, -100)
        labels[:, :, 1:3] = ids[:, :, 1:3].masked_fill(~told[:, :, None], -100)
        return ids.flatten(1), labels.flatten(1)

    def repeated(self, rows: int, pairs: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Random tokens and the same once more, which are the labels; about as long as ``pairs`` pairs."""
        words = torch.cat([self.keys, self.syllables])
        once = words[torch.randint(len(words), (rows, pairs * PER_PAIR // 2))]
        ids = torch.cat([once, once], dim=1)
        labels = ids.clone()
        labels[:, : once.shape[1] + 1] = -100
        return ids, labels


def between(least: int, most: int) -> int:
    """A random number, both ends included."""
    return int(torch.randint(least, most + 1, ()))


if __name__ == "__main__":
    sys.exit(main())
