"""The stage that embeds: a run on a few tracks, stopped, grown, retried, and taken down."""

import shutil
import sys
from datetime import UTC, datetime

import duckdb
import numpy as np
import onnxruntime
import pytest
import soundfile
from conftest import CLASSES, music
from front_ends import DIMENSION, write_module, write_onnx

from pipelines.beam import mass
from pipelines.beam.job import Job
from pipelines.cli import main
from schemas.summaries import EmbeddingsSummary
from sssl.embedding.settings import Origin
from sssl.embedding.table import embeddings_of
from sssl.store.folder import Store
from sssl.store.in_flight import InFlight, launched, noted
from sssl.store.sql import connect

RATE_HZ, SECONDS = 16_000, 9.0
SEGMENTED = ["--tracks-per-part", "3", "--processes", "1"]


def write(folder, names):
    """Write a catalog of tracks; their classes in turn."""
    rows = ["track_id,uri,label"]
    for name in names:
        label, path = CLASSES[ord(name) % 4], folder / f"{name}.wav"
        if not path.exists():
            soundfile.write(path, music(label, SECONDS, ord(name)), RATE_HZ, subtype="FLOAT")
        rows.append(f"{name},{path},{label}")
    (folder / "catalog.csv").write_text("\n".join(rows) + "\n")


def segment(folder):
    command = ["segment", "--catalog", str(folder / "catalog.csv"), "--output", str(folder / "out")]
    assert main([*command, *SEGMENTED]) == 0
    return Store.open(str(folder / "out"))


def embed(folder, *flags):
    front_end = [] if "--front-end" in flags else ["--front-end", f"onnx:{folder}/net.onnx"]
    command = ["embed", "--output", str(folder / "out"), "--processes", "1", "--threads", "1"]
    return main([*command, *front_end, *flags])


