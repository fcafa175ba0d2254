import numpy
import pytest

from flamingo_ds.config import ConfigError
from flamingo_ds.evaluation.rices import neighbours


def unit(count, width=16, seed=0):
    rows = numpy.random.default_rng(seed).normal(size=(count, width)).astype(numpy.float32)
    return rows / numpy.linalg.norm(rows, axis=1, keepdims=True)


def cut(rows, size):
    return [rows[start : start + size] for start in range(0, len(rows), size)]


@pytest.mark.parametrize("most", [1, 7, 300])
def test_they_are_those_of_a_full_sort(most):
    queries, support = unit(700), unit(300, seed=1)
    wanted = numpy.argsort(-(queries @ support.T), axis=1, kind="stable")[:, :most]
    numpy.testing.assert_array_equal(neighbours(queries, cut(support, 64), most), wanted)


def test_of_equal_ones_the_first_comes_first_however_blocks_are_cut():
    support = numpy.repeat(unit(5), 40, axis=0)[numpy.random.default_rng(0).permutation(200)]
    wanted = neighbours(support, [support], 60)
    assert (numpy.diff(wanted[:, :40], axis=1) > 0).all()
    for size in (1, 7, 64):
        numpy.testing.assert_array_equal(neighbours(support, cut(support, size), 60), wanted)


def test_a_query_does_not_hang_on_which_others_are_asked():
    queries, support = unit(1500, 384), unit(900, 384, seed=1)
    whole = neighbours(queries, cut(support, 128), 20)
    for some in (slice(0, None, 2), slice(1, None, 2), slice(700, 703)):
        numpy.testing.assert_array_equal(neighbours(queries[some], cut(support, 128), 20), whole[some])


def test_unreadable_samples_are_nobodys_neighbours():
    support = unit(10)
    support[3] = numpy.nan
    found = neighbours(unit(4, seed=1), [support], 10)
    assert found.shape == (4, 9)
    assert 3 not in found


def test_nothing_to_choose_from_is_refused():
    for support in ([], [numpy.full((3, 16), numpy.nan, numpy.float32)]):
        with pytest.raises(ConfigError, match="readable"):
            neighbours(unit(2), support, 4)
    with pytest.raises(ConfigError, match="one encoder"):
        neighbours(unit(2), [unit(3), unit(3, width=8)], 20)
    with pytest.raises(ConfigError, match="one encoder"):
        neighbours(unit(2), [unit(3, width=8)], 1)
