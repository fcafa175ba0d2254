import pytest
import torch

from flamingo_ds.model.perceiver_resampler import PerceiverResampler

WIDTH, LATENTS = 32, 5


@pytest.fixture
def resampler():
    torch.manual_seed(0)
    made = PerceiverResampler(WIDTH, WIDTH, depth=2, latents=LATENTS, heads=2, head_width=8, max_frames=3, multiplier=2)
    torch.nn.init.normal_(made.latents)
    torch.nn.init.normal_(made.frame_encodings)
    return made


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_any_number_of_frames_gives_as_many_latents(resampler, frames):
    assert resampler(torch.randn(4, frames, 7, WIDTH)).shape == (4, LATENTS, WIDTH)


def test_more_frames_get_interpolated_encodings(resampler):
    """Three learned encodings over five frames: the ends and the middle stay, between them lies the mean."""
    learned, encodings = resampler.frame_encodings, resampler.encodings_of(5)
    assert torch.equal(encodings[[0, 2, 4]], learned)
    # Linear weights of one half, fp32 rounding of values of order 1.
    assert torch.allclose(encodings[[1, 3]], (learned[:2] + learned[1:]) / 2, rtol=0, atol=1e-6)
    features = torch.randn(2, 5, 7, WIDTH)
    wide = PerceiverResampler(WIDTH, WIDTH, depth=2, latents=LATENTS, heads=2, head_width=8, max_frames=5, multiplier=2)
    wide.load_state_dict(resampler.state_dict() | {"frame_encodings": encodings.detach()})
    assert torch.equal(resampler(features), wide(features))


def test_as_many_frames_as_trained_with_get_the_learned_encodings(resampler):
    assert torch.equal(resampler.encodings_of(3), resampler.frame_encodings)
    assert torch.equal(resampler.encodings_of(2), resampler.frame_encodings[:2])


def test_without_temporal_encodings_frames_are_a_set():
    torch.manual_seed(0)
    made = PerceiverResampler(WIDTH, WIDTH, depth=1, latents=LATENTS, heads=2, head_width=8, max_frames=0, multiplier=2)
    torch.nn.init.normal_(made.latents)
    features = torch.randn(1, 4, 7, WIDTH)
    assert "frame_encodings" not in made.state_dict()
    # Frames in another order are summed in another order, fp32 rounding of values of order 1.
    assert torch.allclose(made(features), made(features.flip(1)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("longest", [3, 5])
def test_videos_of_different_lengths_in_one_batch_are_as_alone(resampler, longest):
    """The padding says nothing, and each video has the temporal encodings of its own length."""
    features, counts = torch.randn(3, longest, 7, WIDTH), [longest, 1, 2]
    together = resampler(features, torch.tensor(counts))
    for video, count, latents in zip(features, counts, together, strict=True):
        # With a mask SDPA sums over all keys, some of weight 0: fp32 rounding of values of order 1.
        assert torch.allclose(latents, resampler(video[None, :count])[0], rtol=0, atol=1e-5)
    spoiled = features.clone()
    spoiled[1, 1:] = 1e3
    assert torch.equal(together, resampler(spoiled, torch.tensor(counts)))


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


def test_features_of_another_width_are_projected():
    torch.manual_seed(0)
    made = PerceiverResampler(48, WIDTH, depth=1, latents=LATENTS, heads=2, head_width=8, max_frames=0, multiplier=2)
    torch.nn.init.normal_(made.latents)
    same = PerceiverResampler(WIDTH, WIDTH, depth=1, latents=LATENTS, heads=2, head_width=8, max_frames=0, multiplier=2)
    same.load_state_dict({name: value for name, value in made.state_dict().items() if name != "project.weight"})
    features = torch.randn(2, 1, 7, 48)
    assert torch.equal(made(features), same(features @ made.project.weight.T))
