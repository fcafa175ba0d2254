"""Stages in a row are the whole model, for every family, and only one stage has each parameter."""

import copy
from dataclasses import replace

import pytest
import torch

from flamingo_ds.model.decoder_blocks import BLOCK_PATHS
from flamingo_ds.parallel.stage import FAMILIES, FlamingoStage, check_family

from ...tiny import tiny_batch, tiny_flamingo, tiny_text_config

CUTS = [(0, 1, 3), (0, 2, 3), (0, 1, 2, 3)]


def in_a_row(
    model: torch.nn.Module, bounds: tuple[int, ...], with_labels: bool = True
) -> tuple[list[FlamingoStage], torch.Tensor]:
    stages = [FlamingoStage(copy.deepcopy(model), bounds, stage) for stage in range(len(bounds) - 1)]
    batch = tiny_batch()
    crossing = tuple((batch if with_labels else replace(batch, labels=batch.labels[:0])).tensors().values())
    for stage in stages:
        stage.train(model.training)
        crossing = stage(crossing)
    return stages, crossing


@pytest.mark.parametrize("bounds", CUTS)
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_stages_in_a_row_are_the_whole_model(family: str, bounds: tuple[int, ...]) -> None:
    model = tiny_flamingo(tiny_text_config(family)).eval()
    batch = tiny_batch()
    with torch.no_grad():
        _, logits = in_a_row(model, bounds, with_labels=False)
        _, loss = in_a_row(model, bounds)
        expected = model(**batch.tensors(), num_items_in_batch=1, return_logits=False)
        expected_logits = model(**batch.tensors()).logits
    # Measured: the same bits; another machine's kernels may take other paths for slices.
    torch.testing.assert_close(logits, expected_logits, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(loss, expected.loss, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("tied", [False, True])
def test_every_parameter_has_one_stage_and_its_gradient(tied: bool) -> None:
    model = tiny_flamingo(tiny_text_config(tie_word_embeddings=tied)).train()
    batch = tiny_batch()
    model(**batch.tensors(), num_items_in_batch=1).loss.backward()
    stages, loss = in_a_row(model, (0, 1, 3))
    loss.backward()
    found: dict[str, torch.Tensor | None] = {}
    for stage in stages:
        for name, parameter in stage.model.named_parameters():
            tied_copy = tied and name in ("new_token_head.weight", "language_model.lm_head.weight")
            assert tied_copy or name not in found, name
            found[name] = parameter.grad
    whole = dict(model.named_parameters())
    assert whole.keys() == found.keys() - {"new_token_head.weight", "language_model.lm_head.weight"} | (
        set() if tied else {"new_token_head.weight", "language_model.lm_head.weight"}
    )
    for name, parameter in whole.items():
        if parameter.grad is not None and not (tied and name.startswith("new_token")):
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-5, atol=1e-6)
    if tied:
        both = found["new_token_embedding.weight"] + found["new_token_head.weight"]
        torch.testing.assert_close(both, whole["new_token_embedding.weight"].grad, rtol=1e-5, atol=1e-6)


def test_later_stages_hold_neither_vision_nor_embedding() -> None:
    stages, _ = in_a_row(tiny_flamingo(), (0, 2, 3))
    tops = [{name.split(".")[0] for name, _ in stage.model.named_parameters()} for stage in stages]
    assert "vision_model" in tops[0]
    assert "new_token_head" not in tops[0]
    assert tops[1] == {"language_model", "gated_cross_attention", "new_token_head"}
    assert not any("embed_tokens" in name for name, _ in stages[1].model.named_parameters())


def test_latents_go_no_further_than_they_are_needed() -> None:
    model = tiny_flamingo(cross_attention_every=3)  # one gated block, before LM block 0
    stages, logits = in_a_row(model, (0, 1, 3), with_labels=False)
    assert not stages[0].media_goes_on
    assert logits.shape[:2] == tiny_batch().input_ids.shape


def test_every_known_family_of_the_model_can_be_cut() -> None:
    assert FAMILIES.keys() == BLOCK_PATHS.keys()


def test_unknown_families_and_capped_logits_are_refused() -> None:
    with pytest.raises(ValueError, match="bloom has not been tried"):
        check_family(tiny_text_config().__class__(model_type="bloom"))
    with pytest.raises(ValueError, match="final_logit_softcapping"):
        check_family(tiny_text_config("gemma3_text", final_logit_softcapping=30.0))


@pytest.mark.parametrize("trains", [True, False])
def test_dropout_is_the_whole_model_s_choice(trains: bool) -> None:
    """An LM of which some block trains drops everywhere; a stage without that block must not be the exception."""
    model = tiny_flamingo()
    if trains:
        model.language_model.model.layers[2].requires_grad_(True)
    whole = copy.deepcopy(model).train()
    for stage in in_a_row(model.train(), (0, 1, 3))[0]:
        assert stage.model.language_model.training == whole.language_model.training == trains
        assert not stage.eval().model.language_model.training


def test_stages_know_of_ties_that_they_do_not_hold() -> None:
    """Process groups for tied weights are made by all ranks or by none."""
    for tied in (False, True):
        stages, _ = in_a_row(tiny_flamingo(tiny_text_config(tie_word_embeddings=tied)), (0, 1, 2, 3))
        assert [stage.has_ties for stage in stages] == [tied] * 3
        assert [len(list(stage.tied_parameters())) for stage in stages] == ([2, 0, 2] if tied else [0, 0, 0])
