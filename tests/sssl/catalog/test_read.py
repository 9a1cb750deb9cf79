from collections import Counter

import pandas as pd
import pyarrow.parquet as pq
import pytest
from rows import a_track

from schemas import Catalog, to_arrow
from sssl.catalog.assign import CatalogConfig, Dealt
from sssl.catalog.committed import commit_catalog, read_part, rows_of
from sssl.catalog.fingerprints import MISSING, fingerprint, with_fingerprints
from sssl.catalog.read import read_catalog as read_table
from sssl.catalog.read import read_tracks
from sssl.errors import CatalogError
from sssl.store.folder import Store

CONFIG = CatalogConfig()


def read_catalog(catalog, labels, config, before=()):
    return rows_of(read_table(catalog, labels, config, Dealt(to_arrow(Catalog, before), CONFIG)))


def commit(store, rows):
    return commit_catalog(store, to_arrow(Catalog, rows), CONFIG)


def write(path, text):
    path.write_text(text)
    return str(path)


def many(tmp_path, count, groups=None, pairs=False):
    group = (
        (lambda i: f"g{i % groups}")
        if groups
        else (lambda i: f"t{i // 8 * 4 + i % 4}" if pairs else f"t{i}")
    )
    rows = "\n".join(f"t{i},/a/{i}.wav,Q{i % 4 + 1},{group(i)}" for i in range(count))
    return write(tmp_path / "many.csv", f"track_id,uri,label,group_id\n{rows}\n")


def test_ids_and_labels_are_text_even_if_they_look_like_numbers_or_nothing(tmp_path):
    catalog = write(tmp_path / "c.csv", "track_id,uri,label\n007,/a.wav,NA\n008,/b.wav,\n")
    rows = {
        row.track_id: row
        for row in read_catalog(catalog, None, CatalogConfig(classes=("NA", "Q2")))
    }
    assert rows["007"].label == "NA"
    assert rows["008"].label is None
    assert rows["008"].split is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("track_id,label\nt1,Q1\n", "column uri is missing; it has track_id, label"),
        ("uri,label\n/a.wav,Q1\n", "column track_id is missing"),
        ("track_id,uri\nt1,/a.wav\nt1,/b.wav\n", "track_id 't1' appears more than once"),
        (
            "track_id,uri,label\nt1,/a.wav,happy\n",
            "track 't1' has label 'happy', expected one of Q1, Q2, Q3, Q4",
        ),
        (
            "track_id,uri,split\nt1,/a.wav,dev\n",
            "track 't1' has split 'dev', expected one of train, test",
        ),
        (
            "track_id,uri,expected_s\nt1,/a.wav,long\n",
            "track 't1' has expected_s 'long', expected seconds",
        ),
        (
            "track_id,uri,locked\nt1,/a.wav,maybe\n",
            "track 't1' has locked 'maybe', expected true or false",
        ),
        ("track_id,uri\nt1,\n", "row 1 has no uri"),
        ("track_id,uri\n", "no tracks"),
        ("", "cannot read"),
    ],
)
def test_a_bad_catalog_is_refused_with_the_thing_and_the_expectation(tmp_path, text, message):
    with pytest.raises(CatalogError, match=message):
        read_catalog(write(tmp_path / "c.csv", text), None, CONFIG)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("q3", "label 'q3', expected one of Q1, Q2, Q3, Q4: is Q3 meant\\?"),
        (" Q3 ", "label ' Q3 ', .*: is Q3 meant, without the blanks\\?"),
        ("sad", "label 'sad', .*: give the class set by --classes"),
    ],
)
def test_a_wrong_label_is_told_with_what_is_meant_and_the_file_that_has_it(
    tmp_path, label, message
):
    rows = f"track_id,uri,label\nt1,/a.wav,{label}\nt2,/b.wav,Q1\n"
    catalog = write(tmp_path / "c.csv", rows)
    with pytest.raises(CatalogError, match=f"c.csv: track 't1' has {message}"):
        read_catalog(catalog, None, CONFIG)
    mended = write(tmp_path / "mended.csv", "track_id,label\nt1,Q2\n")
    assert {row.label for row in read_catalog(catalog, mended, CONFIG)} == {"Q1", "Q2"}
    labels = write(tmp_path / "labels.csv", f"track_id,label\nt2,{label}\n")
    with pytest.raises(CatalogError, match=f"labels.csv: track 't2' has {message}"):
        read_catalog(catalog, labels, CONFIG)


def test_a_missing_catalog_is_refused(tmp_path):
    with pytest.raises(CatalogError, match="cannot read"):
        read_catalog(str(tmp_path / "none.csv"), None, CONFIG)


