"""An output whose segments schema version 3 wrote, log-mels within, under a run of today: nothing
is decoded again."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from conftest import RATE_HZ, music
from rows import half_floats

from pipelines.cli import main
from sssl.store.folder import Store
from sssl.store.sql import connect
from sssl.store.tensors import log_mels

FLAGS = ["--folds", "3", "--tracks-per-part", "2"]


def unsealed(path):
    """JSON as it was written before it carried a digest of itself."""
    return {
        name: value
        for name, value in json.loads(path.read_text()).items()
        if name != "content_sha256"
    }


def as_version_3_wrote(store):
    """Put the log-mels back into the segments, as lists of half floats, and band levels, too."""
    snapshot, root = store.latest(), Path(store.root)
    segments, features = snapshot.get("segments"), snapshot.get("features")
    for part, file in segments.files.items():
        rows, own = store.read_part(file), store.read_part(features.files[part])
        bands = np.array(rows["band_level_db"].to_pylist(), np.float16).reshape(len(rows), 64)
        at = rows.schema.get_field_index("band_level_db")
        rows = rows.append_column("log_mel", half_floats(log_mels(own)))
        rows = rows.set_column(at, "band_level_db", half_floats(bands))
        older = {**rows.schema.metadata, b"sssl.schema_version": b"3"}
        pq.write_table(rows.replace_schema_metadata(older), root / file.path)
    for manifest in (segments, snapshot.get("ledger")):
        path = root / manifest.ref / "_manifest.json"
        written = unsealed(path) | {"schema_version": 3}
        written["config"].pop("tables")
        for part, file in manifest.files.items():
            data = (root / file.path).read_bytes()
            written["files"][str(part)] |= {
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        path.write_text(json.dumps(written))
    shutil.rmtree(root / "features")
    pointer = unsealed(root / "latest.json")
    pointer["tables"] = [ref for ref in pointer["tables"] if not ref.startswith("features/")]
    (root / "latest.json").write_text(json.dumps(pointer))


@pytest.fixture(scope="module")
def decoded(tmp_path_factory):
    """A folder of today, the same as version 3 wrote it, and its catalog."""
    folder = tmp_path_factory.mktemp("older")
    rows = []
    for number in range(5):
        path = folder / f"t{number}.wav"
        soundfile.write(path, music(f"Q{number % 4 + 1}", 6.5, seed=number), RATE_HZ)
        rows.append(f"t{number},{path},Q{number % 4 + 1}")
    (folder / "catalog.csv").write_text("\n".join(["track_id,uri,label", *rows]))
    output = folder / "out"
    (folder / "halves.toml").write_text('[cut]\nstored_as = "float16"\n')
    in_halves = ["--settings", str(folder / "halves.toml")]
    assert (
        main(
            [
                "segment",
                "--catalog",
                str(folder / "catalog.csv"),
                "--output",
                str(output),
                *FLAGS,
                *in_halves,
            ]
        )
        == 0
    )
    shutil.copytree(output, folder / "older")
    as_version_3_wrote(Store.open(str(folder / "older")))
    return folder


@pytest.fixture
def older(decoded, tmp_path):
    shutil.copytree(decoded / "older", tmp_path / "out")
    return Store.open(str(tmp_path / "out"))


def all_log_mels(store):
    manifest = store.latest().features
    parts = [
        store.read_part(file, ["track_id", "segment_index", "log_mel"])
        for file in manifest.files.values()
    ]
    found = {}
    for part in parts:
        key = zip(part["track_id"].to_pylist(), part["segment_index"].to_pylist(), strict=True)
        found |= dict(zip(key, log_mels(part).tolist(), strict=True))
    return found


def segment(store, catalog, *flags):
    return main(["segment", "--catalog", str(catalog), "--output", store.root, *FLAGS, *flags])


def test_a_run_without_changes_leaves_an_older_folder_as_it_is(older, decoded):
    before = older.latest()
    assert segment(older, decoded / "catalog.csv") == 0
    assert older.latest() == before
    assert connect(older, before).sql("select count(*) from features").fetchall() == [(10,)]


def test_rows_of_an_older_folder_are_copied_and_no_track_is_decoded_again(
    older, decoded, tmp_path, capsys
):
    soundfile.write(tmp_path / "new.wav", music("Q1", 6.5, seed=9), RATE_HZ)
    known = (decoded / "catalog.csv").read_text()
    (tmp_path / "catalog.csv").write_text(f"{known}\nnew,{tmp_path / 'new.wav'},Q1\n")
    before = all_log_mels(older)
    assert segment(older, tmp_path / "catalog.csv") == 0
    assert "6 tracks: 5 unchanged, 1 new" in " ".join(capsys.readouterr().err.split())
    after = all_log_mels(older)
    assert {key: after[key] for key in before} == before
    assert len(after) == len(before) + 2
    snapshot = older.latest()
    for table in ("segments", "features"):
        for file in snapshot.get(table).files.values():
            assert "halffloat" not in str(pq.read_schema(older.url(file.path)))
    bands = (
        connect(older, snapshot).sql("select distinct len(band_level_db) from segments").fetchall()
    )
    assert bands == [(64,)]


def test_what_is_copied_is_what_decoding_writes(older, decoded):
    gone = "\n".join(
        line
        for line in (decoded / "catalog.csv").read_text().splitlines()
        if not line.startswith("t4")
    )
    (Path(older.root).parent / "fewer.csv").write_text(gone)
    assert segment(older, Path(older.root).parent / "fewer.csv") == 0
    for table in ("segments", "features"):
        copied = {file.sha256 for file in older.latest().get(table).files.values()}
        fresh = [
            file.sha256
            for file in Store.open(str(decoded / "out")).latest().get(table).files.values()
        ]
        assert (
            len(copied.intersection(fresh)) == len(fresh) - 1
        )  # all parts but the one that had the track


def test_a_lost_part_of_an_older_folder_is_decoded_again_and_the_others_are_copied(older, decoded):
    before = all_log_mels(older)
    lost = next(file for file in older.latest().get("segments").files.values() if file.rows)
    older.delete(lost.path)
    assert segment(older, decoded / "catalog.csv") == 0
    assert all_log_mels(older) == before
    assert older.latest().get("features").rows == 10


def test_a_takedown_keeps_the_log_mels_of_an_older_folder(older):
    before = all_log_mels(older)
    assert main(["takedown", "--output", older.root, "--track-id", "t1"]) == 0
    assert all_log_mels(older) == {key: values for key, values in before.items() if key[0] != "t1"}
