import dataclasses
import re

import numpy as np
import pytest

from pipelines.cli import main
from pipelines.commands.explain import facts
from sssl.report.story import draw, tell
from sssl.store.sql import connect


@pytest.fixture(scope="module")
def sql(finished):
    connection = connect(finished, finished.latest())
    return lambda query, *values: connection.execute(query, values).fetchall()


@pytest.fixture(scope="module")
def noisy_track(sql):
    ((track_id,),) = sql(
        "select track_id from accepted_labels where partition = 'noisy' group by all order by"
        " count(*) desc, 1 limit 1"
    )
    return track_id


def explain(finished, capsys, *flags):
    code = main(["explain", "--output", finished.root, *flags])
    said = capsys.readouterr()
    return code, said.out, " ".join(said.err.split())


def test_a_story_has_every_round_that_the_tables_have(finished, sql, noisy_track):
    story = tell(finished, finished.latest(), noisy_track)
    told = [
        (r.verdict.round, len(r.labels), r.noisy, r.relabelled, len(r.scores)) for r in story.rounds
    ]
    assert told == sql(
        "select l.round, count(*), count_if(partition = 'noisy'), count_if(label <>"
        " inherited_label), count(s.model_id) from labels l join scores s using (track_id,"
        " segment_index, round) where track_id = ? group by all order by 1",
        noisy_track,
    )
    assert story.used.noisy > 0


def test_a_story_leads_from_the_song_to_its_model(finished, sql, noisy_track):
    story = tell(finished, finished.latest(), noisy_track)
    assert (
        {row.model_id for row in story.used.scores}
        == {story.song.model_id}
        == {story.used.verdict.model_id}
    )
    assert sql("select label, confidence from songs where track_id = ?", noisy_track) == [
        (story.song.label, story.song.confidence)
    ]


def test_a_story_uses_the_round_of_its_song_though_a_later_one_is_accepted(finished, noisy_track):
    story = tell(finished, finished.latest(), noisy_track)
    later = dataclasses.replace(
        story.used, verdict=dataclasses.replace(story.used.verdict, round=9)
    )
    assert dataclasses.replace(story, rounds=[*story.rounds, later]).used is story.used
    unsung = dataclasses.replace(story, rounds=[*story.rounds, later], song=None)
    assert unsung.used is later


def test_a_story_tells_what_the_song_would_be_without_its_sound(finished, noisy_track, capsys):
    story = tell(finished, finished.latest(), noisy_track)
    assert story.without_sound.sum() == pytest.approx(1)
    # Little more than nothing, for the network has learned this music: yet far above what rounding
    # makes of it.
    assert np.abs(story.without_sound - story.song.probabilities).max() > 1e-6
    _, out, _ = explain(finished, capsys, "--track-id", noisy_track)
    found, label = " ".join(out.split()), story.classes[int(story.without_sound.argmax())]
    assert f"the average track: {'still ' if story.song.label == label else ''}{label}" in found
    assert (
        ", ".join(
            f"{name} {p:.2f}" for name, p in zip(story.classes, story.without_sound, strict=True)
        )
        in found
    )


def test_explain_names_the_file_the_model_and_each_noisy_segment(
    finished, sql, noisy_track, capsys
):
    code, out, _ = explain(finished, capsys, "--track-id", noisy_track)
    ((uri, model_id, noisy),) = sql(
        "select uri, model_id, (select count(*) from accepted_labels l where l.track_id ="
        " s.track_id and partition = 'noisy') from songs s join catalog using (track_id) where"
        " track_id = ?",
        noisy_track,
    )
    assert code == 0
    assert uri in "".join(line.strip() for line in out.splitlines())
    assert model_id in out
    assert len(re.findall(r"noisy\s+high-loss", out)) == noisy
    story = tell(finished, finished.latest(), noisy_track)
    found = (
        f"suspects {noisy} of {story.song.segments} segments look wrong by the split of round"
        f" {story.split_round}"
    )
    assert found in " ".join(out.split())


def test_the_timeline_in_the_terminal_shows_each_entry_in_proportion(finished, capsys):
    story = tell(finished, finished.latest(), "Q1_0")
    _, out, _ = explain(finished, capsys, "--track-id", "Q1_0")
    strip = next(line for line in out.splitlines() if line.startswith("timeline"))[12:]
    assert re.findall(r"Q\d", strip) == [entry["label"] for entry in story.song.timeline]
    assert len(strip) == 64
    starts = [round(entry["start_s"] / story.end_s * 64) for entry in story.song.timeline]
    assert [match.start() for match in re.finditer(r"\|", strip)] == starts


