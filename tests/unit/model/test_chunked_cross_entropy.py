import pytest
import torch
from torch.nn.functional import cross_entropy, linear

from flamingo_ds.model import chunked_cross_entropy as module
from flamingo_ds.model.chunked_cross_entropy import applies_to, chunked_cross_entropy
from flamingo_ds.model.new_tokens import splice
from tests.tiny import FAMILIES, tiny_batch, tiny_flamingo, tiny_text_config

ROWS, WIDTH, KNOWN, NEW = 11, 8, 20, 3


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Eleven rows make two whole chunks and a rest."""
    monkeypatch.setattr(module, "CHUNK", 4)


def leaf(*shape, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("first", [KNOWN, KNOWN - 1, KNOWN - 5], ids=["behind", "across the end", "within"])
@pytest.mark.parametrize("with_bias", [True, False], ids=["bias", "no bias"])
def test_loss_and_gradients_are_those_of_whole_logits(first, with_bias):
    torch.manual_seed(0)
    tensors = [leaf(ROWS, WIDTH), leaf(KNOWN, WIDTH), leaf(KNOWN) if with_bias else None, leaf(ROWS, NEW)]
    hidden, weight, bias, new = tensors
    size = max(KNOWN, first + NEW)
    targets = torch.arange(ROWS).mul(7).add(first) % size  # known and new ones
    whole = cross_entropy(splice(linear(hidden, weight, bias), new, first, -1), targets, reduction="sum")
    inputs = [tensor for tensor in tensors if tensor is not None]
    wanted = torch.autograd.grad(3 * whole, inputs)
    loss = chunked_cross_entropy(*tensors, first, targets)
    # fp32 sums of eleven losses of order 3 in another order.
    assert torch.allclose(loss, whole, rtol=1e-6, atol=0)
    for one, other in zip(torch.autograd.grad(3 * loss, inputs), wanted, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-5)


def test_without_new_tokens():
    torch.manual_seed(0)
    hidden, weight, targets = leaf(ROWS, WIDTH), leaf(KNOWN, WIDTH), torch.arange(ROWS)
    whole = cross_entropy(hidden @ weight.T, targets, reduction="sum")
    loss = chunked_cross_entropy(hidden, weight, None, None, 0, targets)
    assert torch.allclose(loss, whole, rtol=1e-6, atol=0)


def test_no_rows_at_all():
    """A micro-batch in which nothing is predicted: loss 0, gradients 0 and not None."""
    hidden, new = leaf(0, WIDTH), leaf(0, NEW)
    loss = chunked_cross_entropy(hidden, torch.randn(KNOWN, WIDTH), None, new, KNOWN, torch.zeros(0, dtype=torch.long))
    assert loss.item() == 0
    loss.backward()
    assert hidden.grad.shape == (0, WIDTH)


def test_bf16_rounds_no_more_than_whole_logits():
    torch.manual_seed(0)
    tensors = [leaf(ROWS, WIDTH, dtype=torch.bfloat16), torch.randn(KNOWN, WIDTH, dtype=torch.bfloat16)]
    new, targets = leaf(ROWS, NEW, dtype=torch.bfloat16), torch.arange(ROWS)
    loss = chunked_cross_entropy(*tensors, None, new, KNOWN, targets)
    logits = splice(linear(*tensors), new, KNOWN, -1)
    whole = cross_entropy(logits.float(), targets, reduction="sum")
    assert loss.dtype == torch.float32
    assert torch.allclose(loss, whole, rtol=1e-6, atol=0)  # fp32 from the same bf16 logits on
    for one, other in zip(*(torch.autograd.grad(value, [tensors[0], new]) for value in (loss, whole)), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=2**-7)  # one bf16 rounding of values of order 1


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("merged", [False, True], ids=["new rows", "merged"])
def test_every_family_trains_on_the_loss_of_its_logits(family, merged):
    """The head's own logits are the LM's: nothing is done to them behind it."""
    model = tiny_flamingo(tiny_text_config(family)).train()
    if merged:
        model.merge_new_tokens()
    inputs, results = tiny_batch().tensors(), {}
    for return_logits in (True, False):
        model.zero_grad()
        output = model(**inputs, return_logits=return_logits)
        output.loss.backward()
        assert (output.logits is not None) == return_logits
        grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        results[return_logits] = (output.loss.detach(), grads)
    assert torch.allclose(results[True][0], results[False][0], rtol=1e-6, atol=0)
    assert results[True][1].keys() == results[False][1].keys()
    for name, grad in results[True][1].items():
        # fp32 sums in another order, gradients of order 1.
        assert torch.allclose(grad, results[False][1][name], rtol=1e-4, atol=1e-5), name


def test_in_training_logits_are_not_kept_and_in_evaluation_they_are():
    model, inputs = tiny_flamingo(), tiny_batch().tensors()
    assert model.train()(**inputs).logits is None
    assert model.eval()(**inputs).logits is not None
    del inputs["labels"]
    assert model.train()(**inputs).logits is not None


@pytest.mark.parametrize("training", [True, False])
def test_nothing_to_predict_is_a_loss_of_zero(training):
    model, inputs = tiny_flamingo().train(training), tiny_batch().tensors()
    loss = model(**inputs | {"labels": torch.full_like(inputs["labels"], -100)}).loss
    assert loss.item() == 0
    loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_a_cap_on_the_logits_is_kept():
    model = tiny_flamingo(tiny_text_config("gemma3_text", final_logit_softcapping=2.0)).train()
    assert not applies_to(model.config.text_config)
    inputs = tiny_batch().tensors()
    assert torch.equal(model(**inputs).loss, model(**inputs, return_logits=True).loss)


def test_the_head_is_left_as_it_was_even_after_an_error():
    model = tiny_flamingo().train()
    head = model.language_model.get_output_embeddings()
    with pytest.raises((IndexError, RuntimeError)):
        model(**tiny_batch().tensors() | {"labels": torch.full((2, 9), 500)})
    assert "forward" not in head.__dict__


def test_an_unfrozen_head_trains():
    model = tiny_flamingo().train()
    model.language_model.requires_grad_(True)
    inputs, grads = tiny_batch().tensors(), []
    for return_logits in (True, False):
        model.zero_grad()
        model(**inputs, return_logits=return_logits).loss.backward()
        grads.append(model.language_model.lm_head.weight.grad.clone())
    assert grads[0].abs().sum() > 0
    assert torch.allclose(*grads, rtol=1e-4, atol=1e-6)  # fp32 sums in another order
