"""What holds for every catalog, however it is labelled, grouped and grown."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from rows import a_track

import sssl.catalog.assign as module
from schemas import Catalog, to_arrow
from sssl.catalog.assign import CatalogConfig, Dealt, deal

CONFIG = CatalogConfig(folds=3)
LABELS = [*CONFIG.classes, None]


@st.composite
def catalogs(draw):
    """Up to 60 tracks of up to 20 groups, as they come from a file: without part, split and
    fold."""
    given_rows = draw(
        st.lists(st.tuples(st.integers(0, 19), st.sampled_from(LABELS)), min_size=1, max_size=60)
    )
    rows = [
        a_track(f"t{i:03d}", label=label, split=None, group_id=f"g{group}")
        for i, (group, label) in enumerate(given_rows)
    ]
    return to_arrow(Catalog, rows)


def by_id(dealt):
    return {row["track_id"]: row for row in dealt.to_pylist()}


@given(catalogs())
def test_every_track_is_dealt_once_and_parts_are_full_but_for_the_last(tracks):
    dealt = deal(tracks, CONFIG, Dealt())
    assert sorted(dealt["track_id"].to_pylist()) == sorted(tracks["track_id"].to_pylist())
    sizes = [count["counts"] for count in dealt["part"].value_counts().to_pylist()]
    size = CONFIG.part_size(len(tracks))
    assert len(sizes) == -(-len(tracks) // size)
    assert sorted(sizes)[1:] == [size] * (len(sizes) - 1)


@given(catalogs())
def test_a_group_is_in_one_split_and_one_fold(tracks):
    dealt = deal(tracks, CONFIG, Dealt())
    labelled = [row for row in dealt.to_pylist() if row["label"] is not None]
    for name in ("split", "fold"):
        of_groups = {(row["group_id"], row[name]) for row in labelled}
        assert len(of_groups) == len({row["group_id"] for row in labelled})
    assert {row["split"] for row in dealt.to_pylist() if row["label"] is None} <= {None}


@given(catalogs(), st.randoms(use_true_random=False))
def test_the_order_of_the_catalog_does_not_matter(tracks, random):
    order = list(range(len(tracks)))
    random.shuffle(order)
    assert deal(tracks.take(pa.array(order)), CONFIG, Dealt()).equals(deal(tracks, CONFIG, Dealt()))


@given(catalogs(), st.data())
def test_tracks_that_were_dealt_stay_where_they_are_when_others_come(tracks, data):
    known = data.draw(st.integers(1, len(tracks)))
    before = deal(tracks.slice(0, known), CONFIG, Dealt())
    after = by_id(deal(tracks, CONFIG, Dealt(before, CONFIG)))
    for row in before.to_pylist():
        now = after[row["track_id"]]
        assert now["part"] == row["part"]
        assert now["fold"] == row["fold"]
        if row["split"] == "test":
            assert now["split"] == "test"


def test_parts_grow_with_the_catalog_to_a_size_that_a_worker_holds():
    sizes = {tracks: CONFIG.part_size(tracks) for tracks in (1, 16, 100, 513, 1_600_000)}
    assert sizes == {1: 1, 16: 1, 100: 7, 513: 32, 1_600_000: 32}
    assert CONFIG.part_size(1_600_001) == 33
    for tracks in (2_000_000, 5_000_000, 6_400_000):
        assert -(-tracks // CONFIG.part_size(tracks)) <= 50_000
    assert CONFIG.part_size(10_000_000) == CONFIG.part_size(100_000_000) == 128


def largest_part(tracks, config, dealt):
    parts = deal(tracks, config, dealt)["part"]
    return max(count["counts"] for count in parts.value_counts().to_pylist())


def test_a_folder_keeps_the_size_of_its_parts_as_it_grows(monkeypatch):
    monkeypatch.setattr(module, "_MOST_PARTS", 10)
    rows = [a_track(f"t{i:04d}", group_id=f"g{i}", split=None) for i in range(900)]
    tracks = to_arrow(Catalog, rows)
    night = tracks.slice(0, 320)
    assert largest_part(tracks, CONFIG, Dealt()) == 90
    small = Dealt(deal(night, CONFIG, Dealt()), CONFIG)
    assert largest_part(tracks, CONFIG, small) == 32
    large = Dealt(deal(tracks.slice(0, 800), CONFIG, Dealt()), CONFIG)
    assert largest_part(tracks, CONFIG, large) == 80
    assert largest_part(night, CONFIG, Dealt(large.tracks.slice(0, 200))) == 80
    asked = CatalogConfig(folds=3, tracks_per_part=40)
    assert largest_part(tracks, asked, small) == 40
