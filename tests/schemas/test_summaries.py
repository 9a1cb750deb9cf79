import functools
import json
import operator

import numpy as np
import pytest

from schemas.records import dump, load
from schemas.summaries import (
    SUMMARIES,
    CatalogSummary,
    LabelsSummary,
    LedgerSummary,
    ScoresSummary,
    SongsSummary,
    of_today,
)
from sssl.labels.mixture import Component, Mixture
from sssl.labels.split import SplitSummary

CLASSES = ("a", "b", "a/b", "b/a")
KINDS = sorted(set(SUMMARIES.values()), key=lambda kind: kind.__name__)

OLD_SCORES = {
    "segments": 9,
    "non-finite": 1,
    "confusion/test/a/a": 3,
    "confusion/test/a/b": 1,
    "confusion/train/b/b": 2,
    "loss/test": 2.5,
    "cpu_s": 1.5,
}


def read(kind, values, classes=("a", "b")):
    return load(kind, of_today(json.loads(json.dumps(values)), classes))


def test_summaries_add_up_by_name():
    one = ScoresSummary(
        1.0, ("a", "b"), {"test": {"a": {"a": 1}}}, segments=2, losses={"test": 0.5}
    )
    other = ScoresSummary(
        2.0, ("a", "b"), {"test": {"a": {"a": 2, "b": 1}}, "train": {"b": {"b": 4}}}, segments=3
    )
    both = ScoresSummary(
        cpu_s=3.0,
        classes=("a", "b"),
        confusions={"test": {"a": {"a": 3, "b": 1}}, "train": {"b": {"b": 4}}},
        segments=5,
        losses={"test": 0.5},
    )
    assert one + other == both
    assert both.confusion("test").tolist() == [[3, 1], [0, 0]]
    assert both.confusion("train").tolist() == [[0, 0], [0, 4]]
    assert not both.confusion("no such split").any()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_summary_of_nothing_changes_no_sum(kind):
    some = kind(cpu_s=1.0)
    assert kind() + some == some + kind() == some


def test_reals_are_added_in_the_order_of_parts():
    losses = np.random.default_rng(0).exponential(size=50).tolist()
    total = functools.reduce(
        operator.add, (ScoresSummary(losses={"test": loss}) for loss in losses)
    )
    assert total.losses["test"] == functools.reduce(operator.add, losses, 0.0)


def test_what_is_taken_out_is_as_if_it_had_never_been_counted():
    kept = LabelsSummary(None, CLASSES, 5, confident=3, noisy=2, moved={"a": {"a": 3, "b": 2}})
    gone = LabelsSummary(None, CLASSES, 4, confident=4, moved={"a": {"a": 1}, "b": {"b": 3}})
    assert (kept + gone).less(gone) == kept


def test_what_an_earlier_version_did_not_count_cannot_be_taken_out():
    assert SongsSummary(tracks=3).less(SongsSummary(tracks=4, abstained=1)) == SongsSummary()


def test_classes_with_a_slash_do_not_collide():
    confusions = {"test": {"a": {"b/a": 1}, "a/b": {"a": 2}}}
    found = read(
        ScoresSummary, dump(ScoresSummary(classes=CLASSES, confusions=confusions)), CLASSES
    )
    assert found.confusion("test")[0].tolist() == [0, 0, 0, 1]
    assert found.confusion("test")[2].tolist() == [2, 0, 0, 0]
    assert found.confusion("test").sum() == 3


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_manifest_without_a_summary_is_read(kind):
    assert read(kind, {}, ()) == kind()


# Manifests and receipts of earlier versions


def test_scores_of_an_earlier_version_are_read():
    found = read(ScoresSummary, OLD_SCORES)
    assert found.confusion("test").tolist() == [[3, 1], [0, 0]]
    assert found.confusion("train").tolist() == [[0, 0], [0, 2]]
    assert (found.segments, found.non_finite, found.losses, found.cpu_s) == (
        9,
        1,
        {"test": 2.5},
        1.5,
    )
    assert (
        read(SongsSummary, {"tracks": 4, "abstained": 1, "confusion/test/b/a": 1}).confusion(
            "test"
        )[1, 0]
        == 1
    )


