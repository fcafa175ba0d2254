import itertools

from hypothesis import given
from hypothesis import strategies as st

from flamingo_ds.data.segments import Order, Segment, StreamPosition


@given(shards=st.integers(1, 9), world_size=st.integers(1, 20), samples=st.integers(0, 12), epoch=st.integers(0, 3))
def test_the_ranks_together_read_each_sample_exactly_once(shards, world_size, samples, epoch):
    read_by_all = []
    for rank in range(world_size):
        for segment in Order(shards, 7).share(epoch, rank, world_size):
            assert (segment.epoch, segment.skip) == (epoch, 0)
            read_by_all += itertools.product([segment.shard], range(samples)[segment.first :: segment.stride])
    assert sorted(read_by_all) == sorted(itertools.product(range(shards), range(samples)))


@given(shards=st.integers(1, 40), world_size=st.integers(1, 20))
def test_no_rank_has_much_more_than_another(shards, world_size):
    shares = [Order(shards, 7).share(0, rank, world_size) for rank in range(world_size)]
    amounts = [sum(1 / segment.stride for segment in share) for share in shares]
    assert all(amounts)
    if shards >= world_size:
        assert max(amounts) - min(amounts) <= 1
    else:
        # Shards that are shared are shared by numbers of ranks that differ by one at most.
        strides = [segment.stride for share in shares for segment in share]
        assert max(strides) - min(strides) <= 1


def test_epochs_and_seeds_differ_in_order():
    orders = [
        [segment.shard for segment in Order(20, seed).share(epoch, 0, 1)] for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert len(set(map(tuple, orders))) == 3


def test_what_is_left_is_dealt_out_evenly_whole_shards_first():
    order = Order(12, 7)
    # Of three ranks with four shards each, in the second, third and second shard.
    positions = [StreamPosition(0, 1, 5), StreamPosition(0, 2, 1), StreamPosition(0, 1, 0)]
    dealt = [order.deal_again(positions, rank, 2).dealt for rank in range(2)]
    first, second, third = (order.share(0, rank, 3) for rank in range(3))
    begun = [first[1]._replace(skip=5), second[2]._replace(skip=1)]
    assert sorted(dealt[0] + dealt[1]) == sorted(first[2:] + second[3:] + third[1:] + begun)
    assert [len(segments) for segments in dealt] == [4, 4]
    assert [segments[-1] in begun for segments in dealt] == [True, True]
    assert [segment.skip for segments in dealt for segment in segments[:-1]] == [0] * 6


def test_the_shares_that_the_slower_ranks_have_not_begun_are_left_too():
    order = Order(2, 7)
    # Rank 1 is two epochs ahead: rank 0 still has three shards of three epochs to read.
    left = order.left([StreamPosition(1, 0, 3), StreamPosition(3, 0, 0)])
    mine = [order.share(epoch, 0, 2)[0] for epoch in (1, 2, 3)]
    assert left == [mine[0]._replace(skip=3), *mine[1:], *order.share(3, 1, 2)]
    dealt = [order.deal_again([StreamPosition(1, 0, 3), StreamPosition(3, 0, 0)], rank, 3) for rank in range(3)]
    assert [position.epoch for position in dealt] == [3, 3, 3]
    assert [segment.epoch for position in dealt for segment in position.dealt] == [1, 3, 2, 3]


def test_a_position_is_a_few_numbers():
    position = StreamPosition(3, 1, 2, [Segment(2, 7, 0, 1), Segment(3, 1, 1, 2, 5)])
    state = position.state_dict()
    assert state == {"epoch": 3, "shard": 1, "samples": 2, "dealt": [[2, 7, 0, 1, 0], [3, 1, 1, 2, 5]]}
    assert StreamPosition.of_state(state) == position
    assert StreamPosition.of_state(StreamPosition().state_dict()) == StreamPosition()
