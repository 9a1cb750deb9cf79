import pytest
from reports import Page, query

from sssl.model.train import cpu_seconds
from sssl.report import cost
from sssl.report.source import Source


def test_time_goes_by_from_the_first_table_to_the_last(report_folder):
    ((spent_s,),) = query(
        report_folder, "select epoch(max(created_at)) - epoch(min(created_at)) from manifests"
    )
    found = cost.context(Source.of(*report_folder))
    assert found["took_s"] == pytest.approx(spent_s)
    ((size,),) = query(report_folder, "select sum(bytes) from manifests")
    assert found["bytes"] == size


def test_the_cpu_time_of_training_is_that_of_its_epochs_and_of_the_process_that_waits(finished):
    snapshot = finished.latest()
    stages = cost.context(Source.of(finished, snapshot))["stages"]
    trained = {row["round"]: row["cpu_s"] for row in stages if row["stage"] == "train"}
    in_epochs = {m.round: cpu_seconds(finished, m.ref) for m in snapshot.of("models")}
    assert all(0 < seconds < trained[round] for round, seconds in in_epochs.items())


def test_each_stage_took_cpu_time(finished):
    stages = cost.context(Source.of(finished, finished.latest()))["stages"]
    assert min(row["cpu_s"] for row in stages) >= 0  # a judge may take less than a tick
    assert min(row["cpu_s"] for row in stages if row["stage"] != "judge") > 0


def test_each_stage_has_a_row_of_cost(report_html):
    rows = [
        row
        for row in Page(report_html).rows
        if len(row) == 7 and row[0] in ("segment", "train", "songs")
    ]
    assert [(row[0], row[1]) for row in rows] == [
        ("segment", ""), ("train", "0"), ("train", "1"), ("train", "2"), ("songs", "")
    ]  # fmt: skip
