"""Re-deliveries: only what is new, changed or asked for is decoded, and tracks that must go are
gone everywhere."""

import csv
import json
import os
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import FAST, RATE_HZ, music, write_catalog

from pipelines.cli import main
from schemas import Ledger
from schemas.records import dump
from sssl.catalog import fingerprints
from sssl.catalog.committed import read_dealt, rows_of
from sssl.catalog.ledger import summarize_ledger
from sssl.labels.relabel import summarize_labels
from sssl.model.scores import summarize_scores
from sssl.report import cost
from sssl.report.source import Source
from sssl.songs.song import summarize_songs
from sssl.store.folder import Store
from sssl.store.layout import COMPACTED
from sssl.store.manifest import Snapshot
from sssl.store.sql import connect

PARTS = ["--tracks-per-part", "4", "--max-error-ratio", "1"]


@pytest.fixture
def delivery(tmp_path):
    """A catalog of 8 tracks of 6 s and 4 that fail, segmented; with the means to change it and to
    look."""
    return Delivery(tmp_path)


class Delivery:
    def __init__(self, folder):
        self.catalog = write_catalog(folder, tracks_per_class=2, seconds=6.0)
        self.audio = folder / "audio"
        self.output = str(folder / "out")
        assert self.segment() == 0

    def segment(self, *flags):
        return main(["segment", "--catalog", self.catalog, "--output", self.output, *PARTS, *flags])

    def rows(self):
        with open(self.catalog, newline="") as file:
            return list(csv.reader(file))

    def write(self, rows):
        with open(self.catalog, "w", newline="") as file:
            csv.writer(file).writerows(rows)

    def add(self, track_id, label="Q1"):
        soundfile.write(self.audio / f"{track_id}.wav", music(label, 6.0, seed=7), RATE_HZ)
        self.write([*self.rows(), (track_id, self.audio / f"{track_id}.wav", label)])

    def sql(self, query):
        store = Store.open(self.output)
        return connect(store, store.latest()).sql(query).fetchall()

    def files(self, table="segments"):
        return {file.path for file in Store.open(self.output).latest().get(table).files.values()}

    def plan(self, capsys, *flags):
        capsys.readouterr()
        assert (
            main(["plan", "--catalog", self.catalog, "--output", self.output, *PARTS, *flags]) == 0
        )
        lines = [
            line.split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")
        ]
        return {cause.strip(): int(count) for _, count, cause, *_ in lines}


def test_nothing_changed_means_nothing_is_done(delivery, capsys):
    before = Store.open(delivery.output).latest()
    assert delivery.plan(capsys) == {"unchanged": 12}
    assert delivery.segment() == 0
    assert Store.open(delivery.output).latest() == before


def test_only_new_tracks_are_decoded(delivery, capsys):
    before, files = delivery.sql("select * from ledger"), delivery.files()
    delivery.add("late")
    assert delivery.plan(capsys) == {"unchanged": 12, "new": 1}
    assert delivery.segment() == 0
    assert set(before) < set(delivery.sql("select * from ledger"))
    assert delivery.sql("select count(*) from segments where track_id = 'late'") == [(2,)]
    assert len(delivery.files() & files) == len(files)


def test_a_changed_source_is_decoded_again_and_its_neighbours_are_not(delivery, capsys):
    tensors = (
        "select track_id, segment_index, log_mel from features where track_id != 'Q1_0' order"
        " by all"
    )
    before, others = (
        delivery.sql("select * from ledger where track_id != 'Q1_0'"),
        delivery.sql(tensors),
    )
    soundfile.write(delivery.audio / "Q1_0.wav", music("Q1", 9.0, seed=1), RATE_HZ)
    untouched = next(delivery.audio.glob("Q2_0*"))
    os.chmod(untouched, 0)
    assert delivery.plan(capsys) == {"unchanged": 11, "source changed": 1}
    assert delivery.segment() == 0
    assert delivery.sql("select segments from ledger where track_id = 'Q1_0'") == [(3,)]
    assert set(delivery.sql("select * from ledger where track_id != 'Q1_0'")) == set(before)
    assert delivery.sql(tensors) == others


