"""Token by token: input_ids, labels and media_ids of hand-written documents."""

import random

import pytest

from flamingo_ds.data.bad_samples import BadSample
from flamingo_ds.data.documents import Document
from flamingo_ds.data.pictures import Picture
from flamingo_ds.data.sequence import TokenSequence

from .conftest import VOCABULARY
from .making import picture

BOS, UNK = VOCABULARY["<s>"], VOCABULARY["<unk>"]
A, RED, BLUE, CAT, DOG = (VOCABULARY[word] for word in ("a", "red", "blue", "cat", "dog"))
LESS, GREATER, IMAGE_WORD, EOC_WORD = (VOCABULARY[word] for word in ("<", ">", "image", "EOC"))
IMG, EOC = len(VOCABULARY), len(VOCABULARY) + 1
NO = -100


def image(red: int) -> Picture:
    return Picture(picture(red))


def sequence_of(rules, parts, seed=0, joint=" "):
    return rules(Document(parts, joint), random.Random(seed))


def rows(sequence: TokenSequence) -> list[tuple[int, int, int]]:
    return list(zip(sequence.input_ids, sequence.labels, sequence.media_ids, strict=True))


def reds(sequence: TokenSequence) -> list[int]:
    """Which images the sequence has, and in which order."""
    return [int(media.decode()[0, 0, 0]) for media in sequence.media]


def test_a_pair(make_rules):
    sequence = sequence_of(make_rules(), [image(7), "a red cat"])
    assert rows(sequence) == [(BOS, NO, 0), (IMG, NO, 1), (A, A, 1), (RED, RED, 1), (CAT, CAT, 1), (EOC, EOC, 1)]
    assert reds(sequence) == [7]


def test_a_page_closes_each_text_before_the_next_image(make_rules):
    sequence = sequence_of(make_rules(), [image(7), "red cat", image(9), "dog"])
    assert rows(sequence) == [
        (BOS, NO, 0),
        (IMG, NO, 1),
        (RED, RED, 1),
        (CAT, CAT, 1),
        (EOC, EOC, 1),
        (IMG, NO, 2),
        (DOG, DOG, 2),
        (EOC, EOC, 2),
    ]
    assert reds(sequence) == [7, 9]


def test_text_before_the_first_image_is_learnt_and_sees_no_image(make_rules):
    sequence = sequence_of(make_rules(), ["red", image(7), "cat"])
    assert rows(sequence) == [
        (BOS, NO, 0),
        (RED, RED, 0),
        (EOC, EOC, 0),
        (IMG, NO, 1),
        (CAT, CAT, 1),
        (EOC, EOC, 1),
    ]


def test_paragraphs_in_a_row_belong_to_one_image(make_rules):
    sequence = sequence_of(make_rules(), [image(7), "red", "cat"])
    assert rows(sequence) == [(BOS, NO, 0), (IMG, NO, 1), (RED, RED, 1), (CAT, CAT, 1), (EOC, EOC, 1)]


def test_images_in_a_row_each_end_their_empty_text(make_rules):
    sequence = sequence_of(make_rules(), [image(7), image(9), "cat"])
    assert rows(sequence) == [(BOS, NO, 0), (IMG, NO, 1), (EOC, EOC, 1), (IMG, NO, 2), (CAT, CAT, 2), (EOC, EOC, 2)]
    assert reds(sequence) == [7, 9]


@pytest.mark.parametrize(("template", "before"), [("$A", []), ("$A </s>", []), ("<s> $A </s>", [(BOS, NO, 0)])])
def test_what_the_tokenizer_puts_before_a_text_is_kept_and_what_it_puts_behind_is_not(make_rules, template, before):
    sequence = sequence_of(make_rules(template=template), [image(7), "cat"])
    assert rows(sequence) == [*before, (IMG, NO, 1), (CAT, CAT, 1), (EOC, EOC, 1)]


