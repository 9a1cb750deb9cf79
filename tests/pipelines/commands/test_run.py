import csv
import io
import json
import re
import shutil
from pathlib import Path

import duckdb
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import CLASSES, FAST, TRAINING, WRONG_PER_CLASS
from fsspec.implementations.memory import MemoryFileSystem
from rows import half_floats

from pipelines.cli import main
from pipelines.stages.settings import Settings
from sssl.audio.sound import SOUND_NAMES, sound_width
from sssl.model.ensemble import load
from sssl.model.examples import Corpus
from sssl.store.folder import Store
from sssl.store.rounds import last_accepted, read_rounds
from sssl.store.sql import connect
from sssl.store.tensors import log_mels


@pytest.fixture(scope="module")
def sql(finished):
    connection = connect(finished, finished.latest())
    return lambda query: connection.sql(query).fetchall()


def test_every_catalog_track_has_its_ledger_row(sql):
    assert sql("select count(*), count(distinct track_id) from ledger") == [(24, 24)]
    assert sql("select count(*) from catalog anti join ledger using (track_id)") == [(0,)]


def test_every_broken_file_has_a_reason(sql):
    found = dict(sql("select track_id, reason from ledger where status != 'ok'"))
    assert found == {"text": "not-audio", "silent": "silent", "missing": "missing"}


def test_every_track_with_segments_has_a_song(sql):
    usable = sql("select track_id from ledger where segments > 0 order by 1")
    assert sql("select track_id from songs order by 1") == usable
    assert ("new",) in usable


def test_no_segment_is_scored_or_labelled_twice_in_a_round(sql):
    for table in ("scores", "labels"):
        assert (
            sql(
                f"select 1 from {table} group by track_id, segment_index, round having count(*) > 1"
            )
            == []
        )
        assert sql(f"select distinct round, count(*) from {table} group by round order by 1") == [
            (r, 21 * 5) for r in range(3)
        ]


def test_rows_of_segments_scores_and_labels_are_aligned(finished):
    snapshot = finished.latest()
    key = ["track_id", "segment_index"]
    for part, segments in finished.iter_parts(snapshot.get("segments"), key):
        for table in ("scores", "labels"):
            other = finished.read_part(snapshot.get(table, 1).files[part], key)
            assert other.to_pydict() == segments.to_pydict()


def test_training_reads_the_labels_of_the_last_accepted_round(finished, sql):
    snapshot = finished.latest()
    round = last_accepted(finished, snapshot).round
    model = snapshot.get("models", round)
    assert snapshot.get("labels", round).ref in model.parents
    corpus = Corpus(
        finished, snapshot.get("catalog"), snapshot.features, snapshot.get("labels", round)
    )
    read = sum(len(corpus.load(part).weight) for part in corpus.parts)
    assert sql("select count(*) from accepted_labels where weight > 0") == [(read,)]


def test_held_out_tracks_are_never_trained_on(sql):
    assert sql(
        "select count(*) from labels join catalog using (track_id) where split = 'test' and"
        " weight > 0"
    ) == [(0,)]
    assert sql("select count(distinct track_id) from catalog where split = 'test'") > [(0,)]


def test_timelines_cover_the_track_without_gaps(sql):
    for (timeline,) in sql("select timeline from songs"):
        assert timeline[0]["start_s"] == 0
        assert timeline[-1]["end_s"] == 15
        assert [e["end_s"] for e in timeline[:-1]] == [e["start_s"] for e in timeline[1:]]


def test_a_song_s_label_leads_to_its_round_and_model(sql):
    assert sql(
        "select count(*) from songs join rounds using (round, model_id) "
        "join scores using (track_id, round, model_id) where accepted"
    ) == [(21 * 5,)]


def test_the_music_is_learned(finished):
    warmup, *rounds = read_rounds(finished, finished.latest())
    assert warmup.train_accuracy > 0.8
    assert [row.round for row in rounds] == [1, 2]


