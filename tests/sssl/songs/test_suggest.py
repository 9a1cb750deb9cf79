"""Which tracks to label next."""

import numpy as np
import pytest
from reports import make_folder

from pipelines.commands.suggest import as_csv, main
from sssl.songs.suggest import Candidate, Suggestion, read_candidates, suggest


def candidate(number, vector, margin=0.5, group=None, guess="Q1"):
    name = f"t{number:03d}"
    return Candidate(
        name, f"{name}.mp3", group or name, guess, "Q3", 0.6, margin, np.array(vector, float)
    )


def heaps(sizes, seed=0):
    """Tracks in heaps far from each other, all of them sure but the last of each heap."""
    random = np.random.default_rng(seed)
    found = []
    for heap, size in enumerate(sizes):
        for number in range(size):
            vector = random.normal(0, 0.1, 4) + 10 * np.eye(4)[heap]
            found.append(
                candidate(
                    100 * heap + number, vector, 0.01 * (heap + 1) if number == size - 1 else 0.9
                )
            )
    return found


def test_half_stand_for_many_and_half_lie_between_two_emotions():
    suggestions = suggest(heaps([30, 20, 10]), 6)
    assert [s.because for s in suggestions[:3]] == [
        "stands for 30 tracks that sound alike",
        "stands for 20 tracks that sound alike",
        "stands for 10 tracks that sound alike",
    ]
    assert [s.track_id[:2] for s in suggestions[:3]] == ["t0", "t1", "t2"]
    assert {s.because for s in suggestions[3:]} == {"between Q1 and Q3"}
    assert [s.track_id for s in suggestions[3:]] == ["t029", "t119", "t209"]


def test_a_track_that_stands_for_itself_alone_says_so():
    suggestions = suggest(heaps([9, 1]), 4)
    assert [s.because for s in suggestions[:2]] == [
        "stands for 9 tracks that sound alike",
        "sounds unlike all others",
    ]


def test_no_two_are_of_one_artist_while_there_are_others():
    same = [candidate(n, [n, 0.0], margin=0.01 * n, group="one") for n in range(8)]
    others = [candidate(100 + n, [n, 5.0], margin=0.5 + 0.01 * n) for n in range(3)]
    groups = ["one" if s.track_id < "t1" else s.track_id for s in suggest(same + others, 4)]
    assert len(set(groups)) == 4
    assert len(suggest(same + others, 6)) == 6


def test_no_more_are_suggested_than_there_are():
    assert len(suggest([candidate(n, [1.0, 2.0]) for n in range(3)], 10)) == 3


def test_the_seed_and_the_candidates_decide():
    candidates = heaps([9, 9, 9])
    assert suggest(candidates, 8, seed=1) == suggest(candidates, 8, seed=1)


def test_cells_are_no_formulas_and_labels_are_empty():
    text = as_csv([Suggestion("a,b", "Q1", 0.5, "between Q1 and Q3", "=cmd.mp3")])
    assert text.splitlines() == [
        "track_id,label,guess,confidence,because,uri",
        '"a,b",,Q1,0.500,between Q1 and Q3,\'=cmd.mp3',
    ]


def test_unlabelled_tracks_of_a_run_are_suggested_and_labelled_ones_never(finished, tmp_path):
    snapshot = finished.latest()
    catalog = finished.read_table(snapshot.get("catalog"), ["track_id", "label"]).to_pylist()
    songs = set(finished.read_table(snapshot.get("songs"), ["track_id"])["track_id"].to_pylist())
    unlabelled = {row["track_id"] for row in catalog if row["label"] is None} & songs
    candidates = read_candidates(finished, snapshot)
    assert {c.track_id for c in candidates} == unlabelled != set()
    assert all(np.isfinite(c.vector).all() and len(c.vector) > 100 for c in candidates)
    to = tmp_path / "new" / "to-label.csv"
    assert main(["--output", finished.root, "--tracks", "2", "--to", str(to)]) == 0
    assert len(to.read_text().splitlines()) == 1 + min(2, len(unlabelled))


def test_where_all_tracks_have_a_label_that_is_said_and_is_no_failure(tmp_path, capsys):
    store, snapshot = make_folder(tmp_path / "out", (0.9,))
    store.publish(snapshot)
    assert main(["--output", store.root]) == 0
    assert "every track with a song has a label" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("arguments", [["--tracks", "0"], ["--to", "gs://bucket/x.csv"]])
def test_what_cannot_be_is_refused(arguments, tmp_path):
    with pytest.raises(SystemExit, match="2"):
        main(["--output", str(tmp_path), *arguments])
