"""What is worth an answer comes first, and what has one makes room for the next."""

import pytest
from reports import CLASSES, query

from sssl.catalog.corrections import Correction
from sssl.errors import StoreError
from sssl.report.source import Source
from sssl.review.queue import Item, make_queue


@pytest.fixture(scope="module")
def source(report_folder):
    return Source.of(*report_folder)


@pytest.fixture(scope="module")
def queue(source):
    return make_queue(source, {})


def said_of(item, label=CLASSES[0]):
    return Correction(item.track_id, item.start_s, item.end_s, label)


def test_passages_hold_every_segment_that_looks_wrong_once(report_folder, queue):
    passages = [item for item in queue.items if item.kind == "passage"]
    suspects = query(report_folder, "select track_id, start_s, end_s, model_label from suspects")
    assert sum(item.segments for item in passages) == len(suspects) > 0
    for track_id, start_s, end_s, label in suspects:
        inside = [
            item
            for item in passages
            if item.track_id == track_id and item.start_s <= start_s and end_s <= item.end_s
        ]
        assert [item.label for item in inside] == [label]


def test_the_passage_with_most_segments_expected_to_be_wrong_comes_first(report_folder, queue):
    first = next(item for item in queue.items if item.kind == "passage")
    sums = query(
        report_folder,
        "select track_id, sum(1 - clean_probability) as wrong from suspects group by all "
        "order by wrong desc, track_id limit 1",
    )
    ((alone,),) = query(
        report_folder,
        f"select sum(1 - clean_probability) from suspects where track_id = '{first.track_id}' "
        f"and start_s >= {first.start_s} and end_s <= {first.end_s}",
    )
    assert alone <= sums[0][1]
    passages = [item for item in queue.items if item.kind == "passage"]
    assert first.segments == max(item.segments for item in passages)


def test_songs_are_those_that_abstain_or_are_close_the_closest_first(report_folder, queue):
    songs = [item.track_id for item in queue.items if item.kind == "song"]
    rows = query(
        report_folder,
        "select track_id from (select *, list_reverse_sort(probabilities) as p from songs) "
        "where abstained or p[1] - p[2] < 0.2 order by p[1] - p[2], track_id",
    )
    assert songs == [track_id for (track_id,) in rows]
    assert songs


def test_passages_and_songs_take_turns(queue):
    kinds = [item.kind for item in queue.items]
    fewest = min(kinds.count("passage"), kinds.count("song"))
    assert kinds[: 2 * fewest] == ["passage", "song"] * fewest
    assert queue.tracks.keys() == {item.track_id for item in queue.items}


def test_what_has_an_answer_makes_room_for_the_next(source, queue):
    passages = [item for item in queue.items if item.kind == "passage"]
    assert len(passages) > 4

    def listed(said):
        found = make_queue(source, said, most_open=2)
        return [item for item in found.items if item.kind == "passage"]

    first = listed({})
    assert first == passages[:2]
    said = {first[0].track_id: [said_of(first[0])]}
    answered = [item for item in passages if item.answer_in(said.get(item.track_id, ()))]
    assert listed(said) == passages[: 2 + len(answered)]


def test_songs_that_are_asked_for_come_first_and_once(report_folder, source, queue):
    uncertain = next(item for item in queue.items if item.kind == "song")
    listed = {item.track_id for item in queue.items if item.kind == "song"}
    rows = query(report_folder, "select track_id, label from songs order by track_id desc")
    sure, label = next(row for row in rows if row[0] not in listed)
    found = make_queue(source, {}, asked_for=[sure, uncertain.track_id])
    assert [item.track_id for item in found.items[:2]] == [sure, uncertain.track_id]
    assert (found.items[0].kind, found.items[0].label) == ("song", label)
    assert found.items[1] == uncertain
    assert len(found.items) == len(queue.items) + 1
    with pytest.raises(StoreError, match="1 track without a song: nobody"):
        make_queue(source, {}, asked_for=[sure, "nobody"])


PASSAGE = Item("passage", "t", 2, "Q2", 0.9, "Q1", start_s=6.0, end_s=12.0)
SONG = Item("song", "t", 9, "Q2", 0.5, "Q1")


@pytest.mark.parametrize(
    ("said", "of_passage", "of_song"),
    [
        ([], None, None),
        ([("Q1", 6.0, 12.0)], "Q1", None),
        ([("Q1", 6.0, 9.0)], "Q1", None),
        ([("Q1", 6.0, 8.9)], None, None),
        ([("Q1", 0.0, 60.0), ("Q2", 6.0, 12.0)], "Q2", None),
        ([("Q3", None, None)], "Q3", "Q3"),
        ([("Q1", 6.0, 12.0), ("Q3", None, None)], "Q1", "Q3"),
    ],
)
def test_a_passage_is_answered_by_what_is_about_half_of_it_then_by_its_song(
    said, of_passage, of_song
):
    corrections = [Correction("t", start_s, end_s, label) for label, start_s, end_s in said]
    assert PASSAGE.answer_in(corrections) == of_passage
    assert SONG.answer_in(corrections) == of_song
