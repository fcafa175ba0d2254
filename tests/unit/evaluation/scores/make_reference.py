"""Write captions_reference.json: what pycocoevalcap 1.2 says of invented captions; needs it, and Java.

python -m venv /tmp/coco && /tmp/coco/bin/pip install pycocoevalcap
/tmp/coco/bin/python tests/unit/evaluation/scores/make_reference.py
"""

import json
import random
from pathlib import Path

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

WHO = ("A man", "two women", "Mr. Smith's dog", "the children", "A cat", "an old lady", "three- and four-year-olds")
DOES = ("is riding", "can't find", "sits on", "jumps over", "looks at", "isn't near", "plays with", "they've got")
WHAT = ('a "red" bike', "a t-shirt", "the dogs' toys", "a frisbee", "2 1/2 pizzas", "some cake", "a $5.00 hat")
WHERE = ("in a park", "at 10:30 p.m.", "on St. James St.", "(outdoors)", "by the sea...", "- in black & white", "")
END = (".", "", " .", "!", "!!", ";")
ODD = ["", "a", "a man", "a man a man a man a man a man a man a man a man", "?!", "  ", "café"]


def caption(rng: random.Random) -> str:
    """One of the wordings."""
    parts = (rng.choice(words) for words in (WHO, DOES, WHAT, WHERE))
    return " ".join(parts).strip() + rng.choice(END)


def main() -> None:
    """Captions, their tokens, and both scores of all and of each caption."""
    rng = random.Random(0)
    references = [[caption(rng) for _ in range(rng.choice((1, 2, 5, 5)))] for _ in range(48)]
    answers = [rng.choice(texts) if rng.random() < 0.15 else caption(rng) for texts in references]
    answers[: len(ODD)] = ODD
    wanted = PTBTokenizer().tokenize({key: [{"caption": x} for x in texts] for key, texts in enumerate(references)})
    given = PTBTokenizer().tokenize({key: [{"caption": text}] for key, text in enumerate(answers)})
    cider, each = Cider().compute_score(wanted, given)
    bleu, _ = Bleu(4).compute_score(wanted, given, verbose=0)
    short = {key: tokens for key, tokens in given.items() if key >= 40}
    bleu_of_8, _ = Bleu(4).compute_score({key: wanted[key] for key in short}, short, verbose=0)
    content = {
        "answers": answers,
        "references": references,
        "answer_tokens": [given[key][0] for key in range(48)],
        "reference_tokens": [wanted[key] for key in range(48)],
        "cider": float(cider),
        "cider_of_each": [float(value) for value in each],
        "bleu4": bleu[3],
        "bleu4_of_last_8": bleu_of_8[3],
    }
    path = Path(__file__).with_name("captions_reference.json")
    path.write_text(json.dumps(content, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
