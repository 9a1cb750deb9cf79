import numpy as np
import pytest
from reports import CLASSES, Page, make_folder, read, text_of

from pipelines.cli import main
from pipelines.commands.outcome import outcome
from sssl.evaluate import sections
from sssl.evaluate.sections import labelled_segments, why_none_fits, wrong_segments


def test_truth_is_measured(report_folder, report_truth, report_html):
    found = wrong_segments(*report_folder, report_truth)
    values = {row[0]: row[1] for row in Page(report_html).rows if len(row) == 3}
    assert values["ROC AUC of the loss"] == f"{found.auc:.3f}"
    assert values["Precision of the noisy partition"] == f"{found.precision:.1%}"
    assert values["Recall of the noisy partition"] == f"{found.recall:.1%}"
    assert values["Wrong segments put right"] == str(found.relabelled_right)
    assert values["Right segments made wrong"] == str(found.relabelled_wrong)
    assert values["Segment accuracy before"] == f"{found.segment_accuracy_before:.1%}"
    assert values["Segment accuracy after"] == f"{found.segment_accuracy_after:.1%}"


def test_the_cost_of_relabelling_is_told_with_its_gain(report_folder, report_truth, report_html):
    found = wrong_segments(*report_folder, report_truth)
    net = found.relabelled_right - found.relabelled_wrong
    assert found.relabelled_wrong > 0
    assert net / found.segments == pytest.approx(
        found.segment_accuracy_after - found.segment_accuracy_before
    )
    closer = {
        1: "the labels are closer to the truth",
        -1: "the labels are further from the truth",
        0: "nothing was gained",
    }
    assert f"made {found.relabelled_wrong} right ones wrong: {closer[np.sign(net)]}" in text_of(
        report_html
    )
    assert "These true labels were never used in training" in text_of(report_html)


def test_without_truth_nothing_is_said_about_it(report_folder):
    html = read(report_folder)
    assert "Against true sections" not in html
    assert "ROC AUC" not in html


def test_what_a_listener_vouches_for_is_not_the_splits_to_find(
    monkeypatch, report_folder, report_truth
):
    store, snapshot = report_folder
    before = wrong_segments(store, snapshot, report_truth)
    rows = labelled_segments(store, snapshot, report_truth)
    wrong = rows["inherited_label"] != rows["true_label"]
    missed = rows.index[wrong & (rows["partition"] != "noisy")]
    assert len(missed)
    rows.loc[missed, "partition"] = "locked"
    monkeypatch.setattr(sections, "labelled_segments", lambda *_: rows)
    after = wrong_segments(store, snapshot, report_truth)
    assert (after.flagged, after.found) == (before.flagged, before.found)
    assert after.wrong == before.wrong - len(missed)
    assert after.recall == 1


def test_sections_of_other_tracks_measure_nothing_and_say_so(report_folder, report_truth, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text(f"track_id,start_s,end_s,true_label\nelse,0,3,{CLASSES[0]}\n")
    assert why_none_fits(*report_folder, report_truth) is None
    said = why_none_fits(*report_folder, str(other))
    assert "no section is of a track of the catalog" in said
    assert "e.g. 'else'; ids look like '" in said
    found = wrong_segments(*report_folder, str(other))
    assert (found.segments, found.segment_accuracy_before) == (0, None)
    values = {row[0]: row[1] for row in Page(read(report_folder, str(other))).rows if len(row) == 3}
    assert values["Segment accuracy before"] == values["ROC AUC of the loss"]
    told = outcome(*report_folder, found)
    assert "n/a of segments as inherited, n/a as relabelled" in told


def test_a_last_part_without_a_track_is_no_reason_to_fail(report_folder, tmp_path, monkeypatch):
    store, snapshot = report_folder
    parts = list(store.iter_parts(snapshot.get("catalog"), ["track_id"]))
    emptied = [*parts, (len(parts), parts[0][1].slice(0, 0))]
    monkeypatch.setattr(type(store), "iter_parts", lambda *_: iter(emptied))
    other = tmp_path / "other.csv"
    other.write_text(f"track_id,start_s,end_s,true_label\nelse,0,3,{CLASSES[0]}\n")
    assert "ids look like '" in why_none_fits(store, snapshot, str(other))


def test_a_report_warns_of_sections_of_other_tracks(in_memory, tmp_path, capsys):
    store, snapshot = make_folder(in_memory, (0.9,))
    store.publish(snapshot)
    other = tmp_path / "other.csv"
    other.write_text(f"track_id,start_s,end_s,true_label\nelse,0,3,{CLASSES[0]}\n")
    assert main(["report", "--output", store.root, "--truth", str(other)]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "no section is of a track of the catalog, so nothing is measured" in said
    other.write_text(other.read_text().replace(CLASSES[0], "clam"))
    assert main(["report", "--output", store.root, "--truth", str(other)]) == 1
    assert "has true_label 'clam', expected one of" in " ".join(capsys.readouterr().err.split())
