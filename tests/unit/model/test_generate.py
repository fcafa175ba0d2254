import pytest
import torch

from tests.tiny import EOC_ID, FAMILIES, IMAGE_ID, PAD_ID, tiny_batch, tiny_flamingo, tiny_text_config

NEW = 6
# Forbidding the end of a chunk gives all sequences the same length; nothing may stop a comparison early.
GREEDY = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": PAD_ID, "suppress_tokens": [IMAGE_ID, EOC_ID]}


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def model(request):
    return tiny_flamingo(tiny_text_config(request.param, eos_token_id=EOC_ID))


@pytest.fixture
def prompts():
    """Two prompts of one length, of two images and of one."""
    batch = tiny_batch()
    ids = batch.input_ids.clone()
    ids[1] = ids[1].roll(3)
    ids[1, :3] = torch.tensor([13, 14, 15])
    return {"input_ids": ids, "pixel_values": batch.pixel_values, "num_images": batch.num_images}


def test_the_cache_changes_nothing(model, prompts):
    cached = model.generate(**prompts, **GREEDY)
    assert torch.equal(cached, model.generate(**prompts, **GREEDY, use_cache=False))
    assert cached.shape == (2, 9 + NEW)


@torch.no_grad()
def test_every_step_s_logits_are_those_of_forward_on_the_whole_text(model, prompts):
    """After the first step the pixels are gone; their latents must not be, nor which image each token sees."""
    made = model.generate(**prompts, **GREEDY, output_logits=True, return_dict_in_generate=True)
    stepwise = torch.stack(made.logits, 1)
    whole = prompts | {"input_ids": made.sequences}
    # One token at a time against all at once: fp32 sums in another order, logits of order 5.
    assert torch.allclose(stepwise, model(**whole).logits[:, 8:-1], rtol=0, atol=1e-4)
    other = model(**whole | {"pixel_values": prompts["pixel_values"].flip(0)}).logits[:, 8:-1]
    # Other images must show at every step, else the comparison above would pass without any.
    assert ((stepwise - other).abs().amax(-1) > 1e-2).all()


def test_left_padded_prompts_are_generated_as_alone(model, prompts):
    short = prompts["input_ids"][:1, 1:]
    alone = model.generate(input_ids=short, pixel_values=prompts["pixel_values"][:1], **GREEDY)
    padded = prompts["input_ids"].clone()
    padded[0, 0] = PAD_ID
    mask = torch.ones_like(padded)
    mask[0, 0] = 0
    together = model.generate(**prompts | {"input_ids": padded}, attention_mask=mask, **GREEDY)
    assert torch.equal(together[0, 9:], alone[0, 8:])
    other = model.generate(**{name: value[1:] for name, value in prompts.items()}, **GREEDY)
    assert torch.equal(together[1:], other)


def test_text_only_prompts_are_generated_as_beside_one_with_images(model, prompts):
    """Text without images still goes through the gated feed-forwards, whoever shares its batch."""
    text = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12, 13]])
    alone = model.generate(input_ids=text, **GREEDY)
    together = model.generate(
        input_ids=torch.cat([prompts["input_ids"][:1], text]),
        pixel_values=prompts["pixel_values"],
        num_images=torch.tensor([2, 0]),
        **GREEDY,
    )
    assert torch.equal(together[1:], alone)
    assert alone.shape == (1, 9 + NEW)


def test_a_static_cache_gives_the_same(model, prompts):
    static = model.generate(**prompts, **GREEDY, cache_implementation="static")
    assert torch.equal(static, model.generate(**prompts, **GREEDY))


def test_assisted_decoding_gives_the_same(prompts):
    """By prompt lookup, and by a smaller Flamingo that encodes the images for itself.

    On models as they are exported: transformers counts the vocabulary by the language model's configuration.
    """
    model = tiny_flamingo(tiny_text_config(eos_token_id=EOC_ID))
    model.merge_new_tokens()
    one = {name: value[:1] for name, value in prompts.items()}
    plain = model.generate(**one, **GREEDY | {"max_new_tokens": 12})
    looked_up = model.generate(**one, **GREEDY | {"max_new_tokens": 12}, prompt_lookup_num_tokens=2)
    assert torch.equal(looked_up, plain)
    small = tiny_flamingo(tiny_text_config(eos_token_id=EOC_ID, num_hidden_layers=1), seed=1, resampler_latents=3)
    small.merge_new_tokens()
    sizes = []
    small.vision_model.register_forward_hook(lambda *call: sizes.append(call[2].last_hidden_state.shape[0]))
    assert torch.equal(model.generate(**one, **GREEDY | {"max_new_tokens": 12}, assistant_model=small), plain)
    assert sizes == [2]


