import pytest
import torch
from PIL import Image

from flamingo_ds.data.bad_samples import BadSample
from flamingo_ds.evaluation.task import Turn
from tests.evaluating import flamingo
from tests.tiny import tiny_image

# Of one token and of many, one the beginning of another, and one of none.
OPTIONS = ["a", "a red", "a red square", "blue circle of a picture", "x", ""]
# Sums of up to ten log-probabilities of order 5 in fp32, whose matrix products have other shapes; measured: 2e-6.
CLOSE = 1e-5


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2", "mpt", "opt"])
def test_options_over_a_shared_cache_are_scored_as_each_with_its_whole_prompt(family, prompts):
    shared, plain = flamingo(family), flamingo(family, shares_cache=False)
    for prompt in prompts:
        found, wanted = (model.log_likelihoods(prompt, OPTIONS) for model in (shared, plain))
        assert max(abs(one - other) for one, other in zip(found, wanted, strict=True)) < CLOSE


@pytest.mark.parametrize("rule", ["next", "all_previous"])
def test_whichever_images_an_answer_sees(rule, prompts):
    shared, plain = flamingo(media_rule=rule), flamingo(media_rule=rule, shares_cache=False)
    found, wanted = (model.log_likelihoods(prompts[0], OPTIONS) for model in (shared, plain))
    assert max(abs(one - other) for one, other in zip(found, wanted, strict=True)) < CLOSE


def test_a_log_likelihood_is_the_sum_over_the_answer_s_tokens_and_its_end(prompts):
    model = flamingo()
    ids = model.reader.ids((*prompts[0][:-1], Turn(prompts[0][-1].media, "Output:", "a red square")))
    begin = len(model.reader.ids(prompts[0]))
    assert ids[-1] == model.reader.config.eoc_token_id
    media = model.media.keys_values([[path for turn in prompts[0] for path in turn.media]])
    with torch.no_grad():
        logits = model.model(torch.tensor([ids]), media_key_values=media).logits[0].log_softmax(-1)
    wanted = sum(float(logits[place - 1, ids[place]]) for place in range(begin, len(ids)))
    assert model.log_likelihoods(prompts[0], ["a red square"])[0] == pytest.approx(wanted, abs=CLOSE)


def test_the_picture_of_the_query_and_those_of_the_examples_count(prompts, pictures):
    model = flamingo()
    before = model.log_likelihoods(prompts[0], OPTIONS)
    query = (*prompts[0][:-1], Turn((pictures[3],), "Output:", None))
    example = (Turn((pictures[3],), "Output:", "a red square"), *prompts[0][1:])
    for other in (query, example):
        changes = [abs(one - new) for one, new in zip(before, model.log_likelihoods(other, OPTIONS), strict=True)]
        assert min(changes) > 1e-3


def test_answers_are_written_side_by_side_as_alone(prompts):
    """Left padding must not be seen; beams must keep their own prompt's pictures."""
    model = flamingo()
    together = model.write(prompts, 6)
    assert together == [model.write([prompt], 6)[0] for prompt in prompts]
    assert len(set(together)) > 1


def test_an_answer_ends_at_the_end_of_its_chunk(prompts):
    model = flamingo()
    eoc = model.reader.config.eoc_token_id
    words = model.reader.processor.tokenizer(" a red square")["input_ids"]
    assert model._decode([*words, eoc, *words]) == "a red square"
    assert model._decode([eoc, *words]) == ""
    # Nothing but the end of a chunk can be written.
    head = model.model.new_token_head
    with torch.no_grad():
        head.weight.zero_()
        model.model.language_model.lm_head.weight.zero_()
    model.model.new_token_head.register_forward_hook(lambda _, args, logits: logits + torch.tensor([0.0, 100.0]))
    assert model.write(prompts, 6) == ["", "", ""]


def test_each_picture_is_encoded_once(prompts):
    model, encoded = flamingo(), []
    model.model.vision_model.register_forward_hook(lambda *call: encoded.append(len(call[2].last_hidden_state)))
    for prompt in prompts:
        model.log_likelihoods(prompt, OPTIONS)
    model.write(prompts, 2)
    assert encoded == [1, 1, 1]


def test_videos_longer_than_in_training_are_answered(tmp_path, prompts):
    """Five frames where three have a learned encoding; frames and their order must be seen."""
    for number in range(5):
        tiny_image(number).save(tmp_path / f"{number}.png")
    model = flamingo()
    video = (*prompts[1][:-1], Turn((tmp_path,), "Output:", None))
    found = model.log_likelihoods(video, OPTIONS)
    assert model.write([video, prompts[0]], 4) == [model.write([video], 4)[0], model.write([prompts[0]], 4)[0]]
    (tmp_path / "0.png").rename(tmp_path / "9.png")
    changes = [abs(one - new) for one, new in zip(found, flamingo().log_likelihoods(video, OPTIONS), strict=True)]
    assert max(changes) > 1e-3  # random encodings are small: 1e-2, where rounding is 1e-6


def test_media_that_cannot_be_read_are_told_by_kind(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    model = flamingo()
    for name, kind in (("broken.png", "unreadable_image"), ("missing.png", "no_image")):
        with pytest.raises(BadSample, match=kind):
            model.write([(Turn((tmp_path / name,), "Output:", None),)], 2)


def test_text_alone_is_answered(prompts):
    model = flamingo()
    bare = (Turn((), "Output:", "a red"), Turn((), "Output:", None))
    assert len(model.log_likelihoods(bare, OPTIONS)) == len(OPTIONS)
    assert model.write([bare, prompts[2]], 4) == [model.write([bare], 4)[0], model.write([prompts[2]], 4)[0]]


def test_lengths_are_those_of_the_tokens(prompts):
    reader = flamingo().reader
    assert reader.count_tokens(prompts[0]) == len(reader.ids(prompts[0]))
    assert reader.text(prompts[1]) == "<image>Output: a<EOC><image>Output:"
    rows = reader.with_options(prompts[0], OPTIONS).rows
    assert reader.longest(OPTIONS) == max(map(len, rows))


def test_features_of_pictures_are_told_apart(pictures):
    encoder = flamingo().encoder()
    images = [Image.open(path) for path in pictures]
    features = encoder.features(images)
    assert features.shape == (4, 32)
    # Alone or among others: fp32 sums in another order.
    assert torch.allclose(features[1:2], encoder.features(images[1:2]), atol=1e-5)
    # Of the vision encoder alone, so that all checkpoints of a run have one index.
    assert encoder.key == flamingo(resampler_depth=1).encoder().key
    assert encoder.key != flamingo(vision_features="post_norm").encoder().key
