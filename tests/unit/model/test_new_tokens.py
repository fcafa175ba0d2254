import copy

import pytest
import torch

from flamingo_ds.model import FlamingoForConditionalGeneration
from flamingo_ds.model.new_tokens import splice
from tests.tiny import FAMILIES, IMAGE_ID, VOCABULARY, tiny_batch, tiny_flamingo, tiny_text_config

# (head tied to the embedding, rows of the LM's matrix, first new id): with 112 rows the LM's matrix is padded past its
# tokenizer and the new tokens stand in for padding rows; with 97 rows one of them does and one reaches past the end.
LAYOUTS = [(tied, rows) for tied in (False, True) for rows in (VOCABULARY, VOCABULARY + 1, 112)]


@pytest.fixture(params=LAYOUTS, ids=lambda layout: f"{'tied' if layout[0] else 'untied'}-{layout[1]}")
def model(request):
    tied, rows = request.param
    return tiny_flamingo(tiny_text_config(tie_word_embeddings=tied, vocab_size=rows))


def matrices(model):
    lm = model.language_model
    return [lm.get_input_embeddings().weight, lm.get_output_embeddings().weight]


def is_tied(model):
    return matrices(model)[0] is matrices(model)[1]


def test_new_rows_train_and_the_lm_s_stay_bit_for_bit(model):
    lm_before = {name: p.detach().clone() for name, p in model.language_model.named_parameters()}
    new_before = [model.new_token_embedding.weight.detach().clone(), model.new_token_head.weight.detach().clone()]
    # The paper's weight decay too: it moves what has no gradient.
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    model.train()(**tiny_batch().tensors()).loss.backward()
    optimizer.step()
    for name, parameter in model.language_model.named_parameters():
        assert torch.equal(parameter, lm_before[name]), name
    for new, old in zip((model.new_token_embedding.weight, model.new_token_head.weight), new_before, strict=True):
        assert (new != old).any(1).all()
    assert (model.new_token_head.weight is model.new_token_embedding.weight) == is_tied(model)


@torch.no_grad()
def test_new_tokens_reach_the_logits_and_come_from_the_embedding(model):
    batch = tiny_batch()
    before = model(**batch.tensors()).logits
    assert before.shape[-1] == model.config.vocab_size == max(matrices(model)[0].shape[0], VOCABULARY + 2)
    if not is_tied(model):
        # Tied, its new row is also a column of the logits, which may well change everywhere.
        model.new_token_embedding.weight[IMAGE_ID - VOCABULARY] += 1.0
        after = model(**batch.tensors()).logits
        start = int((batch.input_ids[0] == IMAGE_ID).nonzero()[0])
        assert torch.equal(before[0, :start], after[0, :start])
        assert not torch.equal(before[0, start], after[0, start])
        before = after
    model.new_token_head.weight[0] *= 2.0
    after = model(**batch.tensors()).logits
    if not is_tied(model):
        # Twice a row is exactly twice its logit: a power of two rounds nothing.
        assert torch.equal(after[..., VOCABULARY], 2 * before[..., VOCABULARY])
        others = torch.arange(before.shape[-1]) != VOCABULARY
        assert torch.equal(after[..., others], before[..., others])


@torch.no_grad()
def test_merged_logits_and_a_reload_are_the_same(model, tmp_path):
    batch, tied = tiny_batch().tensors(), is_tied(model)
    before = model(**batch)
    model.merge_new_tokens()
    merged = model(**batch)
    assert merged.logits.shape == before.logits.shape
    # A product with more columns may order its sums otherwise: fp32 rounding of 32 terms, logits of order 5.
    assert torch.allclose(merged.logits, before.logits, rtol=1e-6, atol=1e-5)
    assert torch.allclose(merged.loss, before.loss, rtol=1e-6, atol=0)
    assert not any(name.startswith("new_token") for name, _ in model.named_parameters())

    model.save_pretrained(tmp_path)
    loaded = FlamingoForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert torch.equal(loaded(**batch).logits, merged.logits)
    assert loaded.config.num_new_tokens == 0
    assert is_tied(loaded) == is_tied(model) == tied
    if not tied:
        assert not torch.equal(*matrices(loaded))


@torch.no_grad()
def test_an_unmerged_model_reloads_too(model, tmp_path):
    batch = tiny_batch().tensors()
    model.save_pretrained(tmp_path)
    loaded = FlamingoForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    assert (loaded.new_token_head.weight is loaded.new_token_embedding.weight) == is_tied(loaded) == is_tied(model)


@torch.no_grad()
def test_a_head_with_bias_merges():
    """GPT-J's head has one; new rows get a bias of 0, which is what they have now."""
    model = tiny_flamingo(tiny_text_config("gptj"))
    torch.nn.init.normal_(model.language_model.lm_head.bias)
    batch = tiny_batch().tensors()
    before = model(**batch).logits
    model.merge_new_tokens()
    assert model.language_model.lm_head.bias[VOCABULARY:].tolist() == [0.0, 0.0]
    # As above.
    assert torch.allclose(model(**batch).logits, before, rtol=1e-6, atol=1e-5)


@torch.no_grad()
def test_merging_twice_is_merging_once():
    model = tiny_flamingo()
    model.merge_new_tokens()
    once = copy.deepcopy(model.state_dict())
    model.merge_new_tokens()
    assert all(torch.equal(tensor, once[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("first", "wanted"), [(0, [10, 11, 2, 3]), (1, [0, 10, 11, 3]), (3, [0, 1, 2, 10, 11]), (4, [0, 1, 2, 3, 10, 11])]
)
def test_splice(first, wanted):
    assert splice(torch.arange(4), torch.tensor([10, 11]), first, dim=0).tolist() == wanted


def test_a_frozen_matrix_stays_frozen():
    model = tiny_flamingo()
    model.merge_new_tokens()
    assert not any(parameter.requires_grad for parameter in model.language_model.parameters())


@torch.no_grad()
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_merging_changes_no_family_s_logits(family):
    """Gemma scales what it embeds: the new rows too, before and after."""
    model, inputs = tiny_flamingo(tiny_text_config(family)), tiny_batch().tensors()
    before = model(**inputs).logits
    model.merge_new_tokens()
    # One product over all rows or two over parts of them: fp32 rounding, logits of order 5.
    assert torch.allclose(model(**inputs).logits, before, rtol=0, atol=1e-4)