def test_an_updated_output_equals_a_new_one(delivery, tmp_path):
    delivery.add("late")
    soundfile.write(delivery.audio / "Q1_0.wav", music("Q1", 9.0, seed=1), RATE_HZ)
    delivery.write([row for row in delivery.rows() if row[0] != "Q2_1"])
    assert delivery.segment() == 0
    updated = {
        t: set(map(str, delivery.sql(f"select * exclude (part) from {t}"))) for t in ("ledger",)
    }
    segments = delivery.sql("select * from segments order by track_id, segment_index")
    delivery.output = str(tmp_path / "new")
    assert delivery.segment() == 0
    assert {
        t: set(map(str, delivery.sql(f"select * exclude (part) from {t}"))) for t in ("ledger",)
    } == updated
    assert delivery.sql("select * from segments order by track_id, segment_index") == segments


def decode_nothing(track, **_):
    raise AssertionError(f"{track.track_id} is decoded again")


def test_files_that_were_moved_are_not_decoded_again(delivery, capsys, monkeypatch):
    before = delivery.files("features")
    moved = delivery.audio.rename(delivery.audio.with_name("moved"))
    old, new = f"{delivery.audio}/", f"{moved}/"
    delivery.write([[cell.replace(old, new) for cell in row] for row in delivery.rows()])
    assert delivery.plan(capsys)["source changed"] > 0
    told = delivery.plan(capsys, "--moved", f"{old}={new}")
    assert told == {"unchanged": 12}
    monkeypatch.setattr("pipelines.stages.segment.cut_track", decode_nothing)
    assert delivery.segment("--moved", f"{old}={new}") == 0
    assert delivery.files("features") == before
    uris = [uri for (uri,) in delivery.sql("select uri from catalog")]
    assert all(uri.startswith(new) for uri in uris)
    capsys.readouterr()
    assert delivery.segment("--moved", f"{old}={new}") == 0
    assert "--moved: no file of the last run begins with" in capsys.readouterr().err


def test_a_file_that_is_another_one_where_it_was_moved_to_is_decoded(delivery, capsys):
    moved = delivery.audio.rename(delivery.audio.with_name("moved"))
    soundfile.write(moved / "Q1_0.wav", music("Q2", 6.0, seed=5), RATE_HZ)
    old, new = f"{delivery.audio}/", f"{moved}/"
    delivery.write([[cell.replace(old, new) for cell in row] for row in delivery.rows()])
    told = delivery.plan(capsys, "--moved", f"{old}={new}")
    assert told == {"unchanged": 11, "source changed": 1}


@pytest.mark.parametrize("moved", ["/old", "=/new", "/old="])
def test_a_move_from_nowhere_or_to_nowhere_is_refused(moved, delivery, capsys):
    with pytest.raises(SystemExit, match="2"):
        delivery.segment("--moved", moved)
    assert "OLD=NEW" in capsys.readouterr().err


def test_rows_stay_in_the_order_of_tracks_and_segments(delivery):
    soundfile.write(delivery.audio / "Q1_0.wav", music("Q1", 9.0, seed=1), RATE_HZ)
    delivery.add("late")
    assert delivery.segment() == 0
    store = Store.open(delivery.output)
    for _, rows in store.iter_parts(store.latest().get("segments"), ["track_id", "segment_index"]):
        keys = list(zip(*rows.to_pydict().values(), strict=True))
        assert keys == sorted(keys)


def test_tracks_that_left_the_catalog_leave_the_tables(delivery, capsys):
    delivery.write([row for row in delivery.rows() if row[0] != "Q1_0"])
    assert delivery.plan(capsys) == {"unchanged": 11, "gone": 1}
    assert delivery.segment() == 0
    for table in ("catalog", "ledger", "segments"):
        assert delivery.sql(f"select count(*) from {table} where track_id = 'Q1_0'") == [(0,)]
    assert delivery.sql("select count(*) from ledger") == [(11,)]


def test_a_part_may_lose_all_its_tracks(delivery):
    in_part = {
        track_id for (track_id,) in delivery.sql("select track_id from catalog where part = 1")
    }
    delivery.write([row for row in delivery.rows() if row[0] not in in_part])
    assert delivery.segment() == 0
    assert delivery.sql("select count(*) from ledger") == [(12 - len(in_part),)]


