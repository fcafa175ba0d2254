"""Each layout's bytes by hand: 10 elements in two trainable parameters, 100 frozen ones, bf16."""

import pytest

from flamingo_ds.parallel.planning.memory import Buffers, Held, Layout, RankMemory, zero_memory

HELD = Held(frozen=[60, 40], trainable=[7, 3], blocks=[67, 43], largest_group=[7])


def memory(stage: int, data: int = 2, micro_batches: int = 2, element: int = 2, **buffers: int | bool) -> RankMemory:
    settings = Buffers(reduce_bucket_size=5, **buffers)  # type: ignore[arg-type]
    return zero_memory(HELD, Layout(stage, data), 1000, element, micro_batches, settings, foreach=True)


def test_zero0_keeps_everything() -> None:
    rank = memory(0, element=4)
    assert (rank.weights, rank.gradients, rank.optimizer) == (440, 40, 80)
    assert rank.total == 440 + 40 + 80 + 1000


def test_zero1_shards_masters_and_moments() -> None:
    """10 elements on 2 ranks, padded to a multiple of 4: 6 each."""
    rank = memory(1)
    assert (rank.weights, rank.gradients, rank.optimizer, rank.buffers) == (220, 20, 12 * 6, 10)
    assert rank.total == 220 + 20 + 72 + 10 + 1000


def test_overlap_takes_a_second_bucket() -> None:
    assert memory(2, overlap_comm=True).buffers == 20


def test_fp32_gradients_are_kept_whole_beside_the_others() -> None:
    rank = memory(1, gradient_element=4)
    # The sums in fp32 stay from step to step; the largest parameter's 7 gradients are in fp32 while they are added.
    assert (rank.standing, rank.gradients, rank.buffers) == (10 * 4, 10 * 2, 7 * 4)


@pytest.mark.parametrize(("micro_batches", "gradients"), [(1, 0), (3, 12)])
def test_zero2_holds_the_shard_of_earlier_micro_batches(micro_batches: int, gradients: int) -> None:
    assert memory(2, micro_batches=micro_batches).gradients == gradients


def test_zero3_rounds_every_parameter_up() -> None:
    """On 4 ranks: 15 + 10 frozen, 2 + 1 trainable; all of the blocks are used again at once, so they are whole."""
    rank = memory(3, data=4, stage3_param_persistence_threshold=0)
    assert (rank.weights, rank.standing, rank.optimizer) == (2 * 28, 2 * 3 + 2 * 5, 12 * 3)  # 5: the bucket
    assert rank.gathered == 2 * 110


def test_zero3_gives_back_what_is_not_used_soon() -> None:
    """The last block of 43 is within half of 50, the one before lies too far; on top the parameter that goes beyond."""
    keys = {"stage3_param_persistence_threshold": 0, "stage3_max_live_parameters": 20}
    assert memory(3, data=4, stage3_max_reuse_distance=50, **keys).gathered == 2 * (43 + 60)


def test_zero3_keeps_small_parameters_whole() -> None:
    rank = memory(3, data=4, stage3_param_persistence_threshold=8)
    assert rank.weights == 2 * (28 + 10)
    assert rank.gathered == 2 * 100


def test_the_optimizer_step_can_be_the_worst_moment() -> None:
    rank = zero_memory(HELD, Layout(1, 1), 0, 2, 1, Buffers(reduce_bucket_size=0), foreach=False)
    # All 10 gradients in bf16; of the larger group's 7 (8 padded) fp32 ones, and two copies of AdamW's.
    assert rank.step == 2 * 10 + (4 + 8) * 8
    assert rank.total == 220 + 120 + rank.step


def test_settings_come_from_the_json() -> None:
    content = {"zero_optimization": {"stage": 1, "reduce_bucket_size": 9}, "data_types": {"grad_accum_dtype": "fp32"}}
    assert Buffers.of(content) == Buffers(reduce_bucket_size=9, gradient_element=4)
