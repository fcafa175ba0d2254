import shutil

import pytest
import torch

from flamingo_ds.checkpoint.conversion.to_hf import ExportOptions, export_checkpoint
from flamingo_ds.config import ConfigError
from flamingo_ds.evaluation.models import open_model
from tests.unit.checkpoint.conftest import saved  # noqa: F401

from .test_flamingo import CLOSE, OPTIONS

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def exported(saved, tmp_path_factory):  # noqa: F811
    return export_checkpoint(saved.path, tmp_path_factory.mktemp("export") / "hf", ExportOptions())


def test_a_checkpoint_answers_as_its_export(saved, exported, prompts):  # noqa: F811
    sources = [open_model(str(path)) for path in (saved.path, exported)]
    assert sources[0].reader.ids(prompts[0]) == sources[1].reader.ids(prompts[0])
    found, wanted = (source.load(None, CPU) for source in sources)
    for name, weight in found.model.named_parameters():
        assert torch.equal(weight, wanted.model.get_parameter(name)), name
    assert found.log_likelihoods(prompts[0], OPTIONS) == wanted.log_likelihoods(prompts[0], OPTIONS)
    assert found.write(prompts, 4) == wanted.write(prompts, 4)


def test_the_trained_weights_are_what_answers(saved, exported, prompts):  # noqa: F811
    found = open_model(str(exported)).load(None, CPU).model(input_ids=torch.tensor([[5, 6, 7]])).logits
    with torch.no_grad():
        assert torch.allclose(found, saved.model(input_ids=torch.tensor([[5, 6, 7]])).logits, atol=CLOSE)


def test_in_another_precision(saved, prompts):  # noqa: F811
    model = open_model(str(saved.path)).load(torch.bfloat16, CPU)
    assert {weight.dtype for weight in model.model.parameters()} == {torch.bfloat16}
    assert len(model.log_likelihoods(prompts[0], OPTIONS)) == len(OPTIONS)


def refusal(call, *arguments):
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_model(saved, tmp_path):  # noqa: F811
    assert "there is no such folder" in refusal(open_model, str(tmp_path / "missing"))
    assert "this folder has neither checkpoint.json nor config.json" in refusal(open_model, str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    assert f"a checkpoint of this run, such as {tmp_path}/checkpoints/latest" in refusal(open_model, str(tmp_path))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{")
    assert "a training checkpoint, an exported folder, or an image-text model" in refusal(open_model, str(broken))
    (broken / "config.json").write_text('{"model_type": "llama"}')
    assert "a model with a processor" in refusal(open_model, str(broken))


def test_damaged_weights(exported, tmp_path):
    copy = shutil.copytree(exported, tmp_path / "hf")
    weights = next(copy.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "a whole export" in refusal(open_model(str(copy)).load, None, CPU)


def test_weights_that_are_not_all_there(exported, tmp_path):
    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(exported, tmp_path / "hf")
    weights = next(copy.glob("*.safetensors"))
    kept = load_file(weights)
    del kept["resampler.latents"]
    save_file(kept, weights, {"format": "pt"})
    message = refusal(open_model(str(copy)).load, None, CPU)
    assert message.endswith("all weights of its configuration; missing keys: resampler.latents")
