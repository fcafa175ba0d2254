"""Several pairs in one sequence: so a batch holds captions, and hardly any padding.

Two captions, L >= 8 and N >= 2; the tokenizer's prefix stands once::

    tokens     <bos> <image>  a  cat <EOC> <image> two dogs <EOC>
    media_ids    0      1     1   1    1      2     2    2    2

A caption's tokens attend to the captions before it, as those of a page do, and to their own image alone.
"""

from dataclasses import dataclass

from .sequence import TokenSequence


@dataclass(frozen=True)
class Packing:
    """How much goes into one sequence.

    Attributes:
        max_tokens: L.
        max_images: N.
    """

    max_tokens: int
    max_images: int

    def fits(self, packed: TokenSequence, other: TokenSequence) -> bool:
        """Whether there is room behind what is packed."""
        tokens = len(packed.input_ids) + len(other.input_ids) - other.prefix
        return tokens <= self.max_tokens and len(packed.media) + len(other.media) <= self.max_images


def join(packed: TokenSequence, other: TokenSequence) -> TokenSequence:
    """Both in one; the prefix of the second is left out."""
    images, behind = len(packed.media), slice(other.prefix, None)
    return TokenSequence(
        input_ids=packed.input_ids + other.input_ids[behind],
        labels=packed.labels + other.labels[behind],
        media_ids=packed.media_ids + [owner + images if owner else 0 for owner in other.media_ids[behind]],
        media=packed.media + other.media,
        prefix=packed.prefix,
        left_out=packed.left_out + other.left_out,
    )