def table_of(store):
    return store.read_table(store.latest().get("embeddings"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with eight tracks, segmented and embedded, to copy."""
    folder = tmp_path_factory.mktemp("embedded")
    write(folder, "abcdefgh")
    write_onnx(folder / "net.onnx", name="random", licence="Apache-2.0")
    segment(folder)
    assert embed(folder) == 0
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "copy")


@pytest.fixture
def opened(folder):
    return Store.open(str(folder / "out"))


def test_rows_are_those_of_segments_and_as_called_by_hand(made):
    store = Store.open(str(made / "out"))
    snapshot = store.latest()
    session = onnxruntime.InferenceSession(made / "net.onnx")
    for part, file in snapshot.get("embeddings").files.items():
        table = store.read_part(file)
        segments = store.read_part(snapshot.get("segments").files[part])
        assert table["track_id"].equals(segments["track_id"])
        assert table["segment_index"].equals(segments["segment_index"])
        found = embeddings_of(table)
        assert found.shape == (len(segments), DIMENSION)
        for row, of in zip(found, segments.to_pylist(), strict=True):
            wave, _ = soundfile.read(made / f"{of['track_id']}.wav", dtype="float32")
            start = round(of["start_s"] * RATE_HZ)
            (expected,) = session.run(["embedding"], {"wave": wave[None, start : start + 48_000]})
            np.testing.assert_allclose(row, expected[0], rtol=1e-3, atol=1e-4)


def test_the_manifest_says_whose_weights_and_under_which_licence(made):
    manifest = Store.open(str(made / "out")).latest().get("embeddings")
    origin = manifest.about(Origin)
    assert (origin.name, origin.licence, origin.commercial) == ("random", "Apache-2.0", True)
    assert manifest.about(EmbeddingsSummary).segments == manifest.rows == 24
    assert manifest.config["contract"]["sample_rate_hz"] == RATE_HZ


def test_sql_and_verify_know_the_table(made, capsys):
    store = Store.open(str(made / "out"))
    view = connect(store, store.latest())
    found = view.sql("select count(*), count(distinct octet_length(embedding)) from embeddings")
    assert found.fetchall() == [(24, 1)]
    assert main(["verify", "--output", store.root]) == 0
    assert main(["tables", "--output", store.root]) == 0
    assert "embeddings" in capsys.readouterr().out


def test_embeddings_are_found_again_by_weights_and_contract_wherever_they_lie(folder, opened):
    before = opened.latest().get("embeddings").ref
    write_onnx(folder / "moved.onnx", name="of another name", licence="ISC")
    assert embed(folder, "--front-end", f"onnx:{folder}/moved.onnx") == 0
    assert opened.latest().get("embeddings").ref == before
    write_onnx(folder / "other.onnx", seed=1)
    assert embed(folder, "--front-end", f"onnx:{folder}/other.onnx") == 0
    assert opened.latest().get("embeddings").ref != before
    assert embed(folder) == 0
    assert opened.latest().get("embeddings").ref == before


def test_a_job_that_stopped_goes_on_and_ends_with_the_same_tables(folder, opened, monkeypatch):
    before = opened.latest().get("embeddings")
    opened.publish(opened.latest().without("embeddings"))
    shutil.rmtree(folder / "out" / "embeddings")
    shutil.rmtree(folder / "out" / "_receipts" / "embeddings")
    real, written = Job.write, []

    def dies_at_the_second(job, part, tables, summary):
        if written:
            raise KeyboardInterrupt
        written.append(part)
        return real(job, part, tables, summary)

    with monkeypatch.context() as patched:
        patched.setattr(Job, "write", dies_at_the_second)
        assert embed(folder) == 130
    assert not opened.latest().of("embeddings")

    def notes(job, part, tables, summary):
        written.append(part)
        return real(job, part, tables, summary)

    monkeypatch.setattr(Job, "write", notes)
    assert embed(folder) == 0
    assert sorted(written) == sorted(before.files)  # each part once
    after = opened.latest().get("embeddings")
    assert (after.ref, after.digest) == (before.ref, before.digest)


def test_a_grown_catalog_embeds_new_tracks_alone(folder, opened, monkeypatch):
    from sssl.embedding import embedder

    before = {row["track_id"]: row for row in table_of(opened).to_pylist()}
    seen = []
    real = embedder.Embedder.embed
    monkeypatch.setattr(
        embedder.Embedder,
        "embed",
        lambda own, wave, start_s: seen.append(1) or real(own, wave, start_s),
    )
    write(folder, "abcdefghij")
    segment(folder)
    assert not opened.latest().of(
        "embeddings"
    )  # what was made of other segments is no longer published
    assert embed(folder) == 0
    after = {row["track_id"]: row for row in table_of(opened).to_pylist()}
    assert len(seen) == 2
    assert after.keys() == set("abcdefghij")
    assert all(after[track_id] == row for track_id, row in before.items())


def test_what_is_grown_equals_what_is_made_anew(folder, opened, tmp_path):
    write(folder, "abcdefghij")
    segment(folder)
    assert embed(folder) == 0
    new = tmp_path / "new"
    shutil.copytree(folder, new, ignore=shutil.ignore_patterns("out"))
    store = segment(new)
    assert embed(new) == 0
    rows = {row["track_id"]: row for row in table_of(store).to_pylist()}
    assert rows == {row["track_id"]: row for row in table_of(opened).to_pylist()}


def test_a_track_that_cannot_be_read_any_more_has_rows_with_a_reason_and_is_retried(tmp_path):
    folder = tmp_path
    write(folder, "abcd")
    write_onnx(folder / "net.onnx")
    opened = segment(folder)
    (folder / "c.wav").rename(folder / "away")
    assert embed(folder) == 0
    manifest = opened.latest().get("embeddings")
    summary = manifest.about(EmbeddingsSummary)
    assert (summary.missing, summary.reasons) == (3, {"missing": 1})
    lost = [row for row in table_of(opened).to_pylist() if row["track_id"] == "c"]
    assert [(row["embedding"], row["reason"]) for row in lost] == [(None, "missing")] * 3

    assert embed(folder, "--retry") == 0  # in vain
    assert opened.latest().get("embeddings").ref == manifest.ref
    (folder / "away").rename(folder / "c.wav")
    assert embed(folder) == 0  # as it is
    assert opened.latest().get("embeddings").ref == manifest.ref
    assert embed(folder, "--retry") == 0
    assert opened.latest().get("embeddings").about(EmbeddingsSummary).missing == 0
    assert embed(folder) == 0
    assert opened.latest().get("embeddings").about(EmbeddingsSummary).missing == 0


def test_a_takedown_leaves_no_embedding_of_the_track(folder, opened):
    assert main(["takedown", "--output", opened.root, "--track-id", "c"]) == 0
    assert set(table_of(opened)["track_id"].to_pylist()) == set("abdefgh")
    assert opened.latest().get("embeddings").about(EmbeddingsSummary).segments == 21
    rest = duckdb.sql(f"from '{opened.root}/embeddings/*/*.parquet' where track_id = 'c'")
    assert not rest.fetchall()


@pytest.mark.parametrize(
    ("fields", "flags", "said"),
    [
        (
            {"licence": "CC-BY-NC-4.0"},
            [],
            "licence CC-BY-NC-4.0, non-commercial; give --accept-licence",
        ),
        ({"window_s": 0.001}, [], "window_s is 0.001, expected 0.01 to 600.0 seconds"),
        ({"sample_rate_hz": 1000, "window_samples": 50}, [], "fails"),
        ({"pooling": "sum"}, [], "Contract.pooling"),
    ],
)
def test_what_cannot_be_used_is_a_sentence(folder, capsys, fields, flags, said):
    write_onnx(folder / "bad.onnx", **fields)
    assert embed(folder, "--front-end", f"onnx:{folder}/bad.onnx", *flags) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert said in told
    assert "Traceback" not in told


def test_non_commercial_weights_embed_once_they_are_accepted(folder, opened, capsys):
    write_onnx(folder / "nc.onnx", licence="CC-BY-NC-4.0", seed=2)
    assert embed(folder, "--front-end", f"onnx:{folder}/nc.onnx", "--accept-licence") == 0
    assert "licence CC-BY-NC-4.0, non-commercial" in capsys.readouterr().err
    assert not opened.latest().get("embeddings").about(Origin).commercial


def test_without_onnxruntime_a_sentence_says_which_extra_brings_it(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert embed(folder) == 1
    assert "sssl embed needs onnxruntime: pip install 'sssl[onnx]'" in capsys.readouterr().err


def test_a_function_embeds_in_the_stage(folder, opened, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    write_module(folder, "nets_of_stage")
    assert embed(folder, "--front-end", "module:nets_of_stage.loudness") == 0
    assert embeddings_of(table_of(opened)).shape == (24, 2)


@pytest.mark.parametrize("function", ["wider_in_batches", "ragged", "no_dimension"])
def test_a_function_whose_shape_varies_is_refused_before_anything_is_decoded(
    folder, opened, monkeypatch, capsys, function
):
    monkeypatch.syspath_prepend(folder)
    before = opened.latest()
    write_module(folder, f"nets_of_{function}")
    assert embed(folder, "--front-end", f"module:nets_of_{function}.{function}") == 1
    told = " ".join(capsys.readouterr().err.split())
    assert f"error: module:nets_of_{function}.{function}: " in told
    assert "Traceback" not in told
    assert opened.latest() == before
    assert len(list((folder / "out" / "embeddings").iterdir())) == 1


@pytest.mark.parametrize("function", ["too_large", "never_finite"])
def test_a_network_that_is_never_finite_is_refused_and_nothing_withdrawn(
    folder, opened, monkeypatch, capsys, function
):
    monkeypatch.syspath_prepend(folder)
    before = opened.latest()
    write_module(folder, f"nets_{function}", name="loud")
    said = (
        "error: front-end loud returns NaN, infinity or values beyond ±65,504, which do not fit "
        "half precision: none of 24 segments has an embedding; once the cause is gone, embed with "
        "--retry"
    )
    for flags in ((), (), ("--retry",)):  # what is done before is no better
        assert embed(folder, "--front-end", f"module:nets_{function}.{function}", *flags) == 1
        assert said in " ".join(capsys.readouterr().err.split())
        assert opened.latest() == before


def test_once_its_cause_is_gone_a_network_that_was_never_finite_embeds_all(
    folder, opened, monkeypatch
):
    monkeypatch.syspath_prepend(folder)
    write_module(folder, "nets_mended")
    front_end = ("--front-end", "module:nets_mended.finite_once_told")
    assert embed(folder, *front_end) == 1
    (folder / "told").touch()
    assert embed(folder, *front_end) == 1  # nothing says that its rows are of before
    for flags in (("--retry",), ()):
        assert embed(folder, *front_end, *flags) == 0
        assert table_of(opened)["embedding"].null_count == 0


def test_a_network_that_is_never_finite_stops_a_large_job_early(
    folder, opened, monkeypatch, capsys
):
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(mass, "MASS", 3)
    write_module(folder, "nets_early", name="loud")
    assert embed(folder, "--front-end", "module:nets_early.too_large") == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "of 3 tracks nearly all failed: non-finite 3; front-end loud returns NaN" in told
    assert "Traceback" not in told


def test_embeddings_of_a_launched_job_that_are_never_finite_are_not_published(
    folder, opened, monkeypatch, capsys
):
    monkeypatch.syspath_prepend(folder)
    before = opened.latest()
    write_module(folder, "nets_launched", name="loud")
    assert embed(folder, "--front-end", "module:nets_launched.too_large") == 1
    refs = {path.name for path in (folder / "out" / "embeddings").iterdir()}
    (made,) = refs - {before.get("embeddings").ref.partition("/")[2]}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    launched(opened, InFlight("embed", None, (f"embeddings/{made}",), 3, now))
    capsys.readouterr()
    assert main(["publish", "--output", opened.root]) == 1
    assert "front-end loud returns NaN, infinity" in " ".join(capsys.readouterr().err.split())
    assert opened.latest() == before
    assert noted(opened) is None  # other jobs do not wait for it
