"""Train the demo's stand-ins for pretrained backbones: a tiny Llama on caption text, a tiny open_clip model on pairs.

OUT/lm is a transformers folder, OUT/clip an open_clip folder (``local-dir:OUT/clip``). A real run names pretrained ones
instead. Both see the training split only; accuracies are of the validation split.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import open_clip
import torch
import webdataset
from PIL import Image
from safetensors.torch import save_model
from tokenizers import ByteLevelBPETokenizer
from tokenizers.processors import TemplateProcessing
from torch.nn.functional import cross_entropy
from transformers import CLIPImageProcessor, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

sys.path.insert(0, str(Path(__file__).parents[1]))
from demo.captions import WORDS, digit_of

CLIP_CONFIG: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 8, "patch_size": 2, "width": 64, "layers": 3, "head_width": 16, "mlp_ratio": 4.0},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 1},
}
PREPROCESS = {
    "size": [8, 8],
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
LM_STEPS, LM_BATCH, LM_RATE = 300, 64, 3e-3
CLIP_STEPS, CLIP_BATCH, CLIP_RATE = 900, 128, 4e-3


def main() -> int:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path, metavar="SHARDS", help="folder that make_shards.py wrote")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the two models")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    disable_progress_bar()
    torch.manual_seed(options.seed)
    train, validation = read_pairs(options.shards, "train"), read_pairs(options.shards, "validation")
    started = time.monotonic()
    loss = train_language_model([text for _, text in train], options.out / "lm")
    print(f"language model: loss {loss:.3f} in {time.monotonic() - started:.0f} s")
    started = time.monotonic()
    accuracy = train_clip(train, validation, options.out / "clip")
    print(f"open_clip: zero-shot accuracy {accuracy:.3f} on validation in {time.monotonic() - started:.0f} s")
    return 0


def read_pairs(shards: Path, split: str) -> list[tuple[Image.Image, str]]:
    """All image-text pairs of a split."""
    paths = [str(path) for path in sorted(shards.glob(f"pairs-{split}-*.tar"))]
    samples = webdataset.WebDataset(paths, shardshuffle=False).decode("pilrgb").to_tuple("png", "txt")
    return list(samples)


def train_language_model(texts: list[str], out: Path) -> float:
    """A byte-level BPE tokenizer and a two-block Llama; returns the last loss."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=320, special_tokens=["<pad>", "<s>", "</s>"], show_progress=False)
    # As Llama's: every text starts with <s>.
    bpe._tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", bpe.token_to_id("<s>"))]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    rows = tokenizer([f"{text}</s>" for text in texts], padding=True, return_tensors="pt")
    ids = rows["input_ids"]
    labels = ids.masked_fill(rows["attention_mask"] == 0, -100)
    optimizer, schedule = adamw(model, LM_RATE, LM_STEPS)
    loss = torch.zeros(())
    for _ in range(LM_STEPS):
        chosen = torch.randint(len(ids), (LM_BATCH,))
        loss = model(input_ids=ids[chosen], labels=labels[chosen]).loss
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return loss.item()


def train_clip(train: list[tuple[Image.Image, str]], validation: list[tuple[Image.Image, str]], out: Path) -> float:
    """A contrastive model; returns its zero-shot accuracy on the validation split."""
    model = open_clip.CLIP(**CLIP_CONFIG)
    tokenizer = open_clip.SimpleTokenizer(context_length=CLIP_CONFIG["text_cfg"]["context_length"])
    images, texts = pixels([image for image, _ in train]), tokenizer([text for _, text in train])
    digits = torch.tensor([digit_of(text) for _, text in train])
    optimizer, schedule = adamw(model, CLIP_RATE, CLIP_STEPS)
    for _ in range(CLIP_STEPS):
        chosen = torch.randint(len(images), (CLIP_BATCH,))
        contrastive_loss(model, shifted(images[chosen]), texts[chosen], digits[chosen]).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    save_clip(model, CLIP_CONFIG, out)
    return zero_shot_accuracy(model.eval(), tokenizer, validation)


def contrastive_loss(
    model: open_clip.CLIP, images: torch.Tensor, texts: torch.Tensor, digits: torch.Tensor
) -> torch.Tensor:
    """Of images (N, 3, 8, 8) with their texts' tokens (N, 16).

    Captions of one digit fit all images of that digit, so the targets are soft: all pairs of a digit share the mass.
    """
    image, text, scale = model(images, texts)
    logits = scale * image @ text.T
    same = (digits[:, None] == digits).float()
    targets = same / same.sum(1, keepdim=True)
    return (cross_entropy(logits, targets) + cross_entropy(logits.T, targets)) / 2


def save_clip(model: open_clip.CLIP, config: dict[str, Any], out: Path) -> None:
    """As a folder that open_clip loads by ``local-dir:``."""
    out.mkdir(parents=True, exist_ok=True)
    save_model(model, str(out / "open_clip_model.safetensors"))
    content = {"model_cfg": config, "preprocess_cfg": PREPROCESS}
    (out / "open_clip_config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@torch.no_grad()
def zero_shot_accuracy(
    model: open_clip.CLIP, tokenizer: open_clip.SimpleTokenizer, pairs: list[tuple[Image.Image, str]]
) -> float:
    """Share of images whose nearest of ten sentences names their digit."""
    image = model.encode_image(pixels([image for image, _ in pairs]), normalize=True)
    text = model.encode_text(tokenizer([f"a handwritten {word}" for word in WORDS]), normalize=True)
    truth = torch.tensor([digit_of(text) for _, text in pairs])
    return ((image @ text.T).argmax(1) == truth).float().mean().item()


def pixels(images: list[Image.Image]) -> torch.Tensor:
    """(N, 3, 8, 8), by the transform that the model will always be used with."""
    size = PREPROCESS["size"][0]
    processor = CLIPImageProcessor(
        size={"shortest_edge": size}, crop_size=size, image_mean=PREPROCESS["mean"], image_std=PREPROCESS["std"]
    )
    return processor(images, return_tensors="pt")["pixel_values"]


def shifted(images: torch.Tensor) -> torch.Tensor:
    """Gentle augmentation: each image may move by one pixel, sideways more often than up or down."""
    across, down = torch.rand(len(images)), torch.rand(len(images))
    images = torch.where((across < 0.2)[:, None, None, None], images.roll(1, -1), images)
    images = torch.where((across > 0.8)[:, None, None, None], images.roll(-1, -1), images)
    images = torch.where((down < 0.1)[:, None, None, None], images.roll(1, -2), images)
    return torch.where((down > 0.9)[:, None, None, None], images.roll(-1, -2), images)


def adamw(
    model: torch.nn.Module, rate: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW with a short warm-up and a cosine to zero."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05, fused=True)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)


if __name__ == "__main__":
    sys.exit(main())
