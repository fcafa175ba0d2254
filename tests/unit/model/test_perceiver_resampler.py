import pytest
import torch

from flamingo_ds.model.perceiver_resampler import PerceiverResampler

WIDTH, LATENTS = 32, 5


@pytest.fixture
def resampler():
    torch.manual_seed(0)
    made = PerceiverResampler(WIDTH, depth=2, latents=LATENTS, heads=2, head_width=8, max_frames=3, multiplier=2)
    torch.nn.init.normal_(made.latents)
    torch.nn.init.normal_(made.frame_encodings)
    return made


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_any_number_of_frames_gives_as_many_latents(resampler, frames):
    assert resampler(torch.randn(4, frames, 7, WIDTH)).shape == (4, LATENTS, WIDTH)


def test_too_many_frames(resampler):
    with pytest.raises(ValueError, match=r"has 4 frames; expected at most 3 \(max_frames\)"):
        resampler(torch.randn(1, 4, 7, WIDTH))


def test_the_order_of_frames_matters_and_that_of_patches_does_not(resampler):
    features = torch.randn(1, 3, 7, WIDTH)
    out = resampler(features)
    assert not torch.allclose(out, resampler(features.flip(1)), rtol=0, atol=1e-3)
    # Attention over a set: patches in another order are summed in another order, fp32 rounding of values of order 1.
    assert torch.allclose(out, resampler(features.flip(2)), rtol=0, atol=1e-5)


def test_images_do_not_mix(resampler):
    features = torch.randn(3, 2, 7, WIDTH)
    changed = features.clone()
    changed[1] += 1.0
    before, after = resampler(features), resampler(changed)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.equal(before[1], after[1])


def test_every_parameter_gets_a_gradient(resampler):
    """A frame encoding of a frame that is not there gets zeros; all else something."""
    resampler(torch.randn(2, 2, 7, WIDTH)).square().sum().backward()
    assert torch.equal(resampler.frame_encodings.grad[2], torch.zeros(WIDTH))
    for name, parameter in resampler.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
