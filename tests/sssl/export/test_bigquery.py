"""BigQuery has what the manifests name: its side is DuckDB, which runs the very statements and
reads the very files."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest
import sqlglot
from conftest import FAST, write_catalog
from google.auth.exceptions import DefaultCredentialsError

from pipelines.cli import main
from schemas import TABLES, arrow_schema
from schemas.views import ClassRow, ManifestRow
from sssl.export.bigquery import LOADED, script
from sssl.store.folder import Store
from sssl.store.sql import connect

SEGMENT = [*FAST[:4], "--max-error-ratio", "1"]


class BigQuery:
    """A dataset that stays from script to script; temporary tables do not."""

    def __init__(self):
        self.db = duckdb.connect()
        self.db.execute("create schema sssl")
        for name, table in {
            **{name: TABLES[name] for name in LOADED},
            "manifests": ManifestRow,
            "classes": ClassRow,
        }.items():
            empty = arrow_schema(table).empty_table()
            self.db.register("empty", empty)
            self.db.execute(f"create table sssl.{name} as select * from empty")

    def run(self, statements):
        for statement in re.split(r";\n", statements):
            text = re.sub(r"^--.*\n", "", statement, flags=re.MULTILINE).strip()
            if text and not text.startswith("CREATE"):  # the dataset has its tables
                self._run(text)

    def _run(self, text):
        if load := re.match(r"LOAD DATA OVERWRITE TEMP TABLE (\w+) \(", text):
            uris = re.findall(r'"([^"]*)"', text.partition("uris = [")[2])
            self.db.execute(
                f"create or replace temp table {load[1]} as select * from read_parquet({uris})"
            )
        elif counted := re.match(r"ASSERT (\(SELECT COUNT\(\*\) FROM \w+\)) = (\d+) AS ", text):
            assert self.db.execute(f"select {counted[1]}").fetchone() == (int(counted[2]),), text
        else:
            (said,) = sqlglot.transpile(text, read="bigquery", write="duckdb")
            self.db.execute(said)

    def rows(self):
        return {
            name: self.db.execute(f"select count(*) from sssl.{name}").fetchone()[0]
            for name in LOADED
        }

    def songs(self):
        return self.db.execute("select track_id, label from sssl.songs order by all").fetchall()


def named(store):
    """Return how many rows the manifests name."""
    return {name: sum(m.rows for m in store.latest().of(name)) for name in LOADED}


@pytest.fixture(scope="module")
def output(finished, tmp_path_factory):
    return Store.open(
        str(shutil.copytree(finished.root, tmp_path_factory.mktemp("bigquery") / "out"))
    )


def test_bigquery_has_the_rows_of_the_manifests_after_a_takedown_and_a_delivery(output, tmp_path):
    bigquery = BigQuery()
    for _ in range(2):  # nothing doubles
        bigquery.run(script(output, output.latest(), "sssl"))
        assert bigquery.rows() == named(output)
    assert main(["takedown", "--output", output.root, "--track-id", "Q1_0"]) == 0
    bigquery.run(script(output, output.latest(), "sssl"))
    assert bigquery.rows() == named(output)
    assert bigquery.rows()["rounds"] == len(output.latest().of("rounds")) > 1
    with connect(output, output.latest()) as connection:
        assert (
            bigquery.songs()
            == connection.sql("select track_id, label from songs order by all").fetchall()
        )
    assert "Q1_0" not in dict(bigquery.songs())
    catalog = write_catalog(tmp_path, tracks_per_class=1, seconds=6.0)
    assert main(["segment", "--catalog", catalog, "--output", output.root, *SEGMENT]) == 0
    bigquery.run(script(output, output.latest(), "sssl"))
    assert bigquery.rows() == named(output)
    assert bigquery.rows()["songs"] == 0  # withdrawn until they are made again
    shown = bigquery.db.execute(
        "select table_name, rows from sssl.manifests order by all"
    ).fetchall()
    assert shown == sorted((m.table, m.rows) for m in output.latest().manifests)


def test_no_statement_reads_a_folder_or_adds_to_what_is_there(finished):
    statements = script(finished, finished.latest(), "sssl")
    uris = set(re.findall(r'"([^"]*\.parquet)"', statements))
    assert uris == {
        finished.url(file.path)
        for name in LOADED
        for manifest in finished.latest().of(name)
        for file in manifest.for_readers.values()
    }
    assert all(Path(uri).is_file() for uri in uris)
    swap = statements.partition("BEGIN TRANSACTION;")[2].partition("COMMIT TRANSACTION;")[0]
    for name in (*LOADED, "manifests"):
        assert swap.index(f"DELETE FROM sssl.{name} ") < swap.index(f"INSERT INTO sssl.{name} ")
    assert not re.search("CREATE|DROP|TRUNCATE", swap)  # no statement that ends a transaction


def test_a_file_that_bigquery_reads_less_of_than_the_manifest_names_changes_nothing(finished):
    bigquery = BigQuery()
    bigquery.run(script(finished, finished.latest(), "sssl"))
    before = bigquery.rows()
    wrong = re.sub(
        r"(FROM new_songs\)) = \d+", r"\1 = 1", script(finished, finished.latest(), "sssl")
    )
    with pytest.raises(AssertionError, match="songs: BigQuery does not read the"):
        bigquery.run(wrong)
    assert bigquery.rows() == before


def test_the_views_of_what_is_accepted_say_what_they_say_in_sssl_sql(finished):
    from schemas.bigquery import create_statements

    bigquery = BigQuery()
    bigquery.run(script(finished, finished.latest(), "sssl"))
    with connect(finished, finished.latest()) as connection:
        for name in ("accepted_labels", "accepted_scores"):
            (view,) = (text for text in create_statements("sssl") if f"VIEW sssl.{name}\n" in text)
            (said,) = sqlglot.transpile(
                view.partition("\nAS ")[2].strip().rstrip(";"), read="bigquery", write="duckdb"
            )
            columns = "track_id, segment_index, round"
            asked = f"select {columns} from ({said}) order by all"
            assert (
                bigquery.db.execute(asked).fetchall()
                == connection.sql(f"select {columns} from {name} order by all").fetchall()
            )


def test_the_command_prints_the_script(finished, capsys):
    assert main(["bigquery", "--output", finished.root, "--dataset", "p.sssl", "--print"]) == 0
    assert capsys.readouterr().out == script(finished, finished.latest(), "p.sssl")


def test_files_on_this_machine_are_not_sent_to_bigquery(finished, capsys):
    assert main(["bigquery", "--output", finished.root, "--dataset", "p.sssl"]) == 1
    assert "BigQuery reads files in gs:// alone" in " ".join(capsys.readouterr().err.split())


def test_without_credentials_the_dataset_stays_as_it_was(finished, monkeypatch, tmp_path, capsys):
    in_bucket = SimpleNamespace(root="gs://bucket/out", latest=finished.latest, url=finished.url)
    monkeypatch.setattr("sssl.store.folder.Store.open", lambda _: in_bucket)
    monkeypatch.setattr("pipelines.commands.bigquery.script", lambda *_: "select 1")
    monkeypatch.setattr("google.auth.default", refuse)
    assert main(["bigquery", "--output", "gs://bucket/out", "--dataset", "p.sssl"]) == 1
    assert "p.sssl stays as it was: no credentials" in " ".join(capsys.readouterr().err.split())


def refuse(*_, **__):
    raise DefaultCredentialsError("no credentials")
