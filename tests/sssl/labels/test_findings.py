import dataclasses

import duckdb
import numpy as np
import pytest
from reports import make_folder, query

from schemas import VIEWS
from sssl.labels.findings import Findings
from sssl.store.sql import connect


def test_what_looks_wrong_is_listed_although_the_model_of_its_round_was_not_taken(report_folder):
    assert query(report_folder, "select accepted from rounds where round = 2") == [(False,)]
    listed = query(
        report_folder, "select track_id, segment_index, round from suspects order by all"
    )
    assert listed == query(
        report_folder,
        "select track_id, segment_index, round from labels join catalog using (track_id) "
        "where round = 2 and partition = 'noisy' and split = 'train' order by all",
    )
    findings = Findings.of(*report_folder)
    assert len(listed) == findings.suspects > 0
    assert findings.round == 2


def test_a_suspect_comes_with_its_time_its_evidence_and_what_the_model_takes_it_for(report_folder):
    """The posterior is that of the scores that were split: of the last accepted round before."""
    rows = query(
        report_folder,
        "select v.start_s, v.end_s, s.start_s, v.evidence, l.loss, v.clean_probability,"
        " v.model_label, ['a', 'b', 'c'][list_position(p.probabilities,"
        " list_max(p.probabilities))], v.model_probability, list_max(p.probabilities) from suspects"
        " v join segments s using (track_id, segment_index) join labels l using (track_id,"
        " segment_index, round) join scores p on p.track_id = v.track_id and p.segment_index ="
        " v.segment_index and p.round = 1",
    )
    start_s, end_s, cut_s, evidence, loss, clean, model, peak, probability, largest = zip(
        *rows, strict=True
    )
    assert start_s == cut_s
    assert (np.array(end_s) - start_s == 3.0).all()
    assert np.logaddexp(0, evidence) == pytest.approx(loss, rel=1e-5)
    assert max(clean) <= 0.5
    names = dict(zip("abc", query_classes(report_folder), strict=True))
    assert list(model) == [names[name] for name in peak]
    assert probability == largest


def query_classes(folder):
    return folder[1].get("catalog").summary["classes"]


def test_suspects_are_described_in_sql_as_in_the_docs(report_folder):
    connection = connect(*report_folder)
    assert connection.sql("from suspects").columns == [
        field.name for field in dataclasses.fields(VIEWS["suspects"])
    ]
    comments = (
        "select comment from duckdb_columns() where table_name = 'suspects' and comment is null"
    )
    assert connection.sql(comments).fetchall() == []


def test_without_a_split_nothing_is_suspect_and_the_view_is_empty(tmp_path):
    store, snapshot = make_folder(tmp_path, (0.8,))
    assert query((store, snapshot), "from suspects") == []
    findings = Findings.of(store, snapshot)
    assert (findings.round, findings.suspects) == (0, 0)
    assert str(findings) == "no split was made; the model of the warm-up is in use"


def test_before_the_first_scores_there_is_no_such_view(report_folder):
    store, snapshot = report_folder
    with pytest.raises(duckdb.CatalogException, match="suspects does not exist"):
        connect(store, snapshot.only("catalog", "segments", "features", "ledger", "labels")).sql(
            "from suspects"
        )


def test_findings_say_what_was_found_and_what_became_of_the_model(report_folder):
    findings = Findings.of(*report_folder)
    found, outcome = str(findings).split("; ", 1)
    assert (
        found == f"{findings.suspects} of {findings.segments} segments of train tracks look wrong"
    )
    assert outcome.startswith(
        "the model trained without them was not taken, because its log loss rose: +"
    )
    taken = dataclasses.replace(
        findings.verdict, accepted=True, verdict="accepted", reason="it is better"
    )
    told = dataclasses.replace(findings, verdict=taken, set_aside=False)
    assert told.outcome == "the model trained after it was taken, because it is better"
    both = dataclasses.replace(findings.verdict, verdict="undecided", reason="nobody knows")
    told = dataclasses.replace(findings, verdict=both)
    assert (
        told.outcome
        == "the model trained without them labels together with the one before, because nobody"
        " knows"
    )
    assert dataclasses.replace(findings, suspects=0).outcome.startswith(
        "the labels stand as they are"
    )
    assert dataclasses.replace(findings, verdict=None).outcome == "no model was judged after it"


def test_the_findings_of_an_earlier_round_are_its_own(report_folder):
    store, snapshot = report_folder
    ((noisy,),) = query(
        report_folder,
        "select count(*) from labels join catalog using (track_id) "
        "where round = 1 and partition = 'noisy' and split = 'train'",
    )
    first, last = Findings.of(store, snapshot, 1), Findings.of(store, snapshot)
    assert (first.round, first.suspects) == (1, noisy)
    assert (last.round, first.verdict.round) == (2, 1)
