"""The frozen base is hashed by all ranks together, and comes out the same for any number of them."""

from flamingo_ds.checkpoint.fingerprint import Fingerprint, fingerprint, frozen_names
from flamingo_ds.checkpoint.stored_tensor import StoredTensor
from flamingo_ds.config import ModelConfig
from flamingo_ds.config.schema import LanguageModelConfig, VisionEncoderConfig

from . import tiny_run
from .conftest import Pools

RECIPE = ModelConfig(LanguageModelConfig(source="lm"), VisionEncoderConfig(source="clip"))


def found_and_read(names: list[str] | None = None) -> tuple[Fingerprint, list[str]]:
    """What this rank says, and the weights that it read for it."""
    model = tiny_run.tiny_model()
    read: list[str] = []

    def weight(name: str):
        read.append(name)
        return StoredTensor.plain(model.get_parameter(name))

    return fingerprint(names or frozen_names(model), weight, RECIPE), read


def test_any_number_of_ranks_gives_the_same(pools: Pools) -> None:
    ((alone, everything),) = pools.run(1, found_and_read)
    assert alone.tensors == len(everything) > 40
    for ranks in (2, 4):
        answers = pools.run(ranks, found_and_read)
        assert all(found == alone for found, _ in answers)
        shares = [read for _, read in answers]
        assert sorted(name for share in shares for name in share) == sorted(everything)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_ranks_that_have_nothing_to_read_take_part(pools: Pools) -> None:
    names = ["language_model.model.norm.weight"]
    ((alone, _),) = pools.run(1, found_and_read, names)
    assert all(found == alone for found, _ in pools.run(4, found_and_read, names))
