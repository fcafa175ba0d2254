"""Captions side by side: token by token, and by property."""

import itertools
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_ds.data.packing import Packing, join
from flamingo_ds.data.sequence import TokenSequence

from .conftest import dataset_of
from .making import pair, picture, write_tar
from .test_sequence import BOS, CAT, DOG, EOC, IMG, NO, RED, A, image, reds, rows, sequence_of


def test_two_captions_by_hand(make_rules):
    rules = make_rules()
    packed = join(sequence_of(rules, [image(7), "red cat"]), sequence_of(rules, [image(9), "a dog"]))
    assert rows(packed) == [
        (BOS, NO, 0),
        (IMG, NO, 1),
        (RED, RED, 1),
        (CAT, CAT, 1),
        (EOC, EOC, 1),
        (IMG, NO, 2),
        (A, A, 2),
        (DOG, DOG, 2),
        (EOC, EOC, 2),
    ]
    assert reds(packed) == [7, 9]


@pytest.mark.parametrize(("tokens", "images", "fits"), [(9, 2, True), (8, 2, False), (9, 1, False)])
def test_what_fits(make_rules, tokens, images, fits):
    one = sequence_of(make_rules(), [image(7), "red cat"])
    assert Packing(tokens, images).fits(one, one) == fits


captions = st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=30).filter(
    lambda many: any(good for _, good in many)
)


@settings(max_examples=60, deadline=None)
@given(captions=captions, tokens=st.integers(15, 40), images=st.integers(2, 6), stop=st.integers(0, 12))
def test_packing_loses_nothing_and_resumes_anywhere(captions, tokens, images, stop):
    """Captions of so many words, some of them bad; the n-th caption says n."""
    with tempfile.TemporaryDirectory() as folder:
        samples = [
            pair(f"{n:03}", " ".join([str(n)] * words) if good else " ", picture(n % 256))
            for n, (words, good) in enumerate(captions)
        ]
        shard = str(write_tar(Path(folder) / "a.tar", [part for sample in samples for part in sample]))

        def dataset():
            switches = {"max_tokens": tokens, "max_images": images}
            return dataset_of(shard, packing=Packing(tokens, images), switches=switches, max_bad_share=1.0)

        running = dataset()
        good = sum(usable for _, usable in captions)
        two_epochs: list[TokenSequence] = []
        while sum(len(sequence.media) for sequence in two_epochs) < 2 * good:
            sequence = next(running)
            assert len(sequence.input_ids) <= tokens
            assert len(sequence.media) <= images
            two_epochs.append(sequence)
            if len(two_epochs) == stop:
                state = json.loads(json.dumps(running.state_dict()))
        heads = [ids[place + 1] for ids in (s.input_ids for s in two_epochs) for place in positions(ids)]
        counts = [heads.count(head) for head in set(heads)]
        assert len(counts) == good
        assert min(counts) >= 1  # what is left of the second epoch may stand in the next sequence
        for before, after in itertools.pairwise(two_epochs):
            first = after.input_ids[: [*positions(after.input_ids)[1:], len(after.input_ids)][0]]
            full = len(before.input_ids) + len(first) - 1 > tokens or len(before.media) == images
            assert full, "a sequence ends only when the next caption does not fit"
        if 0 < stop < len(two_epochs):
            resumed = dataset()
            resumed.load_states([state])
            for sequence in two_epochs[stop:]:
                assert rows(next(resumed)) == rows(sequence)


def positions(ids):
    return [place for place, token in enumerate(ids) if token == IMG]