def test_the_wrong_thirds_of_tracks_are_found(sql):
    """Of segment 3 a second belongs to the right part. Later rounds train too little to be
    judged."""
    found = set(
        sql(
            "select track_id, segment_index from labels join catalog using (track_id) "
            "where split = 'train' and round = 1 and partition = 'noisy'"
        )
    )
    names = [(f"{label}_{n}",) for label in CLASSES for n in range(WRONG_PER_CLASS)]
    wrong = set(names) & set(sql("select track_id from catalog where split = 'train'"))
    assert {(track_id, 4) for (track_id,) in wrong} <= found
    assert sum((track_id,) in wrong and index >= 3 for track_id, index in found) > 0.7 * len(found)


def test_a_second_run_does_no_work_and_changes_nothing(finished_copy, catalog):
    def written():
        return {
            path: path.stat().st_ctime_ns for path in Path(finished_copy.root).rglob("*.parquet")
        }

    before = written()
    digests = [m.digest for m in finished_copy.latest().manifests]
    assert main(["run", "--catalog", catalog, "--output", finished_copy.root, *FAST]) == 0
    assert written() == before
    assert [m.digest for m in finished_copy.latest().manifests] == digests


def test_stages_alone_make_the_same_tables_as_run(finished, catalog, tmp_path):
    output = str(tmp_path / "out")

    def stage(name, *args):
        assert main([name, "--output", output, *args]) == 0

    stage("segment", "--catalog", catalog, *FAST)
    for round in "012":
        for name in ("relabel", "train", "score", "judge"):
            stage(name, "--round", round, *TRAINING)
    stage("songs")
    stage("report")
    alone = {m.ref: m.digest for m in Store.open(output).latest().manifests}
    assert alone == {m.ref: m.digest for m in finished.latest().manifests}


def test_training_starts_from_given_weights_named_by_their_content(finished, tmp_path):
    output = str(shutil.copytree(finished.root, tmp_path / "out"))
    given = finished.latest().get("models", 1)
    weights = f"{finished.root}/{given.files[0].path}"
    flags = [
        "--warmup-epochs",
        "1",
        "--batch-size",
        "8",
        "--learning-rate",
        "1e-9",
        "--weight-decay",
        "0",
    ]
    assert main(["train", "--output", output, "--round", "0", "--init", weights, *flags]) == 0
    store = Store.open(output)
    trained = store.latest().get("models", 0)
    assert trained.config["init"] == given.summary["model_id"]
    before, after = (
        load(s.read_bytes(m.files[0].path)) for s, m in ((finished, given), (store, trained))
    )
    for one, other in zip(before.members, after.members, strict=True):
        torch.testing.assert_close(dict(one.named_parameters()), dict(other.named_parameters()))


def test_a_whole_run_starts_from_given_weights_which_it_reads_once(finished, catalog, tmp_path):
    """They lie where a second look finds nothing; and another place with the same weights is the
    same run."""
    output, read = str(tmp_path / "out"), []
    given = finished.latest().get("models", 1)
    weights = finished.read_bytes(given.files[0].path)

    class Once(MemoryFileSystem):
        protocol = "once"

        def _open(self, path, *args, **kwargs):
            read.append(path)
            return io.BytesIO(weights)

    fsspec.register_implementation("once", Once, clobber=True)
    flags = [
        "--rounds",
        "0",
        "--warmup-epochs",
        "1",
        "--learning-rate",
        "1e-9",
        "--weight-decay",
        "0",
    ]
    for name in ("here", "there"):
        args = [
            "--catalog",
            catalog,
            "--output",
            output,
            *FAST[:4],
            "--init",
            f"once://{name}?sig=SECRET1",
        ]
        assert main(["run", *args, *flags, "--batch-size", "8"]) == 0
        assert len(read) == 1
        read.clear()
    store = Store.open(output)
    (trained,) = store.latest().of("models")
    assert trained.config["init"] == given.summary["model_id"]
    assert len([name for name in store.names("tracking") if name.endswith(".json")]) == 1
    before, after = (load(data) for data in (weights, store.read_bytes(trained.files[0].path)))
    for one, other in zip(before.members, after.members, strict=True):
        torch.testing.assert_close(dict(one.named_parameters()), dict(other.named_parameters()))