def test_a_gap_in_the_track_is_a_gap_in_the_timeline(finished):
    from pipelines.commands.explain import timeline

    story = tell(finished, finished.latest(), "Q1_0")
    entry = {"label": "Q1", "confidence": 1.0}
    entries = [entry | {"start_s": 0.0, "end_s": 3.0}, entry | {"start_s": 12.0, "end_s": 15.0}]
    gap = dataclasses.replace(story, song=dataclasses.replace(story.song, timeline=entries))
    strip = next(timeline(gap, story.used)).plain[12:]
    assert [match.span() for match in re.finditer(r"\|Q1 ·+", strip)] == [(0, 13), (51, 64)]


def test_a_segmented_track_has_a_story_without_rounds(catalog, tmp_path, capsys):
    output = str(tmp_path / "out")
    assert main(["segment", "--catalog", catalog, "--output", output]) == 0
    assert main(["explain", "--output", output, "--track-id", "Q1_0"]) == 0
    out = capsys.readouterr().out
    assert "ledger ok: 15.0 of 15.0 s decoded, 5 segments" in " ".join(out.split())
    assert not re.search(r"^(song|timeline|rounds) ", out, re.MULTILINE)


def test_all_segments_are_listed_on_request(finished, capsys):
    _, out, _ = explain(finished, capsys, "--track-id", "Q1_0", "--all-segments")
    assert [line.split()[0] for line in out.splitlines() if re.match(r" \d:\d\d ", line)] == [
        "0:00", "0:03", "0:06", "0:09", "0:12",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("track_id", "reason"), [("text", "not-audio"), ("silent", "silent"), ("missing", "missing")]
)
def test_the_story_of_a_failed_track_ends_with_its_reason_and_remedy(
    track_id, reason, finished, capsys
):
    from schemas import REASONS

    code, out, _ = explain(finished, capsys, "--track-id", track_id)
    assert code == 0
    assert "ledger failed" in " ".join(out.split()).replace(":", "")
    assert f"reason {reason}" in " ".join(out.split())
    assert REASONS[reason].remedy in " ".join(out.split())
    assert "timeline" not in out


def test_an_unknown_track_is_refused_with_an_example_of_an_id(finished, sql, capsys):
    code, _, err = explain(finished, capsys, "--track-id", "Q9_0")
    assert code == 1
    (example,) = re.findall(r"no track 'Q9_0' in the catalog; its ids look like '(.*)'", err)
    assert sql("select count(*) from catalog where track_id = ?", example) == [(1,)]


def test_a_track_that_was_taken_down_is_said_to_be(finished, tmp_path, capsys):
    import shutil

    output = str(shutil.copytree(finished.root, tmp_path / "out"))
    assert main(["takedown", "--output", output, "--track-id", "Q1_0"]) == 0
    assert main(["explain", "--output", output, "--track-id", "Q1_0"]) == 1
    assert "track Q1_0 was taken down" in " ".join(capsys.readouterr().err.split())


def test_a_picture_is_drawn_of_a_labelled_track_only(finished, noisy_track, tmp_path, capsys):
    assert (
        explain(finished, capsys, "--track-id", noisy_track, "--png", str(tmp_path / "t.png"))[0]
        == 0
    )
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    code, _, err = explain(
        finished, capsys, "--track-id", "text", "--png", str(tmp_path / "none.png")
    )
    assert code == 1
    assert "track text is not labelled" in err
    assert not (tmp_path / "none.png").exists()


def test_a_picture_shows_the_noisy_segments_of_the_track(finished, noisy_track):
    snapshot = finished.latest()
    story = tell(finished, snapshot, noisy_track)
    clean = [dataclasses.replace(row, partition="confident") for row in story.split]
    assert draw(finished, snapshot, story) != draw(
        finished, snapshot, dataclasses.replace(story, split=clean)
    )


def test_a_label_of_a_human_is_not_said_to_be_the_models(report_folder):
    story = tell(*report_folder, "track-00")
    by_model = story.song.label
    other = next(name for name in story.classes if name != by_model)
    song = dataclasses.replace(story.song, label=other, confidence=1.0, label_source="human")
    said = list(facts(dataclasses.replace(story, song=song)))
    (line,) = [text for name, text in said if name == "song"]
    start = f"{other}, said by a listener or locked in the catalog; the model takes it for"
    assert line.startswith(f"{start} {by_model} (")
    assert song.timeline_label == by_model
    assert "but" not in dict(said)
    before = dict(facts(story))
    assert dict(said).get("its sound") == before.get("its sound")
