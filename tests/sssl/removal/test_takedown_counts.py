"""After a takedown it is known what is counted in each part, without a receipt."""

import functools
import hashlib
import operator
from dataclasses import replace

import pytest

from schemas.summaries import SUMMARIES, LabelsSummary, of_today
from sssl.catalog.counts import read_counts
from sssl.model import examples
from sssl.model.examples import Corpus
from sssl.removal.deletion import delete_unpublished
from sssl.removal.takedown import without
from sssl.store.manifest import loaded
from sssl.store.parquet import compacted_bytes


@pytest.fixture(scope="module")
def taken_down(finished_copy):
    """What is published after two tracks went, one of them labelled."""
    snapshot = finished_copy.latest()
    tracks = finished_copy.read_table(snapshot.get("catalog"), ["track_id", "label"]).to_pylist()
    gone = [
        next(t["track_id"] for t in tracks if (t["label"] is None) == unlabelled)
        for unlabelled in (False, True)
    ]
    left = without(finished_copy, snapshot, gone)
    finished_copy.publish(left)
    delete_unpublished(finished_copy)
    return left


def flat(value, *names):
    """The numbers of a summary by the names that lead to them; there is none that is 0."""
    if isinstance(value, dict):
        return {k: v for name, of in value.items() for k, v in flat(of, *names, name).items()}
    return {names: value} if isinstance(value, int | float) and value else {}


@pytest.mark.parametrize("table", ["ledger", "labels", "scores", "songs"])
def test_counts_of_parts_add_up_to_what_the_manifest_says(taken_down, finished_copy, table):
    for manifest in taken_down.of(table):
        counts = read_counts(finished_copy, manifest.ref)
        assert counts is not None
        assert counts.keys() == manifest.files.keys()
        kind, classes = SUMMARIES[table], taken_down.catalog.classes
        parts = [loaded(kind, of_today(counts[part], classes), "") for part in sorted(counts)]
        added = replace(functools.reduce(operator.add, parts), cpu_s=None)
        whole = replace(manifest.about(kind, classes), cpu_s=None)
        assert flat(vars(added)) == pytest.approx(flat(vars(whole)))


@pytest.mark.parametrize("table", ["ledger", "labels", "scores", "songs"])
def test_files_for_readers_are_those_that_the_parts_make(taken_down, finished_copy, table):
    for manifest in taken_down.of(table):
        (file,) = manifest.compacted
        parts = map(finished_copy.read_part, manifest.files.values())
        data = compacted_bytes(table, parts)
        assert hashlib.sha256(data).hexdigest() == file.sha256
        assert (file.rows, file.bytes) == (manifest.rows, len(data))
        assert file.of == manifest.digest
        assert finished_copy.is_as_written(file)


def test_no_receipt_is_left(taken_down, finished_copy):
    assert not [path for path in finished_copy.find("_receipts") if path.endswith(".json")]


def test_a_corpus_opens_no_labels_of_parts_without_a_labelled_track(
    taken_down, finished_copy, monkeypatch
):
    snapshot = taken_down
    tables = snapshot.get("catalog"), snapshot.features, snapshot.get("labels", 1)
    counts = read_counts(finished_copy, tables[2].ref)
    labelled = {p for p, of in counts.items() if loaded(LabelsSummary, of, "").confident > 0}
    opened = []
    carries = Corpus._carries_weight
    monkeypatch.setattr(
        Corpus, "_carries_weight", lambda self, part: opened.append(part) or carries(self, part)
    )
    corpus = Corpus(finished_copy, *tables)
    assert set(corpus.parts) <= set(opened)
    assert labelled <= set(opened) < set(tables[2].files)
    monkeypatch.setattr(examples, "read_counts", lambda *_: None)
    assert Corpus(finished_copy, *tables).parts == corpus.parts