def test_new_labels_alone_decode_nothing(delivery, capsys):
    files = delivery.files()
    delivery.write([[*row[:2], "Q4" if row[0] == "Q1_0" else row[2]] for row in delivery.rows()])
    assert delivery.plan(capsys) == {"unchanged": 12}
    assert delivery.segment() == 0
    assert delivery.files() == files
    assert delivery.sql("select label from catalog where track_id = 'Q1_0'") == [("Q4",)]


def test_another_config_decodes_everything(delivery, capsys):
    assert delivery.plan(capsys, "--mels", "32") == {"config changed": 12}
    assert delivery.segment("--mels", "32") == 0
    assert delivery.sql("select distinct octet_length(log_mel) from features") == [(32 * 94,)]


def test_retry_takes_what_it_names(delivery, capsys):
    assert delivery.plan(capsys, "--retry", "failed") == {"unchanged": 9, "retry": 3}
    assert delivery.plan(capsys, "--retry", "retryable") == {"unchanged": 11, "retry": 1}
    assert delivery.plan(capsys, "--retry", "reason=silent") == {"unchanged": 11, "retry": 1}
    assert delivery.plan(capsys, "--force") == {"forced": 12}
    with pytest.raises(SystemExit, match="2"):
        delivery.plan(capsys, "--retry", "reason=sillent")
    assert "expected failed, retryable or reason=CODE" in capsys.readouterr().err


def test_a_retry_in_vain_leaves_what_was_made_from_the_segments(delivery):
    before = Store.open(delivery.output).latest()
    assert delivery.segment("--retry", "failed") == 0
    after = Store.open(delivery.output).latest()
    # Songs are made from the ledger, too.
    for table in ("segments", "features", "ledger"):
        assert after.get(table) == before.get(table)


@pytest.mark.parametrize("table", ["segments", "features", "ledger"])
def test_a_lost_part_is_decoded_again_and_nothing_else(table, delivery, capsys):
    store = Store.open(delivery.output)
    before = store.latest()
    lost = before.get(table).files[1].path
    store.delete(lost)
    assert main(["verify", "--output", delivery.output]) == 1
    assert f"{lost} is lost: the same `sssl run` makes it again" in " ".join(
        capsys.readouterr().out.split()
    )
    assert delivery.segment() == 0
    assert "1 part of the segments lost or set aside: decoded again" in " ".join(
        capsys.readouterr().err.split()
    )
    assert {m.ref: m.digest for m in store.latest().manifests} == {
        m.ref: m.digest for m in before.manifests
    }
    assert main(["verify", "--output", delivery.output]) == 0


def test_a_missing_file_that_arrives_is_decoded_without_asking(delivery, capsys):
    soundfile.write(delivery.audio / "missing.wav", music("Q1", 6.0, seed=1), RATE_HZ)
    assert delivery.plan(capsys) == {"unchanged": 11, "source changed": 1}
    assert delivery.segment() == 0
    assert delivery.sql("select status from ledger where track_id = 'missing'") == [("ok",)]


def test_plan_needs_no_output_and_writes_none(delivery, tmp_path, capsys):
    delivery.output = str(tmp_path / "nowhere")
    assert delivery.plan(capsys) == {"new": 12}
    assert not (tmp_path / "nowhere").exists()


@pytest.fixture(scope="module")
def reduced(finished, catalog, tmp_path_factory):
    """A finished output from which two tracks, one of them named in a file, were taken down."""
    folder = tmp_path_factory.mktemp("reduced")
    output = str(shutil.copytree(finished.root, folder / "out"))
    (folder / "ids.csv").write_text("track_id\nQ2_1\n")
    assert (
        main(
            [
                "takedown",
                "--output",
                output,
                "--track-id",
                "Q1_0",
                "--file",
                str(folder / "ids.csv"),
            ]
        )
        == 0
    )
    return Store.open(output)


