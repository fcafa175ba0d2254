import random

import numpy
import pytest
import torch

from flamingo_ds.checkpoint.random_states import drawing_on_cpu, seed_for, start_random_states


def draws():
    return torch.rand(2).tolist(), random.random(), numpy.random.rand(2).tolist()


def test_every_rank_draws_its_own_and_again_the_same():
    start_random_states(3, rank=0)
    first = draws()
    start_random_states(3, rank=1)
    other = draws()
    start_random_states(4, rank=0)
    another = draws()
    start_random_states(3, rank=0)
    assert draws() == first
    for mine, theirs, elses in zip(first, other, another, strict=True):
        assert mine != theirs
        assert mine != elses


def test_seeds_are_told_apart_by_what_they_are_for():
    seeds = {seed_for(seed, what) for seed in range(20) for what in ("rank 1", "rank 11", "resampler")}
    assert len(seeds) == 60
    assert all(0 <= seed < 2**56 for seed in seeds)


def test_drawing_leaves_all_generators_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: (_ for _ in ()).throw(AssertionError("a device")))
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError), drawing_on_cpu(5):
        inside = torch.rand(3)
        torch.rand(2) @ torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    with drawing_on_cpu(5):
        assert torch.equal(torch.rand(3), inside)
