"""Two parts of the model alone: attention by image against a dense mask, the loss in chunks against whole logits."""

import statistics
import time

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.functional import cross_entropy, linear

from flamingo_ds.model.chunked_cross_entropy import chunked_cross_entropy
from flamingo_ds.model.gated_cross_attention import MediaCrossAttention
from flamingo_ds.model.media_mask import media_view

from .steps import Size, memory_peak

IMAGES = (1, 2, 5, 8, 32)
LATENTS, MEDIA_WIDTH = 64, 768


def measure(size: Size, rounds: int) -> dict[str, object]:
    """Speed-ups of attention at several numbers of images, and the ratio of the losses' memory."""
    report: dict[str, object] = {}
    table = Table(
        "dtype", "images", "by image, s", "dense, s", "speed-up", title="cross-attention, forward and backward"
    )
    for dtype in (torch.float32, torch.bfloat16):
        suffix = "" if dtype == torch.float32 else "_bf16"
        for images in IMAGES:
            by_image, dense = _attention(size, images, dtype, rounds)
            speedup = statistics.median(slow / fast for fast, slow in zip(by_image, dense, strict=True))
            report[f"attention_speedup_T{images}{suffix}"] = speedup
            seconds = [f"{statistics.median(taken):.4f}" for taken in (by_image, dense)]
            table.add_row(str(dtype).removeprefix("torch."), str(images), *seconds, f"{speedup:.2f}")
    console = Console(width=120)
    console.print(table)
    (chunked_mb, chunked_s), (whole_mb, whole_s) = _losses(size, rounds)
    report |= {"loss_memory_ratio": chunked_mb / whole_mb, "loss_seconds_ratio": chunked_s / whole_s}
    console.print(
        f"loss in chunks: {chunked_mb:.0f} MB, {chunked_s:.3f} s; whole logits: {whole_mb:.0f} MB, {whole_s:.3f} s; "
        f"memory {chunked_mb / whole_mb:.2f}, time {chunked_s / whole_s:.2f}"
    )
    return report


def _attention(size: Size, images: int, dtype: torch.dtype, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of the whole module in both forms, in turn; the images stand evenly in the text."""
    torch.manual_seed(0)
    attention = MediaCrossAttention(nn.LayerNorm(size.width), size.width, MEDIA_WIDTH, heads=8, head_width=64).to(dtype)
    hidden = torch.randn(size.sequences, size.tokens, size.width, dtype=dtype, requires_grad=True)
    media = torch.randn(size.sequences, images, LATENTS, MEDIA_WIDTH, dtype=dtype, requires_grad=True)
    media_ids = torch.zeros(size.sequences, size.tokens, dtype=torch.long)
    media_ids[:, torch.arange(images) * size.tokens // images] = 1
    media_ids = media_ids.cumsum(-1)
    taken: dict[bool, list[float]] = {True: [], False: []}
    for number in range(rounds + 2):
        for by_image, seconds in taken.items():
            began = time.perf_counter()
            view = media_view(media_ids, images, LATENTS, by_image=by_image)
            attention(hidden, media, view).sum().backward()
            if number > 1:
                seconds.append(time.perf_counter() - began)
    return taken[True], taken[False]


def _losses(size: Size, rounds: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Megabytes and median seconds of forward and backward through a frozen head: in chunks, and with whole logits."""
    torch.manual_seed(0)
    rows = size.sequences * size.tokens
    hidden = torch.randn(rows, size.width, requires_grad=True)
    weight, targets = torch.randn(size.vocabulary, size.width) / 20, torch.randint(0, size.vocabulary, (rows,))
    ways = (
        lambda: chunked_cross_entropy(hidden, weight, None, None, 0, targets),
        lambda: cross_entropy(linear(hidden, weight).float(), targets, reduction="sum"),
    )
    memory: list[list[float]] = [[], []]
    seconds: list[list[float]] = [[], []]
    for _ in range(rounds + 1):
        for way, risen in zip(ways, memory, strict=True):
            with memory_peak() as peak:
                way().backward()
            risen.append(peak[0])
    for _ in range(rounds + 1):
        for way, taken in zip(ways, seconds, strict=True):
            began = time.perf_counter()
            way().backward()
            taken.append(time.perf_counter() - began)
    chunked, whole = ([statistics.median(values[1:]) for values in way] for way in zip(memory, seconds, strict=True))
    return (chunked[0], chunked[1]), (whole[0], whole[1])
