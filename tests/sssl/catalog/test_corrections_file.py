import numpy as np
import pyarrow as pa
import pytest
from rows import a_track

from sssl.catalog.assign import CatalogConfig
from sssl.catalog.committed import commit_catalog, rows_of
from sssl.catalog.corrections import corrected_classes, read_corrections, without_tracks
from sssl.catalog.read import read_catalog
from sssl.errors import CatalogError
from sssl.store.folder import Store

CLASSES = ("Q1", "Q2", "Q3", "Q4")
CONFIG = CatalogConfig(tracks_per_part=2)
HEADER = "track_id,start_s,end_s,label,who,when\n"


@pytest.fixture
def written(tmp_path):
    """A function that writes a file of corrections and returns its path."""

    def write(rows, header=HEADER):
        (tmp_path / "corrections.csv").write_text(header + rows)
        return str(tmp_path / "corrections.csv")

    return write


@pytest.fixture
def catalog(tmp_path):
    """A catalog of three tracks, the last without a label."""
    (tmp_path / "catalog.csv").write_text(
        "track_id,uri,label\na,/a.wav,Q1\nb,/b.wav,Q2\nnew,/new.wav,\n"
    )
    return str(tmp_path / "catalog.csv")


def read(url):
    """The corrections of a file as (id, start, end, label), and what was told."""
    told = []
    found = read_corrections([url], CLASSES, told.append)
    return [(one.track_id, one.start_s, one.end_s, one.label) for one in found], told


def corrected(catalog, corrections=None, labels=None):
    """The rows of a corrected catalog by id, and what was told."""
    told = []
    tracks = read_catalog(catalog, labels, CONFIG, tell=told.append, corrections=corrections)
    return {row.track_id: row for row in rows_of(tracks)}, told


def classes_of(said, starts=(0.0, 3.0, 6.0, 9.0)):
    """The classes that corrections give the segments of 3 s of a track."""
    cells = [{"start_s": start, "end_s": end, "label": label} for start, end, label in said]
    segments = pa.table(
        {"track_id": ["t"] * len(starts), "start_s": pa.array(starts, pa.float32())}
    )
    return corrected_classes(segments, 3.0, [a_track(corrections=cells)], CLASSES).tolist()


def test_the_newest_correction_of_the_same_passage_counts(written):
    rows = "a,0,3,Q2,ann,2026-11-27T10:00:00+00:00\na,0,3,Q3,ben,2026-11-27T12:00:00+02:00\n"
    rows += "a,,,Q4,,\na,,,Q1,,\n"
    assert read(written(rows))[0] == [("a", None, None, "Q1"), ("a", 0.0, 3.0, "Q3")]
    later = "a,0,3,Q2,ann,2026-11-27T10:00:01+00:00\na,0,3,Q3,ben,2026-11-27T12:00:00+02:00\n"
    assert read(written(later))[0] == [("a", 0.0, 3.0, "Q2")]


def test_a_correction_without_a_label_takes_back_what_was_said(written):
    assert read(written("a,0,3,Q2,,\na,0,3,,,\nb,,,Q1,,\n")) == ([("b", None, None, "Q1")], [])


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("a,0,3,Q9,,", "with another label than Q1, Q2, Q3, Q4: a"),
        ("a,0,3,q3,,", "with the label 'q3' (is Q3 meant?): a"),
        ("a,3,,Q2,,", "with a start but no end, or the other way round: a"),
        ("a,3,3,Q2,,", "with times that are no passage"),
        ("a,-1,3,Q2,,", "with times that are no passage"),
        ("a,nan,3,Q2,,", "with times that are no passage"),
        ("a,0,inf,Q2,,", "with times that are no passage"),
        ("a,early,3,Q2,,", "with times that are no passage"),
        (",0,3,Q2,,", "without a track_id: (no track_id)"),
        ("a,1", "with a start but no end, or the other way round: a"),
    ],
)
def test_a_row_that_says_nothing_is_left_out_with_a_reason(written, row, why):
    found, (told,) = read(written(f"{row}\nb,0,3,Q2,,\n"))
    assert found == [("b", 0.0, 3.0, "Q2")]
    assert "1 correction left out" in told
    assert why in told


def test_a_file_that_is_no_corrections_is_refused_in_a_sentence(written, tmp_path):
    with pytest.raises(
        CatalogError, match="column end_s is missing; it has track_id, start_s, label"
    ):
        read(written("a,0,Q1\n", header="track_id,start_s,label\n"))
    with pytest.raises(CatalogError, match=r"column track_id is missing.*columns by commas"):
        read(written('a;0;3;Q1;"Ann, Bob";\n', header="track_id;start_s;end_s;label;who;when\n"))
    with pytest.raises(CatalogError, match=r"cannot read .*none\.csv"):
        read(str(tmp_path / "none.csv"))
    (tmp_path / "latin.csv").write_bytes(b"track_id,start_s,end_s,label\nBj\xf6rk,,,Q1\n")
    with pytest.raises(CatalogError, match=r"cannot read .*latin\.csv"):
        read(str(tmp_path / "latin.csv"))