def test_takedown_leaves_no_row_in_any_file(reduced):
    import duckdb

    by_track = ("catalog", "ledger", "segments", "features", "labels", "scores", "songs")
    for folder in (*by_track, *(f"_parts/{table}" for table in COMPACTED)):
        # A connection of its own: the module's is other tests', too.
        with duckdb.connect() as connection:
            rows = connection.execute(
                f"select distinct track_id from read_parquet('{reduced.root}/{folder}/*/*.parquet')"
            ).fetchall()
        assert {track_id for (track_id,) in rows}.isdisjoint({"Q1_0", "Q2_1"})
        assert rows
    # Nor in anything else: the report, manifests, MLflow's folder.
    pages = [
        path for path in Path(reduced.root).rglob("*") if path.suffix in (".html", ".json", ".csv")
    ]
    assert [path.name for path in pages if "Q1_0" in path.read_text()] == []


def test_takedown_leaves_all_other_rows_as_they_were(reduced, finished):
    now, before = connect(reduced, reduced.latest()), connect(finished, finished.latest())
    for table in ("ledger", "segments", "features", "labels", "scores", "songs"):
        query = f"select * from {table} where track_id not in ('Q1_0', 'Q2_1') order by all"
        assert now.sql(query).fetchall() == before.sql(query).fetchall()
    assert [m.round for m in reduced.latest().of("scores")] == [0, 1, 2]


def test_summaries_after_a_takedown_count_what_is_left(reduced):
    snapshot = reduced.latest()
    catalog = snapshot.get("catalog")
    tracks = rows_of(read_dealt(reduced, catalog).tracks)
    entries = {
        row["track_id"]: Ledger(**row)
        for row in reduced.read_table(snapshot.get("ledger")).to_pylist()
    }
    classes = snapshot.catalog.classes
    summarize = {
        "segments": lambda _rows: summarize_ledger(
            tracks, [entries[track.track_id] for track in tracks]
        ),
        "ledger": lambda _rows: summarize_ledger(
            tracks, [entries[track.track_id] for track in tracks]
        ),
        "labels": lambda rows: summarize_labels(rows, tracks, classes),
        "scores": lambda rows: summarize_scores(rows, tracks, classes),
        "songs": lambda rows: summarize_songs(rows, tracks, classes),
    }
    for manifest in (manifest for manifest in snapshot.manifests if manifest.table in summarize):
        counted = summarize[manifest.table](reduced.read_table(manifest))
        said = manifest.about(type(counted))
        assert said.read_bytes is not None  # what its rows cost stays as it was
        said = replace(said, cpu_s=None, read_bytes=None, read_s=None)
        assert rounded(said) == rounded(counted), manifest.ref


def rounded(summary):
    """As JSON, its reals without what adding in another order makes of them."""
    return json.loads(json.dumps(dump(summary)), parse_float=lambda text: round(float(text), 6))


def test_a_takedown_keeps_when_tables_were_made_and_at_what_cost(reduced, finished):
    now, before = (
        {(m.table, m.round): (m.created_at, m.cpu_s) for m in store.latest().manifests}
        for store in (reduced, finished)
    )
    assert now == before
    now, before = (cost.context(Source.of(store, store.latest())) for store in (reduced, finished))
    assert [stage["took_s"] for stage in now["stages"]] == [
        stage["took_s"] for stage in before["stages"]
    ]


def test_a_run_after_a_takedown_leaves_the_tracks_out(reduced, catalog, capfd):
    assert main(["run", "--catalog", catalog, "--output", reduced.root, *FAST]) == 0
    connection = connect(reduced, reduced.latest())
    assert connection.sql(
        "select count(*) from catalog where track_id in ('Q1_0', 'Q2_1')"
    ).fetchall() == [(0,)]
    said = capfd.readouterr().err
    assert "22 tracks: 22 unchanged" in said
    assert "learning: 2 labelled tracks new, gone or changed" in " ".join(said.split())
    models = reduced.latest().of("models")
    assert [manifest.summary.get("taken_down") for manifest in models] == [None] * len(models)
    assert main(["run", "--catalog", catalog, "--output", reduced.root, *FAST]) == 0
    assert "not learning: no labelled track changed" in " ".join(capfd.readouterr().err.split())


