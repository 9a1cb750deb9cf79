"""An Iceberg catalog shows what the manifests name, and nothing that was taken down."""

import shutil
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from conftest import FAST, write_catalog
from pyiceberg.catalog import load_catalog
from pyiceberg.utils.config import Config

from pipelines.cli import main
from sssl.export.iceberg import PUBLICATION, REGISTERED, publication_id
from sssl.store.folder import Store

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="module")
def output(finished, tmp_path_factory):
    return Store.open(
        str(shutil.copytree(finished.root, tmp_path_factory.mktemp("iceberg") / "out"))
    )


def configure(monkeypatch, folder):
    """Make a catalog in a file of a folder known to PyIceberg as `music`."""
    for name, value in {
        "TYPE": "sql",
        "URI": f"sqlite:///{folder}/iceberg.db",
        "WAREHOUSE": f"file://{folder}/warehouse",
    }.items():
        monkeypatch.setenv(f"PYICEBERG_CATALOG__MUSIC__{name}", value)
    # PyIceberg reads its configuration once, at import.
    monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", Config())


@pytest.fixture
def music(tmp_path, monkeypatch):
    configure(monkeypatch, tmp_path)
    return load_catalog("music")


def register(output):
    return main(["iceberg", "--output", output.root, "--catalog", "music"])


def rows(catalog):
    return {name: len(catalog.load_table(f"sssl.{name}").scan().to_arrow()) for name in REGISTERED}


def named(store):
    return {name: sum(m.rows for m in store.latest().of(name)) for name in REGISTERED}


def publications(catalog):
    found = []
    for name in REGISTERED:
        snapshot = catalog.load_table(f"sssl.{name}").current_snapshot()
        found.append(snapshot.summary.additional_properties[PUBLICATION])
    return found


def test_iceberg_has_the_rows_of_the_manifests_after_a_takedown_and_a_delivery(
    output, music, tmp_path
):
    for _ in range(2):  # nothing doubles
        assert register(output) == 0
        assert rows(music) == named(output)
    for name in REGISTERED:
        assert len(music.load_table(f"sssl.{name}").snapshots()) == 1
    assert set(publications(music)) == {publication_id(output.latest())}
    assert main(["takedown", "--output", output.root, "--track-id", "Q1_0"]) == 0
    assert register(output) == 0
    assert rows(music) == named(output)
    assert set(publications(music)) == {publication_id(output.latest())}
    songs = music.load_table("sssl.songs").scan().to_arrow()
    assert "Q1_0" not in songs["track_id"].to_pylist()
    catalog = write_catalog(tmp_path, tracks_per_class=1, seconds=6.0)
    segment = ["segment", "--catalog", catalog, "--output", output.root, *FAST[:4]]
    assert main([*segment, "--max-error-ratio", "1"]) == 0
    assert register(output) == 0
    assert rows(music) == named(output)
    assert rows(music)["songs"] == 0  # withdrawn until they are made again


def test_a_takedown_drops_every_snapshot_that_names_one_of_its_files(finished, music, tmp_path):
    output = Store.open(str(shutil.copytree(finished.root, tmp_path / "out")))
    assert register(output) == 0
    assert main(["takedown", "--output", output.root, "--track-id", "Q2_0"]) == 0
    assert register(output) == 0
    for name in REGISTERED:
        table = music.load_table(f"sssl.{name}")
        for snapshot in table.snapshots():
            table.scan(snapshot_id=snapshot.snapshot_id).to_arrow()  # every file is there
    assert len(music.load_table("sssl.songs").snapshots()) == 1


def test_iceberg_metadata_keeps_no_values_of_columns(finished, music):
    assert register(finished) == 0
    table = music.load_table("sssl.songs")
    for task in table.scan().plan_files():
        assert not task.file.lower_bounds
        assert not task.file.upper_bounds
        assert task.file.value_counts


def test_files_of_an_older_version_without_a_column_are_read_as_null(finished, music, tmp_path):
    assert register(finished) == 0
    table = music.load_table("sssl.songs")
    (path,) = (task.file.file_path for task in table.scan().plan_files())
    older = pq.read_table(path.removeprefix("file://")).drop_columns(["confidence"])
    pq.write_table(older, tmp_path / "older.parquet")
    table.add_files([f"file://{tmp_path}/older.parquet"])
    both = table.scan().to_arrow()["confidence"]
    assert both.null_count == len(older)


def test_another_engine_reads_what_is_registered(finished, music):
    assert register(finished) == 0
    table = music.load_table("sssl.songs")
    paths = [task.file.file_path.removeprefix("file://") for task in table.scan().plan_files()]
    assert all(Path(path).is_file() for path in paths)
    ((count,),) = duckdb.sql(f"select count(*) from read_parquet({paths})").fetchall()
    assert count == named(finished)["songs"]


@pytest.mark.parametrize("sign", ["#", "?"])
def test_a_folder_that_pyiceberg_reads_as_another_is_refused_before_anything(
    finished, music, tmp_path, monkeypatch, capsys, sign
):
    name = f"take{sign}2"
    output = Store.open(str(shutil.copytree(finished.root, tmp_path / name)))
    assert register(output) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"{tmp_path}/{name}" in said
    assert f"PyIceberg takes {sign} for the end of a path: give the folder another name" in said
    monkeypatch.setenv("PYICEBERG_CATALOG__MUSIC__WAREHOUSE", f"file://{tmp_path}/{name}/tables")
    monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", Config())
    assert register(finished) == 1
    assert f"{name}/tables: PyIceberg takes" in " ".join(capsys.readouterr().err.split())
    assert music.list_namespaces() == []
    assert not (tmp_path / "take").exists()


def test_a_catalog_that_is_not_configured_is_a_sentence(finished, capsys):
    assert main(["iceberg", "--output", finished.root, "--catalog", "nowhere"]) == 1
    assert "the Iceberg catalog nowhere was not updated" in capsys.readouterr().err


def test_a_catalog_that_cannot_be_reached_is_a_sentence(finished, capsys, monkeypatch):
    configure(monkeypatch, "/no/such/folder")
    assert register(finished) == 1
    assert "the Iceberg catalog music was not updated" in capsys.readouterr().err


def test_segments_with_tensors_of_an_early_version_are_refused_before_anything(music, capsys):
    output = Store.open(str(GOLDEN / "v4"))
    assert register(output) == 1
    assert "segments of schema version 4 have log-mels" in " ".join(capsys.readouterr().err.split())
    assert music.list_namespaces() == []


def test_a_folder_with_no_output_in_it_is_a_sentence(tmp_path, music, capsys):
    assert main(["iceberg", "--output", str(tmp_path / "empty"), "--catalog", "music"]) == 1
    assert "is not an output folder" in capsys.readouterr().err