def test_passages_that_contradict_each_other_are_told(written):
    found, (told,) = read(
        written("a,0,4,Q1,,\na,3,6,Q2,,\nb,0,4,Q1,,\nb,3,6,Q1,,\nc,0,3,Q1,,\nc,3,6,Q2,,\n")
    )
    assert len(found) == 6
    assert "a (0-4 s) and a (3-6 s) overlap and say Q1 and Q2" in told


def test_a_passage_locks_the_segments_that_it_covers_by_half():
    assert classes_of([(3.0, 6.0, "Q3")]) == [-1, 2, -1, -1]
    assert classes_of([(1.5, 7.5, "Q3")]) == [2, 2, 2, -1]
    assert classes_of([(1.6, 7.4, "Q3")]) == [-1, 2, -1, -1]


def test_a_segment_takes_the_passage_that_covers_most_of_it_and_the_newest_of_equals():
    assert classes_of([(0.0, 3.0, "Q1"), (1.0, 6.0, "Q2")]) == [0, 1, -1, -1]
    assert classes_of([(0.0, 3.0, "Q1"), (0.0, 6.0, "Q2")]) == [1, 1, -1, -1]
    overlapping = classes_of([(0.0, 3.0, "Q1"), (1.5, 4.5, "Q2")], starts=(0.0, 1.5, 3.0))
    assert overlapping == [0, 1, 1]


def test_a_passage_counts_more_than_the_whole_track():
    assert classes_of([(3.0, 6.0, "Q3"), (None, None, "Q1")]) == [0, 2, 0, 0]
    assert classes_of([(None, None, "Q1"), (3.0, 6.0, "Q3")]) == [0, 2, 0, 0]


def test_a_correction_of_a_track_is_its_label_and_locks_it(catalog, written):
    rows, _ = corrected(catalog, written("a,,,Q3,,\nnew,,,Q4,,\nb,0,3,Q1,,\n"))
    assert {name: (row.label, row.locked) for name, row in rows.items()} == {
        "a": ("Q3", True),
        "b": ("Q2", False),
        "new": ("Q4", True),
    }
    assert rows["new"].split == "train"
    assert rows["b"].corrections == [{"start_s": 0.0, "end_s": 3.0, "label": "Q1"}]


def test_a_labels_file_with_passages_is_one_of_corrections(catalog, written):
    rows, _ = corrected(catalog, labels=written("a,0,3,Q3,,\na,3,6,Q4,,\nb,,,Q1,,\n"))
    assert len(rows["a"].corrections) == 2
    assert rows["b"].label == "Q1"


def test_what_a_labels_file_says_can_be_taken_back_on_the_page(catalog, written, tmp_path):
    (tmp_path / "to-review.csv").write_text(HEADER + "a,0,3,Q3,,\na,3,6,Q4,,\nb,,,Q1,,\n")
    page = written("a,0,3,,ann,2026-11-27T10:00:00Z\nb,,,,ann,2026-11-27T10:01:00Z\n")
    rows, _ = corrected(catalog, page, str(tmp_path / "to-review.csv"))
    assert rows["a"].corrections == [{"start_s": 3.0, "end_s": 6.0, "label": "Q4"}]
    assert (rows["b"].label, rows["b"].locked, rows["b"].corrections) == ("Q2", False, None)


def test_passages_of_two_files_that_overlap_with_other_labels_are_named(catalog, written, tmp_path):
    (tmp_path / "to-review.csv").write_text(HEADER + "a,0,4,Q3,,\nb,0,4,Q1,,\n")
    page = written("a,3,6,Q4,,\nb,3,6,Q2,,\nb,0,4,,,\n")
    _, told = corrected(catalog, page, str(tmp_path / "to-review.csv"))
    (only,) = told
    assert "a (0-4 s) and a (3-6 s) overlap and say Q3 and Q4" in only


def test_a_correction_of_an_unknown_track_is_told(catalog, written):
    rows, told = corrected(catalog, written("gone,0,3,Q3,,\ngone,,,Q3,,\na,,,Q3,,\n"))
    assert told == ["2 corrections left out, no such track in the catalog: gone"]
    assert rows["a"].label == "Q3"


def test_an_id_that_a_spreadsheet_would_run_is_read_back(tmp_path, written):
    (tmp_path / "c.csv").write_text("track_id,uri\n=SUM(A1),/a.wav\n")
    rows, told = corrected(str(tmp_path / "c.csv"), written("'=SUM(A1),,,Q1,,\n"))
    assert not told
    assert rows["=SUM(A1)"].label == "Q1"


def test_a_catalog_without_corrections_keeps_its_name_and_one_with_counts_them(
    catalog, written, tmp_path
):
    store = Store.open(str(tmp_path / "out"), create=True)
    plain = commit_catalog(store, read_catalog(catalog, None, CONFIG), CONFIG)
    empty = commit_catalog(
        store, read_catalog(catalog, None, CONFIG, corrections=written("")), CONFIG
    )
    assert empty.ref == plain.ref == "catalog/cf1fcfd2ff7e"
    rows = read_catalog(
        catalog, None, CONFIG, corrections=written("a,0,3,Q3,,\na,,,Q1,,\nb,3,6,Q1,,\n")
    )
    summary = commit_catalog(store, rows, CONFIG).summary
    assert (summary["corrected_tracks"], summary["corrected_passages"]) == (1, 2)


