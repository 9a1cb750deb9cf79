from dataclasses import replace

import numpy as np
from reports import CLASSES, Page, make_folder, query, read, text_of

from schemas.summaries import LabelsSummary
from sssl.report import learning
from sssl.report.source import Source
from sssl.store.manifest import Snapshot


def test_each_round_has_a_row_with_its_verdict(report_folder, report_html):
    rows = [row for row in Page(report_html).rows if len(row) == 9 and row[0] in ("0", "1", "2")]
    assert [(row[0], row[1]) for row in rows] == [
        ("0", "accepted"),
        ("1", "accepted"),
        ("2", "kept parent"),
    ]
    table = query(report_folder, "select confident, noisy, relabelled from rounds order by round")
    assert [tuple(row[5:8]) for row in rows] == [tuple(map(str, row)) for row in table]
    reasons = [
        reason for (reason,) in query(report_folder, "select reason from rounds order by round")
    ]
    assert all(row[8].startswith(reason) for row, reason in zip(rows, reasons, strict=True))
    starts = ["warm-up", "its log loss fell: -", "its log loss rose: +"]
    assert [reason[: len(start)] for reason, start in zip(reasons, starts, strict=True)] == starts


def test_changes_on_held_out_tracks_are_told_with_their_intervals(report_folder, report_html):
    ((change, low, high),) = query(
        report_folder,
        "select heldout_accuracy_change, heldout_accuracy_change_low, heldout_accuracy_change_high"
        " from rounds where round = 1",
    )
    assert low < change < high
    said = f"mean posterior {100 * change:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
    assert f"Held-out tracks alone: {said}" in text_of(report_html)
    assert "with their 95% interval" in text_of(report_html)


def test_an_accuracy_that_did_not_move_is_not_called_better(in_memory):
    html = read(make_folder(in_memory, (0.8, 0.8)))
    (row,) = [row for row in Page(html).rows if len(row) == 9 and row[0] == "1"]
    assert row[1] == "undecided"
    assert row[8].startswith(
        "its log loss neither surely fell nor surely rose: +0.000 ± 0.000 nats"
    )


def test_a_round_with_nothing_to_split_is_stopped_and_not_rejected(in_memory):
    html = read(make_folder(in_memory, (0.8, 0.2), separation=99.0))
    (row,) = [row for row in Page(html).rows if len(row) == 9 and row[0] == "1"]
    assert (row[1], row[8]) == (
        "stopped: nothing to split",
        "no noisy segment, nothing trained",
    )
    assert ("class", "badge neutral") in Page(html).attributes
    assert ("class", "badge bad") not in Page(html).attributes
    assert (
        "Self-learning found nothing to split: no segment of a train track looks wrong"
        in text_of(html)
    )
    assert "The songs are labelled by the model of the warm-up" in text_of(html)


def test_cross_fitting_is_promised_in_full_for_the_warm_up_only(report_html, in_memory):
    assert "in full that holds for round 0 only" in text_of(report_html)
    assert "in full" not in text_of(read(make_folder(in_memory, (0.8,))))


def test_noisy_segments_and_posteriors_are_of_different_models(report_html):
    text = text_of(report_html)
    assert "The posterior is that of round 1; noisy is what the split of round 2 made" in text


def test_histograms_of_losses_name_their_axes(report_html):
    assert (
        report_html.count(">log-odds against the label</text>")
        == report_html.count(">segments</text>")
        > 1
    )


def test_a_rejected_round_leaves_the_model_of_the_accepted_one_and_keeps_its_findings(report_html):
    assert "The songs are labelled by the model of round 1" in text_of(report_html)
    assert "the view suspects lists them" in text_of(report_html)
    assert 'id="loss1-figure' in report_html
    assert 'id="loss1-0-' not in report_html
    assert 'id="loss2-0-' in report_html


def test_the_histogram_counts_each_loss_that_was_split(report_folder):
    source = Source.of(*report_folder)
    counts = learning.loss_counts(source, 1, "logit")
    by_class = query(
        report_folder,
        "select inherited_label, count_if(partition = 'confident'), count_if(partition = 'noisy')"
        " from labels join catalog using (track_id) where labels.round = 1 and split = 'train'"
        " group by all order by 1",
    )
    assert counts.sum(axis=2).tolist() == [[c, n] for _, c, n in by_class] + [[0, 0]]


def test_the_flow_is_that_of_the_labels_table(report_folder):
    _, snapshot = report_folder
    flow = snapshot.about("labels", LabelsSummary, 2).flow()
    pairs = query(
        report_folder,
        "select inherited_label, l.label, count(*) from labels l join catalog using (track_id) "
        "where split = 'train' and round = 2 group by all",
    )
    assert {(CLASSES[i], CLASSES[j], flow[i, j]) for i, j in np.argwhere(flow)} == set(pairs)


def test_a_run_whose_rounds_were_all_rejected(in_memory):
    html = read(make_folder(in_memory, (0.8, 0.2)))
    text = text_of(html)
    assert "22 of 60 segments of train tracks (36.7%) do not fit their track’s label" in text
    assert "The model trained without them was not taken, because" in text
    assert "The songs are labelled by the model of the warm-up" in text
    assert 'id="loss1-figure' in html
    assert 'id="flow-' in html


def test_a_flow_over_two_accepted_rounds_starts_where_the_one_before_ended(in_memory):
    folder = make_folder(in_memory, (0.5, 0.8, 1.0))
    assert [
        accepted for (accepted,) in query(folder, "select accepted from rounds order by round")
    ] == [True] * 3
    source = Source.of(*folder)
    to_first, to_last = (folder[1].about("labels", LabelsSummary, r).flow() for r in (1, 2))
    step = learning.moved_between(source, 1, 2)
    assert step.sum(axis=1).tolist() == to_first.sum(axis=0).tolist()
    assert step.sum(axis=0).tolist() == to_last.sum(axis=0).tolist()
    html = read(folder)
    assert ">inherited</text>" in html
    assert ">round 1</text>" in html
    assert ">round 2</text>" in html


def test_verdicts_of_an_earlier_version_are_not_explained_by_the_rule_of_today(report_folder):
    store, snapshot = report_folder
    of_today = "A log loss that fell by more than 1.0 standard errors is accepted"
    assert of_today in text_of(read(report_folder))
    earlier = tuple(
        replace(m, config={"max_drop": 0.01}) if m.table == "rounds" else m
        for m in snapshot.manifests
    )
    page = text_of(read((store, Snapshot(earlier))))
    assert of_today not in page
    assert "The verdicts were made by an earlier version" in page
    read(report_folder)
