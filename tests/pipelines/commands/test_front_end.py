"""A run with a front-end, on the folder of a run without one: what changes, and what does not."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import FAST
from front_ends import write_contract, write_onnx

from pipelines.cli import main
from pipelines.stages import embed
from pipelines.stages.embed_part import Placement
from sssl.embedding.settings import EmbedConfig, Origin, Remembered
from sssl.errors import FrontEndError, StoreError
from sssl.runtime.process_pool import Limits
from sssl.songs.classifier import EMBEDDING, SongModel
from sssl.songs.labeller import Recipe, _load, make_labeller


@pytest.fixture(scope="module")
def front_end(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "net.onnx"
    return write_onnx(path, licence="Apache-2.0", name="random")


@pytest.fixture(scope="module")
def with_front_end(finished_copy, catalog, front_end):
    """The folder after `sssl run --front-end`, and its snapshots before and after."""
    before = finished_copy.latest()
    run = ["run", "--catalog", catalog, "--output", finished_copy.root, *FAST]
    assert main([*run, "--front-end", front_end]) == 0
    return finished_copy, before, finished_copy.latest()


def test_songs_go_by_embeddings_too(with_front_end):
    _, _, after = with_front_end
    songs = after.get("songs")
    assert after.get("embeddings").ref in songs.parents
    parts = {part.name: part for part in songs.about(SongModel).parts}
    assert parts[EMBEDDING].weight is not None
    assert parts[EMBEDDING].accuracy > 0.5  # of these tones even random filters tell


def test_a_front_end_changes_songs_alone(with_front_end):
    _, before, after = with_front_end
    refs = {manifest.ref for manifest in before.manifests}
    changed = {manifest.table for manifest in after.manifests if manifest.ref not in refs}
    assert changed == {"embeddings", "songs"}


def test_tracks_are_decoded_within_the_same_limits_as_for_segments(
    with_front_end, catalog, front_end, tmp_path, monkeypatch
):
    store, _, _ = with_front_end
    settings = tmp_path / "settings.toml"
    settings.write_text("[limits]\ntimeout_s = 1234.0\n")
    asked = []

    def embed_run(context, front_end, placement, retry):
        asked.append(placement)
        raise StoreError("enough")

    monkeypatch.setattr(embed, "run", embed_run)
    run = ["run", "--catalog", catalog, "--output", store.root, *FAST, "--processes", "2"]
    assert main([*run, "--settings", str(settings), "--front-end", front_end]) == 1
    assert asked == [Placement(processes=2, limits=Limits(timeout_s=1234.0))]


def test_the_report_says_what_the_embedding_is_worth(with_front_end):
    store, _, _ = with_front_end
    page = store.read_bytes("report.html").decode()
    assert "embedding of the front-end" in page


def test_the_licence_is_logged(with_front_end):
    store, _, _ = with_front_end
    records = [json.loads(path.read_text()) for path in Path(store.root, "tracking").glob("*.json")]
    assert any("Apache-2.0" in json.dumps(record) for record in records)


def test_a_file_is_labelled_as_in_the_run_and_the_front_end_counts(with_front_end, catalog, capsys):
    store, before, after = with_front_end
    file = Path(catalog).parent / "audio" / "new.wav"
    labelled = song_of(capsys, store.root, file)
    published = {row["track_id"]: row for row in store.read_table(after.get("songs")).to_pylist()}
    expected = np.log(published["new"]["probabilities"])
    found = np.log(list(labelled["probabilities"].values()))
    np.testing.assert_allclose(found, expected, atol=0.05)
    without = {row["track_id"]: row for row in store.read_table(before.get("songs")).to_pylist()}
    assert np.abs(np.log(without["new"]["probabilities"]) - expected).max() > 0.5


def song_of(capsys, model, file, *flags):
    assert main(["label", "--model", model, str(file), "--format", "json", *flags]) == 0
    out, err = capsys.readouterr()
    assert "front-end random: licence Apache-2.0" in err
    return json.loads(out)


def test_a_model_whose_front_end_moved_asks_where_it_is(with_front_end, catalog, front_end, capsys):
    store, _, _ = with_front_end
    file = Path(catalog).parent / "audio" / "new.wav"
    labelled = song_of(capsys, store.root, file)
    weights = Path(front_end.removeprefix("onnx:"))
    away = weights.with_name("away.onnx")
    try:
        write_onnx(away, licence="Apache-2.0", name="random")
        weights.rename(weights.with_name("hidden"))
        _load.cache_clear()
        assert main(["label", "--model", store.root, str(file)]) == 1
        said = " ".join(capsys.readouterr().err.split())
        assert "this model goes by embeddings of random, which is not at hand" in said
        assert "say where it is now with --front-end" in said
        write_onnx(weights.with_name("other.onnx"), seed=1)
        other = f"onnx:{weights.with_name('other.onnx')}"
        assert main(["label", "--model", store.root, str(file), "--front-end", other]) == 1
        assert "is not the front-end that this model goes by" in " ".join(
            capsys.readouterr().err.split()
        )
        assert song_of(capsys, store.root, file, "--front-end", f"onnx:{away}") == labelled
    finally:
        weights.with_name("hidden").rename(weights)


def test_a_front_end_that_became_non_commercial_since_is_asked_about(
    with_front_end, catalog, front_end, capsys
):
    store, _, after = with_front_end
    file = Path(catalog).parent / "audio" / "new.wav"
    labelled = song_of(capsys, store.root, file)
    recipe = Recipe.of(store, after)
    weights = [store.read_bytes(path) for path in recipe.weights]
    path = Path(front_end.removeprefix("onnx:"))
    try:
        write_contract(path, licence="CC-BY-NC-4.0", name="random")
        _load.cache_clear()
        assert main(["label", "--model", store.root, str(file)]) == 1
        said = " ".join(capsys.readouterr().err.split())
        assert "front-end random: licence CC-BY-NC-4.0, non-commercial, which it was not" in said
        assert "give --accept-licence" in said
        with pytest.raises(FrontEndError, match="non-commercial, which it was not"):
            make_labeller(weights, recipe.settings)
        flags = ["--model", store.root, str(file), "--format", "json", "--accept-licence"]
        assert main(["label", *flags]) == 0
        out, err = capsys.readouterr()
        assert "front-end random: licence CC-BY-NC-4.0, non-commercial" in err
        assert json.loads(out) == labelled
    finally:
        write_contract(path, licence="Apache-2.0", name="random")
        _load.cache_clear()


def test_a_run_that_accepted_a_licence_accepted_it_for_its_model(tmp_path):
    place = write_onnx(tmp_path / "net.onnx", licence="CC-BY-NC-4.0")
    admitted = EmbedConfig(place, accept_licence=True).admitted()
    remembered = Remembered.of(Origin.of(admitted), admitted.of_rows())
    assert remembered.found(None) == admitted


def test_what_mlflow_loads_goes_by_the_front_end(with_front_end):
    store, _, after = with_front_end
    recipe = Recipe.of(store, after)
    settings = json.loads(json.dumps(recipe.settings))
    labeller = make_labeller([store.read_bytes(path) for path in recipe.weights], settings)
    assert labeller.embedder is not None
    assert "front_end" not in Recipe.of(store, with_front_end[1]).settings


def test_a_changed_head_never_embeds_again_and_no_flag_means_no_embedding(
    with_front_end, catalog, front_end, capsys
):
    store, before, after = with_front_end
    run = ["run", "--catalog", catalog, "--output", store.root, *FAST]
    assert main([*run, "--front-end", front_end, "--smooth-segments", "5"]) == 0
    assert "embed: done before" in capsys.readouterr().err
    changed = store.latest()
    assert changed.get("embeddings") == after.get("embeddings")
    assert changed.get("songs").ref != after.get("songs").ref

    assert main(run) == 0
    assert {m.ref for m in store.latest().manifests} == {m.ref for m in before.manifests}


def test_a_front_end_that_cannot_be_used_is_refused_before_anything_is_decoded(
    catalog, tmp_path, capsys
):
    run = ["run", "--catalog", catalog, "--output", str(tmp_path / "out"), *FAST]
    assert (
        main([*run, "--front-end", write_onnx(tmp_path / "nc.onnx", licence="CC-BY-NC-4.0")]) == 1
    )
    said = " ".join(capsys.readouterr().err.split())
    assert "licence CC-BY-NC-4.0, non-commercial; give --accept-licence" in said
    assert not (tmp_path / "out" / "segments").exists()
