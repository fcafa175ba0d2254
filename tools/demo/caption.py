"""Caption held-out digits with an exported model, in a process that cannot import flamingo_ds.

Writes HF's neighbours report.json (accuracies with the images and with blank ones, and how far the logits are from the
training engine's), captions.png and training.png.
"""

import argparse
import json
import sys
from pathlib import Path

# Before anything else: whatever is loaded below comes from the exported folder and from transformers.
sys.modules["flamingo_ds"] = None  # type: ignore[assignment]

import torch
import webdataset
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.utils.logging import disable_progress_bar

sys.path.insert(0, str(Path(__file__).parents[1]))
from demo.captions import digit_of
from demo.pictures import draw_captions, draw_training


def main() -> int:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder with hf/, checkpoints/ and metrics.jsonl")
    parser.add_argument("shards", type=Path, metavar="SHARDS", help="folder that make_shards.py wrote")
    parser.add_argument("--split", default="test", help="test is looked at once; use validation for trials")
    options = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bar()
    # On the kind of device that it was trained on, or its logits could not be compared bit for bit.
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForImageTextToText.from_pretrained(options.run / "hf", trust_remote_code=True).eval().to(device)
    processor = AutoProcessor.from_pretrained(options.run / "hf", trust_remote_code=True)
    images, digits = read(options.shards, options.split)
    captions = write_captions(model, processor, images)
    blind = write_captions(model, processor, [Image.new("RGB", image.size) for image in images])
    report = {
        "split": options.split,
        "images": len(images),
        "caption_accuracy": accuracy(captions, digits),
        "blind_accuracy": accuracy(blind, digits),
        "hf_max_abs_logit_diff": logit_difference(model, options.run / "checkpoints/latest/reference.safetensors"),
        "dtype": str(model.dtype).removeprefix("torch."),
    }
    (options.run / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    draw_captions(images, captions, digits, options.run / "captions.png")
    draw_training(options.run / "metrics.jsonl", options.run / "training.png")
    print(json.dumps(report, indent=2))
    return 0


def read(shards: Path, split: str) -> tuple[list[Image.Image], list[int]]:
    """Images and digits of a split."""
    paths = [str(path) for path in sorted(shards.glob(f"pairs-{split}-*.tar"))]
    samples = list(webdataset.WebDataset(paths, shardshuffle=False).decode("pilrgb").to_tuple("png", "cls"))
    return [image for image, _ in samples], [int(digit) for _, digit in samples]


def write_captions(model: torch.nn.Module, processor: AutoProcessor, images: list[Image.Image]) -> list[str]:
    """Greedy captions, a hundred images at a time."""
    captions: list[str] = []
    for start in range(0, len(images), 100):
        some = images[start : start + 100]
        inputs = processor(images=[[image] for image in some], text=["<image>"] * len(some)).to(
            model.device, model.dtype
        )
        tokens = model.generate(**inputs, max_new_tokens=24, do_sample=False)
        captions += processor.batch_decode(tokens, skip_special_tokens=True)
    return captions


def accuracy(captions: list[str], digits: list[int]) -> float:
    """Share of captions that name the right digit and no other."""
    return sum(digit_of(caption) == digit for caption, digit in zip(captions, digits, strict=True)) / len(digits)


@torch.no_grad()
def logit_difference(model: torch.nn.Module, reference: Path) -> float:
    """Largest difference to the logits that the training engine wrote into its last checkpoint, on the same batch."""
    tensors = load_file(reference, device=str(model.device))
    wanted = tensors.pop("logits")
    del tensors["labels"]
    tensors["pixel_values"] = tensors["pixel_values"].to(model.dtype)
    logits = model(**tensors).logits
    if logits.dtype != wanted.dtype:
        raise SystemExit(f"error: the export is {logits.dtype}, the engine's logits are {wanted.dtype}")
    return (logits - wanted).abs().max().item()


if __name__ == "__main__":
    sys.exit(main())
