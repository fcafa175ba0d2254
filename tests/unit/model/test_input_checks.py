"""A user's mistakes, in ``forward`` and in ``generate`` alike: one line each, with its numbers."""

import pytest
import torch

from tests.tiny import IMAGE_ID, IMAGE_SIZE, PAD_ID, VOCABULARY, tiny_batch, tiny_flamingo, tiny_text_config

CONTEXT = 12


@pytest.fixture(scope="module")
def model():
    return tiny_flamingo(tiny_text_config(max_position_embeddings=CONTEXT))


@pytest.fixture(params=["forward", "generate"])
def call(request, model):
    if request.param == "forward":
        return model
    return lambda **inputs: model.generate(**inputs, max_new_tokens=1, do_sample=False, pad_token_id=PAD_ID)


def good():
    batch = tiny_batch()
    return {
        "input_ids": batch.input_ids.flip(1),  # padding on the left
        "attention_mask": batch.attention_mask.flip(1),
        "pixel_values": batch.pixel_values,
        "num_images": batch.num_images,
    }


def test_the_good_one_passes(call):
    call(**good())


def without_images(inputs):
    del inputs["pixel_values"], inputs["num_images"]


def one_image_less(inputs):
    inputs["pixel_values"] = inputs["pixel_values"][:, :1]
    inputs["num_images"] = torch.tensor([1, 1])


def one_image_more(inputs):
    inputs["num_images"] = torch.tensor([2, 2])


def uncounted_padding(inputs):
    del inputs["num_images"]


def counts_past_the_slots(inputs):
    inputs["num_images"] = torch.tensor([2, 3])


def counts_of_another_batch(inputs):
    inputs["num_images"] = torch.tensor([2, 1, 0])


def pixels_of_another_batch(inputs):
    inputs["pixel_values"] = inputs["pixel_values"][:1]
    inputs["num_images"] = inputs["num_images"][:1]


def images_of_different_sizes(inputs):
    inputs["pixel_values"] = [torch.zeros(3, 16, 16), torch.zeros(3, 20, 16)]


def images_without_frames(inputs):
    inputs["pixel_values"] = inputs["pixel_values"].squeeze(2)


def no_image_at_all(inputs):
    inputs["input_ids"] = inputs["input_ids"].masked_fill(inputs["input_ids"] == IMAGE_ID, 5)
    inputs["pixel_values"] = torch.zeros(2, 0, 1, 3, IMAGE_SIZE, IMAGE_SIZE)


def a_video_without_frames(inputs):
    inputs["num_frames"] = torch.tensor([[1, 0], [1, 0]])


def frames_of_other_images(inputs):
    inputs["num_frames"] = torch.tensor([1, 1])


def a_row_of_padding(inputs):
    inputs["attention_mask"] = inputs["attention_mask"] * torch.tensor([[1], [0]])


def a_short_mask(inputs):
    inputs["attention_mask"] = inputs["attention_mask"][:, 1:]


def past_the_context(inputs):
    inputs["input_ids"] = torch.nn.functional.pad(inputs["input_ids"], (CONTEXT - 8, 0), value=5)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])


def past_the_vocabulary(inputs):
    inputs["input_ids"][0, 0] = VOCABULARY + 2


def a_negative_id(inputs):
    inputs["input_ids"][0, 0] = -100


def no_text(inputs):
    inputs["input_ids"] = inputs["input_ids"][:, :0]


def four_channels(inputs):
    inputs["pixel_values"] = torch.zeros(2, 2, 1, 4, IMAGE_SIZE, IMAGE_SIZE)


def less_than_a_patch(inputs):
    inputs["pixel_values"] = inputs["pixel_values"][..., :4]


def fractions_of_tokens(inputs):
    inputs["input_ids"] = inputs["input_ids"].float()


def keys_of_another_model(inputs):
    without_images(inputs)
    inputs["media_key_values"] = torch.zeros(2, 3, 2, 4, 60)


def keys_of_too_few_images(inputs):
    without_images(inputs)
    inputs["media_key_values"] = torch.zeros(2, 3, 1, 4, 64)


