"""What docs/ shows in SQL and Python runs, on an output like the demo's."""

import os
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import soundfile
from conftest import RATE_HZ, music
from queries import PAGE, queries, refreshed

import sssl
from pipelines.cli import main
from schemas import TABLES
from sssl.sql import connect

DOCS = PAGE.parent
QUERIES = list(queries(PAGE.read_text()))
DOUBLED, MISLABELLED = "Which tracks are the same recording twice?", "Which labels look wrong at their source?"
NONE_HERE = {DOUBLED, MISLABELLED}  # the small catalog of the tests has neither


@pytest.fixture(scope="module")
def connection(finished):
    return connect(finished, finished.latest())


@pytest.fixture
def folder(finished, tmp_path, monkeypatch):
    """A folder with an output called `demo` and a song, as the docs assume it."""
    (tmp_path / "demo").symlink_to(finished.root)
    soundfile.write(tmp_path / "song.mp3", music("Q2", 9.0, seed=5), RATE_HZ)
    (tmp_path / "notes.txt").write_text("not music\n" * 100)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def on_our_tracks(sql):
    return sql.replace("track001", "Q1_0")


def test_there_are_queries_for_a_dozen_questions_and_more():
    assert len(QUERIES) >= 12
    assert len({title for title, _, _ in QUERIES}) == len(QUERIES)


@pytest.mark.parametrize(("title", "sql", "columns"), QUERIES, ids=[title for title, _, _ in QUERIES])
def test_a_query_of_the_docs_gives_rows_of_the_columns_shown(title, sql, columns, connection):
    result = connection.execute(on_our_tracks(sql))
    assert [column[0] for column in result.description] == columns
    assert bool(result.fetchall()) == (title not in NONE_HERE)


def test_the_queries_run_in_any_duckdb_client(finished, connection, tmp_path):
    database = tmp_path / "demo.duckdb"
    for _ in range(2):
        assert main(["tables", "--output", finished.root, "--duckdb", str(database)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["demo.duckdb"]
    with duckdb.connect(database, read_only=True) as client:
        for _, sql, _ in QUERIES:
            assert client.execute(on_our_tracks(sql)).fetchall() == connection.execute(on_our_tracks(sql)).fetchall()
        comments = "select column_name, comment from duckdb_columns() where table_name = 'songs' order by 1"
        assert client.execute(comments).fetchall() == connection.execute(comments).fetchall()


def test_the_query_for_doubled_recordings_finds_them(finished):
    connection = connect(finished, finished.latest())
    connection.execute(
        "create table doubled as from segments union all select 'copy' as track_id, * exclude (track_id) "
        "from segments where track_id = 'Q2_0'"
    )
    (sql,) = [sql for title, sql, _ in QUERIES if title == DOUBLED]
    assert connection.sql(sql.replace("from segments", "from doubled")).fetchall() == [(["Q2_0", "copy"],)]


def test_every_table_is_queried():
    words = set(re.findall(r"\w+", " ".join(sql for _, sql, _ in QUERIES)))
    assert set(TABLES) <= words


def test_outputs_are_written_behind_their_queries(connection):
    page = "# Questions\n\n## How many?\n\nIndeed.\n\n```sql\nselect 1 as n, null as x\n```\n\n| old |\n|---|\n| 2 |\n"
    new = refreshed(page, connection)
    assert new == page.replace("| old |\n|---|\n| 2 |\n", "| n | x |\n| --- | --- |\n| 1 |  |\n")
    assert refreshed(new, connection) == new


def test_only_outputs_are_written(connection):
    page = PAGE.read_text()
    tables = re.compile(r"^\|.*\n", re.MULTILINE)
    assert tables.sub("", refreshed(page, connection)) == tables.sub("", page)


@pytest.mark.parametrize("name", ["queries.md", "python.md", "mlflow.md"])
def test_python_of_the_docs_runs(name, folder):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)
    assert blocks
    code = "\n".join(blocks)
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ | PYTHONPATH
    )
    assert run.returncode == 0, run.stderr


PYTHONPATH = {"PYTHONPATH": str(Path(__file__).parents[1])}


def test_importing_sssl_is_light():
    code = "import sys, sssl; sys.exit(bool({'torch', 'apache_beam', 'pandas', 'mlflow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, env=os.environ | PYTHONPATH).returncode == 0


def test_a_file_of_the_catalog_gets_the_row_that_the_table_has(finished):
    output = sssl.open(finished.root)
    own_fold = "case when split = 'train' then fold end as fold"
    rows = output.sql(f"select s.*, uri, {own_fold} from songs s join catalog using (track_id) order by 1").to_pylist()
    for row in rows[::7]:
        song = sssl.label(output, row["uri"], fold=row["fold"])
        assert (song.label, song.round, song.model_id) == (row["label"], row["round"], row["model_id"])
        assert (song.segments, song.abstained) == (row["segments"], row["abstained"])
        np.testing.assert_allclose(song.probabilities, row["probabilities"], atol=1e-5)
        for entry, expected in zip(song.timeline, row["timeline"], strict=True):
            assert entry == expected | {"confidence": pytest.approx(expected["confidence"], abs=1e-5)}


def test_a_file_that_cannot_be_labelled_has_the_reason_of_its_ledger_row(finished):
    output = sssl.open(finished.root)
    rows = output.sql(
        "select uri, reason from ledger join catalog using (track_id) where status = 'failed'"
    ).to_pylist()
    assert len(rows) == 3
    for row in rows:
        with pytest.raises(sssl.Unlabelled, match=row["reason"]) as refused:
            sssl.label(output, row["uri"])
        assert refused.value.reason == row["reason"]


def test_a_damaged_file_is_labelled_with_a_warning(finished, folder):
    content = (folder / "song.mp3").read_bytes()
    (folder / "cut.mp3").write_bytes(content[: len(content) * 2 // 3])
    with pytest.warns(UserWarning, match="truncated"):
        assert sssl.label(finished.root, folder / "cut.mp3").segments < 3


def test_an_opened_output_stays_as_it_was(finished, tmp_path):
    import shutil

    root = shutil.copytree(finished.root, tmp_path / "out")
    output = sssl.open(root)
    before = output.songs()
    assert main(["rollback", "--output", str(root), "--round", "0"]) == 0
    assert output.songs().equals(before)
    assert output.table("songs")["round"].unique().to_pylist() == [2]
    assert sssl.open(root).songs()["round"].unique().to_pylist() == [0]


def test_tables_are_read_by_round_and_column(finished):
    output = sssl.open(finished.root)
    assert output.table("labels").num_rows == 3 * output.table("labels", round=1).num_rows
    assert output.table("labels", round=1, columns=["round"]).to_pydict().keys() == {"round"}
    assert isinstance(output.songs(), pa.Table)
    with pytest.raises(sssl.store.StoreError, match="table labels of round 7 is not committed"):
        output.table("labels", round=7)
