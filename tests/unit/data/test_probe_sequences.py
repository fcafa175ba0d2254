"""Each other's images, and examples before a pair: token by token, and by property."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_ds.data.probe_sequences import behind_examples, with_shuffled_images
from flamingo_ds.data.sequence import TokenSequence

from .test_sequence import BLUE, BOS, CAT, DOG, EOC, IMG, NO, RED, A, image, reds, rows, sequence_of


def pairs_of(make_rules, **switches):
    rules = make_rules(**switches)
    return [sequence_of(rules, [image(red), text]) for red, text in ((7, "red cat"), (8, "blue"), (9, "a dog"))]


def test_one_shot_by_hand(make_rules):
    first, second, third = behind_examples(pairs_of(make_rules), 1)
    assert rows(second) == [
        (BOS, NO, 0),
        (IMG, NO, 1),
        (RED, NO, 1),
        (CAT, NO, 1),
        (EOC, NO, 1),
        (IMG, NO, 2),
        (BLUE, BLUE, 2),
        (EOC, EOC, 2),
    ]
    assert [reds(sequence) for sequence in (first, second, third)] == [[9, 7], [7, 8], [8, 9]]


def test_two_shots_by_hand(make_rules):
    last = behind_examples(pairs_of(make_rules), 2)[2]
    assert rows(last) == [
        (BOS, NO, 0),
        (IMG, NO, 1),
        (RED, NO, 1),
        (CAT, NO, 1),
        (EOC, NO, 1),
        (IMG, NO, 2),
        (BLUE, NO, 2),
        (EOC, NO, 2),
        (IMG, NO, 3),
        (A, A, 3),
        (DOG, DOG, 3),
        (EOC, EOC, 3),
    ]
    assert reds(last) == [7, 8, 9]


def test_no_shots_are_the_pairs_themselves(make_rules):
    pairs = pairs_of(make_rules)
    assert behind_examples(pairs, 0) == pairs


@pytest.mark.parametrize("shots", [1, 2])
def test_what_is_predicted_is_the_same_for_every_number_of_shots(make_rules, shots):
    pairs = pairs_of(make_rules)
    for pair, behind in zip(pairs, behind_examples(pairs, shots), strict=True):
        assert [label for label in behind.labels if label != NO] == [label for label in pair.labels if label != NO]
        assert len(behind.media) == shots + 1
        assert behind.media[-1] is pair.media[0]


def test_texts_that_belong_to_the_image_after_them_keep_it(make_rules):
    """With ``p_next`` the text of a pair stands behind its only image and belongs to none."""
    _, second, _ = behind_examples(pairs_of(make_rules, p_next=1.0), 1)
    assert second.media_ids == [1, 1, 0, 0, 0, 2, 0, 0]


def test_shuffled_images_by_hand():
    sequences = [TokenSequence(media=list(media)) for media in ("a", "bc", "d", "ef")]
    assert [sequence.media for sequence in with_shuffled_images(sequences)] == [["d"], ["e", "f"], ["a"], ["b", "c"]]
    assert [sequence.media for sequence in sequences] == [["a"], ["b", "c"], ["d"], ["e", "f"]]


def test_text_stays_where_it_is(make_rules):
    pairs = pairs_of(make_rules)
    shuffled = with_shuffled_images(pairs)
    assert [rows(sequence) for sequence in shuffled] == [rows(sequence) for sequence in pairs]
    assert [reds(sequence) for sequence in shuffled] == [[8], [9], [7]]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30))
def test_no_sequence_ever_keeps_an_image_of_its_own(counts):
    sequences = [
        TokenSequence(media=[(number, place) for place in range(count)]) for number, count in enumerate(counts)
    ]
    if 2 * max(counts) > sum(counts):  # then no order can do it
        with pytest.raises(ValueError, match=f"a sequence has {max(counts)} of all {sum(counts)} images"):
            with_shuffled_images(sequences)
        return
    shuffled = with_shuffled_images(sequences)
    assert [len(sequence.media) for sequence in shuffled] == counts
    assert all(owner != number for number, sequence in enumerate(shuffled) for owner, _ in sequence.media)
    given_out = [image for sequence in shuffled for image in sequence.media]
    assert sorted(given_out) == [image for sequence in sequences for image in sequence.media]
