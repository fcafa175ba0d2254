import json
from collections import Counter

import pytest
import torch

from flamingo_ds.batch import FlamingoBatch
from flamingo_ds.config import BatchPlan, ConfigError
from flamingo_ds.config.schema import SampleFormat
from flamingo_ds.data import Mixture, MixtureOutline
from flamingo_ds.data.workers import DecodePool

from .making import page, pair, picture, write_shards, write_tar

SHAPE = (3, 2, 2)
PLANS = [BatchPlan("pairs", 4, 2, 2), BatchPlan("pages", 3, 3, 1)]
WEIGHTS = [1.0, 0.2]


@pytest.fixture
def make_mixture(tmp_path, make_dataset):
    """A mixture over the same shards at every call; every fifth pair is bad, and one shard is truncated."""
    pairs = [pair(str(n), " " if n % 5 == 4 else f"{n}", picture(n)) for n in range(30)]
    for shard in range(3):
        write_tar(
            tmp_path / f"pairs-{shard}.tar", [part for one in pairs[shard * 10 : shard * 10 + 10] for part in one]
        )
    cut = tmp_path / "pairs-2.tar"
    cut.write_bytes(cut.read_bytes()[: 512 * 30])
    pages = [page(str(n), [None, f"{n}", None, "dog"], [0, None, 1, None], [picture(n), picture(n)]) for n in range(20)]
    write_tar(tmp_path / "pages.tar", [part for one in pages for part in one])

    def make(rank=0, world_size=1, skip=(), in_turn=False):
        pool = DecodePool()
        common = {"rank": rank, "world_size": world_size, "max_bad_share": 1.0, "pool": pool}
        datasets = [
            make_dataset(f"{tmp_path}/pairs-*.tar", name="pairs", **common),
            make_dataset(f"{tmp_path}/pages.tar", SampleFormat.interleaved, name="pages", **common),
        ]
        return Mixture(datasets, PLANS, WEIGHTS, pool, skip, in_turn)

    return make


def same(one: FlamingoBatch, other: FlamingoBatch) -> bool:
    return all(torch.equal(tensor, other.tensors()[name]) for name, tensor in one.tensors().items())


def test_a_step_takes_its_batches_of_every_dataset_in_order(make_mixture):
    step = next(make_mixture())
    assert [(micro.dataset, micro.weight, len(micro.batch)) for micro in step] == [
        ("pairs", 1.0, 2),
        ("pairs", 1.0, 2),
        ("pages", 0.2, 3),
    ]
    assert step[0].batch.num_images.tolist() == [1, 1]
    assert step[2].batch.num_images.tolist() == [2, 2, 2]
    assert step[2].batch.pixel_values.shape == (3, 2, 1, *SHAPE)


def test_all_ranks_take_the_same_kinds_of_batch(make_mixture):
    kinds = [[micro.dataset for micro in next(make_mixture(rank, 3))] for rank in range(3)]
    assert kinds[0] == kinds[1] == kinds[2]


def test_ranks_take_different_samples(make_mixture):
    first, second = (next(make_mixture(rank, 2)) for rank in range(2))
    images = [{round(float(image.max())) for image in step[2].batch.pixel_values} for step in (first, second)]
    assert not images[0] & images[1]


@pytest.mark.parametrize("steps", [0, 1, 4, 5, 6, 9, 20])
def test_a_resumed_mixture_gives_identical_tensors_and_counts(make_mixture, steps):
    running = make_mixture()
    for _ in range(steps):
        next(running)
    state = json.loads(json.dumps(running.state_dict()))
    resumed = make_mixture()
    resumed.load_states([state], steps)
    for _ in range(12):
        for ours, theirs in zip(next(running), next(resumed), strict=True):
            assert same(ours.batch, theirs.batch)
    assert resumed.state_dict() == running.state_dict()
    assert resumed.bad_samples() == running.bad_samples()


def test_the_comparison_above_tells_steps_apart(make_mixture):
    mixture = make_mixture()
    assert not same(next(mixture)[0].batch, next(mixture)[0].batch)


