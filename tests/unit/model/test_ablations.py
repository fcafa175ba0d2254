"""Switches of the paper's ablations: a mean in the resampler's place, gated blocks without gates."""

import pytest
import torch
from transformers import AutoModelForImageTextToText

from flamingo_ds.model.mean_resampler import MeanResampler
from flamingo_ds.model.tanh_gate import TanhGate
from tests.tiny import tiny_batch, tiny_flamingo

WIDTH = 8


@pytest.fixture
def resampler():
    torch.manual_seed(0)
    return MeanResampler(6, WIDTH, latents=2)


def test_latents_are_made_of_the_mean_of_all_tokens(resampler):
    features = torch.randn(3, 2, 5, 6)
    latents = resampler(features)
    assert latents.shape == (3, 2, WIDTH)
    wanted = resampler.norm((features.flatten(1, 2).mean(1) @ resampler.project.weight.T).view(3, 2, WIDTH))
    assert torch.allclose(latents, wanted, rtol=0, atol=1e-6)  # fp32 sums in another order


def test_a_mean_leaves_padded_frames_out(resampler):
    features = torch.randn(2, 3, 5, 6)
    features[1, 1:] = float("nan")
    latents = resampler(features, torch.tensor([3, 1]))
    assert torch.allclose(latents[0], resampler(features[:1])[0], rtol=0, atol=1e-6)
    assert torch.allclose(latents[1], resampler(features[1:, :1])[0], rtol=0, atol=1e-6)


def test_without_gates_the_branches_are_added_whole():
    """As a tanh gate that stands open wide."""
    plain, gated = tiny_flamingo(gate="none"), tiny_flamingo()
    assert not any(isinstance(module, TanhGate) for module in plain.modules())
    missing, unexpected = gated.load_state_dict(plain.state_dict(), strict=False)
    assert len(missing) == 2 * len(plain.gated_cross_attention)
    assert not unexpected
    for module in gated.modules():
        if isinstance(module, TanhGate):
            torch.nn.init.constant_(module.gate, 100.0)
    inputs = tiny_batch().tensors()
    assert torch.equal(plain(**inputs).logits, gated(**inputs).logits)


@pytest.mark.parametrize("changes", [{"gate": "none"}, {"resampler_kind": "mean"}])
def test_a_folder_carries_the_switch(tmp_path, changes):
    model = tiny_flamingo(**changes)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    for name, value in changes.items():
        assert getattr(loaded.config, name) == value
    inputs = tiny_batch().tensors()
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)
    other = inputs | {"pixel_values": inputs["pixel_values"].flip(0)}
    assert not torch.allclose(loaded(**other).logits, model(**inputs).logits, rtol=0, atol=1e-3)
