"""A probe's samples hang on the seed alone, and every rank has as many micro-batches as any other."""

from typing import Any

import pytest
import torch

from flamingo_ds.config import ConfigError, DataConfig, DatasetConfig, RunConfig, plan_probe
from flamingo_ds.config.schema import ParallelConfig, ProbeConfig, SampleFormat
from flamingo_ds.data import Place, Tokens, build_probe, outline_probe

from .conftest import TRANSFORM, VOCABULARY, tokenizer_of
from .making import page, pair, picture, write_shards, write_tar
from .test_sequence import EOC, IMG

TOKENS = Tokens(tokenizer_of(), IMG, EOC)
NUMBERS = {VOCABULARY[str(number)]: number for number in range(300)}


def recipe_of(shards: Any, kind: SampleFormat = SampleFormat.image_text, seed: int = 7, **probe: Any) -> RunConfig:
    dataset = DatasetConfig(kind, str(shards), probe.pop("batch_size", 4), probe.pop("micro_batch_size", None))
    probes = ProbeConfig(every=1, datasets={"held": dataset}, **{"batches": 2, "shots": [0, 2]} | probe)
    return RunConfig("run", seed, data=DataConfig({}), parallel=ParallelConfig(), probe=probes)


def build(recipe: RunConfig, rank: int = 0, world_size: int = 1) -> Any:
    (probe,) = build_probe(recipe, plan_probe(recipe, world_size), TOKENS, TRANSFORM, Place(rank, world_size))
    return probe


def numbers(probe: Any, kind: str) -> list[list[int]]:
    """Which samples a rank's sequences hold: each text says its shard's number and its own."""
    texts = [row for batch in probe.batches(kind) for row in batch.input_ids.tolist()]
    return [[NUMBERS[token] for token in row if token in NUMBERS] for row in texts]


def test_kinds_and_sizes_of_micro_batches(tmp_path):
    write_shards(tmp_path, [9, 9])
    probe = build(recipe_of(tmp_path, micro_batch_size=4, shots=[0, 1, 4]))
    sizes = {kind: [len(batch) for batch in probe.batches(kind)] for kind in probe.kinds}
    assert sizes == {
        "loss": [4, 4],
        "loss_blank": [4, 4],
        "loss_shuffled": [4, 4],
        "loss_0_shots": [4, 4],
        "loss_1_shots": [2, 2, 2, 2],
        "loss_4_shots": [1] * 8,
    }
    assert probe.longest == 1 + 5 * 5


def test_blank_images_are_zero_and_nothing_else_changes(tmp_path):
    write_shards(tmp_path, [9, 9])
    probe = build(recipe_of(tmp_path))
    (plain, *_), (blank, *_) = probe.batches("loss"), probe.batches("loss_blank")
    assert plain.pixel_values.abs().sum() > 0
    assert blank.pixel_values.abs().sum() == 0
    for name, tensor in blank.tensors().items():
        assert name == "pixel_values" or torch.equal(tensor, plain.tensors()[name]), name
    (shuffled, *_) = probe.batches("loss_shuffled")
    assert torch.equal(shuffled.input_ids, plain.input_ids)
    assert not torch.equal(shuffled.pixel_values, plain.pixel_values)


def test_every_probe_is_the_same(tmp_path):
    write_shards(tmp_path, [9, 9])
    probe, again = build(recipe_of(tmp_path)), build(recipe_of(tmp_path))
    for kind in probe.kinds:
        for asked in (probe, again):
            for one, other in zip(asked.batches(kind), probe.batches(kind), strict=True):
                assert all(torch.equal(tensor, other.tensors()[name]) for name, tensor in one.tensors().items())


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_share_the_same_sequences(tmp_path, ranks):
    write_shards(tmp_path, [9, 9])
    recipe = recipe_of(tmp_path)
    whole, shares = build(recipe), [build(recipe, rank, ranks) for rank in range(ranks)]
    (outline,) = outline_probe(recipe, plan_probe(recipe, ranks))
    for kind in whole.kinds:
        together = [numbers(share, kind) for share in shares]
        assert [together[place % ranks][place // ranks] for place in range(8)] == numbers(whole, kind)
        counts = {len(share.batches(kind)) for share in shares}
        assert counts == {len(outline.batches(kind))}
        assert all(len(batch) == 0 for batch in outline.batches(kind))
    assert outline.kinds == whole.kinds


def test_the_seed_draws_the_samples(tmp_path):
    write_shards(tmp_path, [20, 20])
    drawn = [numbers(build(recipe_of(tmp_path, seed=seed)), "loss") for seed in range(4)]
    assert len({str(sample) for sample in drawn}) == 4
    assert all(len({str(sample) for sample in samples}) == 8 for samples in drawn)


def test_pages_have_no_shots(tmp_path):
    pages = [
        page(f"{n}", [None, "a cat", None, "a dog"], [0, None, 1, None], [picture(n), picture(n)]) for n in range(8)
    ]
    write_tar(tmp_path / "a.tar", [member for members in pages for member in members])
    probe = build(recipe_of(tmp_path, SampleFormat.interleaved))
    assert probe.kinds == ["loss", "loss_blank", "loss_shuffled"]


def test_bad_samples_are_passed_over_and_said(tmp_path):
    samples = [pair(f"{n}", " " if n % 3 == 0 else "a cat") for n in range(13)]
    write_tar(tmp_path / "a.tar", [member for members in samples for member in members])
    probe = build(recipe_of(tmp_path))
    assert sum(len(batch) for batch in probe.batches("loss")) == 8
    (note,) = probe.notes()
    assert note.startswith("note: probe.datasets.held: samples that cannot be used were passed over: no_text ")


@pytest.mark.parametrize(("sizes", "there"), [([3, 4], 7), ([0], 0)])
def test_too_few_samples_are_refused(tmp_path, sizes, there):
    write_shards(tmp_path, sizes)
    with pytest.raises(ConfigError) as caught:
        build(recipe_of(tmp_path))
    assert str(caught.value) == (
        f"probe.datasets.held.shards = {str(tmp_path)!r}: expected probe.batches x batch_size = 8 usable samples; "
        f"it has {there}, and bad ones: none"
    )


def test_a_damaged_shard_is_among_the_bad_ones(tmp_path):
    write_shards(tmp_path, [7])
    path = tmp_path / "pairs-000.tar"
    path.write_bytes(path.read_bytes()[:3000] + b"x" * 3000)
    with pytest.raises(ConfigError, match="bad ones: .*broken_tar 1"):
        build(recipe_of(tmp_path))


def test_shards_that_are_not_there_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"probe.datasets.held.shards = .*none.tar': expected a tar file"):
        build(recipe_of(tmp_path / "none.tar"))


def test_one_page_with_most_images_cannot_be_shuffled(tmp_path):
    long = page("0", [None, None, None, "a cat"], [0, 1, 2, None], [picture(n) for n in range(3)])
    short = page("1", [None, "a dog"], [0, None], [picture(9)])
    write_tar(tmp_path / "a.tar", [*long, *short])
    with pytest.raises(ConfigError, match=r"held.batch_size = 2: expected more sequences.*3 of all 4 images"):
        build(recipe_of(tmp_path, SampleFormat.interleaved, batch_size=2, batches=1))
