"""Close-ended answers: the log-likelihood of every option behind one prompt (paper, appendix B.1).

Of an option its tokens are summed, ``<EOC>`` with them, and not divided by their number. Without ``<EOC>`` an option
that begins another ("cat", "cat house") would always win over it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

# Of one forward pass over options, padding with them: their logits are (tokens, V) in float32.
TOKENS_AT_ONCE = 512


@dataclass(frozen=True)
class OptionTokens:
    """One prompt with its options, as ids.

    Attributes:
        prompt: what all have in common, at least one token.
        rows: what follows it, each at least one token.
    """

    prompt: list[int]
    rows: list[list[int]]


def join_options(prompt: list[int], tail: list[int], rows: Sequence[list[int]]) -> OptionTokens:
    """Options behind a prompt as if each whole text had been tokenised.

    A tokenizer may join the prompt's last letters with an answer's first: such tokens go from the prompt to the rows.

    Args:
        prompt: ids of the whole prompt.
        tail: those at its end that make one text with the answer.
        rows: ids of that text with each answer, and of what ends it.
    """
    assert prompt[len(prompt) - len(tail) :] == tail, "the tail is the prompt's"
    shared = min(_common(tail, row) for row in rows)
    return OptionTokens(prompt[: len(prompt) - len(tail) + shared], [row[shared:] for row in rows])


def sum_log_likelihoods(
    first: torch.Tensor, rows: Sequence[Sequence[int]], go_on: Callable[[torch.Tensor], torch.Tensor]
) -> list[float]:
    """Of every row.

    Args:
        first: (V,) logits behind the prompt.
        rows: ids of each option.
        go_on: (O, l) ids behind the prompt, padded on the right, to their logits (O, l, V).
    """
    begun = first.float().log_softmax(-1)
    sums = [float(begun[row[0]]) for row in rows]
    for numbers in _batches(rows):
        inputs, targets = _padded([rows[number] for number in numbers], first.device)
        logits = go_on(inputs)
        found = logits.float().log_softmax(-1).gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        more = found.double().masked_fill(targets < 0, 0.0).sum(-1)
        for number, value in zip(numbers, more.tolist(), strict=True):
            sums[number] += value
    return sums


def _batches(rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Numbers of rows of about one length; those of a single token are known from the prompt's logits alone."""
    longer = sorted((number for number, row in enumerate(rows) if len(row) > 1), key=lambda number: len(rows[number]))
    batch: list[int] = []
    for number in longer:
        if batch and (len(batch) + 1) * (len(rows[number]) - 1) > TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (O, l), and what each predicts (O, l), -1 for nothing."""
    length = max(map(len, rows)) - 1
    inputs = torch.zeros(len(rows), length, dtype=torch.long)
    targets = torch.full((len(rows), length), -1)
    for place, row in enumerate(rows):
        inputs[place, : len(row) - 1] = torch.tensor(row[:-1])
        targets[place, : len(row) - 1] = torch.tensor(row[1:])
    return inputs.to(device), targets.to(device)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    shortest = min(len(one), len(other) - 1)
    return next((place for place in range(shortest) if one[place] != other[place]), shortest)