def test_weights_that_are_none_of_ours_are_refused(finished_copy, tmp_path, capsys):
    (tmp_path / "weights.pt").write_bytes(b"something else entirely")
    for name, why in [
        ("weights.pt", "not a model file of this program"),
        ("gone.pt", "No such file"),
    ]:
        assert (
            main(
                [
                    "train",
                    "--output",
                    finished_copy.root,
                    "--round",
                    "0",
                    "--init",
                    str(tmp_path / name),
                ]
            )
            == 1
        )
        assert why in " ".join(capsys.readouterr().err.split())


def test_each_bundle_run_twice_gives_the_same_tables(finished, catalog, tmp_path):
    output = str(tmp_path / "out")
    beam = ["--", "--direct_runner_bundle_repeat=1"]
    assert main(["run", "--catalog", catalog, "--output", output, *FAST, *beam]) == 0
    assert Store.open(output).latest().covers(finished.latest())
    assert [m.digest for m in Store.open(output).latest().manifests] == [
        m.digest for m in finished.latest().manifests
    ]


def test_a_round_with_nothing_to_split_trains_nothing_and_still_labels_songs(
    finished, catalog, tmp_path
):
    output = str(shutil.copytree(finished.root, tmp_path / "out"))
    assert (
        main(["run", "--catalog", catalog, "--output", output, *FAST, "--min-separation", "100"])
        == 0
    )
    store = Store.open(output)
    snapshot = store.latest()
    assert [(row.round, row.accepted) for row in read_rounds(store, snapshot)] == [
        (0, True),
        (1, False),
    ]
    assert [m.round for m in snapshot.of("models")] == [0]
    assert snapshot.get("songs").rows == 21
    assert (tmp_path / "out" / "report.html").exists()
    for stage in ("train", "score"):
        assert main([stage, "--output", output, "--round", "1"]) == 0
    assert store.latest() == snapshot


def songs_of(output, *flags):
    """Probabilities [tracks, C] of songs made anew, and how many statistics their classifier
    weighs."""
    assert main(["songs", "--output", output, "--regularization", "0.2", *flags]) == 0
    store = Store.open(output)
    songs = store.latest().get("songs")
    weighed = songs.summary["classifier"]["softmax"]["mean"]
    return np.stack(store.read_table(songs)["probabilities"].to_pylist()), len(weighed)


def test_songs_go_by_their_sound_too(finished, tmp_path):
    output = str(shutil.copytree(finished.root, tmp_path / "out"))
    (heard, more), (deaf, few) = songs_of(output), songs_of(output, "--no-sound")
    assert np.abs(heard - deaf).max() > 0.01
    assert more == few + len(SOUND_NAMES)


def without_columns(output, *names):
    """Take columns out of the segments of an output folder, and return it."""
    for file in Store.open(output).latest().get("segments").files.values():
        table = pq.read_table(f"{output}/{file.path}")
        pq.write_table(table.drop_columns(list(names)), f"{output}/{file.path}")
    return output


def test_songs_of_a_folder_from_before_sound_was_measured_go_by_the_levels_of_bands(
    finished, tmp_path
):
    older = without_columns(str(shutil.copytree(finished.root, tmp_path / "older")), "sound")
    (_, more), (_, few) = songs_of(older), songs_of(older, "--no-sound")
    assert more == few + sound_width(64)


