import pytest
import torch

from flamingo_ds.config import ConfigError
from flamingo_ds.evaluation.models import open_model
from flamingo_ds.evaluation.models.chat_reader import ChatReader
from flamingo_ds.evaluation.task import Turn
from tests.tiny import tiny_image, tiny_processor

from .test_flamingo import CLOSE, OPTIONS


@pytest.fixture(scope="module")
def model(llava):
    return open_model(str(llava)).load(None, torch.device("cpu"))


def test_examples_become_turns_of_a_conversation(model, prompts):
    text = "user:<image> Output:assistant: a</s>user:<image> Output:assistant:"
    assert model.reader.text(prompts[1]) == text
    # Four patches a picture where the text has one mark.
    bare = len(model.reader.tokenizer(text)["input_ids"])
    assert model.reader.count_tokens(prompts[1]) == bare + 2 * 3


def test_options_over_a_shared_cache_are_scored_as_each_with_its_whole_prompt(model, prompts):
    for prompt in prompts:
        model.shares_cache = None
        found = model.log_likelihoods(prompt, OPTIONS)
        assert model.shares_cache
        model.shares_cache = False
        wanted = model.log_likelihoods(prompt, OPTIONS)
        assert max(abs(one - other) for one, other in zip(found, wanted, strict=True)) < CLOSE


def test_an_option_is_scored_as_the_template_writes_an_answer(model, prompts):
    answered = (*prompts[1][:-1], Turn(prompts[1][-1].media, "Output:", "a red"))
    text = model.reader.text(answered).removesuffix("assistant:")
    assert text.endswith("assistant: a red</s>")
    ids = model.reader.inputs([prompts[1]])["input_ids"][0].tolist()
    tokens = model.reader.with_options(prompts[1], ids, ["a red", "a"])
    end = model.reader.tokenizer(" a red</s>", add_special_tokens=False)["input_ids"]
    assert (tokens.prompt + tokens.rows[0])[-len(end) :] == end
    assert len(tokens.rows[0]) == len(end)


def test_a_family_that_cannot_go_on_from_a_cache_is_scored_the_plain_way(model, prompts, monkeypatch):
    wanted = model.log_likelihoods(prompts[0], OPTIONS)
    monkeypatch.setattr("flamingo_ds.evaluation.models.chat.can_share", lambda cache: False)
    model.shares_cache = None
    found = model.log_likelihoods(prompts[0], OPTIONS)
    assert model.shares_cache is False
    assert max(abs(one - other) for one, other in zip(found, wanted, strict=True)) < CLOSE


def test_answers_are_written_side_by_side_as_alone(model, prompts):
    assert model.write(prompts, 6) == [model.write([prompt], 6)[0] for prompt in prompts]


def test_pictures_have_features(model):
    features = model.encoder().features([tiny_image(0), tiny_image(1)])
    assert features.shape == (2, 32)
    assert not torch.allclose(features[0], features[1])


def test_what_it_cannot_be_asked(model, tmp_path):
    with pytest.raises(ConfigError, match=r"pictures: .* is shown no videos"):
        model.reader.text((Turn((tmp_path,), "Output:", None),))
    processor = tiny_processor()
    processor.chat_template = None
    with pytest.raises(ConfigError, match=r"MODEL = 'x': expected a processor with a chat template"):
        ChatReader("x", None, processor, "")