def test_a_state_is_a_copy(make_mixture):
    mixture = make_mixture()
    next(mixture)
    state = mixture.state_dict()
    before = json.dumps(state)
    next(mixture)
    assert json.dumps(state) == before


def test_bad_samples_are_counted_for_each_dataset(make_mixture):
    mixture = make_mixture()
    while mixture.datasets[0].position.epoch == 0:
        next(mixture)
    counts = mixture.bad_samples()
    assert [name for name in counts if name.count("/") == 1] == ["bad_samples/pairs", "bad_samples/pages"]
    assert {name for name, count in counts.items() if count and name.count("/") == 2} == {
        "bad_samples/pairs/no_text",
        "bad_samples/pairs/broken_tar",
    }
    assert counts["bad_samples/pages"] == 0
    assert counts["bad_samples/pairs"] == mixture.datasets[0].bad.kinds.total() > 0


def test_a_dataset_that_the_saved_run_did_not_have_is_an_error(make_mixture):
    mixture = make_mixture()
    state = mixture.state_dict()
    del state["datasets"]["pages"]
    with pytest.raises(KeyError, match="pages"):
        mixture.load_states([state], 0)


@pytest.mark.parametrize(("ranks", "now"), [(1, 3), (3, 1), (3, 2), (2, 2)])
def test_counts_of_bad_samples_add_up_on_another_number_of_ranks(make_mixture, ranks, now):
    saved = [make_mixture(rank, ranks) for rank in range(ranks)]
    for mixture in saved:
        for _ in range(4):
            next(mixture)
    states = json.loads(json.dumps([mixture.state_dict() for mixture in saved]))
    resumed = [make_mixture(rank, now) for rank in range(now)]
    for mixture in resumed:
        mixture.load_states(states, 4)
    for dataset in ("pairs", "pages"):
        before, after = (
            [mixture.state_dict()["datasets"][dataset]["bad"] for mixture in run] for run in (saved, resumed)
        )
        assert sum(bad["seen"] for bad in before) == sum(bad["seen"] for bad in after)
        for counts in ("kinds", "shards"):
            assert sum((Counter(bad[counts]) for bad in before), Counter()) == sum(
                (Counter(bad[counts]) for bad in after), Counter()
            )
    assert sum(mixture.bad_samples()["bad_samples/pairs"] for mixture in resumed) > 0
    assert all(len(next(mixture)) == 3 for mixture in resumed)


def test_another_number_of_shards_than_the_saved_run_had_is_refused(tmp_path, make_dataset):
    write_shards(tmp_path, [4, 4])
    state = make_dataset(f"{tmp_path}/pairs-*.tar").state_dict()
    write_shards(tmp_path, [4, 4, 4])
    with pytest.raises(ConfigError) as caught:
        make_dataset(f"{tmp_path}/pairs-*.tar").load_states([state])
    assert str(caught.value) == (
        "data.datasets.pairs.shards = '3 tar files': expected 2, as the saved positions count them"
    )


def test_an_outline_has_the_mixture_s_order_and_no_sequences(make_mixture):
    mixture, outline = make_mixture(), MixtureOutline(PLANS, WEIGHTS)
    for _ in range(2):
        step = next(outline)
        assert [(micro.dataset, micro.weight) for micro in step] == [
            (micro.dataset, micro.weight) for micro in next(mixture)
        ]
        assert all(len(micro.batch) == 0 for micro in step)
        assert all(micro.batch.num_targets() == micro.batch.num_tokens() == 0 for micro in step)
    assert outline.bad_samples() == dict.fromkeys(mixture.bad_samples(), 0)
    outline.load_states([mixture.state_dict()], 2)
    assert outline.state_dict() == {}


def test_an_empty_batch_is_cut_and_moved_like_any_other():
    batch = FlamingoBatch.empty()[:2].to("cpu", torch.bfloat16)
    assert len(batch) == 0
    assert batch.pixel_values.dtype == torch.bfloat16
    assert batch.pixel_values.ndim == 6
    assert int(batch.num_images.sum()) == 0