def test_a_takedown_keeps_the_true_sections_of_the_report(finished, tmp_path, monkeypatch, capsys):
    output = str(shutil.copytree(finished.root, tmp_path / "out"))
    (tmp_path / "truth.csv").write_text(
        "track_id,start_s,end_s,true_label\nQ1_0,0,10,Q1\nQ1_1,0,10,Q1\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["report", "--output", output, "--truth", "truth.csv"]) == 0
    monkeypatch.chdir("/")
    page = tmp_path / "out" / "report.html"
    assert main(["takedown", "--output", output, "--track-id", "Q1_0"]) == 0
    assert 'id="truth"' in page.read_text()
    (tmp_path / "truth.csv").unlink()
    assert main(["takedown", "--output", output, "--track-id", "Q2_1"]) == 0
    assert 'id="truth"' not in page.read_text()
    assert f"cannot read {tmp_path}/truth.csv" in " ".join(capsys.readouterr().err.split())


def test_a_takedown_reaches_reports_of_before_and_what_a_kill_left(delivery):
    """A report half written, one of an earlier version among MLflow's artifacts, and one that is
    not made again."""
    output = Path(delivery.output)
    reports = [
        output / ".report.sssl-0a1b.html",
        output / "mlflow/1/run/artifacts/report.html",
        output / "report.html",
    ]
    for path in reports:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("Q1_0")
    kept = output / "notes.html"
    kept.write_text("mine")
    assert main(["takedown", "--output", delivery.output, "--track-id", "Q1_0"]) == 0
    assert [path for path in reports if path.exists()] == []
    assert kept.exists()


def test_a_query_during_a_takedown_is_answered_by_what_is_published_then(
    delivery, monkeypatch, capsys
):
    from pipelines.commands import sql

    answer, taken = sql._answer, []

    def takes_down_first(published, config):
        if not taken:
            taken.append(main(["takedown", "--output", delivery.output, "--track-id", "Q1_0"]))
        return answer(published, config)

    monkeypatch.setattr(sql, "_answer", takes_down_first)
    command = ["sql", "--output", delivery.output, "--format", "csv"]
    assert main([*command, "select count(*) as tracks from catalog"]) == 0
    assert capsys.readouterr().out.endswith("tracks\n11\n")
    assert taken == [0]
    assert main([*command, "select nothing"]) == 1


def test_a_takedown_can_be_taken_back(delivery):
    assert main(["takedown", "--output", delivery.output, "--track-id", "Q1_0"]) == 0
    assert main(["takedown", "--output", delivery.output, "--track-id", "Q1_0", "--undo"]) == 0
    assert delivery.segment() == 0
    assert delivery.sql("select status from ledger where track_id = 'Q1_0'") == [("ok",)]


def test_a_takedown_reaches_what_was_never_published(catalog, tmp_path, capsys):
    output = str(tmp_path / "out")
    assert main(["segment", "--catalog", catalog, "--output", output, *FAST[:4]]) == 0
    Store.open(output).publish(Snapshot())  # as a first run that was stopped leaves it
    assert main(["takedown", "--output", output, "--track-id", "Q1_0"]) == 0
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_a_takedown_without_a_pointer_deletes_nothing(delivery, capsys):
    pointer = Path(delivery.output, "latest.json")
    published = pointer.read_bytes()
    pointer.unlink()
    before = {path: path.read_bytes() for path in Path(delivery.output).rglob("*.parquet")}
    assert main(["takedown", "--output", delivery.output, "--track-id", "Q1_0"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "has 4 committed tables and no pointer to what is published (latest.json)" in said
    assert before == {path: path.read_bytes() for path in Path(delivery.output).rglob("*.parquet")}
    pointer.write_bytes(published)
    assert main(["takedown", "--output", delivery.output, "--track-id", "Q1_0"]) == 0


def test_a_takedown_takes_tables_of_rounds_for_unpublished_only_beside_published_ones(
    finished, tmp_path, capsys
):
    """An epoch of a bucket that was opened after the pointer was lost names no table."""
    output = str(shutil.copytree(finished.root, tmp_path / "out"))
    Store.open(output).publish(Snapshot())
    files = sorted(Path(output).rglob("*.parquet"))
    assert main(["takedown", "--output", output, "--track-id", "Q1_0"]) == 1
    assert "nothing is deleted" in " ".join(capsys.readouterr().err.split())
    assert sorted(Path(output).rglob("*.parquet")) == files


def test_a_takedown_with_a_manifest_gone_is_refused(delivery, capsys):
    store = Store.open(delivery.output)
    ref = store.latest().get("ledger").ref
    store.delete(f"{ref}/_manifest.json")
    files = sorted(Path(delivery.output).rglob("*.parquet"))
    assert main(["takedown", "--output", delivery.output, "--track-id", "Q1_0"]) == 1
    assert f"{ref}/_manifest.json is not there" in " ".join(capsys.readouterr().err.split())
    assert sorted(Path(delivery.output).rglob("*.parquet")) == files
    assert main(["sql", "--output", delivery.output, "select 1"]) == 1


def test_a_takedown_says_which_ids_it_does_not_know_until_it_is_asked_again(delivery, capsys):
    command = ["takedown", "--output", delivery.output, "--track-id", "Q1_0", "Q1_O"]
    assert main(command) == 0
    assert (
        "1 of 2 ids is not in the catalog: Q1_O; is the spelling right?" in capsys.readouterr().err
    )
    assert main(command) == 0
    assert "spelling" not in capsys.readouterr().err


@pytest.mark.parametrize("track_id", ["two words", "o'clock", 'a "$name"'])
def test_what_a_takedown_says_to_ask_again_is_a_query_that_a_shell_runs(delivery, capsys, track_id):
    delivery.add(track_id)
    assert delivery.segment() == 0
    assert main(["takedown", "--output", delivery.output, "--track-id", track_id]) == 0
    said = capsys.readouterr().err.partition("ask again:\n")[2]
    if "$" not in track_id:
        by_table = said.splitlines()[1:]
        tables = {line.partition("select '")[2].partition("'")[0] for line in by_table}
        assert tables >= {"catalog", "segments", "features", "ledger"}
        assert len(by_table) == len(tables)
        assert said.count(track_id.replace("'", "''")) == 1
    sssl, *argv = shlex.split(said)
    assert sssl == "sssl"
    assert main([*argv, "--format", "csv"]) == 0
    rows = capsys.readouterr().out.split()
    assert rows[0] == "table_name,rows_left"
    assert {row.partition(",")[2] for row in rows[1:]} == {"0"}


def test_a_takedown_of_ids_that_nothing_has_changes_nothing(delivery, capsys):
    (Path(delivery.audio) / "Q1_0.wav").unlink()
    delivery.write([row for row in delivery.rows() if row[0] != "Q1_0"])
    assert delivery.segment() == 0  # the generation of before still has Q1_0
    files = contents(delivery.output)
    command = ["takedown", "--output", delivery.output, "--track-id"]
    capsys.readouterr()
    assert main([*command, "Q1_O", "q1_1"]) == 1
    assert contents(delivery.output) == files
    said = " ".join(capsys.readouterr().err.split())
    assert f"Q1_O, q1_1: no table of {delivery.output}, published or not, has a track" in said
    assert "nothing was changed; is the spelling right?" in said
    assert main([*command, "Q1_0"]) == 0
    assert not [content for content in contents(delivery.output).values() if b"Q1_0" in content]


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("corrections.csv", b"track_id,start_s,end_s,label\nelsewhere,,,Q1\n"),
        ("segments/x/.part-00000.parquet.damaged", b"?"),
        ("segments/x/part-00000.parquet", b"not Parquet"),
    ],
)
def test_a_takedown_goes_on_where_something_may_have_the_track(delivery, path, content):
    place = Path(delivery.output, path)
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(content)
    assert main(["takedown", "--output", delivery.output, "--track-id", "elsewhere"]) == 0
    assert not place.exists() or b"elsewhere" not in place.read_bytes()


def contents(folder):
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {str(path): path.read_bytes() for path in paths if path.suffix != ".lock"}


def test_a_takedown_finds_an_id_whose_accents_are_encoded_otherwise_and_it_stays_out(
    delivery, capsys
):
    delivery.add("caf\u00e9")
    delivery.add("cafe\u0301s")
    assert delivery.segment() == 0
    command = ["takedown", "--output", delivery.output, "--track-id"]
    assert main([*command, "cafe\u0301", "caf\u00e9s"]) == 0
    assert "spelling" not in capsys.readouterr().err
    assert delivery.sql("select count(*) from catalog where track_id like 'caf%'") == [(0,)]
    assert delivery.segment() == 0
    assert delivery.sql("select count(*) from catalog where track_id like 'caf%'") == [(0,)]
    assert main([*command, "cafe\u0301", "--undo"]) == 0
    assert delivery.segment() == 0
    assert delivery.sql("select track_id from catalog where track_id like 'caf%'") == [
        ("caf\u00e9",)
    ]


def test_a_source_that_cannot_be_compared_is_decoded_each_time_and_nothing_else_is(
    delivery, capsys, monkeypatch
):
    odd = f"{delivery.audio}/Q1_0.wav"
    looked_up = fingerprints._look_up
    monkeypatch.setattr(
        fingerprints, "_look_up", lambda uri: None if uri == odd else looked_up(uri)
    )
    assert delivery.segment() == 0
    before = Store.open(delivery.output).latest()
    for seconds in (6.0, 9.0):
        soundfile.write(odd, music("Q1", seconds, seed=1), RATE_HZ)
        assert delivery.plan(capsys) == {"unchanged": 11, "source cannot be compared": 1}
        assert delivery.segment() == 0
        assert delivery.sql("select segments from ledger where track_id = 'Q1_0'") == [
            (seconds / 3,)
        ]
    assert delivery.segment() == 0
    assert Store.open(delivery.output).latest().get("segments") != before.get("segments")


def test_an_outage_of_the_storage_changes_nothing_and_is_told(delivery, capsys, monkeypatch):
    before = Store.open(delivery.output).latest()
    monkeypatch.setattr(fingerprints, "_look_up", lambda uri: "no answer")
    assert delivery.plan(capsys) == {"unchanged": 12}
    assert delivery.segment() == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "no answer from the storage of 12 files, taken for unchanged: Q1_0, " in said
    assert Store.open(delivery.output).latest() == before


def test_a_takedown_after_a_retry_in_vain_counts_by_the_ledger_of_now(delivery):
    store = Store.open(delivery.output)
    before = store.latest()
    assert delivery.segment("--max-dc-offset", "0.0") == 0
    assert store.latest().get("segments").digest == before.get("segments").digest
    assert store.latest().get("ledger").digest != before.get("ledger").digest
    assert main(["takedown", "--output", delivery.output, "--track-id", "Q1_0"]) == 0
    snapshot = store.latest()
    segments, ledger = (snapshot.get(table).summary for table in ("segments", "ledger"))
    costs = ("cpu_s", "read_bytes", "read_s")  # of two runs, and not in proportion to tracks
    counts = {name: n for name, n in ledger.items() if name not in costs}
    assert {name: segments[name] for name in counts} == counts


def test_a_takedown_of_nothing_is_refused(delivery, capsys):
    assert main(["takedown", "--output", delivery.output]) == 1
    assert "give --track-id or --file" in capsys.readouterr().err
    np.testing.assert_equal(delivery.sql("select count(*) from ledger"), [(12,)])


def test_a_folder_has_the_groups_of_its_labels_and_a_run_says_if_there_are_none(tmp_path, capsys):
    (tmp_path / "audio").mkdir()
    for number, label in enumerate(("Q1", "Q2")):
        soundfile.write(tmp_path / "audio" / f"{label}.wav", music(label, 6.0, number), RATE_HZ)
    labels = tmp_path / "labels.csv"
    flags = ["--catalog", str(tmp_path / "audio"), "--labels", str(labels), *PARTS]

    def groups_and_screen(output):
        assert main(["segment", *flags, "--output", str(tmp_path / output)]) == 0
        store = Store.open(str(tmp_path / output))
        rows = store.read_table(store.latest().get("catalog"), ["track_id", "group_id"])
        return dict(zip(*rows.to_pydict().values(), strict=True)), capsys.readouterr().err

    labels.write_text("track_id,label\nQ1,Q1\n")
    groups, screen = groups_and_screen("alone")
    assert groups == {"Q1.wav": "Q1.wav", "Q2.wav": "Q2.wav"}
    assert "each is a group of its own" in screen
    assert "in --labels (track_id,group_id)" in screen
    labels.write_text("track_id,label,group_id\nQ1,Q1,Ann\nQ2,,Ann\n")
    groups, screen = groups_and_screen("grouped")
    assert groups == {"Q1.wav": "Ann", "Q2.wav": "Ann"}
    assert "a group of its own" not in screen
