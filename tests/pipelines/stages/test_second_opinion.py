"""What the relabel stage makes of a classifier on the sound, and that a split of an earlier
version, which had none, stands."""

import shutil
from dataclasses import replace

import pytest

from pipelines.stages import relabel, songs
from pipelines.stages.context import Context
from pipelines.stages.learning import decide, published_method
from pipelines.stages.policy import LearnConfig
from schemas.records import dump
from sssl.labels.evidence import EvidenceConfig
from sssl.labels.fitted import KeptSplit
from sssl.songs.classifier import SongModel
from sssl.songs.settings import SongConfig
from sssl.store.folder import Store
from sssl.store.layout import fit_path
from sssl.store.manifest import Snapshot


@pytest.fixture
def context(finished, tmp_path):
    store = Store.open(str(shutil.copytree(finished.root, tmp_path / "out")))
    return Context(store, store.latest(), published=store.latest())


def with_evidence(method, **evidence):
    changed = replace(method.relabel, evidence=replace(method.relabel.evidence, **evidence))
    return replace(method, relabel=changed)


def with_by_sound(settings, by_sound):
    return replace(settings, evidence=replace(settings.evidence, by_sound=by_sound))


def by_default(method):
    return replace(method, relabel=replace(method.relabel, evidence=EvidenceConfig()))


def of_earlier_version(context):
    """The same folder as if an earlier version had split it."""
    settings = by_default(published_method(context.published)).relabel
    config = dump(settings.as_before)
    assert "by_sound" not in config["evidence"]
    assert config["evidence"]["min_agreement"] == 0.1
    manifests = [
        replace(m, config=config) if m.table == "labels" and m.round else m
        for m in context.published.manifests
    ]
    return replace(context, published=Snapshot(tuple(manifests)))


def test_a_split_of_an_earlier_version_asks_for_no_learning(context):
    method = by_default(published_method(context.published))
    before = of_earlier_version(context)
    decision = decide(before, method, LearnConfig())
    assert not decision.learns, decision.reason
    other = with_evidence(method, min_agreement=0.3)
    assert decide(before, other, LearnConfig()).reason == "evidence (relabel) changed"
    alone = with_evidence(method, by_sound=False)
    assert decide(before, alone, LearnConfig()).reason == "evidence (relabel) changed"


def test_a_round_that_an_earlier_version_split_goes_on_with_that(context):
    settings = by_default(published_method(context.published)).relabel
    fresh = replace(context, published=Snapshot())
    before = relabel.run(fresh, 1, settings.as_before).snapshot.get("labels", 1)
    assert relabel.run(fresh, 1, settings).snapshot.get("labels", 1).ref == before.ref
    other = replace(settings, tau=0.4)
    assert relabel.run(fresh, 1, other).snapshot.get("labels", 1).ref != before.ref


def test_the_classifier_is_kept_with_the_split_and_changes_the_evidence(context):
    settings = by_default(published_method(context.published)).relabel
    fresh = replace(context, published=Snapshot())
    losses = {}
    for by_sound in (True, False):
        own = with_by_sound(settings, by_sound)
        labels = relabel.run(fresh, 1, own).snapshot.get("labels", 1)
        kept = context.store.read_record_if_whole(fit_path(labels.ref), KeptSplit)
        share = labels.summary["evidence"].get("share_of_sound", 0.0)
        assert (kept.second is not None) == by_sound == (share > 0)
        losses[by_sound] = context.store.read_table(labels, ["loss"])["loss"].to_pylist()
    assert losses[True] != losses[False]


def test_timelines_go_by_the_opinion_that_the_last_split_went_by(context):
    settings = by_default(published_method(context.published)).relabel
    fresh = replace(context, published=Snapshot())
    opinions = {}
    for by_sound in (True, False):
        own = with_by_sound(settings, by_sound)
        last = max(manifest.round for manifest in context.snapshot.of("labels"))
        split = relabel.run(fresh, last, own)
        made = songs.run(split, SongConfig()).snapshot.get("songs")
        kept = context.store.read_record_if_whole(
            fit_path(split.snapshot.get("labels", last).ref), KeptSplit
        )
        opinions[by_sound] = made.about(SongModel).second
        assert opinions[by_sound] == kept.second
        # Without one songs have the name that earlier versions gave them.
        assert ("timeline_by" in made.config) == by_sound
    assert opinions[True] is not None