def test_datasets_and_plans_in_different_orders_are_our_own_bug(make_mixture):
    mixture = make_mixture()
    with pytest.raises(AssertionError):
        Mixture(mixture.datasets, PLANS[::-1], WEIGHTS, mixture.pool)


def test_an_epoch_of_a_mixture_covers_the_dataset(tmp_path, make_dataset):
    # 12 sequences in steps of four: three steps are one epoch.
    write_shards(tmp_path, [4, 4, 4])
    dataset = make_dataset(f"{tmp_path}/pairs-*.tar")
    mixture = Mixture([dataset], [BatchPlan("pairs", 4, 4, 1)], [1.0], dataset.pool)
    texts = [tuple(row.tolist()) for _ in range(3) for row in next(mixture)[0].batch.input_ids]
    assert len(set(texts)) == 12


def test_positions_of_the_first_version_are_read(make_mixture):
    running = make_mixture()
    for _ in range(3):
        next(running)
    resumed = make_mixture()
    resumed.load_states([json.loads(json.dumps(running.state_dict()["datasets"]))], 3)
    assert resumed.data_step == 3
    assert same(next(running)[0].batch, next(resumed)[0].batch)


def test_positions_of_a_later_version_are_refused(make_mixture):
    state = {**make_mixture().state_dict(), "version": 3}
    with pytest.raises(ConfigError, match="--resume = 'data positions of version 3': expected at most 2"):
        make_mixture().load_states([state], 0)


def test_skipped_steps_leave_the_others_as_they_were(make_mixture):
    whole, skipping = make_mixture(), make_mixture(skip=[[2, 3], [5, 5]])
    steps = [next(whole) for _ in range(8)]
    for number in (1, 4, 6, 7, 8):
        for wanted, got in zip(steps[number - 1], next(skipping), strict=True):
            assert same(wanted.batch, got.batch)
        assert skipping.data_step == number
    assert skipping.state_dict() == whole.state_dict()


def test_a_resumed_run_may_skip_the_data_of_a_loss_spike(make_mixture):
    """The spike is at step 5: back to step 3, and over the data of steps 4 and 5."""
    running = make_mixture()
    for _ in range(3):
        next(running)
    state = running.state_dict()
    for _ in range(2):
        next(running)
    resumed = make_mixture(skip=[[4, 5]])
    resumed.load_states([state], 3)
    assert same(next(running)[0].batch, next(resumed)[0].batch)
    assert resumed.data_step == 6


def test_fewer_shards_than_ranks_are_noted(make_mixture):
    assert make_mixture().notes() == []
    notes = make_mixture(0, 4).notes()
    assert [note.split(";")[0] for note in notes] == [
        "note: data.datasets.pairs: 4 replicas share 3 shards",
        "note: data.datasets.pages: 4 replicas share 1 shards",
    ]


def test_datasets_take_turns(make_mixture):
    """With the samples that each would have given in the other kind of mixture, one dataset a step."""
    together, in_turn = make_mixture(), make_mixture(in_turn=True)
    both = [next(together) for _ in range(2)]
    steps = [next(in_turn) for _ in range(4)]
    assert [[micro.dataset for micro in step] for step in steps] == [["pairs", "pairs"], ["pages"]] * 2
    for number, step in enumerate(steps):
        wanted = [micro for micro in both[number // 2] if micro.dataset == step[0].dataset]
        assert all(same(micro.batch, other.batch) for micro, other in zip(step, wanted, strict=True))


def test_turns_go_on_after_a_resume_and_over_skipped_steps(make_mixture):
    running = make_mixture(in_turn=True)
    steps = [next(running) for _ in range(6)]
    resumed = make_mixture(in_turn=True)
    for _ in range(3):
        next(resumed)
    state = resumed.state_dict()
    again, skipping = make_mixture(in_turn=True), make_mixture(in_turn=True, skip=[[2, 4]])
    again.load_states([state], 3)
    next(skipping)
    for wanted, got in ((steps[3], next(again)), (steps[4], next(skipping))):
        assert [micro.dataset for micro in got] == [micro.dataset for micro in wanted]
        assert all(same(micro.batch, other.batch) for micro, other in zip(got, wanted, strict=True))
