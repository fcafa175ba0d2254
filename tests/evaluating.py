"""A tiny model on disk and tasks of a few pictures, for everything that evaluates."""

import json
from pathlib import Path
from typing import Any

from flamingo_ds.evaluation.models.flamingo import FlamingoAnswerer, FlamingoReader

from .tiny import tiny_flamingo, tiny_image, tiny_processor, tiny_text_config

ANSWERS = ["a red square", "a blue circle", "a picture"]


def flamingo(family: str = "llama", shares_cache: bool = True, **changes: Any) -> FlamingoAnswerer:
    """Around the tiny processor, whose two new tokens come last."""
    processor = tiny_processor()
    known = len(processor.tokenizer) - 2
    ids = {"image_token_id": processor.image_token_id, "eoc_token_id": processor.eoc_token_id}
    model = tiny_flamingo(tiny_text_config(family, vocab_size=known), first_new_token_id=known, **ids | changes)
    reader = FlamingoReader(model.config, processor, f"tiny {family}")
    return FlamingoAnswerer(model, reader, shares_cache=shares_cache)


def write_export(folder: Path) -> Path:
    """The model as an export holds it."""
    answerer = flamingo()
    answerer.model.merge_new_tokens()
    answerer.model.save_pretrained(folder)
    answerer.reader.processor.save_pretrained(folder)
    return folder


def write_task(folder: Path, closed: bool = False, support: int = 12, queries: int = 10) -> Path:
    """Pictures of noise in the generic layout; no two are alike."""
    folder.mkdir(parents=True)
    for split, count, seed in (("support", support, 0), ("queries", queries, 1000)):
        lines = []
        for number in range(count):
            name = f"{split}-{number}.png"
            tiny_image(seed + number).save(folder / name)
            lines.append({"id": name, "image": name, "answer": ANSWERS[number % len(ANSWERS)]})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if closed:
        (folder / "task.json").write_text(json.dumps({"options": ANSWERS}))
    return folder
