import copy

import pytest
import torch
from torch import nn

from flamingo_ds.model.freeze import FreezeRow, apply_freeze_table
from flamingo_ds.parallel import Filler
from flamingo_ds.parallel.shard_frozen import fill_and_shard, frozen_units, hollow
from flamingo_ds.parallel.stage import FlamingoStage
from tests.tiny import FAMILIES, tiny_batch, tiny_flamingo, tiny_text_config


def rows(model, **trains):
    table = [FreezeRow("*", True), FreezeRow("vision_model.*", False), FreezeRow("language_model.*", False)]
    apply_freeze_table(model, [*table, *(FreezeRow(pattern, True) for pattern in trains.values())])
    return model


def test_units_of_a_frozen_model():
    units = frozen_units(tiny_flamingo())
    assert list(units) == [
        "vision_model.encoder.layers.0",
        "vision_model.encoder.layers.1",
        "language_model.model.embed_tokens",
        *(f"language_model.model.layers.{block}" for block in range(3)),
        "language_model.lm_head",
    ]


def test_what_trains_at_all_is_left_whole():
    """A unit of frozen and trained weights would have DeepSpeed step on shards."""
    model = rows(tiny_flamingo(), a="language_model.model.layers.1.mlp.up_proj.weight", b="vision_model.*.layers.0.*")
    left = frozen_units(tiny_flamingo()).keys() - frozen_units(model).keys()
    assert left == {"language_model.model.layers.1", "vision_model.encoder.layers.0"}
    assert "language_model.lm_head" not in frozen_units(rows(tiny_flamingo(), a="language_model.lm_head.*"))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_most_of_every_family_is_in_a_unit_and_nothing_twice(family):
    few = {"gpt2": {"n_positions": 32}, "opt": {"max_position_embeddings": 32}}  # else most of so small a model
    model = tiny_flamingo(tiny_text_config(family, **few.get(family, {})))
    units = frozen_units(model)
    held = [id(parameter) for unit in units.values() for parameter in unit.parameters()]
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert len(held) - tied == len(set(held))
    whole = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    left = {n: p.numel() for n, p in model.named_parameters() if not p.requires_grad and id(p) not in set(held)}
    assert sum(left.values()) < 0.2 * whole
    assert all("norm" in name or "embed" in name or "wpe" in name or "ln_f" in name for name in left)


def test_layers_of_a_convolutional_tower():
    """The innermost lists: a stage of many blocks would be gathered as one."""
    model = tiny_flamingo()
    model.vision_model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)))
    model.vision_model.requires_grad_(False)
    found = [path for path in frozen_units(model) if path.startswith("vision")]
    assert found == ["vision_model.1.0", "vision_model.1.1"]


@pytest.mark.parametrize("tied", [False, True])
def test_each_stage_has_units_of_its_own(tied):
    """A head that is the embedding is there on both ends, and each end's data-parallel group shards its copy."""
    model = tiny_flamingo(tiny_text_config(tie_word_embeddings=tied))
    first, last = (frozen_units(FlamingoStage(copy.deepcopy(model), (0, 1, 3), stage).model) for stage in (0, 1))
    assert list(first)[-2:] == ["language_model.model.embed_tokens", "language_model.model.layers.0"]
    assert list(last) == ["language_model.model.layers.1", "language_model.model.layers.2", "language_model.lm_head"]


@pytest.mark.parametrize("reshard", [True, False])
@pytest.mark.parametrize("family", ["llama", "opt", "mpt", "gemma3_text"])
def test_hollow_then_filled_it_is_the_same_model(alone, family, reshard):
    model = tiny_flamingo(tiny_text_config(family)).eval()
    values = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    aliases = {alias: values[name] for name, alias in _aliases(model)}
    with torch.no_grad():
        expected = model(**tiny_batch().tensors()).logits
    units = frozen_units(model)
    were = hollow(units)
    for unit in units.values():
        assert all(parameter.numel() == 0 and not parameter.requires_grad for parameter in unit.parameters())
    filler = Filler(lambda name: {**values, **aliases}[name], torch.float32, "cpu", alone)
    fill_and_shard(units, were, filler, alone, reshard)
    with torch.no_grad():
        assert torch.equal(model(**tiny_batch().tensors()).logits, expected)


def _aliases(model):
    """(first name, other name) of tied weights."""
    first = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if first.setdefault(id(parameter), name) != name:
            yield first[id(parameter)], name