def test_a_folder_becomes_a_catalog_and_takes_labels_by_id_or_stem(tmp_path):
    (tmp_path / "music" / "album").mkdir(parents=True)
    for name in ("one.mp3", "album/two.FLAC", "cover.jpg"):
        (tmp_path / "music" / name).touch()
    labels = write(
        tmp_path / "labels.csv", "track_id,label\none,Q1\nalbum/two.FLAC,Q3\nelsewhere,Q2\n"
    )
    rows = read_catalog(str(tmp_path / "music"), labels, CONFIG)
    assert {row.track_id: row.label for row in rows} == {"one.mp3": "Q1", "album/two.FLAC": "Q3"}
    assert {
        row.track_id for row in read_catalog(str(tmp_path / "music" / "*.mp3"), None, CONFIG)
    } == {"one.mp3"}


def test_ids_of_a_glob_are_paths_below_what_it_does_not_leave_open(tmp_path):
    for name in ("a/one.wav", "b/one.wav", "c/one.wav"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    found = read_catalog(f"{tmp_path}/[ab]/*.wav", None, CONFIG)
    assert sorted(row.track_id for row in found) == ["a/one.wav", "b/one.wav"]


def test_labels_that_fit_no_file_are_refused(tmp_path):
    (tmp_path / "one.mp3").touch()
    labels = write(tmp_path / "labels.csv", "track_id,label\nother,Q1\n")
    with pytest.raises(
        CatalogError, match=r"no track_id fits a file, e.g. 'other'; ids are paths like 'one.mp3'"
    ):
        read_catalog(str(tmp_path), labels, CONFIG)


def test_a_group_shares_split_and_fold(tmp_path):
    rows = read_catalog(many(tmp_path, 120, groups=30), None, CONFIG)
    for attribute in ("split", "fold"):
        assert (
            max(Counter(g for g, _ in {(r.group_id, getattr(r, attribute)) for r in rows}).values())
            == 1
        )


def test_splits_and_folds_hold_each_class_in_proportion(tmp_path):
    rows = read_catalog(many(tmp_path, 120), None, CONFIG)
    assert Counter(r.label for r in rows if r.split == "test") == dict.fromkeys(
        ("Q1", "Q2", "Q3", "Q4"), 6
    )
    train = Counter((r.label, r.fold) for r in rows if r.split == "train")
    assert set(train.values()) == {6}


def test_the_order_of_the_catalog_does_not_matter(tmp_path):
    path = many(tmp_path, 50)
    header, *lines = (tmp_path / "many.csv").read_text().splitlines()
    turned = write(tmp_path / "turned.csv", "\n".join([header, *reversed(lines)]))
    assert read_catalog(path, None, CONFIG) == read_catalog(turned, None, CONFIG)


def test_a_given_split_is_kept_and_never_dealt(tmp_path):
    catalog = write(
        tmp_path / "c.csv", "track_id,uri,label,split\na,/a,Q1,test\nb,/b,Q1,\nc,/c,,test\n"
    )
    assert {r.track_id: r.split for r in read_catalog(catalog, None, CONFIG)} == {
        "a": "test",
        "b": "train",
        "c": None,
    }


def test_parts_are_read_back_row_by_row(tmp_path, in_memory):
    rows = read_catalog(many(tmp_path, 50), None, CatalogConfig(tracks_per_part=8))
    store = Store.open(in_memory, create=True)
    manifest = commit(store, rows)
    read = [
        row for part in range(manifest.summary["parts"]) for row in read_part(store, manifest, part)
    ]
    assert read == rows
    assert all(isinstance(row, Catalog) for row in read)


def test_the_footer_of_a_catalog_s_file_is_read_once(tmp_path, in_memory, monkeypatch):
    store = Store.open(in_memory, create=True)
    manifest = commit(
        store, read_catalog(many(tmp_path, 50), None, CatalogConfig(tracks_per_part=8))
    )
    footers, read_metadata = [], pq.read_metadata
    monkeypatch.setattr(
        pq, "read_metadata", lambda source: footers.append(source) or read_metadata(source)
    )
    parts = [read_part(store, manifest, part) for part in range(manifest.summary["parts"])]
    assert len(parts) > 1
    assert len(footers) == 1


def test_a_changed_file_makes_another_generation(tmp_path, in_memory):
    audio = tmp_path / "a.wav"
    audio.write_bytes(b"1")
    rows = read_catalog(write(tmp_path / "c.csv", f"track_id,uri\na,{audio}\n"), None, CONFIG)
    store = Store.open(in_memory, create=True)
    before = commit(store, rows).generation
    assert commit(store, rows).generation == before
    audio.write_bytes(b"22")
    rows = read_catalog(write(tmp_path / "c.csv", f"track_id,uri\na,{audio}\n"), None, CONFIG)
    assert commit(store, rows).generation != before


def places(rows):
    return {row.track_id: (row.part, row.split, row.fold) for row in rows}


def test_tracks_that_were_dealt_before_stay_where_they_are(tmp_path):
    first = read_catalog(many(tmp_path, 64, pairs=True), None, CONFIG)
    more = read_catalog(many(tmp_path, 96, pairs=True), None, CONFIG, first)
    assert places(first).items() <= places(more).items()
    new = [row for row in more if row.track_id not in places(first)]
    assert {row.part for row in new}.isdisjoint(row.part for row in first[:-4])
    assert len({row.group_id for row in more if row.split == "test"}) == 4 * round(12 * 0.2)
    assert (
        max(Counter(row.fold for row in more).values())
        - min(Counter(row.fold for row in more).values())
        <= 8
    )
    again = read_catalog(many(tmp_path, 96, pairs=True), None, CONFIG, more)
    assert again == more


def test_a_part_whose_tracks_are_gone_stays_empty(tmp_path, in_memory):
    first = read_catalog(many(tmp_path, 40), None, CatalogConfig(tracks_per_part=4))
    kept = [row for row in first if row.part != 3]
    left = write(
        tmp_path / "left.csv",
        "track_id,uri,label\n" + "".join(f"{r.track_id},{r.uri},{r.label}\n" for r in kept),
    )
    rows = read_catalog(left, None, CatalogConfig(tracks_per_part=4), first)
    store = Store.open(in_memory, create=True)
    manifest = commit(store, rows)
    assert manifest.summary["parts"] == 10
    assert read_part(store, manifest, 3) == []
    assert read_part(store, manifest, 4) == [row for row in rows if row.part == 4]


def test_another_number_of_folds_deals_the_folds_anew_and_keeps_the_parts(tmp_path):
    catalog = many(tmp_path, 60)
    first = read_catalog(catalog, None, CONFIG)
    rows = read_catalog(catalog, None, CatalogConfig(folds=5), first)
    assert {row.track_id: row.part for row in rows} == {row.track_id: row.part for row in first}
    assert {row.fold for row in rows} == {0, 1, 2, 3, 4}


def test_labels_correct_those_of_the_catalog_and_leave_the_others(tmp_path):
    catalog = write(tmp_path / "c.csv", "track_id,uri,label\na,/a,Q1\nb,/b,Q2\nc,/c,\n")
    labels = write(tmp_path / "l.csv", "track_id,label\nb,Q3\n")
    assert {row.track_id: row.label for row in read_catalog(catalog, labels, CONFIG)} == {
        "a": "Q1",
        "b": "Q3",
        "c": None,
    }


def test_a_label_that_fits_two_files_is_refused(tmp_path):
    for name in ("one.mp3", "one.wav"):
        (tmp_path / name).touch()
    labels = write(tmp_path / "labels.csv", "track_id,label\none,Q1\n")
    with pytest.raises(
        CatalogError, match=r"'one' may be one\.mp3 or one\.wav: give the whole name"
    ):
        read_catalog(str(tmp_path), labels, CONFIG)


def test_a_group_on_both_sides_of_the_split_is_refused(tmp_path):
    catalog = write(
        tmp_path / "c.csv", "track_id,uri,label,split,group_id\na,/a,Q1,train,g\nb,/b,Q1,test,g\n"
    )
    with pytest.raises(CatalogError, match="group 'g' has tracks in train and in test"):
        read_catalog(catalog, None, CONFIG)


def test_a_track_without_a_label_holds_nobody_out(tmp_path):
    catalog = write(
        tmp_path / "c.csv", "track_id,uri,label,split,group_id\na,/a,Q1,train,g\nb,/b,,test,g\n"
    )
    rows = read_catalog(catalog, None, CONFIG)
    assert {row.track_id: row.split for row in rows} == {"a": "train", "b": None}


def test_a_folder_whose_name_looks_like_a_pattern_is_read(tmp_path):
    (tmp_path / "Best of [Disc 1]").mkdir()
    (tmp_path / "Best of [Disc 1]" / "one.mp3").touch()
    assert [
        row.track_id for row in read_catalog(str(tmp_path / "Best of [Disc 1]"), None, CONFIG)
    ] == ["one.mp3"]


def test_ids_that_are_numbers_in_parquet_are_text(tmp_path):
    pd.DataFrame({"track_id": [7, 8], "uri": ["/a", "/b"]}).to_parquet(tmp_path / "c.parquet")
    labels = write(tmp_path / "l.csv", "track_id,label\n7,Q3\n")
    rows = read_catalog(str(tmp_path / "c.parquet"), labels, CONFIG)
    assert {row.track_id: row.label for row in rows} == {"7": "Q3", "8": None}


def test_files_found_by_a_listing_have_the_fingerprints_that_they_have_alone(tmp_path):
    (tmp_path / "many").mkdir()
    (tmp_path / "few").mkdir()
    uris = [f"{tmp_path}/many/{n}.wav" for n in range(300)] + [
        f"{tmp_path}/few/{n}.wav" for n in range(5)
    ]
    for n, uri in enumerate(uris[:-1]):
        if n != 7:
            (tmp_path / uri).write_bytes(b"x" * n)
    uris += [f"{tmp_path}/nowhere/{n}.wav" for n in range(300)] + [f"file://{tmp_path}/few/1.wav"]
    rows = [a_track(f"t{n}", uri=uri, label=None) for n, uri in enumerate(uris)]
    found = with_fingerprints(to_arrow(Catalog, rows))["source_fingerprint"].to_pylist()
    assert found == [fingerprint(uri) for uri in uris]
    assert [n for n, of_file in enumerate(found) if of_file == MISSING] == [7, *range(304, 605)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("track_id,uri\nt1,/a.wav,Q1\n", "cannot read .*Expected 2 columns, got 3"),
        ("track_id,uri,uri\nt1,/a.wav,/b.wav\n", "column uri appears more than once"),
    ],
)
def test_a_table_that_may_be_read_in_two_ways_is_refused(tmp_path, text, message):
    with pytest.raises(CatalogError, match=message):
        read_catalog(write(tmp_path / "c.csv", text), None, CONFIG)


