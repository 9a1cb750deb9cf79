"""Answers end up in the file of corrections: all of them, whoever writes at the same time."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from sssl.catalog.corrections import Correction
from sssl.errors import CatalogError
from sssl.review.answers import Answers, label_of

CLASSES = ("Q1", "Q2")
EACH = 10


@pytest.fixture
def answers(tmp_path):
    return Answers(tmp_path / "corrections.csv", CLASSES)


def of_track(track_id, label="Q1", when="2026-11-27T10:00:00Z"):
    return Correction(track_id, None, None, label, "ann", when)


def append_some(path, number):
    """Append as another process does."""
    for one in range(EACH):
        Answers(Path(path), CLASSES).append([of_track(f"{number}-{one}")])


def test_the_first_answer_makes_the_file_with_the_columns_of_the_docs(answers):
    answers.append([Correction("a", 12.0, 15.5, "Q2", "ann", "2026-11-27T10:00:00Z")])
    assert answers.path.read_text() == (
        "track_id,start_s,end_s,label,who,when\na,12,15.5,Q2,ann,2026-11-27T10:00:00Z\n"
    )
    visible = [path for path in answers.path.parent.iterdir() if not path.name.startswith(".")]
    assert visible == [answers.path]


def test_what_is_in_the_file_stays_as_it_is_and_its_columns_keep_their_order(answers):
    before = b"\xef\xbb\xbflabel,track_id,end_s,start_s,mood\r\nQ1,\xc3\xa9,,,sunny"
    answers.path.write_bytes(before)
    answers.append([Correction("b, c", 0.0, 3.0, "Q2", "ann", "2026-11-27T10:00:00Z")])
    assert answers.path.read_bytes() == before + b'\nQ2,"b, c",3,0,\n'
    assert [one.key for one in answers.standing()] == [("é", None, None), ("b, c", 0.0, 3.0)]


def test_a_link_stays_one_and_its_file_has_the_answers(answers, tmp_path):
    shared = tmp_path / "shared" / "corrections.csv"
    Answers(shared, CLASSES).append([of_track("a")])
    answers.path.symlink_to(shared)
    answers.append([of_track("b")])
    assert answers.path.is_symlink()
    assert [one.track_id for one in Answers(shared, CLASSES).standing()] == ["a", "b"]


def test_a_file_of_something_else_is_refused_and_stays_as_it_is(answers):
    answers.path.write_text("dear diary\n")
    with pytest.raises(CatalogError, match="column track_id is missing"):
        answers.append([of_track("a")])
    assert answers.path.read_text() == "dear diary\n"


@pytest.mark.parametrize("seconds", [0.1, 2.9999998, 1234.5678, 86399.99, 1e-7])
def test_seconds_are_read_back_as_the_same_single_precision(answers, seconds):
    single = float(np.float32(seconds))
    answers.append([Correction("a", single, 1e6, "Q1")])
    assert answers.standing()[0].start_s == single


@pytest.mark.parametrize("track_id", ["=1+1", "-a", "@b", 'c"d', "e\nf"])
def test_an_id_is_read_back_as_it_was(answers, track_id):
    answers.append([of_track(track_id)])
    assert answers.standing()[0].track_id == track_id


def test_windows_and_processes_that_write_at_the_same_time_lose_no_answer(answers):
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=append_some, args=(str(answers.path), n)) for n in range(2)]
    for other in others:
        other.start()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: append_some(answers.path, number), range(2, 6)))
    for other in others:
        other.join()
        assert other.exitcode == 0
    found = {one.track_id for one in answers.standing()}
    assert found == {f"{number}-{one}" for number in range(6) for one in range(EACH)}


def test_an_answer_that_is_taken_back_leaves_nothing(answers):
    answers.append([of_track("a", "Q1", "2026-11-27T10:00:00Z")])
    answers.append([of_track("a", None, "2026-11-27T10:00:01Z")])
    assert answers.standing() == []
    assert answers.path.read_text().count("\n") == 3


def test_the_label_that_stands_is_that_of_the_same_passage(answers):
    answers.append([of_track("a"), Correction("a", 0.0, 3.0, "Q2")])
    standing = answers.standing()
    assert label_of(standing, of_track("a", "Q2")) == "Q1"
    assert label_of(standing, Correction("a", 0.0, 3.0, None)) == "Q2"
    assert label_of(standing, Correction("a", 0.0, 6.0, None)) is None
