import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_ds.model.media_mask import media_ids_from, media_view

IMAGE = 9


def drawn(text: str) -> torch.Tensor:
    """Rows of ``x`` and ``.`` to a bool mask."""
    return torch.tensor([[mark == "x" for mark in line.split()] for line in text.strip().splitlines()])


def seen_by(view, length: int, num_media: int, latents: int) -> torch.Tensor:
    """(B, L, T R) bool: what a view lets tokens look at, whichever its form."""
    sees = view.sees.view(-1, length, 1)
    if view.mask is not None:
        return view.mask[:, 0] & sees
    mask = torch.zeros(sees.numel(), num_media * latents, dtype=torch.bool)
    image_of_result = view.by_image.images.repeat_interleave(view.by_image.tokens.shape[1])
    for token in sees.flatten().nonzero().flatten().tolist():
        result = view.by_image.results[token]
        assert view.by_image.tokens.flatten()[result] == token
        image = int(image_of_result[result])
        assert image // num_media == token // length, "an image of another sequence"
        mask[token, image % num_media * latents : (image % num_media + 1) * latents] = True
    return mask.view(*sees.shape[:2], -1)


def mask_of(ids: torch.Tensor, num_media: int, latents: int, rule: str = "last", by_image: bool = True):
    return seen_by(media_view(ids, num_media, latents, rule, by_image), ids.shape[1], num_media, latents)


def test_media_ids_count_the_images_up_to_each_token():
    ids = torch.tensor([[1, IMAGE, 2, 3, IMAGE, 4], [IMAGE, IMAGE, 1, 1, 1, 1], [1, 2, 3, 4, 5, 6]])
    wanted = [[0, 1, 1, 1, 2, 2], [1, 2, 2, 2, 2, 2], [0, 0, 0, 0, 0, 0]]
    assert media_ids_from(ids, IMAGE).tolist() == wanted


def test_the_next_rule_gives_text_to_the_image_behind_it():
    ids = torch.tensor([[1, IMAGE, 2, 3, IMAGE, 4], [IMAGE, IMAGE, 1, 1, 1, 1], [1, 2, 3, 4, 5, 6]])
    wanted = [[1, 1, 2, 2, 2, 0], [1, 2, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]
    assert media_ids_from(ids, IMAGE, "next").tolist() == wanted


both_forms = pytest.mark.parametrize("by_image", [True, False], ids=["by image", "dense"])


@both_forms
def test_a_token_sees_the_last_image_before_it(by_image):
    mask = mask_of(torch.tensor([[0, 1, 1, 1, 2, 2]]), 2, 3, by_image=by_image)
    wanted = drawn("""
        . . . . . .
        x x x . . .
        x x x . . .
        x x x . . .
        . . . x x x
        . . . x x x
    """)
    assert torch.equal(mask[0], wanted)


@both_forms
def test_padded_image_slots_are_seen_by_nobody(by_image):
    mask = mask_of(torch.tensor([[0, 1, 1]]), 3, 2, by_image=by_image)
    wanted = drawn("""
        . . . . . .
        x x . . . .
        x x . . . .
    """)
    assert torch.equal(mask[0], wanted)


def test_all_previous_images_in_the_ablation():
    mask = mask_of(torch.tensor([[0, 1, 2]]), 3, 2, "all_previous")
    wanted = drawn("""
        . . . . . .
        x x . . . .
        x x x x . .
    """)
    assert torch.equal(mask[0], wanted)


@both_forms
def test_an_image_that_was_not_given_is_none(by_image):
    """And not the first image of the next sequence."""
    mask = mask_of(torch.tensor([[1, 3], [1, 1]]), 2, 1, by_image=by_image)
    assert mask.tolist() == [[[True, False], [False, False]], [[True, False], [True, False]]]


def test_by_image_holds_no_padding():
    """Of three slots a sequence, the five images that someone sees, each with its tokens."""
    ids = torch.tensor([[0, 1, 1, 1, 2, 2], [1, 2, 3, 3, 3, 3]])
    view = media_view(ids, 3, 4)
    assert view.by_image.images.tolist() == [0, 1, 3, 4, 5]
    assert view.by_image.tokens.shape == (5, 4)
    assert [row[:n].tolist() for row, n in zip(view.by_image.tokens, [3, 2, 1, 1, 4], strict=True)] == [
        [1, 2, 3],
        [4, 5],
        [6],
        [7],
        [8, 9, 10, 11],
    ]


def test_with_no_image_in_sight_one_is_still_looked_at():
    view = media_view(torch.zeros(2, 3, dtype=torch.long), 2, 4)
    assert view.by_image.images.tolist() == [0]
    assert not view.sees.any()


def slow_mask(tokens: list[int], num_media: int, latents: int) -> torch.Tensor:
    """The paper's sentence, one token at a time: walk back from a token to the first image met."""
    images = [position for position, token in enumerate(tokens) if token == IMAGE]
    mask = torch.zeros(len(tokens), num_media * latents, dtype=torch.bool)
    for position in range(len(tokens)):
        for back in range(position, -1, -1):
            if tokens[back] == IMAGE:
                image = images.index(back)
                mask[position, image * latents : (image + 1) * latents] = True
                break
    return mask


@given(
    tokens=st.lists(st.sampled_from([1, 2, IMAGE]), min_size=1, max_size=12),
    spare=st.integers(0, 2),
    latents=st.integers(1, 3),
    by_image=st.booleans(),
)
def test_mask_is_the_slow_one(tokens, spare, latents, by_image):
    num_media = tokens.count(IMAGE) + spare
    mask = mask_of(media_ids_from(torch.tensor([tokens]), IMAGE), num_media, latents, by_image=by_image)
    assert torch.equal(mask[0], slow_mask(tokens, num_media, latents))


@given(st.lists(st.lists(st.integers(0, 4), min_size=5, max_size=5), min_size=1, max_size=3))
def test_by_image_is_the_dense_mask_for_any_ids(rows):
    """Also ids in no order, as a caller may give."""
    ids = torch.tensor(rows)
    assert torch.equal(mask_of(ids, 3, 2), mask_of(ids, 3, 2, by_image=False))
