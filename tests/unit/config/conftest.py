from collections.abc import Callable
from pathlib import Path

import pytest

from flamingo_ds.config import ConfigError, RunConfig, load_recipe

RECIPE = """
run_dir: runs/test
model:
  language_model: {source: lm}
  vision_encoder: {source: encoder}
data:
  datasets:
    pairs: {format: image_text, shards: pairs.tar, batch_size: 8}
    pages: {format: interleaved, shards: pages.tar, batch_size: 4, micro_batch_size: 1}
train: {max_steps: 10}
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def load(recipe_file: Path) -> Callable[..., RunConfig]:
    """The small recipe above with overrides."""
    return lambda *overrides: load_recipe(str(recipe_file), overrides)


@pytest.fixture
def error_of() -> Callable[..., ConfigError]:
    """The ConfigError that a call raises; every one of them is a single line."""

    def call(function: Callable[..., object], *arguments: object) -> ConfigError:
        with pytest.raises(ConfigError) as caught:
            function(*arguments)
        assert "\n" not in str(caught.value)
        return caught.value

    return call
