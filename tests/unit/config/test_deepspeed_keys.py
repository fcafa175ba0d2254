"""The tables of keys against the installed DeepSpeed: a key that it no longer knows would do nothing, silently."""

from typing import Any

import pytest
from deepspeed.runtime.config import DeepSpeedConfig
from deepspeed.runtime.precision_config import DeepSpeedBF16Config
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
from deepspeed.runtime.zero.offload_config import (
    DeepSpeedZeroOffloadOptimizerConfig,
    DeepSpeedZeroOffloadParamConfig,
    OffloadDeviceEnum,
)

from flamingo_ds.config.deepspeed import (
    BF16_KEYS,
    FILLED,
    OFFLOAD_DEVICES,
    OFFLOAD_KEYS,
    PASSED_ON,
    REFUSED,
    SECTIONS,
    ZERO_KEYS,
)


class AskedKeys(dict[str, Any]):
    """A dict that remembers which keys were looked up, in copies of it too."""

    def __init__(self, content: dict[str, Any], asked: set[str]) -> None:
        super().__init__(content)
        self.asked = asked

    def __copy__(self) -> "AskedKeys":
        return AskedKeys(self, self.asked)

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def keys(self) -> Any:
        return self  # "key in content.keys()" asks as well


@pytest.fixture(scope="module")
def asked() -> set[str]:
    """The keys that DeepSpeed looks for in a configuration."""
    keys: set[str] = set()
    DeepSpeedConfig(AskedKeys({"train_batch_size": 1}, keys))
    return keys


def test_deepspeed_reads_every_key_that_is_passed_on(asked):
    assert "train_batch_size" in asked
    assert "no_such_key" not in asked
    assert asked >= PASSED_ON | FILLED | SECTIONS


def test_every_refused_key_is_one_of_deepspeeds(asked):
    assert REFUSED.keys() <= asked


def test_zero_keys_are_fields_of_deepspeed_and_none_is_deprecated():
    fields = DeepSpeedZeroConfig.model_fields
    known = {field.alias or name: field.json_schema_extra or {} for name, field in fields.items()}
    assert known.keys() >= ZERO_KEYS
    assert not [key for key in ZERO_KEYS if known[key].get("deprecated")]


def test_offload_keys_are_fields_of_both_sections():
    for section in (DeepSpeedZeroOffloadOptimizerConfig, DeepSpeedZeroOffloadParamConfig):
        assert section.model_fields.keys() >= OFFLOAD_KEYS
    assert {device.value for device in OffloadDeviceEnum} >= set(OFFLOAD_DEVICES)


def test_bf16_keys_are_fields_of_deepspeed():
    assert DeepSpeedBF16Config.model_fields.keys() >= BF16_KEYS


def test_a_key_stands_in_one_table_only():
    tables = [PASSED_ON, FILLED, SECTIONS, set(REFUSED)]
    assert len(set().union(*tables)) == sum(map(len, tables))