def test_a_track_labelled_twice_is_refused(tmp_path):
    (tmp_path / "one.mp3").touch()
    labels = write(tmp_path / "labels.csv", "track_id,label\none,Q1\none.mp3,Q2\n")
    with pytest.raises(CatalogError, match=r"track 'one\.mp3' is named more than once"):
        read_catalog(str(tmp_path), labels, CONFIG)


def test_seconds_and_flags_may_be_numbers(tmp_path):
    columns = {
        "track_id": ["a", "b"],
        "uri": ["/a", "/b"],
        "expected_s": [3.25, None],
        "locked": [True, False],
    }
    pd.DataFrame(columns).to_parquet(tmp_path / "c.parquet")
    rows = {
        row.track_id: (row.expected_s, row.locked)
        for row in read_catalog(str(tmp_path / "c.parquet"), None, CONFIG)
    }
    assert rows == {"a": (3.25, True), "b": (None, False)}


def test_hidden_files_are_no_tracks(tmp_path):
    (tmp_path / "music" / ".trash").mkdir(parents=True)
    for name in ("one.mp3", "._one.mp3", ".one.sssl-1.mp3", ".trash/two.mp3"):
        (tmp_path / "music" / name).touch()
    for catalog in (tmp_path / "music", tmp_path / "music" / "*.mp3"):
        assert [row.track_id for row in read_catalog(str(catalog), None, CONFIG)] == ["one.mp3"]


