import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_ds.model.media_mask import media_ids_from, media_mask

IMAGE = 9


def drawn(text: str) -> torch.Tensor:
    """Rows of ``x`` and ``.`` to a bool mask."""
    return torch.tensor([[mark == "x" for mark in line.split()] for line in text.strip().splitlines()])


def test_media_ids_count_the_images_up_to_each_token():
    ids = torch.tensor([[1, IMAGE, 2, 3, IMAGE, 4], [IMAGE, IMAGE, 1, 1, 1, 1], [1, 2, 3, 4, 5, 6]])
    wanted = [[0, 1, 1, 1, 2, 2], [1, 2, 2, 2, 2, 2], [0, 0, 0, 0, 0, 0]]
    assert media_ids_from(ids, IMAGE).tolist() == wanted


def test_a_token_sees_the_last_image_before_it():
    mask = media_mask(torch.tensor([[0, 1, 1, 1, 2, 2]]), num_media=2, latents_per_media=3)
    wanted = drawn("""
        . . . . . .
        x x x . . .
        x x x . . .
        x x x . . .
        . . . x x x
        . . . x x x
    """)
    assert torch.equal(mask[0], wanted)


def test_padded_image_slots_are_seen_by_nobody():
    mask = media_mask(torch.tensor([[0, 1, 1]]), num_media=3, latents_per_media=2)
    wanted = drawn("""
        . . . . . .
        x x . . . .
        x x . . . .
    """)
    assert torch.equal(mask[0], wanted)


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
)
def test_mask_is_the_slow_one(tokens, spare, latents):
    num_media = tokens.count(IMAGE) + spare
    mask = media_mask(media_ids_from(torch.tensor([tokens]), IMAGE), num_media, latents)
    assert torch.equal(mask[0], slow_mask(tokens, num_media, latents))
