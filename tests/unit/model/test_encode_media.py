import pytest
import torch

from tests.tiny import tiny_batch, tiny_flamingo


@pytest.fixture
def model():
    return tiny_flamingo()


@pytest.fixture
def encoded(model):
    """Sizes of the batches that the vision encoder sees."""
    sizes = []
    model.vision_model.register_forward_pre_hook(
        lambda _, __, kwargs: sizes.append(kwargs["pixel_values"].shape[0]), with_kwargs=True
    )
    return sizes


def test_only_real_images_are_encoded(model, encoded):
    batch = tiny_batch()
    latents = model.encode_media(batch.pixel_values, batch.num_images)
    assert encoded == [3]
    assert latents.shape == (2, 2, 4, 32)
    assert torch.equal(latents[1, 1], torch.zeros(4, 32))
    assert (latents[[0, 0, 1], [0, 1, 0]].abs().amax((-1, -2)) > 0).all()


def test_without_counts_all_images_are_real(model, encoded):
    batch = tiny_batch()
    latents = model.encode_media(batch.pixel_values)
    assert encoded == [4]
    assert (latents.abs().amax((-1, -2)) > 0).all()


def test_each_image_s_latents_stand_in_its_slot(model):
    """Against one image at a time: nothing is mixed up where real images and padding alternate."""
    pixels, counts = torch.randn(3, 2, 1, 3, 16, 16), torch.tensor([1, 0, 2])
    latents = model.encode_media(pixels, counts)
    for row, count in enumerate(counts.tolist()):
        for slot in range(count):
            alone = model.encode_media(pixels[row : row + 1, slot : slot + 1])[0, 0]
            # Three images at once or one: fp32 sums of values of order 1 in another order.
            assert torch.allclose(latents[row, slot], alone, rtol=0, atol=1e-5)


def test_frames_of_a_video_make_one_set_of_latents(model, encoded):
    latents = model.encode_media(torch.randn(1, 2, 3, 3, 16, 16))
    assert encoded == [6]
    assert latents.shape == (1, 2, 4, 32)


def test_padding_has_no_influence(model):
    """Not even NaN, which would survive a multiplication by 0."""
    batch = tiny_batch()
    inputs = batch.tensors()
    before = model(**inputs)
    spoiled = batch.pixel_values.clone()
    spoiled[1, 1] = torch.nan
    after = model(**inputs | {"pixel_values": spoiled})
    assert torch.equal(before.logits, after.logits)
    after.loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_a_batch_without_images_runs_the_vision_path_once(model, encoded):
    """Gradients are zero and not None, and nothing hangs on the padding's pixels."""
    batch = tiny_batch()
    inputs = batch.tensors() | {"num_images": torch.zeros(2, dtype=torch.long)}
    inputs["input_ids"] = batch.input_ids.remainder(90)
    inputs["media_ids"] = torch.zeros_like(batch.media_ids)
    inputs["pixel_values"] = torch.full_like(batch.pixel_values, torch.nan)
    output = model(**inputs)
    assert encoded == [1]
    output.loss.backward()
    for name, parameter in model.resampler.named_parameters():
        assert torch.equal(parameter.grad, torch.zeros_like(parameter)), name
    for name, parameter in model.gated_cross_attention.named_parameters():
        assert parameter.grad is not None, name
        feeds_on_text = "feed_forward" in name
        assert bool(parameter.grad.abs().sum() > 0) == feeds_on_text, name


def test_a_batch_without_images_has_the_logits_of_one_whose_images_nobody_sees(model):
    batch = tiny_batch()
    inputs = batch.tensors() | {"media_ids": torch.zeros_like(batch.media_ids)}
    unseen = model(**inputs).logits
    assert torch.equal(unseen, model(**inputs | {"num_images": torch.zeros(2, dtype=torch.long)}).logits)


def test_a_frozen_vision_encoder_builds_no_graph(model):
    made = []
    model.vision_model.register_forward_hook(lambda *call: made.append(call[2].last_hidden_state))
    batch = tiny_batch()
    # With frozen weights alone autograd would record nothing anyway: pixels that want a gradient are what can tell.
    batch.pixel_values.requires_grad_(True)
    model(**batch.tensors()).loss.backward()
    assert made[-1].grad_fn is None
    model.vision_model.requires_grad_(True)
    model(**batch.tensors()).loss.backward()
    assert made[-1].grad_fn is not None
    assert model.vision_model.embeddings.patch_embedding.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("class_token", "tokens"), [(False, 4), (True, 5)])
def test_features_are_taken_where_the_configuration_says(class_token, tokens):
    seen = {}
    for features in ("pre_norm", "post_norm"):
        model = tiny_flamingo(vision_features=features, vision_class_token=class_token)
        torch.nn.init.normal_(model.vision_model.post_layernorm.bias)
        model.resampler.register_forward_pre_hook(lambda _, args, to=features: seen.update({to: args[0]}))
        model.encode_media(tiny_batch().pixel_values)
        norm = model.vision_model.post_layernorm
    assert seen["pre_norm"].shape == (4, 1, tokens, 32)
    assert torch.equal(norm(seen["pre_norm"]), seen["post_norm"])
    assert not torch.allclose(seen["pre_norm"], seen["post_norm"], rtol=0, atol=1e-2)


def test_wrong_shapes_are_named(model):
    with pytest.raises(ValueError, match=r"\(2, 3, 16, 16\); expected \(B, T, F, C, H, W\)"):
        model.encode_media(torch.zeros(2, 3, 16, 16))
    with pytest.raises(ValueError, match=r"num_images has shape \(3,\); expected \(2,\)"):
        model.encode_media(tiny_batch().pixel_values, torch.ones(3, dtype=torch.long))


def test_a_text_that_names_more_images_than_given(model):
    batch = tiny_batch()
    with pytest.raises(ValueError, match=r"names \[2, 1\] images a sequence but \[1, 1\] were given"):
        model(batch.input_ids, pixel_values=batch.pixel_values[:, :1])
