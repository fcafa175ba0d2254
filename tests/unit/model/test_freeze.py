import pytest
import torch
from torch import nn

from flamingo_ds.config import ModelConfig
from flamingo_ds.config.freeze_presets import freeze_rows
from flamingo_ds.config.schema import FreezePreset
from flamingo_ds.model.freeze import FreezeReport, FreezeRow, apply_freeze_table
from tests.tiny import tiny_batch, tiny_flamingo, tiny_text_config


@pytest.fixture
def module():
    return nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.Linear(4, 5)})


def trainable(module):
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


def test_the_last_row_that_matches_wins(module):
    report = apply_freeze_table(
        module, [FreezeRow("*", False), FreezeRow("b.*", True), FreezeRow("*.bias", False), FreezeRow("a.bias", True)]
    )
    assert trainable(module) == ["a.bias", "b.weight"]
    assert report == [
        FreezeReport("*", trainable=0, frozen=6),
        FreezeReport("b.*", trainable=20, frozen=0),
        FreezeReport("*.bias", trainable=0, frozen=5),
        FreezeReport("a.bias", trainable=3, frozen=0),
    ]


def test_order_decides_and_not_precision(module):
    apply_freeze_table(module, [FreezeRow("a.weight", False), FreezeRow("*", True)])
    assert trainable(module) == ["a.weight", "a.bias", "b.weight", "b.bias"]


def test_a_row_whose_parameters_all_fall_to_later_rows_is_no_mistake(module):
    report = apply_freeze_table(module, [FreezeRow("a.*", False), FreezeRow("*", True)])
    assert report[0] == FreezeReport("a.*", trainable=0, frozen=0)


def test_a_row_that_matches_nothing(module):
    with pytest.raises(ValueError, match=r"row 'c\.\*' matches no parameter"):
        apply_freeze_table(module, [FreezeRow("*", True), FreezeRow("c.*", False)])


def test_a_parameter_that_no_row_matches(module):
    with pytest.raises(ValueError, match=r"parameter b\.weight matches no row .* '\*' for all the rest"):
        apply_freeze_table(module, [FreezeRow("a.*", True)])


def test_nothing_trains(module):
    with pytest.raises(ValueError, match="leaves nothing to train"):
        apply_freeze_table(module, [FreezeRow("*", False)])


def test_counts_of_the_paper_s_table_cover_the_model():
    model = tiny_flamingo()
    rows = [FreezeRow("vision_model.*", False), FreezeRow("language_model.*", False), FreezeRow("resampler.*", True)]
    rows += [FreezeRow("gated_cross_attention.*", True), FreezeRow("new_token_*", True)]
    report = {line.pattern: (line.trainable, line.frozen) for line in apply_freeze_table(model, rows)}

    def size(module):
        return sum(parameter.numel() for parameter in module.parameters())

    assert report == {
        "vision_model.*": (0, size(model.vision_model)),
        "language_model.*": (0, size(model.language_model)),
        "resampler.*": (size(model.resampler), 0),
        "gated_cross_attention.*": (size(model.gated_cross_attention), 0),
        "new_token_*": (2 * 2 * 32, 0),
    }


def test_frozen_towers_stay_in_eval_mode():
    """GPT-2 drops out a tenth of everything in training mode."""
    model = tiny_flamingo(tiny_text_config("gpt2"))
    model.train()
    assert model.training
    assert model.resampler.training
    assert not any(module.training for module in model.language_model.modules())
    assert not any(module.training for module in model.vision_model.modules())


def test_a_tower_of_which_anything_trains_goes_into_training_mode():
    model = tiny_flamingo(tiny_text_config("gpt2")).train()
    apply_freeze_table(model, [FreezeRow("*", False), FreezeRow("language_model.transformer.h.2.*", True)])
    assert all(module.training for module in model.language_model.modules())
    assert not any(module.training for module in model.vision_model.modules())
    assert not model.eval().language_model.training


def test_a_model_on_the_meta_device_will_do():
    with torch.device("meta"):
        module = nn.Linear(1000, 1000)
    assert apply_freeze_table(module, [FreezeRow("*", True)]) == [FreezeReport("*", 1_001_000, 0)]


@pytest.mark.parametrize("preset", list(FreezePreset))
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_every_preset_trains_what_it_says(preset, tied):
    model = tiny_flamingo(tiny_text_config(tie_word_embeddings=tied))
    rows = freeze_rows(ModelConfig(freeze_preset=preset))
    report = apply_freeze_table(model, [FreezeRow(row.pattern, row.trainable) for row in rows])
    assert sum(line.trainable + line.frozen for line in report) == sum(p.numel() for p in model.parameters())
    model.train()
    model(**tiny_batch().tensors()).loss.backward()
    moved = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    wanted = {"resampler", "gated_cross_attention", "new_token_embedding", *([] if tied else ["new_token_head"])}
    if preset in (FreezePreset.fine_tuning, FreezePreset.everything):
        wanted |= {"vision_model"}
    if preset in (FreezePreset.language_model_unfrozen, FreezePreset.everything):
        wanted |= {"language_model"}
    assert moved == wanted
