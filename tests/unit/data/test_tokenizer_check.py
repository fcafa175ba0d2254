import pytest

from flamingo_ds.config import ConfigError
from flamingo_ds.data.tokenizer_check import check_tokenizer

from .conftest import tokenizer_of


def error_of(tokenizer):
    with pytest.raises(ConfigError) as caught:
        check_tokenizer(tokenizer, "<image>", "<EOC>")
    assert caught.value.key == "model.language_model.source"
    return caught.value.expected


def test_a_good_tokenizer_passes():
    check_tokenizer(tokenizer_of(), "<image>", "<EOC>")


def test_tokens_that_a_text_can_forge_are_refused():
    assert error_of(tokenizer_of(special=False)) == "a tokenizer that can keep the text <image> of a caption a text"


def test_tokens_that_are_not_there_are_refused():
    assert error_of(tokenizer_of(extra=())) == "a tokenizer that knows <image>"
    assert error_of(tokenizer_of(extra=("<image>",))) == "a tokenizer that knows <EOC>"


def test_a_tokenizer_without_padding_is_refused():
    tokenizer = tokenizer_of()
    tokenizer.pad_token = None
    assert error_of(tokenizer) == "a tokenizer with a padding token"


def test_a_token_that_does_not_come_back_is_refused(monkeypatch):
    tokenizer = tokenizer_of()
    monkeypatch.setattr(tokenizer, "decode", lambda ids: "?")
    assert error_of(tokenizer) == "a tokenizer that reads and writes <image> as one token"
