"""The recipes' models against published sizes, on the meta device."""

import json

import pytest
from transformers import LlamaConfig, Qwen3Config, SiglipVisionConfig

from flamingo_ds.config import EXIT_BAD_INPUT, EXIT_DONE
from tools import model_sizes

# As published with the weights.
LLAMA = LlamaConfig(
    hidden_size=2048,
    intermediate_size=8192,
    num_hidden_layers=16,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=64,
    vocab_size=128256,
    tie_word_embeddings=True,
)
QWEN = Qwen3Config(
    hidden_size=4096,
    intermediate_size=12288,
    num_hidden_layers=36,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
    vocab_size=151936,
)
SIGLIP = SiglipVisionConfig(
    hidden_size=1152,
    intermediate_size=4304,
    num_hidden_layers=27,
    num_attention_heads=16,
    image_size=384,
    patch_size=14,
)


def run(monkeypatch, tmp_path, *arguments):
    out = tmp_path / "sizes.json"
    monkeypatch.setattr("sys.argv", ["model_sizes.py", *map(str, arguments), "--json", str(out)])
    assert model_sizes.main() == EXIT_DONE
    return json.loads(out.read_text(encoding="utf-8"))


def test_the_paper_s_sizes(monkeypatch, tmp_path, capsys):
    """Counts of the paper's table 4; its table 5 differs from them by up to a fifth, as the tool says."""
    report = run(monkeypatch, tmp_path)
    millions = {
        name: [round(count / 1e6) for count in figures["parameters"].values()] for name, figures in report.items()
    }
    assert millions == {
        "flamingo-3b": [1340, 435, 1158, 175, 3108],
        "flamingo-9b": [8317, 435, 1804, 175, 10731],
        "flamingo-80b": [64957, 435, 8355, 175, 73923],
    }
    for name, paper in model_sizes.PAPER.items():
        for here, there in zip(millions[name], paper, strict=True):
            assert here == pytest.approx(there, rel=0.2)
    printed = capsys.readouterr().out
    assert "80,000" in printed
    assert "does not add up by itself" in printed
    assert set(report["flamingo-9b"]["freeze_table"]) == {
        "vision_model.*",
        "language_model.*",
        "resampler.*",
        "gated_cross_attention.*",
        "new_token_*",
    }


def test_llama_with_clip(monkeypatch, tmp_path):
    LLAMA.save_pretrained(tmp_path / "llama")
    source = f"model.language_model.source={tmp_path / 'llama'}"
    figures = run(monkeypatch, tmp_path, "llama-3.2-1b", source)["llama-3.2-1b"]
    # Published: 1.24 billion, and 304 million of ViT-L/14 without its projection.
    assert figures["parameters"]["language model"] == pytest.approx(1.236e9, rel=1e-3)
    assert figures["parameters"]["vision encoder"] == pytest.approx(303.2e6, rel=2e-3)
    assert figures["parameters"]["all"] == pytest.approx(2.0e9, rel=0.03)  # the recipe's head says so
    tuned = run(monkeypatch, tmp_path, "fine-tune", source)["fine-tune"]
    assert tuned["freeze_table"]["vision_model.*"]["trainable"] == figures["parameters"]["vision encoder"]
    assert tuned["flops"]["forward_per_image"] > 4 * figures["flops"]["forward_per_image"]  # 480 pixels, not 224


def test_qwen_with_siglip(monkeypatch, tmp_path):
    QWEN.save_pretrained(tmp_path / "qwen")
    SIGLIP.save_pretrained(tmp_path / "siglip")
    figures = run(
        monkeypatch,
        tmp_path,
        "qwen3-8b",
        f"model.language_model.source={tmp_path / 'qwen'}",
        f"model.vision_encoder.source={tmp_path / 'siglip'}",
    )["qwen3-8b"]
    # Published: 8.2 billion; 428 million with a pooling head of 15 million, which a Flamingo does without.
    assert figures["parameters"]["language model"] == pytest.approx(8.19e9, rel=1e-3)
    assert figures["parameters"]["vision encoder"] == pytest.approx(412.9e6, rel=2e-3)
    assert figures["parameters"]["all"] == pytest.approx(10.3e9, rel=0.01)  # the recipe's head says so


def test_what_is_not_there_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["model_sizes.py", "llama-3.2-1b", "model.language_model.source=/nowhere"])
    assert model_sizes.main() == EXIT_BAD_INPUT
    printed = capsys.readouterr().err.strip()
    assert printed.startswith("model.language_model.source = '/nowhere'")
    assert "\n" not in printed
