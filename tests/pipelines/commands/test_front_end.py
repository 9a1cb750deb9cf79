"""A run with a front-end, on the folder of a run without one: what changes, and what does not."""

import json
from pathlib import Path

import pytest
from conftest import FAST
from front_ends import write_onnx

from pipelines.cli import main
from sssl.songs.classifier import EMBEDDING, SongModel


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


def test_the_report_says_what_the_embedding_is_worth(with_front_end):
    store, _, _ = with_front_end
    page = store.read_bytes("report.html").decode()
    assert "embedding of the front-end" in page


def test_the_licence_is_logged(with_front_end):
    store, _, _ = with_front_end
    records = [json.loads(path.read_text()) for path in Path(store.root, "tracking").glob("*.json")]
    assert any("Apache-2.0" in json.dumps(record) for record in records)


def test_a_changed_head_never_embeds_again_and_no_flag_means_no_embedding(with_front_end, catalog, front_end, capsys):
    store, before, after = with_front_end
    run = ["run", "--catalog", catalog, "--output", store.root, *FAST]
    assert main([*run, "--front-end", front_end, "--smooth-segments", "5"]) == 0
    assert "embed: done before" in capsys.readouterr().err
    changed = store.latest()
    assert changed.get("embeddings") == after.get("embeddings")
    assert changed.get("songs").ref != after.get("songs").ref

    assert main(run) == 0
    assert {m.ref for m in store.latest().manifests} == {m.ref for m in before.manifests}


def test_a_front_end_that_cannot_be_used_is_refused_before_anything_is_decoded(catalog, tmp_path, capsys):
    run = ["run", "--catalog", catalog, "--output", str(tmp_path / "out"), *FAST]
    assert main([*run, "--front-end", write_onnx(tmp_path / "nc.onnx", licence="CC-BY-NC-4.0")]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "licence CC-BY-NC-4.0, non-commercial; give --accept-licence" in said
    assert not (tmp_path / "out" / "segments").exists()
