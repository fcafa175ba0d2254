import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from flamingo_ds.model import FlamingoForConditionalGeneration
from flamingo_ds.parallel import Filler, parameters_on_meta
from flamingo_ds.parallel.materialize import hold, parameter_slots
from tests.tiny import FAMILIES, tiny_batch, tiny_config, tiny_flamingo, tiny_text_config


class Tied(nn.Module):
    """One matrix under two names, and one of its own."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(3, 2)
        self.head = nn.Linear(2, 3)
        self.head.weight = self.embedding.weight


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_skeleton_has_no_parameters_in_memory_and_the_buffers_of_an_ordinary_build(family):
    """Gemma's embedding scale and rotary frequencies are in no checkpoint: they could not be had back."""
    config = tiny_config(tiny_text_config(family))
    with parameters_on_meta():
        skeleton = FlamingoForConditionalGeneration(config)
    whole = FlamingoForConditionalGeneration(config)
    assert all(parameter.is_meta for parameter in skeleton.parameters())
    assert skeleton.state_dict().keys() == whole.state_dict().keys()
    buffers, wanted = dict(skeleton.named_buffers()), dict(whole.named_buffers())
    assert buffers.keys() == wanted.keys()
    for name, buffer in wanted.items():
        assert torch.equal(buffers[name], buffer), name
        assert buffers[name].dtype == buffer.dtype
    if family == "gemma3_text":
        assert any(name.endswith("embed_scale") for name in buffers)


@torch.no_grad()
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_filled_it_is_the_model(family, tied):
    text = tiny_text_config(family, tie_word_embeddings=tied)
    whole = tiny_flamingo(text).eval()
    with parameters_on_meta():
        skeleton = tiny_flamingo(text).eval()
    asked = []
    state = dict(whole.named_parameters())
    Filler(lambda name: (asked.append(name), state[name])[1]).fill(skeleton)
    assert sorted(asked) == sorted(state)  # a tied weight once
    for model in (whole, skeleton):
        assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied
        assert (model.new_token_head.weight is model.new_token_embedding.weight) == tied
    assert {n: p.requires_grad for n, p in skeleton.named_parameters()} == {
        n: p.requires_grad for n, p in state.items()
    }
    assert torch.equal(skeleton(**tiny_batch().tensors()).logits, whole(**tiny_batch().tensors()).logits)


def test_modules_are_ordinary_again_even_after_an_error():
    usual = nn.Module.register_parameter
    with pytest.raises(RuntimeError, match="within"), parameters_on_meta():
        assert nn.Linear(1, 1).weight.is_meta
        raise RuntimeError("within")
    assert nn.Module.register_parameter is usual
    assert not nn.Linear(1, 1).weight.is_meta


def test_slots_of_tied_weights_and_of_parts():
    model = Tied()
    slots = parameter_slots(model)
    assert slots == {
        "embedding.weight": [(model.embedding, "weight"), (model.head, "weight")],
        "head.bias": [(model.head, "bias")],
    }
    assert list(parameter_slots(model.head, "part.head")) == ["part.head.weight", "part.head.bias"]
    assert list(parameter_slots(nn.ParameterDict({"a": nn.Parameter(torch.ones(1))}))) == ["a"]


def test_a_parameter_is_put_everywhere_where_it_was():
    model = Tied()
    model.embedding.weight.requires_grad_(False)
    slots = parameter_slots(model)
    frozen = hold(slots["embedding.weight"], torch.ones(3, 2))
    assert model.embedding.weight is model.head.weight is frozen
    assert not frozen.requires_grad
    assert hold(slots["head.bias"], torch.ones(3)).requires_grad
    assert [name for name, _ in model.named_parameters()] == ["embedding.weight", "head.bias"]


def test_dtype_and_device_are_the_filler_s():
    like, source = torch.empty(2), torch.ones(2, dtype=torch.float64)
    assert Filler(lambda _: source).tensor("w", like).dtype == torch.float64
    assert Filler(lambda _: source, torch.bfloat16).tensor("w", like).dtype == torch.bfloat16
    counts = torch.ones(2, dtype=torch.int64)
    assert Filler(lambda _: counts, torch.bfloat16).tensor("n", counts).dtype == torch.int64
    assert Filler(lambda _: source, device="meta").tensor("w", like).is_meta


def test_another_shape_is_named():
    with pytest.raises(ValueError, match=r"^a\.b is \(2, 3\) in its source; expected \(3, 2\)$"):
        Filler(lambda _: torch.ones(2, 3)).tensor("a.b", torch.empty(3, 2))


def test_what_it_gives_is_a_copy(tmp_path):
    """A view of a mapped file would change the file's pages, or die with it; one of another weight, that weight."""
    save_file({"w": torch.ones(4)}, tmp_path / "w.safetensors")
    with safe_open(tmp_path / "w.safetensors", framework="pt") as file:
        mapped = file.get_tensor("w")
        filled = Filler(lambda _: mapped).tensor("w", torch.empty(4))
        filled.zero_()
        assert torch.equal(mapped, torch.ones(4))
    half = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    assert Filler(lambda _: half, torch.bfloat16).tensor("w", torch.empty(4)).data_ptr() != half.data_ptr()
    assert not Filler(lambda _: half).tensor("w", torch.empty(4)).requires_grad


def test_a_rank_that_does_not_read_has_nan_until_it_is_sent_the_value():
    """NaN, so that a weight that is never sent shows in the first loss."""
    filler = Filler(lambda name: pytest.fail(f"read {name}"), torch.bfloat16)
    filler.reads = False
    waiting = filler.tensor("w", torch.empty(2, 3))
    assert waiting.isnan().all()
    assert (waiting.shape, waiting.dtype) == ((2, 3), torch.bfloat16)


def test_only_what_is_empty_is_filled():
    model = Tied()
    with parameters_on_meta():
        model.head = nn.Linear(2, 3, bias=False)
    before = model.embedding.weight.detach().clone()
    Filler(lambda name: torch.full((3, 2), {"part.head.weight": 7.0}[name])).fill(model, "part")
    assert torch.equal(model.embedding.weight, before)
    assert (model.head.weight == 7).all()
