import json
import re

import numpy as np
import pytest
from reports import CLASSES, SCRIPT, Page, make_folder, query, read, text_of

from sssl.report.browse import changes, groups, plane, songs
from sssl.report.page import render
from sssl.report.source import Source

PARTS = songs.STRIP_PARTS


def embedded(html):
    """The columns that stand in a page for its script."""
    return json.loads(re.search(r'id="report-data">(.*?)</script>', html, re.DOTALL)[1])


def test_the_page_holds_all_songs_as_columns(report_folder, report_html):
    found = embedded(report_html)["songs"]
    rows = query(
        report_folder,
        "select track_id, label, round(1000 * confidence), abstained, s.segments, (select count(*)"
        " from suspects x where x.track_id = s.track_id) from songs s order by track_id",
    )
    said = zip(
        found["track"],
        [CLASSES[position] for position in found["label"]],
        found["confidence"],
        map(bool, found["abstained"]),
        found["segments"],
        found["wrong"],
        strict=True,
    )
    assert list(said) == rows
    assert sum(found["wrong"])
    assert found["folders"] == []  # the audio is nowhere


def test_probabilities_have_a_column_per_class(report_folder, report_html):
    found = embedded(report_html)["songs"]["probabilities"]
    rows = query(report_folder, "select probabilities from songs order by track_id")
    assert list(zip(*found, strict=True)) == [
        tuple(round(1000 * p) for p in row) for (row,) in rows
    ]


def test_a_passage_is_within_what_looks_wrong(report_folder, report_html):
    found = embedded(report_html)["songs"]
    rows = zip(
        found["track"],
        found["wrong"],
        found["passage_start_s"],
        found["passage_end_s"],
        strict=True,
    )
    for track_id, wrong, start_s, end_s in rows:
        assert (start_s is None) == (not wrong)
        if wrong:
            ((inside,),) = query(
                report_folder,
                f"select count(*) from suspects where track_id = '{track_id}' "
                f"and start_s >= {start_s} and end_s <= {end_s}",
            )
            assert 0 < inside <= wrong


def test_no_name_ends_the_data(report_html):
    assert SCRIPT in embedded(report_html)["songs"]["track"]
    assert SCRIPT not in report_html


@pytest.mark.parametrize(
    ("start_s", "ends_s", "classes", "code"),
    [
        (0.0, [10.0, 30.0], [0, 2], f"a{PARTS // 3}c{PARTS}"),
        (15.0, [30.0], [1], f"-{PARTS // 2}b{PARTS}"),
        (0.0, [0.01, 30.0], [0, 1], f"b{PARTS}"),
        (0.0, [60.0], [0], f"a{PARTS}"),
    ],
)
def test_a_timeline_is_written_as_runs(start_s, ends_s, classes, code):
    assert songs.coded_timeline(start_s, ends_s, classes, 30.0) == code


def test_a_track_without_length_has_no_timeline():
    assert songs.coded_timeline(0.0, [3.0], [0], 0.0) == ""


def test_of_a_large_catalog_the_page_holds_what_is_worth_looking_at_and_says_so(
    report_folder, monkeypatch
):
    monkeypatch.setattr(songs, "EMBEDDED_SONGS", 5)
    html = read(report_folder)
    ((total,),) = query(report_folder, "select count(*) from songs")
    ((most_wrong,),) = query(
        report_folder,
        "select sum(n) from (select count(*) as n from suspects group by track_id order by n desc"
        " limit 5)",
    )
    found = embedded(html)["songs"]
    assert len(found["track"]) == 5
    assert found["track"] == sorted(found["track"])
    assert sum(found["wrong"]) == most_wrong > 0
    assert f"This page holds 5 of the {total} songs" in text_of(html)
    monkeypatch.undo()
    assert "This page holds" not in text_of(read(report_folder))


def test_the_page_says_no_place_that_a_signature_stands_in(in_memory):
    folder = make_folder(in_memory, (0.8,), uri="https://user:word@host/{}.flac?signature=secret")
    found = embedded(read(folder))["songs"]
    assert found["file"][0].endswith(".flac")
    assert "secret" not in json.dumps(found)
    assert "word@" not in json.dumps(found)


def test_without_a_column_of_groups_there_is_no_table_of_them(report_folder, report_html):
    assert groups.context(Source.of(*report_folder)) is None
    assert embedded(report_html)["groups"] is None
    assert 'id="groups"' not in report_html


def test_groups_count_their_songs_by_emotion(finished):
    source = Source.of(finished, finished.latest())
    source.connection.execute(
        "create or replace table grouped as select * replace ('one' as group_id) from catalog"
    )
    source.connection.execute("create or replace view catalog as from grouped")
    found = groups.context(source)
    ((labelled, abstained),) = source.connection.sql(
        "select count(*), count_if(abstained) from songs"
    ).fetchall()
    assert found["total"] == 1
    assert found["columns"]["songs"] == [labelled]
    assert found["columns"]["abstained"] == [abstained]
    assert sum(counts for (counts,) in found["columns"]["labels"]) == labelled


def test_a_first_publication_has_nothing_to_compare_with(report_folder, report_html):
    assert changes.context(Source.of(*report_folder)) is None
    assert "Nothing was published here before" in text_of(report_html)


def test_every_song_of_the_table_says_which_track_it_is(report_folder, report_html):
    named = [value for name, value in Page(report_html).attributes if name == "data-track-id"]
    assert {track_id for (track_id,) in query(report_folder, "select track_id from songs")} <= set(
        named
    )


def test_a_song_lies_in_the_plane_where_its_probabilities_pull_it(finished):
    source = Source.of(finished, finished.latest())
    rows = source.connection.sql("select probabilities, label from songs").fetchall()
    corners = np.array([plane.QUADRANTS[name] for name in source.classes])
    points = np.array([probabilities for probabilities, _ in rows]) @ corners
    found = plane.cells(source)
    assert sum(cell.songs for cell in found) == len(rows)
    for cell in found:
        inside = np.all(
            np.abs(points - (cell.valence, cell.arousal)) <= 1 / plane.CELLS + 1e-6, axis=1
        )
        assert inside.sum() >= cell.songs
        assert source.classes[cell.position] in {rows[song][1] for song in np.flatnonzero(inside)}
    assert "computed from the probabilities" in finished.read_bytes("report.html").decode()


def test_classes_without_a_place_in_the_plane_are_not_drawn_in_it(report_folder, report_html):
    assert plane.context(Source.of(*report_folder)) is None
    assert "plane of valence" not in text_of(report_html)


def test_songs_that_changed_are_counted_listed_and_marked(report_folder, monkeypatch):
    source = Source.of(*report_folder)
    monkeypatch.setattr(changes, "published_before", lambda store: report_folder[1])
    source.connection.execute(
        f"create or replace view song_changes as select track_id, '{CLASSES[0]}' as label_before,"
        " label, 0.5::float as confidence_before, confidence, 'old' as model_before, model_id from"
        f" songs where label <> '{CLASSES[0]}'"
    )
    changed = source.rows(
        "select track_id, label from songs where label <> ? order by track_id", CLASSES[0]
    )
    html = render(source, None)
    found = embedded(html)["songs"]
    marked = [
        track for track, before in zip(found["track"], found["before"], strict=True) if before == 0
    ]
    assert marked == [row["track_id"] for row in changed]
    assert f"{len(changed)} songs have another label than in the publication of" in text_of(html)
    assert changes.context(source)["moves"] == [
        {"label_before": CLASSES[0], "label": CLASSES[1], "songs": len(changed)}
    ]
