"""Latents of pictures: each is encoded once, however many prompts show it, and alone: always the same numbers."""

from collections import OrderedDict
from pathlib import Path

import torch

from ...model import FlamingoForConditionalGeneration, FlamingoProcessor
from ..frames import load_frames

# On the CPU; 64 latents of 1,536 channels in bf16 are 0.2 MB.
MOST_KEPT = 8192


class MediaStore:
    """Media by their path, as the resampler gives them.

    Args:
        model: in eval mode.
        processor: its own.
    """

    def __init__(self, model: FlamingoForConditionalGeneration, processor: FlamingoProcessor) -> None:
        self.model, self.processor = model, processor
        self.kept: OrderedDict[Path, torch.Tensor] = OrderedDict()

    def latents(self, path: Path) -> torch.Tensor:
        """Of one picture or video: (R, D) on the CPU.

        Raises:
            BadSample: unreadable.
        """
        if path in self.kept:
            self.kept.move_to_end(path)
            return self.kept[path]
        pixels = torch.stack([self.processor.transform(frame) for frame in load_frames(path)])
        encoded = self.model.encode_media(pixels[None, None].to(self.model.device, self.model.dtype))[0, 0].cpu()
        self.kept[path] = encoded
        if len(self.kept) > MOST_KEPT:
            self.kept.popitem(last=False)
        return encoded

    def keys_values(self, rows: list[list[Path]]) -> torch.Tensor | None:
        """Keys and values of the media of each prompt (B, J, T, R, 2 I), zeros where it has fewer; None without any."""
        slots = max(map(len, rows))
        if not slots:
            return None
        encoded = [[self.latents(path) for path in row] for row in rows]
        like = next(latents for row in encoded for latents in row)
        whole = like.new_zeros(len(rows), slots, *like.shape)
        for place, row in enumerate(encoded):
            if row:
                whole[place, : len(row)] = torch.stack(row)
        return self.model.project_media(whole.to(self.model.device))
