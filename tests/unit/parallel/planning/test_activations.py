"""Counted bytes against what the allocator was asked for by the same model on a CPU.

Measured: within 5 % (fp32 +3.8 % without and -3.0 % with checkpointing, bf16 +1.2 % and -5.4 %); what kernels allocate
inside is not counted, and the LM builds no mask where nothing is padded.
"""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from flamingo_ds.batch import IGNORED_LABEL, FlamingoBatch
from flamingo_ds.model import FlamingoForConditionalGeneration
from flamingo_ds.parallel.activation_checkpointing import recompute_blocks
from flamingo_ds.parallel.planning.activations import count_activations
from flamingo_ds.parallel.planning.batch_shape import BatchShape
from tests.tiny import FAMILIES, IMAGE_ID, IMAGE_SIZE, tiny_flamingo, tiny_text_config

SHAPE = BatchShape(sequences=4, tokens=48, images=4, image_size=IMAGE_SIZE, padded=False, targets=4 * 44)


def batch(dtype: torch.dtype) -> FlamingoBatch:
    ids = torch.full((4, 48), 5)
    ids[:, ::12] = IMAGE_ID
    is_image = ids == IMAGE_ID
    return FlamingoBatch(
        input_ids=ids,
        labels=ids.masked_fill(is_image, IGNORED_LABEL),
        attention_mask=torch.ones_like(ids),
        media_ids=is_image.cumsum(1),
        pixel_values=torch.randn(4, 4, 1, 3, IMAGE_SIZE, IMAGE_SIZE, dtype=dtype),
        num_images=is_image.sum(1),
        num_frames=torch.ones(4, 4, dtype=torch.int64),
    )


def measured_peak(model: FlamingoForConditionalGeneration, dtype: torch.dtype, every: int) -> int:
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    recompute_blocks(model, every)
    inputs = batch(dtype).tensors()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        model.train()(**inputs, num_items_in_batch=7.0).loss.backward()
    events = profiler.profiler.kineto_results.events()
    live = peak = 0
    for _, size in sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"):
        live += size
        peak = max(peak, live)
    return peak


@pytest.mark.parametrize("every", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_counted_is_measured(dtype: torch.dtype, every: int) -> None:
    counted = count_activations(tiny_flamingo(), SHAPE, dtype, every, device_type="cpu")
    assert counted.peak == pytest.approx(measured_peak(tiny_flamingo(), dtype, every), rel=0.1)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_is_counted_on_the_meta_device(family: str) -> None:
    with torch.device("meta"):
        model = tiny_flamingo(tiny_text_config(family))
    kept = count_activations(model, SHAPE, torch.bfloat16)
    recomputed = count_activations(model, SHAPE, torch.bfloat16, every=1)
    names = ["vision", "embedding", "gated/0", "lm/0", "gated/1", "lm/1", "gated/2", "lm/2", "head"]
    assert list(kept.parts) == names
    assert kept.hidden == 4 * 48 * 32 * 2
    assert all(recomputed.parts[name].kept < kept.parts[name].kept for name in names if name.startswith("lm/"))
    assert recomputed.peak < kept.peak