MISTAKES = {
    four_channels: r"images have 4 channels; expected 3",
    less_than_a_patch: r"images are 16 x 4; expected at least a patch, 8",
    fractions_of_tokens: r"input_ids is of type torch.float32; expected integers",
    keys_of_another_model: r"media_key_values has shape \(2, 3, 2, 4, 60\); expected \(2, 3, T, 4, 64\)",
    keys_of_too_few_images: r"the text names 2 images but media_key_values holds 1",
    without_images: r"names \[2, 1\] images a sequence but \[0, 0\] were given",
    one_image_less: r"names \[2, 1\] images a sequence but \[1, 1\] were given",
    one_image_more: r"names \[2, 1\] images a sequence but \[2, 2\] were given",
    uncounted_padding: r"names \[2, 1\] images a sequence but \[2, 2\] were given",
    counts_past_the_slots: r"num_images is \[2, 3\]; expected 0 to 2",
    counts_of_another_batch: r"num_images has shape \(3,\); expected \(2,\)",
    pixels_of_another_batch: r"pixel_values has 1 sequences; expected 2 as input_ids",
    images_of_different_sizes: r"pixel_values is a list of \[\(3, 16, 16\), \(3, 20, 16\)\]; expected one tensor",
    images_without_frames: r"pixel_values has shape \(2, 2, 3, 16, 16\); expected \(B, T, F, C, H, W\)",
    no_image_at_all: r"pixel_values has shape \(2, 0, 1, 3, 16, 16\), which holds nothing",
    a_video_without_frames: r"num_frames is \[\[1, 0\], \[1, 0\]\]; expected 1 to 1",
    frames_of_other_images: r"num_frames has shape \(2,\); expected \(2, 2\), each from 1 to 1",
    a_row_of_padding: r"rows \[1\] of attention_mask are all padding",
    a_short_mask: r"attention_mask has shape \(2, 8\); expected \(2, 9\)",
    past_the_context: r"the text has 13 tokens.*; expected at most 12",
    past_the_vocabulary: r"input_ids has 98; expected ids from 0 to 97",
    a_negative_id: r"input_ids has -100; expected ids from 0 to 97",
    no_text: r"input_ids has shape \(2, 0\); expected \(B, L\) of at least one token",
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_is_named(call, mistake):
    inputs = good()
    mistake(inputs)
    with pytest.raises(ValueError, match=MISTAKES[mistake]):
        call(**inputs)


def test_new_tokens_count_for_the_context_when_they_are_there(model):
    """A limit that is never reached hurts nobody: pipelines ask for 256 tokens of their own accord."""
    with pytest.raises(ValueError, match="the text has grown to 13 tokens; expected at most 12"):
        model.generate(**good(), max_new_tokens=20, pad_token_id=PAD_ID, eos_token_id=None)
    assert model.generate(**good(), max_new_tokens=3, pad_token_id=PAD_ID, eos_token_id=None).shape == (2, 12)


def test_only_the_new_tokens_beside_a_cache(model):
    inputs = good()
    cache = model(**inputs, use_cache=True).past_key_values
    with pytest.raises(ValueError, match="input_ids has 1 tokens with a cache of 9; expected the whole text"):
        model.generate(input_ids=torch.tensor([[5], [6]]), past_key_values=cache, max_new_tokens=1)


def test_a_prompt_read_in_chunks(model):
    with pytest.raises(ValueError, match="prefill_chunk_size is set; expected none"):
        model.generate(**good(), max_new_tokens=1, prefill_chunk_size=3)


def test_labels_of_another_shape(model):
    with pytest.raises(ValueError, match=r"labels has shape \(2, 8\); expected \(2, 9\) as input_ids"):
        model(**good(), labels=good()["input_ids"][:, 1:])


def test_hidden_states_are_passed_on(model):
    assert len(model(**good(), output_hidden_states=True).hidden_states) == 4
    made = model.generate(**good(), max_new_tokens=2, output_hidden_states=True, return_dict_in_generate=True)
    assert len(made.hidden_states) == 2


def test_generate_without_a_text(model):
    with pytest.raises(ValueError, match="input_ids is None"):
        model.generate(max_new_tokens=1)


def test_a_cache_wants_media_ids(model):
    """From the new tokens alone nobody can tell which image they see."""
    inputs = good()
    cache = model(**inputs, use_cache=True).past_key_values
    with pytest.raises(ValueError, match="media_ids is None with a cache"):
        model(input_ids=torch.tensor([[5], [6]]), past_key_values=cache)


def test_a_trainer_s_batch_is_not_looked_at(model, monkeypatch):
    """Looking at values waits for the GPU; such batches were checked where they were made."""
    for check in ("check_text", "check_media", "check_key_values"):
        monkeypatch.setattr(f"flamingo_ds.model.modeling.{check}", None)
    model(**tiny_batch().tensors())
