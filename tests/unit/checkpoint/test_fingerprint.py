import pytest
import torch

from flamingo_ds.checkpoint.fingerprint import Fingerprint, fingerprint, frozen_names, require_same_base
from flamingo_ds.checkpoint.stored_tensor import StoredTensor
from flamingo_ds.config import ConfigError, ModelConfig
from flamingo_ds.config.schema import LanguageModelConfig, VisionEncoderConfig
from tests.tiny import tiny_flamingo

RECIPE = ModelConfig(
    language_model=LanguageModelConfig(source="org/lm", revision="abc"),
    vision_encoder=VisionEncoderConfig(source="ViT-L-14", pretrained="openai"),
)


@pytest.fixture
def model():
    return tiny_flamingo()


def fingerprint_of(model) -> Fingerprint:
    return fingerprint(frozen_names(model), lambda name: StoredTensor.plain(model.get_parameter(name)), RECIPE)


def sha(model):
    return fingerprint_of(model).sha256


@torch.no_grad()
def test_one_bit_of_any_frozen_weight_changes_it(model):
    before = sha(model)
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    for parameter in frozen:
        bits = parameter.view(torch.int32).view(-1)
        bits[-1] ^= 1
        assert sha(model) != before
        bits[-1] ^= 1
    assert sha(model) == before


@torch.no_grad()
def test_what_trains_does_not_count(model):
    before = fingerprint_of(model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(1.0)
    assert fingerprint_of(model) == before
    assert before.tensors == sum(not parameter.requires_grad for parameter in model.parameters())


def test_dtype_name_and_shape_count(model):
    before = sha(model)
    weight = model.language_model.model.norm.weight
    values = weight.data
    weight.data = values.reshape(2, -1)
    assert sha(model) != before
    weight.data = values.bfloat16()  # all ones: the values are the same
    assert sha(model) != before
    weight.data = values
    assert sha(model) == before
    del model.language_model.model.norm.weight
    model.language_model.model.norm.scale = torch.nn.Parameter(values, requires_grad=False)
    assert sha(model) != before


def test_layout_in_memory_does_not_count(model):
    before = sha(model)
    weight = model.language_model.lm_head.weight
    weight.data = weight.data.t().contiguous().t()
    assert sha(model) == before


def test_names_of_the_sources(model):
    found = fingerprint_of(model)
    assert (found.language_model, found.vision_encoder) == ("org/lm@abc", "ViT-L-14@openai")
    assert require_same_base(found.to_json(), found, "here") is None


def test_a_wrong_base_is_refused_by_name(model):
    saved = fingerprint_of(model).to_json() | {"language_model": "org/other@def"}
    torch.nn.init.zeros_(model.language_model.lm_head.weight)
    found = fingerprint_of(model)
    with pytest.raises(ConfigError) as caught:
        require_same_base(saved, found, "runs/a/step-00000002")
    message = str(caught.value)
    for part in ("org/lm@abc", "ViT-L-14@openai", "org/other@def", "runs/a/step-00000002"):
        assert part in message
    assert found.sha256[:12] in message
    assert saved["sha256"][:12] in message
    assert "\n" not in message


def test_the_same_content_from_elsewhere_is_the_same_base(model):
    """A lab moves its models: the path is told and not compared."""
    found = fingerprint_of(model)
    require_same_base(found.to_json() | {"language_model": "/scratch/lm"}, found, "here")