def test_a_receipt_of_an_earlier_version_adds_to_one_of_today():
    today = ScoresSummary(classes=("a", "b"), confusions={"test": {"a": {"b": 1}}}, segments=1)
    both = read(ScoresSummary, OLD_SCORES) + read(ScoresSummary, dump(today))
    assert (both.segments, both.confusion("test").tolist()) == (10, [[3, 2], [0, 0]])


@pytest.mark.parametrize(
    ("key", "cell"),
    [("a/b/a", (2, 0)), ("b/a/b", (1, 2)), ("a/b/a/b", (2, 2)), ("a/b", (0, 1)), ("b/b", (1, 1))],
)
def test_the_classes_tell_how_an_old_key_with_many_slashes_was_meant(key, cell):
    confusion = read(ScoresSummary, {f"confusion/test/{key}": 1}, ("a", "b", "a/b")).confusion(
        "test"
    )
    assert (confusion[cell], confusion.sum()) == (1, 1)


def test_a_ledger_and_a_catalog_of_an_earlier_version_are_read():
    ledger = read(
        LedgerSummary,
        {
            "tracks": 3,
            "status/ok": 2,
            "status/failed": 1,
            "reason/not-audio": 1,
            "trainable/a/b/1": 2,
            "decoded_s": 9.5,
        },
    )
    assert (ledger.statuses, ledger.reasons) == ({"ok": 2, "failed": 1}, {"not-audio": 1})
    assert (ledger.trainable, ledger.tracks, ledger.decoded_s) == ({"a/b": {1: 2}}, 3, 9.5)
    catalog = read(
        CatalogSummary,
        {"parts": 2, "classes": ["a", "b"], "folds": 4, "labelled/a": 7, "tracks": 9},
        (),
    )
    assert catalog == CatalogSummary(None, 2, 9, ("a", "b"), 4, {"a": 7})


def test_labels_of_an_earlier_version_are_read():
    component = {"weight": 0.7, "mean": -1.0, "std": 2.0, "core_share": 0.5, "core_std": 1.0}
    nothing = {"weight": 0.0, "mean": None, "std": None}
    mixture = [
        {"class": "*", "axis": "logit", "confident": component, "noisy": component},
        {"class": "a", "axis": "logit", "confident": component, "noisy": nothing},
    ]
    evidence = {"temperature": 1.5, "unit": 0.5, "neighbours": 0.2, "agreement": 0.3}
    counts = {
        "confident": 3,
        "noisy": 1,
        "confident/a": 3,
        "noisy/b": 1,
        "flow/a/b": 2,
        "flow/b/b": 2,
        "relabelled": 2,
    }
    values = counts | {"mixture": mixture, "evidence": evidence, "components": 2}
    labels, split = read(LabelsSummary, values), read(SplitSummary, values)
    assert labels.flow().tolist() == [[0, 2], [0, 2]]
    assert (labels.confident, labels.noisy, labels.relabelled) == (3, 1, 2)
    assert [labels.confident_share(name) for name in ("a", "b", "c")] == [1.0, 0.0, None]
    one = Component(0.7, -1.0, 2.0, 0.5, 1.0)
    assert split.common == Mixture("logit", one, one)
    assert split.mixtures == {"a": Mixture("logit", one, None)}
    assert (split.components, split.evidence.temperature, split.evidence.in_parts) == (2, 1.5, None)


def test_what_is_read_is_left_as_it_was():
    values = OLD_SCORES | dump(
        ScoresSummary(classes=("a", "b"), confusions={"test": {"b": {"b": 1}}})
    )
    before = json.dumps(values)
    of_today(values, ("a", "b"))
    assert json.dumps(values) == before