def test_an_artist_s_unlabelled_tracks_are_on_neither_side(tmp_path):
    header = "track_id,uri,label,split,group_id\n"
    text = f"{header}t1,/a.wav,Q1,test,artist\nt2,/b.wav,,,artist\nt3,/c.wav,Q2,,other\n"
    rows = {
        row.track_id: row for row in read_catalog(write(tmp_path / "c.csv", text), None, CONFIG)
    }
    assert [rows[i].split for i in ("t1", "t2", "t3")] == ["test", None, "train"]
    with pytest.raises(CatalogError, match="group 'artist' has tracks in train and in test"):
        read_catalog(
            write(tmp_path / "d.csv", text.replace("t2,/b.wav,,,", "t2,/b.wav,Q1,,")), None, CONFIG
        )


def test_an_id_that_was_written_for_a_spreadsheet_is_known_again(tmp_path):
    catalog = write(tmp_path / "c.csv", "track_id,uri\n-01 intro,a.wav\n'02,b.wav\n")
    labels = tmp_path / "labels.csv"
    labels.write_text("track_id,label\n'-01 intro,Q1\n'02,Q2\n")
    rows = rows_of(read_table(catalog, str(labels), CatalogConfig()))
    assert {row.track_id: row.label for row in rows} == {"-01 intro": "Q1", "'02": "Q2"}


def test_columns_that_a_catalog_lacks_share_their_memory(tmp_path):
    (tmp_path / "catalog.csv").write_text("track_id,uri\na,a.wav\nb,b.wav\n")
    tracks = read_tracks(str(tmp_path / "catalog.csv"), None, CatalogConfig())
    lacked = tracks.select(["expected_s", "split", "source_fingerprint", "corrections", "valence"])
    assert all(column.null_count == 2 for column in lacked.columns)
    chunks = [column.chunk(0) for column in lacked.columns]
    buffers = {b.address for chunk in chunks for b in chunk.buffers() if b is not None}
    assert len(buffers) == 1
