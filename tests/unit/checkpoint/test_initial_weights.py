"""What a Flamingo starts with depends on the seed and a weight's name, and on nothing else."""

import random

import pytest
import torch

from flamingo_ds.checkpoint.initial_weights import InitialWeights, trained_over
from flamingo_ds.checkpoint.pretrained import TokenIds, build_model, build_processor, describe_model, skeleton
from flamingo_ds.config.schema import GatedCrossAttentionConfig, Library, Style, VisionEncoderConfig, VisionFeatures
from tests.tiny import write_tiny_backbones


@pytest.fixture
def recipe(tmp_path):
    return write_tiny_backbones(tmp_path)


def initial_of(recipe, seed=1):
    """Weights, and the names that may be asked for."""
    bones, _ = skeleton(describe_model(recipe, TokenIds.of(build_processor(recipe))), recipe)
    return InitialWeights(bones, recipe, seed), [name for name, _ in bones.named_parameters()]


def all_of(recipe, seed=1):
    initial, names = initial_of(recipe, seed)
    return {name: initial.read(name).clone() for name in names}


@pytest.mark.parametrize("style", list(Style))
def test_any_order_and_any_part_gives_the_same(recipe, style):
    """A rank of a pipeline asks for its stage's alone, and memory that was used before shows nothing of itself."""
    recipe.style = style
    if style is Style.openflamingo:
        recipe.gated_cross_attention = GatedCrossAttentionConfig(initial_gate=0.5)
    whole = all_of(recipe)
    assert all(tensor.isfinite().all() for tensor in whole.values())
    names = sorted(whole)
    random.Random(0).shuffle(names)
    initial, _ = initial_of(recipe)
    del recipe
    for name in names:
        rubbish = torch.full((64, 64), torch.nan)
        del rubbish
        assert torch.equal(initial.read(name), whole[name]), name


@pytest.mark.parametrize("name", ["gated_cross_attention.2.attention.to_queries.weight", "resampler.latents"])
def test_one_alone(recipe, name):
    whole = all_of(recipe)
    initial, names = initial_of(recipe)
    assert name in names
    assert torch.equal(initial.read(name), whole[name])


def test_blocks_differ_from_one_another_and_by_the_seed(recipe):
    first, other = all_of(recipe, 1), all_of(recipe, 2)
    drawn = [n for n, t in first.items() if t.ndim > 1 and not n.startswith(("language_model.", "vision_model."))]
    assert len(drawn) > 15
    for name in drawn:
        assert not torch.equal(first[name], other[name]), name
        if ".0." in name and name.startswith("gated"):
            assert not torch.equal(first[name], first[name.replace(".0.", ".1.", 1)]), name
    assert all(torch.equal(first[name], other[name]) for name in first if name.startswith(("language", "vision")))


def test_the_process_s_own_generators_notice_nothing(recipe):
    recipe.language_model.from_scratch = True
    torch.manual_seed(9)
    state = all_of(recipe)
    drawn = torch.rand(3)
    torch.manual_seed(9)
    initial, names = initial_of(recipe)
    before = torch.get_rng_state()
    for name in names:
        assert torch.equal(initial.read(name), state[name])
    assert torch.equal(torch.get_rng_state(), before)
    assert drawn.shape == (3,)


def test_what_is_drawn_has_the_model_s_own_distribution(recipe):
    """Latents as large as a normed vector, matrices by their fan-in, gates as the recipe says."""
    state = all_of(recipe)
    assert state["resampler.latents"].std() == pytest.approx(1.0, rel=0.2)
    queries = state["gated_cross_attention.0.attention.to_queries.weight"]
    assert queries.std() == pytest.approx(queries.shape[1] ** -0.5, rel=0.2)
    assert state["gated_cross_attention.0.attention_gate.gate"].item() == 0.5


@pytest.mark.parametrize("tied", [True, False])
def test_new_rows_are_the_mean_word_and_a_little_noise(tmp_path, tied):
    recipe = write_tiny_backbones(tmp_path, tie_word_embeddings=tied)
    state = all_of(recipe)
    pairs = [("new_token_embedding.weight", "language_model.model.embed_tokens.weight")]
    if tied:
        assert "new_token_head.weight" not in state
    else:
        pairs.append(("new_token_head.weight", "language_model.lm_head.weight"))
    for new, known in pairs:
        noise = state[new] - state[known].float().mean(0)
        assert noise.std() == pytest.approx(0.1 * state[known].float().std().item(), rel=0.3)
        assert state[new].shape == (2, 32)


def test_a_model_is_its_initial_weights(recipe):
    state = all_of(recipe, seed=3)
    model = build_model(describe_model(recipe, TokenIds.of(build_processor(recipe))), recipe, 3)
    assert state.keys() == dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, state[name].to(parameter.dtype)), name


def test_a_batch_norm_s_statistics_come_from_the_tower(recipe, tmp_path):
    """In a frozen tower they are as much of the model as its weights; drawn anew, they would be 0 and 1."""
    from transformers import CLIPImageProcessor, TimmWrapperConfig, TimmWrapperModel

    torch.manual_seed(0)
    tower = TimmWrapperModel(TimmWrapperConfig(architecture="test_resnet", do_pooling=False))
    buffers = {name: buffer for name, buffer in tower.named_buffers() if name.endswith("running_mean")}
    assert buffers
    for buffer in buffers.values():
        buffer.normal_()
    tower.save_pretrained(tmp_path / "timm")
    CLIPImageProcessor().save_pretrained(tmp_path / "timm")
    recipe.vision_encoder = VisionEncoderConfig(
        library=Library.transformers, source=str(tmp_path / "timm"), features=VisionFeatures.grid
    )
    recipe.resampler.width = 32
    model = build_model(describe_model(recipe, TokenIds.of(build_processor(recipe))), recipe, 0)
    found = dict(model.vision_model.named_buffers())
    for name, buffer in buffers.items():
        assert torch.equal(found[name], buffer), name


def test_a_checkpoint_s_weights_go_before_the_initial_ones():
    read = trained_over(lambda name: torch.zeros(1), {"trained": torch.ones(1)})
    assert read("trained") == 1
    assert read("frozen") == 0