def test_who_and_when_do_not_change_what_a_run_makes(catalog, written):
    one, _ = corrected(catalog, written("a,0,3,Q3,ann,2026-11-27T10:00:00+00:00\n"))
    other, _ = corrected(catalog, written("a,0,3,Q3,,\n"))
    assert one == other


def test_times_have_the_precision_of_the_catalog(catalog, written):
    rows, _ = corrected(catalog, written("a,0.1,3.1,Q3,,\n"))
    assert rows["a"].corrections[0]["start_s"] == float(np.float32(0.1))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_rows_of_a_track_are_taken_out_and_all_others_stay_as_they_are(end):
    kept = ["\ufefflabel,track_id,start_s,end_s", 'Q1, "b",,', 'Q1,"c,\n d",,', "Q2,,", ""]
    gone = ["Q1,a,,", 'Q2,"a",0,3', "Q1, a ,,", "Q1,'=1+1,,"]
    before = end.join([*kept[:2], *gone, *kept[2:]])
    found = without_tracks(before.encode(), {"a", "=1+1"}.__contains__)
    assert found.decode() == end.join(kept)


def test_a_file_without_tracks_is_left_to_its_owner():
    for content in (b"", b"dear diary\n", b"\xff\xfe"):
        with pytest.raises(CatalogError, match="no file of corrections"):
            without_tracks(content, lambda _: True)


def test_a_quote_that_nobody_closed_is_refused_instead_of_taking_the_rows_behind_it(written):
    content = 'a,,,Q1,"Anna,\nb,,,Q2,ben,\n'
    with pytest.raises(CatalogError, match="cannot read"):
        read_corrections([written(content)], CLASSES, print)
    header = "track_id,start_s,end_s,label,who,when\n"
    with pytest.raises(CatalogError, match="no file of corrections"):
        without_tracks((header + content).encode(), {"a"}.__contains__)


def test_an_answer_leaves_a_track_on_the_side_of_its_group(tmp_path, written):
    rows = "held,/h.wav,Q1,ann,test\nanswered,/a.wav,,ann,\nother,/o.wav,Q2,bob,\n"
    (tmp_path / "c.csv").write_text("track_id,uri,label,group_id,split\n" + rows)
    found, _ = corrected(str(tmp_path / "c.csv"), written("answered,,,Q3,,\n"))
    assert {name: row.split for name, row in found.items()} == {
        "held": "test",
        "answered": "test",
        "other": "train",
    }


def test_an_answer_finds_its_track_whatever_blanks_are_around_the_id(tmp_path, written):
    tracks = "track_id,uri,label\n a,/a.wav,\nb ,/b.wav,\nc,/c.wav,\nd,/d.wav,\n d,/e.wav,\n"
    (tmp_path / "c.csv").write_text(tracks)
    answers = " a,,,Q1,,\nb ,,,Q2,,\n c ,,,Q3,,\n d,,,Q4,,\n"
    found, told = corrected(str(tmp_path / "c.csv"), written(answers))
    labels = {name: row.label for name, row in found.items()}
    assert labels == {" a": "Q1", "b ": "Q2", "c": "Q3", "d": None, " d": "Q4"}
    assert told == []


def test_of_two_spellings_of_an_id_the_newer_answer_counts(catalog, written):
    answers = "a,,,Q2,,2026-11-02\n a,,,Q3,,2026-11-01\n"
    found, _ = corrected(catalog, written(answers))
    assert found["a"].label == "Q2"


def test_what_is_taken_back_in_another_spelling_stays_taken_back(catalog, written):
    answers = "a ,,,Q3,,2026-11-01\na,,,,,2026-11-02\n"
    found, _ = corrected(catalog, written(answers))
    assert not found["a"].corrections


def test_answers_to_an_id_with_blanks_go_with_its_track():
    content = b"track_id,start_s,end_s,label\n a,,,Q1\nb,,,Q2\n"
    found = without_tracks(content, {" a"}.__contains__)
    assert found == b"track_id,start_s,end_s,label\nb,,,Q2\n"


def test_answers_to_another_track_whose_id_has_blanks_stay():
    content = b"track_id,start_s,end_s,label\n a,,,Q1\na ,,,Q2\na,,,Q3\n"
    found = without_tracks(content, {"a"}.__contains__, {" a"}.__contains__)
    assert found == b"track_id,start_s,end_s,label\n a,,,Q1\n"


def test_a_file_in_another_encoding_says_so(tmp_path):
    path = tmp_path / "corrections.csv"
    path.write_text(HEADER, encoding="utf-16")
    with pytest.raises(CatalogError, match="save it as UTF-8"):
        read_corrections([str(path)], CLASSES, print)