def test_special_tokens_written_in_a_text_stay_text(make_rules):
    sequence = sequence_of(make_rules(), [image(7), "a <image> cat <EOC> <s>"])
    assert sequence.input_ids == [
        *(BOS, IMG, A),
        *(LESS, IMAGE_WORD, GREATER),
        CAT,
        *(LESS, EOC_WORD, GREATER),
        *(LESS, UNK, GREATER),
        EOC,
    ]
    assert sequence.labels == [NO, NO, *sequence.input_ids[2:]]
    assert sequence.media_ids == [0] + [1] * (len(sequence.input_ids) - 1)


def test_the_tokenizer_would_make_them_special_by_itself(make_rules):
    # Else the test above would prove nothing.
    rules = make_rules()
    assert rules.tokenizer("a <image> <EOC>", add_special_tokens=False)["input_ids"] == [A, IMG, EOC]


def test_encoding_a_sample_leaves_the_tokenizer_able_to_read_prompts(make_rules):
    # split_special_tokens is a switch inside the tokenizer, which prompts of an evaluation share.
    rules = make_rules()
    sequence_of(rules, [image(7), "a cat"])
    assert rules.tokenizer("<image>a<EOC>")["input_ids"] == [BOS, IMG, A, EOC]


@pytest.mark.parametrize("text", ["a <image> cat", "a cat <EOC>"])
def test_a_tokenizer_that_cannot_keep_them_text_loses_the_sample(make_rules, text):
    with pytest.raises(BadSample, match="makes a special token of the text"):
        sequence_of(make_rules(special=False), [image(7), text])


def test_a_cut_drops_images_that_lie_behind_it(make_rules):
    document = [image(7), "red cat", image(9), "dog"]
    # Just before the second <image>, and just behind it.
    before, behind = (sequence_of(make_rules(max_tokens=room), document) for room in (5, 6))
    assert rows(before) == [(BOS, NO, 0), (IMG, NO, 1), (RED, RED, 1), (CAT, CAT, 1), (EOC, EOC, 1)]
    assert reds(before) == [7]
    assert rows(behind) == [*rows(before), (IMG, NO, 2)]
    assert reds(behind) == [7, 9]


def test_a_cut_before_the_first_image_leaves_text_alone(make_rules):
    sequence = sequence_of(make_rules(max_tokens=3), ["red cat", image(7), "dog"])
    assert rows(sequence) == [(BOS, NO, 0), (RED, RED, 0), (CAT, CAT, 0)]
    assert sequence.media == []


@pytest.mark.parametrize("max_tokens", range(3, 16))
def test_after_any_cut_images_and_image_tokens_match(make_rules, max_tokens):
    sequence = sequence_of(
        make_rules(max_tokens=max_tokens), ["blue", image(1), "red cat", image(2), image(3), "a dog"]
    )
    assert len(sequence.input_ids) == min(max_tokens, 13)
    assert len(sequence.media) == sequence.input_ids.count(IMG) == max(sequence.media_ids)


def test_the_page_ends_before_one_image_too_many(make_rules):
    sequence = sequence_of(make_rules(max_images=1), [image(7), "red", image(9), "cat"])
    assert rows(sequence) == [(BOS, NO, 0), (IMG, NO, 1), (RED, RED, 1), (EOC, EOC, 1)]
    assert reds(sequence) == [7]


def test_exactly_as_many_images_as_allowed(make_rules):
    assert reds(sequence_of(make_rules(max_images=2), [image(7), "red", image(9), "cat"])) == [7, 9]


def test_a_cut_that_leaves_nothing_to_predict_is_a_bad_sample(make_rules):
    with pytest.raises(BadSample, match="no token to predict within 2 tokens") as caught:
        sequence_of(make_rules(max_tokens=2), [image(7), "cat"])
    assert caught.value.kind == "no_target"


def test_a_first_token_alone_is_no_target(make_rules):
    # Without <bos> the first token has a label, but nothing stands before it to predict it from.
    with pytest.raises(BadSample):
        sequence_of(make_rules(max_tokens=1, template="$A"), ["cat"])
