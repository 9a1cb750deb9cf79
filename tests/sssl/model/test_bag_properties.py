"""What holds for the bags of every epoch, however many segments tracks have."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from sssl.model.examples import deal_bags

TRACKS = st.lists(st.integers(0, 7), max_size=40).map(
    lambda numbers: torch.tensor(numbers, dtype=torch.int64)
)


def bags_of(track, size, seed):
    return deal_bags(track, size, torch.Generator().manual_seed(seed))


@given(TRACKS, st.integers(1, 5), st.integers(0, 2**31))
def test_each_row_is_in_a_bag_of_its_own_track(track, size, seed):
    bags = bags_of(track, size, seed)
    assert bags.shape[1] == size
    assert set(bags.flatten().tolist()) == set(range(len(track)))
    for bag in bags:
        assert len(set(track[bag].tolist())) == 1


@given(TRACKS, st.integers(1, 5), st.integers(0, 2**31))
def test_no_more_bags_are_made_than_the_segments_of_a_track_need(track, size, seed):
    counts = torch.unique(track, return_counts=True)[1]
    assert len(bags_of(track, size, seed)) == int((-(-counts // size)).sum())


@given(TRACKS, st.integers(1, 5), st.integers(0, 2**31))
def test_a_seed_gives_the_same_order_again(track, size, seed):
    assert bags_of(track, size, seed).equal(bags_of(track, size, seed))
