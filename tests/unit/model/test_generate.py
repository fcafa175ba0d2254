import pytest
import torch

from tests.tiny import EOC_ID, IMAGE_ID, PAD_ID, tiny_batch, tiny_flamingo, tiny_text_config

NEW = 6
# Forbidding the end of a chunk gives all sequences the same length; nothing may stop a comparison early.
GREEDY = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": PAD_ID, "suppress_tokens": [IMAGE_ID, EOC_ID]}
# One family for each kind of position: rotary, learned and counted by the mask, learned and absolute, ALiBi.
FAMILIES = ["llama", "opt", "gpt2", "mpt"]


@pytest.fixture(scope="module", params=FAMILIES)
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


def test_text_only_prompts_are_the_bare_lm_s(model):
    text = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    plain = {name: value for name, value in GREEDY.items() if name != "suppress_tokens"}
    assert torch.equal(model.generate(input_ids=text, **GREEDY), model.language_model.generate(input_ids=text, **plain))


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


@pytest.mark.parametrize("use_cache", [True, False])
def test_images_are_encoded_once(prompts, use_cache):
    model, sizes = tiny_flamingo(tiny_text_config(eos_token_id=EOC_ID)), []
    model.vision_model.register_forward_hook(lambda *call: sizes.append(call[2].last_hidden_state.shape[0]))
    model.generate(**prompts, **GREEDY, use_cache=use_cache)
    assert sizes == [3]


def test_a_prompt_with_more_image_tokens_than_images(prompts):
    model = tiny_flamingo(tiny_text_config(eos_token_id=EOC_ID))
    with pytest.raises(ValueError, match=r"names \[2, 1\] images a sequence but \[1, 1\] were given"):
        model.generate(**prompts | {"num_images": torch.tensor([1, 1])}, **GREEDY)
    with pytest.raises(ValueError, match=r"names \[2, 1\] images a sequence but \[0, 0\] were given"):
        model.generate(input_ids=prompts["input_ids"], **GREEDY)
