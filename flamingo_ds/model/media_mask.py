"""Which token sees which image (paper, section 2.3).

A token sees the last image before it and nothing else; before the first image it sees none. For the tokens
``a <image> b c <image> d`` of a sequence with T = 2 images::

                a  <image>  b  c  <image>  d
    media_ids   0     1     1  1     2     2      rule last (paper)
    media_ids   1     1     2  2     2     0      rule next (p_next: the text stands before its image)

                     latents of image 1   latents of image 2
    a                     .   .   .            .   .   .
    <image>               x   x   x            .   .   .
    b                     x   x   x            .   .   .
    c                     x   x   x            .   .   .
    <image>               .   .   .            x   x   x
    d                     .   .   .            x   x   x

With the rule all_previous, an ablation, the last two rows would be crosses throughout.
"""

from dataclasses import dataclass

import torch

# Up to this many images a dense mask is as fast (docs/log.md), and it knows no shapes that depend on the data.
DENSE_UP_TO = 2


def media_ids_from(input_ids: torch.Tensor, image_token_id: int, rule: str = "last") -> torch.Tensor:
    """For each token the 1-based index of the image that it belongs to, 0 for none: (B, L) to (B, L).

    Args:
        input_ids: the whole text, with what is already in a cache.
        image_token_id: of ``<image>``.
        rule: ``next`` for the first image at or after the token; else the last at or before it.
    """
    is_image = input_ids == image_token_id
    seen = is_image.cumsum(-1)
    if rule != "next":
        return seen
    ahead = seen + ~is_image
    return ahead.masked_fill(ahead > seen[:, -1:], 0)


@dataclass(frozen=True)
class TokensByImage:
    """The tokens of each image side by side.

    Attributes:
        images: (G,) int64, those that tokens see, as places in the flattened (B T).
        tokens: (G, Q) int64, the tokens of each, as places in the flattened (B L); Q is the most of any image, and
            shorter ones are filled up with some token whose result nobody takes.
        results: (B L,) int64, where in the flattened (G Q) the result of each token is.
    """

    images: torch.Tensor
    tokens: torch.Tensor
    results: torch.Tensor


@dataclass(frozen=True)
class MediaView:
    """What each token of a batch sees: made once a forward pass and read by every gated block.

    It has one of two forms. Dense: a mask over the latents of all images. By image: scores are computed for R latents a
    token and not for R T, of which the mask would drop all but R; and keys and values for images that some token
    sees, for no padding.

    Attributes:
        sees: (B L, 1) bool, whether the token sees any image.
        mask: (B, 1, L, T R) bool in the dense form. A token that sees nothing may look everywhere: a softmax over
            nothing is NaN, and ``sees`` drops its result.
        by_image: the other form.
    """

    sees: torch.Tensor
    mask: torch.Tensor | None = None
    by_image: TokensByImage | None = None


def media_view(
    media_ids: torch.Tensor, num_media: int, latents: int, rule: str = "last", by_image: bool = True
) -> MediaView:
    """The view drawn above.

    Args:
        media_ids: (B, L), 1-based, 0 for none; a number past T is none.
        num_media: T.
        latents: R.
        rule: ``all_previous`` for every image up to the token's.
        by_image: the form by image, where the rule allows it.
    """
    media_ids = media_ids.masked_fill(media_ids > num_media, 0)
    sees = (media_ids > 0).reshape(-1, 1)
    if by_image and rule != "all_previous":
        return MediaView(sees, None, _by_image(media_ids, num_media))
    owner = torch.arange(1, num_media + 1, device=media_ids.device).repeat_interleave(latents)
    ids = media_ids.unsqueeze(-1)
    mask = owner <= ids if rule == "all_previous" else owner == ids
    return MediaView(sees, (mask | (ids == 0)).unsqueeze(1))


def by_image_pays(num_media: int) -> bool:
    """Whether to rearrange tokens by image; measured on a CPU by ``tools/benchmark_model.py``."""
    return num_media > DENSE_UP_TO and not torch.compiler.is_compiling()


def _by_image(media_ids: torch.Tensor, num_media: int) -> TokensByImage:
    batch, device = media_ids.shape[0], media_ids.device
    groups = batch * num_media
    # The image of each token as a place in (B T); tokens without one form a last group of their own.
    place = media_ids - 1 + num_media * torch.arange(batch, device=device).unsqueeze(1)
    place = place.masked_fill(media_ids == 0, groups).flatten()
    order = place.argsort(stable=True)
    counts = torch.bincount(place, minlength=groups + 1)
    starts = counts.cumsum(0) - counts
    counts[groups] = 0
    # With no image in sight one is still looked at, by no token: every rank must run the same layers.
    longest = max(1, int(counts.max()))
    images = counts.nonzero().flatten() if bool(counts.any()) else torch.zeros(1, dtype=torch.long, device=device)
    rank_in_group = torch.empty_like(order)
    rank_in_group[order] = torch.arange(len(order), device=device) - starts[place[order]]
    group_number = torch.zeros(groups + 1, dtype=torch.long, device=device)
    group_number[images] = torch.arange(len(images), device=device)
    results = (group_number[place] * longest + rank_in_group).masked_fill(place == groups, 0)
    tokens = torch.zeros(len(images) * longest, dtype=torch.long, device=device)
    seeing = (place < groups).nonzero().flatten()
    tokens[results[seeing]] = seeing
    return TokensByImage(images, tokens.view(len(images), longest), results)
