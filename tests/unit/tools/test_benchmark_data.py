import json

import pytest

from tools import benchmark_data


def test_it_runs_and_its_figures_have_stable_names(tmp_path, monkeypatch):
    path = tmp_path / "figures.json"
    arguments = ["--images", "32", "--rounds", "1", "--memory-samples", "160", "--json", str(path)]
    monkeypatch.setattr("sys.argv", ["benchmark_data.py", *arguments])
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert benchmark_data.main() == 0
    figures = json.loads(path.read_text())
    # Speeds are for a quiet machine; these hold anywhere.
    assert max(figures["max_pixel_difference_of_255"].values()) <= 2
    assert figures["flops_per_pair_ratio"] <= 0.25
    assert figures["real_token_share"] > 0.9
    for name in ("images_per_s_ratio_vs_floor", "images_per_s_ratio_vs_openflamingo"):
        assert set(figures[name]) == {"256", "512"}
    assert set(figures["worker_memory_mb"]) == {"32", "64", "96", "128", "160"}


@pytest.mark.parametrize("arguments", [["--images", "33"], ["--rounds", "0"]])
def test_wrong_numbers_are_refused(arguments, monkeypatch):
    monkeypatch.setattr("sys.argv", ["benchmark_data.py", *arguments])
    assert benchmark_data.main() == 2