def test_an_assistant_without_eyes_is_refused(prompts):
    model = tiny_flamingo(tiny_text_config(eos_token_id=EOC_ID))
    one = {name: value[:1] for name, value in prompts.items()}
    with pytest.raises(ValueError, match="assistant_model is a LlamaForCausalLM; expected a Flamingo"):
        model.generate(**one, **GREEDY, assistant_model=model.language_model)


def test_sampling_follows_the_seed_and_sees_the_images(prompts):
    model = tiny_flamingo(tiny_text_config(eos_token_id=EOC_ID))
    sampling = GREEDY | {"do_sample": True, "num_return_sequences": 3}

    def sample(**changes):
        torch.manual_seed(0)
        return model.generate(**prompts | changes, **sampling)

    first = sample()
    assert first.shape == (6, 9 + NEW)
    assert torch.equal(first, sample())
    assert not torch.equal(first, sample(pixel_values=prompts["pixel_values"].flip(0)))


@torch.no_grad()
def test_keys_and_values_may_be_made_beforehand(model, prompts):
    """One prompt's images, several continuations: the close-ended evaluation."""
    made = model.project_media(model.encode_media(prompts["pixel_values"], prompts["num_images"]))
    ready = model.generate(input_ids=prompts["input_ids"], media_key_values=made, **GREEDY)
    assert torch.equal(ready, model.generate(**prompts, **GREEDY))
    # Projected for all images at once or for those that are seen: fp32 sums in another order, logits of order 5.
    logits = model(prompts["input_ids"], media_key_values=made).logits
    assert torch.allclose(logits, model(**prompts).logits, rtol=0, atol=1e-4)


def test_beams_find_a_better_text_than_greed(prompts):
    model = tiny_flamingo(tiny_text_config(eos_token_id=EOC_ID))

    def score(tokens):
        with torch.no_grad():
            logits = model(**prompts | {"input_ids": tokens}).logits
        logits[..., [IMAGE_ID, EOC_ID]] = -torch.inf
        chosen = logits.log_softmax(-1)[:, :-1].gather(-1, tokens[:, 1:, None]).squeeze(-1)
        return chosen[:, 8:].sum(-1)

    beams = model.generate(**prompts, **GREEDY, num_beams=4)
    assert beams.shape == (2, 9 + NEW)
    # Beams that lost their images, or sat on another prompt's, would score below. fp32 rounding of sums of 6 terms.
    assert (score(beams) >= score(model.generate(**prompts, **GREEDY)) - 1e-4).all()


@pytest.mark.parametrize("more", [{}, {"use_cache": False}, {"num_beams": 3}], ids=str)
def test_images_are_encoded_and_projected_once(prompts, more):
    """Not once a step, nor once a beam."""
    model, sizes, projected = tiny_flamingo(tiny_text_config(eos_token_id=EOC_ID)), [], []
    model.vision_model.register_forward_hook(lambda *call: sizes.append(call[2].last_hidden_state.shape[0]))
    for block in model.gated_cross_attention.values():
        block.attention.to_keys_values.register_forward_hook(lambda *call: projected.append(call[2].shape[0]))
    model.generate(**prompts, **GREEDY, **more)
    assert sizes == [3]
    assert projected == [2, 2, 2]


def test_a_prompt_with_more_image_tokens_than_images(prompts):
    model = tiny_flamingo(tiny_text_config(eos_token_id=EOC_ID))
    with pytest.raises(ValueError, match=r"names \[2, 1\] images a sequence but \[1, 1\] were given"):
        model.generate(**prompts | {"num_images": torch.tensor([1, 1])}, **GREEDY)
    with pytest.raises(ValueError, match=r"names \[2, 1\] images a sequence but \[0, 0\] were given"):
        model.generate(input_ids=prompts["input_ids"], **GREEDY)
