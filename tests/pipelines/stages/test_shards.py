"""The stage that copies labelled rows to shards: what it takes over, what kills do to it, and that
nothing trains again for it."""

import shutil
from dataclasses import replace

import pytest
from strikes import Strike, run

from pipelines.stages import shards, train
from pipelines.stages.context import Context
from pipelines.stages.learning import decide, published_method
from pipelines.stages.material import Material
from pipelines.stages.policy import LearnConfig
from pipelines.stages.shards import labelled_by_part, make_shards
from sssl.model.settings import TrainConfig
from sssl.model.shards import make
from sssl.model.shards.make import Sharding
from sssl.removal.deletion import delete_unpublished
from sssl.store.folder import Store
from sssl.store.layout import WORK
from sssl.store.manifest import Snapshot

SMALL = TrainConfig(shards="always", track_segments=2, thin_from=None)
AUTO = {"shards": "auto", "memory_gb": 0.0}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(make, "PIECE_BYTES", 1 << 17)


@pytest.fixture
def output(finished, tmp_path):
    return shutil.copytree(finished.root, tmp_path / "out")


@pytest.fixture
def context(output):
    store = Store.open(str(output))
    return Context(store, store.latest(), published=store.latest())


def work(output):
    store = Store.open(str(output))
    refs = [ref for ref in store.committed_refs() if ref.partition("/")[0] in WORK]
    return {ref: store.named(ref).digest for ref in refs}


def test_shards_whose_labelled_rows_are_as_they_were_are_taken_over(context):
    store, snapshot = context.store, context.snapshot
    shards, _ = make_shards(context, 1, SMALL)
    assert len(shards.files) > 2
    # The features of one part have another digest, in a generation of another name.
    features, catalog = snapshot.features, snapshot.get("catalog")
    part = min(labelled_by_part(store, catalog.ref))
    files = features.files | {part: replace(features.files[part], sha256="0" * 64)}
    changed = store.commit(replace(features, generation="other", files=files))
    tables = [m for m in snapshot.manifests if m.table != "features"]
    night = replace(context, snapshot=Snapshot((*tables, changed)))
    again, _ = make_shards(night, 1, SMALL)
    new = {shard for shard, file in again.files.items() if again.generation in file.path}
    assert new == {part // again.settings(Sharding).parts}
    for shard in shards.files.keys() - new:
        assert again.files[shard] == shards.files[shard]


def test_a_takedown_leaves_nothing_of_shards(context):
    make_shards(context, 1, SMALL)
    assert work(context.store.root)
    delete_unpublished(context.store)
    assert not work(context.store.root)
    assert not [path for table in WORK for path in context.store.find(f"_parts/{table}")]


def test_a_published_model_stands_whichever_way_its_rows_were_read(context):
    method = published_method(context.snapshot)
    asked = replace(method.train, **AUTO)
    assert Material.of(context.snapshot).settled(asked).shards == "always"
    assert shards.settle_for_round(
        context, asked, shards.trained_on(context, 0), 0
    ) == method.train.settled(0)
    decision = decide(context, replace(method, train=asked), LearnConfig())
    assert not decision.learns, decision.reason
    always = replace(method, train=replace(asked, shards="always"))
    assert decide(context, always, LearnConfig()).reason == "shards (train) changed"


def test_a_published_model_stands_however_long_it_was_trained_unless_that_is_asked_for(context):
    method = published_method(context.snapshot)
    trained_for = method.train.warmup_epochs
    asked = replace(method.train, warmup_epochs=None)
    assert Material.of(context.snapshot).settled(asked).warmup_epochs != trained_for
    kept = shards.settle_for_round(context, asked, shards.trained_on(context, 0), 0)
    assert kept == method.train.settled(0)
    decision = decide(context, replace(method, train=asked), LearnConfig())
    assert not decision.learns, decision.reason
    other = replace(method, train=replace(asked, warmup_epochs=trained_for + 1))
    assert decide(context, other, LearnConfig()).reason == "warmup_epochs (train) changed"


def test_no_shards_are_made_that_training_would_not_read(context, capfd):
    asked = published_method(context.snapshot).train
    for settings, why in (
        (replace(asked, shards="auto", memory_gb=4.0), "labelled features fit into memory"),
        (
            replace(asked, **AUTO),
            "the model that is there, or was begun, reads the tables of parts",
        ),
    ):
        shards.run(context, 0, settings)
        assert why in " ".join(capfd.readouterr().err.split())
    assert not work(context.store.root)


def test_shards_are_those_of_a_training_that_was_begun(context, monkeypatch, capfd):
    published = context.published.get("models", 0)
    apart = {"shards": "always", "track_segments": 2}
    read_so = replace(published, config=published.config | apart)
    context = replace(context, published=Snapshot((read_so,)))
    method = published_method(context.snapshot)

    def stop(training, *_):
        context.store.write_bytes(f"{training.folder}/member0.json", b"{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "_train", stop)
    with pytest.raises(KeyboardInterrupt):
        train.run(context, 1, replace(method.train, **apart, thin_from=None))
    begun = work(context.store.root)
    assert {ref.partition("/")[0] for ref in begun} == set(WORK)
    shards.run(context, 1, replace(method.train, **AUTO))
    assert work(context.store.root) == begun, capfd.readouterr().err


def test_a_model_that_began_with_weights_of_a_file_needs_no_shards(context, tmp_path, capfd):
    model = context.snapshot.get("models", 0).files[0]
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(context.store.read_file(model))
    asked = replace(SMALL, init=str(weights), warmup_epochs=1, batch_size=16, bag=1)
    empty = replace(context, published=Snapshot())
    assert train.run(empty, 0, asked, processes=1).snapshot.get("models", 0).config["init"]
    capfd.readouterr()
    shards.run(empty, 0, asked)
    assert "the model of the round is there" in capfd.readouterr().err


def test_a_stage_that_trains_on_shards_makes_them(context):
    asked = replace(SMALL, track_segments=None, warmup_epochs=1, batch_size=16, bag=1)
    empty = replace(context, published=Snapshot())
    made = train.run(empty, 0, asked, processes=1)
    model = made.snapshot.get("models", 0)
    assert model.config["shards"] == "always"
    assert "memory_gb" not in model.config
    assert {ref.partition("/")[0] for ref in work(context.store.root)} == set(WORK)
    again = train.run(empty, 0, asked, processes=1)
    assert again.snapshot.get("models", 0) == model


def test_shards_killed_anywhere_are_as_undisturbed_after_a_rerun(finished, tmp_path):
    settings = tmp_path / "settings.toml"
    settings.write_text('[method.train]\nshards = "always"\ntrack_segments = 2\n')
    command = ("shards", "--round", "1", "--settings", str(settings))
    undisturbed = shutil.copytree(finished.root, tmp_path / "undisturbed")
    ended = run(command, undisturbed)
    assert ended.code == 0, ended.said
    for n, at in enumerate((0.5, 0.75, 0.95)):
        output = shutil.copytree(finished.root, tmp_path / f"killed{n}")
        assert run(command, output, Strike(at_operation=at), ended).code < 0
        again = run(command, output)
        assert again.code == 0, again.said
        assert work(output) == work(undisturbed)
