"""Token by token: input_ids, labels and media_ids of hand-written documents."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_ds.data.bad_samples import BadSample
from flamingo_ds.data.documents import Document
from flamingo_ds.data.pictures import Picture
from flamingo_ds.data.sequence import SequenceRules, TokenSequence

from .conftest import VOCABULARY, tokenizer_of
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


# The texts of these pages belong to the image behind them (p_next), not before.
def test_a_text_before_its_image(make_rules):
    sequence = sequence_of(make_rules(p_next=1.0), ["red cat", image(7), "dog", image(9), "a"])
    assert rows(sequence) == [
        (BOS, NO, 1),
        (RED, RED, 1),
        (CAT, CAT, 1),
        (EOC, EOC, 1),
        (IMG, NO, 1),
        (DOG, DOG, 2),
        (EOC, EOC, 2),
        (IMG, NO, 2),
        (A, A, 0),
        (EOC, EOC, 0),
    ]
    assert reds(sequence) == [7, 9]


def test_p_next_is_drawn_for_each_page(make_rules):
    rules = make_rules(p_next=0.5)
    owners = [sequence_of(rules, ["red", image(7)], seed).media_ids[1] for seed in range(1000)]
    assert 450 < sum(owners) < 550


def test_each_eoc_is_a_switch(make_rules):
    page = [image(7), "red", image(9), "cat"]
    ids = {
        (before, at_end): sequence_of(make_rules(eoc_before_image=before, eoc_at_end=at_end), page).input_ids
        for before in (True, False)
        for at_end in (True, False)
    }
    assert ids == {
        (True, True): [BOS, IMG, RED, EOC, IMG, CAT, EOC],
        (True, False): [BOS, IMG, RED, EOC, IMG, CAT],
        (False, True): [BOS, IMG, RED, IMG, CAT, EOC],
        (False, False): [BOS, IMG, RED, IMG, CAT],
    }


def test_a_leading_space_is_drawn_for_each_caption(make_rules, monkeypatch):
    rules = make_rules(leading_space=0.5)
    texts = []
    monkeypatch.setattr(type(rules), "_encode", lambda self, text: texts.append(text) or [A])
    for seed in range(1000):
        sequence_of(rules, [image(7), "cat"], seed)
    assert set(texts) == {"cat", " cat"}
    assert 450 < texts.count(" cat") < 550


def test_texts_in_a_row_are_joined(make_rules, monkeypatch):
    rules, texts = make_rules(), []
    monkeypatch.setattr(type(rules), "_encode", lambda self, text: texts.append(text) or [A])
    sequence_of(rules, ["red", "cat", image(7), "dog", "a"], joint="\n\n")
    assert texts == ["red\n\ncat", "dog\n\na"]


# 12 tokens behind <bos>: red <EOC> <image> cat dog <EOC> <image> a <EOC> <image> blue <EOC>
LONG = ["red", image(1), "cat dog", image(2), "a", image(3), "blue"]


def test_windows_by_hand(make_rules):
    rules = make_rules(max_tokens=5, random_window=True)
    seen = {tuple(rows(sequence)): reds(sequence) for sequence in (sequence_of(rules, LONG, s) for s in range(300))}
    body = [RED, EOC, IMG, CAT, DOG, EOC, IMG, A, EOC, IMG, BLUE, EOC]
    owner = [0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    expected = {}
    for start in range(9):
        ids, owners = body[start : start + 4], owner[start : start + 4]
        before = body[:start].count(IMG)
        window = [(BOS, NO, 0)]
        for token, media in zip(ids, owners, strict=True):
            window.append((token, NO if token == IMG else token, max(0, media - before)))
        expected[tuple(window)] = [1, 2, 3][before : before + ids.count(IMG)]
    assert len(expected) == 9
    assert seen == expected


def test_a_window_holds_an_image_wherever_it_stands(make_rules):
    rules = make_rules(max_tokens=6, random_window=True)
    page = ["red " * 100, image(1), "cat " * 100]
    windows = [sequence_of(rules, page, seed) for seed in range(200)]
    assert {window.input_ids.count(IMG) for window in windows} == {1}
    assert {window.input_ids.index(IMG) for window in windows} == {1, 2, 3, 4, 5}


def test_a_window_counts_its_own_images_alone(make_rules):
    rules = make_rules(max_tokens=8, max_images=1, random_window=True)
    for seed in range(50):
        sequence = sequence_of(rules, LONG, seed)
        assert len(sequence.media) == 1
        assert set(sequence.media_ids) <= {0, 1}


parts = st.lists(
    st.one_of(st.sampled_from(["a", "red cat", "dog " * 9]), st.integers(1, 255).map(image)), min_size=1, max_size=12
)


@settings(max_examples=200, deadline=None)
@given(
    parts=parts,
    max_tokens=st.integers(2, 30),
    max_images=st.integers(1, 4),
    p_next=st.sampled_from([0.0, 0.5, 1.0]),
    eoc=st.tuples(st.booleans(), st.booleans()),
    seed=st.integers(0, 99),
)
def test_every_window_is_a_part_of_its_page(parts, max_tokens, max_images, p_next, eoc, seed):
    tokenizer = tokenizer_of("<s> $A", True)
    switches = {"p_next": p_next, "eoc_before_image": eoc[0], "eoc_at_end": eoc[1]}
    page = SequenceRules(tokenizer, IMG, EOC, 10**6, 10**6, **switches)
    rules = SequenceRules(tokenizer, IMG, EOC, max_tokens, max_images, random_window=True, **switches)
    try:
        whole, window = sequence_of(page, parts, seed), sequence_of(rules, parts, seed)
    except BadSample:
        return
    length = len(window.input_ids)
    assert 2 <= length <= max_tokens
    body, ids = whole.input_ids[1:], window.input_ids[1:]
    places = [start for start in range(len(body)) if body[start : start + length - 1] == ids]
    assert places
    assert window.input_ids.count(IMG) == len(window.media) <= max_images
    if whole.media:
        assert window.media
    # Its images come in the page's order, one behind the other.
    assert any(whole.media[start : start + len(window.media)] == window.media for start in range(len(whole.media) + 1))
    for token, label, owner in rows(window):
        assert label == (token if label != NO else NO)
        assert 0 <= owner <= len(window.media)
    owners = [owner for _, _, owner in rows(window) if owner]
    assert owners == sorted(owners)
    assert [owner for token, _, owner in rows(window) if token == IMG] == list(range(1, len(window.media) + 1))
