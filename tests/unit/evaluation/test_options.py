import math

import pytest
import torch

from flamingo_ds.evaluation import options
from flamingo_ds.evaluation.options import join_options, sum_log_likelihoods

VOCABULARY = 11


def test_a_token_that_joins_prompt_and_answer_goes_to_the_rows():
    joined = join_options([1, 2, 3, 4], [3, 4], [[3, 4, 5], [3, 7], [3, 4, 6, 5]])
    assert joined.prompt == [1, 2, 3]
    assert joined.rows == [[4, 5], [7], [4, 6, 5]]


def test_each_row_keeps_a_token_to_predict():
    joined = join_options([1, 2, 3], [2, 3], [[2, 3, 9], [2, 3]])
    assert joined.prompt == [1, 2]
    assert joined.rows == [[3, 9], [3]]


def test_what_follows_from_an_empty_tail():
    assert join_options([1, 2], [], [[5, 9], [9]]) == options.OptionTokens([1, 2], [[5, 9], [9]])


def chain(previous):
    """Logits that hang on the token before alone."""
    return torch.stack([torch.arange(VOCABULARY) * 0.1 * (int(token) + 1) for token in previous])


def by_hand(row, first):
    total, logits = 0.0, first
    for token in row:
        total += math.log(math.exp(float(logits[token])) / sum(math.exp(float(value)) for value in logits))
        logits = chain([token])[0]
    return total


@pytest.mark.parametrize("at_once", [1, 3, 512])
def test_sums_over_tokens_in_batches_of_any_size(at_once, monkeypatch):
    monkeypatch.setattr(options, "TOKENS_AT_ONCE", at_once)
    sizes = []

    def go_on(rows):
        sizes.append(rows.numel())
        return torch.stack([chain(row) for row in rows])

    rows = [[1], [1, 2], [1, 2, 3], [4, 10], [10], [3, 3, 3, 3]]
    first = chain([5])[0]
    found = sum_log_likelihoods(first, rows, go_on)
    # fp32 softmax against double; sums of up to four terms of order 3.
    assert found == pytest.approx([by_hand(row, first) for row in rows], abs=1e-5)
    assert max(sizes) <= max(at_once, 3)
    # What begins another is never less likely than it, as long as both end alike: here they do not.
    assert found[0] > found[1] > found[2]