def test_segments_that_schema_version_1_wrote_need_no_decoding_to_be_heard(
    finished, finished_in_halves, tmp_path
):
    output = without_columns(str(shutil.copytree(finished.root, tmp_path / "out")), "sound")
    wanted, _ = songs_of(output)
    older = str(shutil.copytree(finished.root, tmp_path / "older"))
    store = Store.open(older)
    snapshot = store.latest()
    features = finished_in_halves.latest().features
    for part, file in snapshot.get("segments").files.items():
        table = pq.read_table(f"{older}/{file.path}").drop_columns(["sound_db", "sound"])
        log_mel = log_mels(finished_in_halves.read_part(features.files[part]))
        table = table.add_column(3, "log_mel", half_floats(log_mel))
        table = table.replace_schema_metadata(
            {**table.schema.metadata, b"sssl.schema_version": b"1"}
        )
        pq.write_table(table, f"{older}/{file.path}")
        assert (
            Settings().of_rows()["columns"] == table.column_names
        )  # what version 1 wrote counts as unchanged
    found, _ = songs_of(older)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_scores_and_segments_that_do_not_belong_together_are_refused(finished, tmp_path):
    output = str(shutil.copytree(finished.root, tmp_path / "out"))
    file = Store.open(output).latest().get("segments").files[0]
    pq.write_table(pq.read_table(f"{output}/{file.path}").slice(1), f"{output}/{file.path}")
    with pytest.raises(pa.ArrowInvalid, match="length must match"):
        songs_of(output)


def test_sql_prints_tables_csv_and_json(finished, capsys):
    query = "select count(*) as n from ledger"
    for format, expected in [
        ("table", r"│\s+24 │"),
        ("csv", "n\n24\n"),
        ("json", r'\[{"n": 24}\]'),
    ]:
        assert main(["sql", "--output", finished.root, query, "--format", format]) == 0
        assert re.search(expected, capsys.readouterr().out)


EXACT = (
    "select 1.5e-11 as tiny, 'nan'::double as nan, time '10:00' as at, [0.5, 2] as list, 'ab'::blob"
    " as bytes, null as missing, 'a,\"b' as text"
)


def test_sql_prints_exact_values_as_json(finished, capsys):
    assert main(["sql", "--output", finished.root, EXACT, "--format", "json"]) == 0
    wanted = {
        "tiny": 1.5e-11,
        "nan": None,
        "at": "10:00:00",
        "list": [0.5, 2],
        "bytes": "YWI=",
        "missing": None,
    }
    assert json.loads(capsys.readouterr().out) == [wanted | {"text": 'a,"b'}]
    assert (
        main(["sql", "--output", finished.root, "from songs where false", "--format", "json"]) == 0
    )
    assert json.loads(capsys.readouterr().out) == []


def test_a_decimal_is_a_number_where_that_holds_it(finished, capsys):
    query = "select 1.10::decimal(5, 2) as short, 1.12345678901234567890::decimal(38, 20) as long"
    assert main(["sql", "--output", finished.root, query, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"short": 1.1, "long": "1.12345678901234567890"}]


def test_an_answer_that_breaks_off_amid_the_rows_is_not_begun_anew(finished, capsys, monkeypatch):
    def broken(rows, to):
        to.write("n\n")
        raise duckdb.IOException("a file is gone")

    monkeypatch.setattr("pipelines.commands.sql._write_csv", broken)
    assert main(["sql", "--output", finished.root, "select 1 as n", "--format", "csv"]) == 1
    assert capsys.readouterr().out == "n\n"


def test_sql_prints_exact_values_as_csv(finished, capsys):
    assert main(["sql", "--output", finished.root, EXACT, "--format", "csv"]) == 0
    names, values = csv.reader(capsys.readouterr().out.splitlines())
    assert names == ["tiny", "nan", "at", "list", "bytes", "missing", "text"]
    assert values == ["1.5e-11", "nan", "10:00:00", "[0.5, 2.0]", "ab", "", 'a,"b']


def test_tables_lists_every_generation(finished, capsys):
    assert main(["tables", "--output", finished.root]) == 0
    out = capsys.readouterr().out
    assert all(manifest.generation in out for manifest in finished.latest().manifests)


def test_columns_carry_their_docs_in_sql(sql):
    assert sql(
        "select comment from duckdb_columns() where table_name = 'ledger' and column_name ="
        " 'decoded_s'"
    ) == [("Duration that came out of the decoder. [s]",)]


def test_the_tensor_column_is_read_by_sql(sql):
    (row,) = sql("select log_mel from features limit 1")
    assert len(row[0]) == 64 * 94
