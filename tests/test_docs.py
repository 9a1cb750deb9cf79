"""What README and docs/ show in commands, SQL and Python runs, on an output like the demo's."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import soundfile
from conftest import FAST, RATE_HZ, music
from queries import PAGE, faults, queries, refreshed
from reports import make_folder

import sssl
from pipelines.cli import COMMANDS, main
from pipelines.stages.settings_file import FileSettings, read_settings
from schemas import OPTIONAL, TABLES
from sssl.store.sql import connect

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(PAGE.parent.glob("*.md"))]
ELSEWHERE = {
    "make demo": "Makefile::demo",
    "make test": "Makefile::test",
    ". .venv/bin/activate": "Makefile::install",
    "pip install": "tests/test_packaging.py::test_an_installed_program_plans_a_catalog",
    "sssl --print-completion": "tests/pipelines/test_talk.py::test_every_command_is_offered",
    "sssl bigquery": "tests/sssl/export/test_bigquery.py::test_the_command_prints_the_script",
    "sssl embed": (
        "tests/pipelines/stages/test_embed.py::test_rows_are_those_of_segments_and_as_called_by_hand"
    ),
    "sssl estimate": (
        "tests/pipelines/commands/test_estimate.py::test_the_bytes_of_the_tables_lie_in_their_intervals"
    ),
    "sssl evaluate": (
        "tests/pipelines/commands/test_evaluate.py::test_every_metric_is_measured_and_summed_up"
    ),
    "export PYICEBERG": "tests/sssl/export/test_iceberg.py::music",
    "sssl iceberg": (
        "tests/sssl/export/test_iceberg.py"
        "::test_iceberg_has_the_rows_of_the_manifests_after_a_takedown_and_a_delivery"
    ),
    "sssl import": (
        "tests/pipelines/commands/test_import.py::test_the_printed_command_is_one_that_runs"
    ),
    "sssl mlflow-sync": (
        "tests/pipelines/commands/test_mlflow.py::test_a_run_is_copied_to_another_server_once"
    ),
    "sssl publish": (
        "tests/pipelines/stages/test_in_flight.py"
        "::test_a_job_is_published_from_what_its_launch_noted_without_a_look_at_the_catalog"
    ),
    "sssl review --output out --label-studio": (
        "tests/sssl/review/test_label_studio.py"
        "::test_the_command_appends_answers_once_and_names_what_it_leaves_out"
    ),
    "sssl review": (
        "tests/pipelines/commands/test_review.py"
        "::test_ctrl_c_ends_it_as_other_commands_and_says_what_was_written"
    ),
    "sssl run --catalog gs://": (
        "tests/pipelines/beam/test_object_storage.py::test_a_bucket_gets_the_same_tables_as_a_disk"
    ),
    "sssl run --catalog catalog.csv --output out --front-end": (
        "tests/pipelines/commands/test_front_end.py::test_songs_go_by_embeddings_too"
    ),
    "sssl run --catalog ratings.csv --output ratings --task valence-arousal": (
        "tests/pipelines/commands/test_numbers_run.py"
        "::test_numbers_come_to_a_folder_without_training"
    ),
    "sssl sql --output ratings": (
        "tests/pipelines/stages/test_numbers.py::test_numbers_follow_those_of_the_catalog"
    ),
    "sssl run --catalog catalog.csv --output out --settings": (
        "tests/pipelines/test_settings_file.py::test_a_file_names_only_what_it_changes_and_the_preset_has_the_rest"
    ),
    "sssl run --print-settings": (
        "tests/pipelines/test_settings_file.py::test_a_file_with_all_settings_is_read_as_it_was_written"
    ),
    "sssl score": (
        "tests/pipelines/beam/test_engines.py::test_an_engine_makes_the_same_tables_as_this_process"
    ),
}
"""Commands that are not run here, by how they start, with what runs them."""
OTHERS_FLAGS = ("--backend-store-uri", "--direct_running_mode", "--direct_num_workers")
QUERIES = list(queries(PAGE.read_text()))
DOUBLED = "Which recordings are in the catalog twice?"


@pytest.fixture(scope="module")
def connection(finished):
    return connect(finished, finished.latest())


@pytest.fixture
def folder(finished, catalog, tmp_path, monkeypatch):
    """A folder with outputs, a catalog, songs and labels under the names that the docs use."""
    for name in ("demo", "out"):
        shutil.copytree(finished.root, tmp_path / name)
    for name in ("before", "after"):
        (tmp_path / name).symlink_to(finished.root)
    (tmp_path / "audio").symlink_to(Path(catalog).parent / "audio")
    shutil.copy(catalog, tmp_path)
    (tmp_path / "labels.csv").write_text("track_id,label\nQ1_0,Q1\n")
    moods = (
        Path(catalog)
        .read_text()
        .replace("Q1\n", "bright\n")
        .replace("Q3\n", "dark\n")
        .splitlines(keepends=True)
    )
    (tmp_path / "moods.csv").write_text(
        "".join(row for row in moods if not re.search(",Q\\d$", row))
    )
    soundfile.write(tmp_path / "song.mp3", music("Q2", 9.0, seed=5), RATE_HZ)
    (tmp_path / "notes.txt").write_text("not music\n" * 100)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def made_up(report_folder):
    """Tables of made-up posteriors: what rounds find in them is the same on every machine, as
    nothing is trained."""
    return connect(*report_folder)


def on_our_tracks(text):
    text = re.sub("track001|track078", "Q1_0", text).replace("track002", "Q2_1")
    return text.replace("--max-churn 0.05", "--max-churn 0.25")  # two of the 21 songs change


def on_a_made_up_track(sql):
    """Ask about a track of which one segment sounds like another class."""
    return sql.replace("track001", "track-12")


def blocks(page, *languages):
    """Yield the fenced blocks of a page that are in one of some languages."""
    for language, text in re.findall(
        r"^```(\w*)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE
    ):
        if language in languages:
            yield text


def lines_of(page):
    """Yield the command lines of a page."""
    for block in blocks(page, ""):
        if not shows_a_folder(block):
            yield from filter(None, block.replace("\\\n", " ").splitlines())


def shows_a_folder(block):
    return re.match(r"\w+/\n", block)


def run_elsewhere(line):
    """Return the test that a command is run by, if it is not run here."""
    return next((test for start, test in ELSEWHERE.items() if line.startswith(start)), None)


def test_there_are_queries_for_a_dozen_questions_and_more():
    assert len(QUERIES) >= 12
    assert len({title for title, _, _ in QUERIES}) == len(QUERIES)


@pytest.mark.parametrize(
    ("title", "sql", "columns"), QUERIES, ids=[title for title, _, _ in QUERIES]
)
def test_a_query_of_the_docs_gives_rows_of_the_columns_shown(title, sql, columns, made_up):
    result = made_up.execute(on_a_made_up_track(sql))
    assert [column[0] for column in result.description] == columns
    assert result.fetchall()


def test_the_queries_run_in_any_duckdb_client(finished, connection, tmp_path):
    database = tmp_path / "demo.duckdb"
    for _ in range(2):
        assert main(["tables", "--output", finished.root, "--duckdb", str(database)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["demo.duckdb"]
    with duckdb.connect(database, read_only=True) as client:
        for _, sql, _ in QUERIES:
            assert (
                client.execute(on_our_tracks(sql)).fetchall()
                == connection.execute(on_our_tracks(sql)).fetchall()
            )
        comments = (
            "select column_name, comment from duckdb_columns() where table_name = 'songs' order"
            " by 1"
        )
        assert client.execute(comments).fetchall() == connection.execute(comments).fetchall()


def test_the_query_for_doubled_recordings_finds_them(finished):
    connection = connect(finished, finished.latest())
    connection.execute(
        "create table doubled as from features union all select 'copy' as track_id, * exclude"
        " (track_id) from features where track_id = 'Q2_0'"
    )
    (sql,) = [sql for title, sql, _ in QUERIES if title == DOUBLED]
    assert connection.sql(sql.replace("from features", "from doubled")).fetchall() == [
        (["Q2_0", "copy"],)
    ]


def test_every_table_is_queried():
    words = set(re.findall(r"\w+", " ".join(sql for _, sql, _ in QUERIES)))
    assert set(TABLES) - set(OPTIONAL) <= words


def test_outputs_are_written_behind_their_queries(connection):
    page = (
        "# Questions\n\n## How many?\n\nIndeed.\n\n```sql\nselect 1 as n, null as x\n```\n\n| old"
        " |\n|---|\n| 2 |\n"
    )
    new = refreshed(page, connection)
    assert new == page.replace("| old |\n|---|\n| 2 |\n", "| n | x |\n| --- | --- |\n| 1 |  |\n")
    assert refreshed(new, connection) == new


def test_a_query_that_has_become_empty_is_a_fault(connection):
    page = "## How many?\n\n```sql\nselect 1 as n where false\n```\n\n| n |\n| --- |\n| 2 |\n"
    assert list(faults(page, connection)) == ["How many?: nothing comes out"]
    assert not list(faults(page.replace("| 2 |", "| (none) |"), connection))
    assert not list(faults(page.replace("where false", ""), connection))


def test_only_outputs_are_written(connection):
    page = PAGE.read_text()
    tables = re.compile(r"^\|.*\n", re.MULTILINE)
    assert tables.sub("", refreshed(page, connection)) == tables.sub("", page)


def test_every_block_is_of_a_kind_that_is_tested():
    kinds = {
        kind for page in PAGES for kind in re.findall(r"^```(\w+)$", page.read_text(), re.MULTILINE)
    }
    assert kinds <= {"sql", "python", "csv", "toml"}
    assert [page.name for page in PAGES if list(blocks(page, "sql"))] == ["queries.md"]
    assert {page.name for page in PAGES if any(map(shows_a_folder, blocks(page, "")))} == {
        "datasets.md"
    }


def test_settings_in_the_docs_are_settings(tmp_path):
    written = [block for page in PAGES for block in blocks(page, "toml")]
    assert written
    for block in written:
        (tmp_path / "settings.toml").write_text(block)
        read_settings(str(tmp_path / "settings.toml"), FileSettings())


@pytest.mark.parametrize(
    "page", [page for page in PAGES if list(lines_of(page))], ids=lambda page: page.name
)
def test_commands_of_the_docs_run(page, folder, capfd):
    for line in map(on_our_tracks, lines_of(page)):
        if run_elsewhere(line):
            continue
        program, *args = shlex.split(line, comments=True)
        assert program == "sssl", line
        quick = [*FAST, "--rounds", "1"] if args[0] == "run" else []
        assert main([args[0], *quick, *args[1:]]) == 0, f"{line}\n{capfd.readouterr().err}"


@pytest.mark.parametrize(("start", "test"), ELSEWHERE.items())
def test_what_is_run_elsewhere_is_there_and_in_the_docs(start, test):
    assert any(line.startswith(start) for page in PAGES for line in lines_of(page))
    file, _, name = test.partition("::")
    assert re.search(
        rf"^{name}\b" if file == "Makefile" else rf"^def {name}\(",
        (ROOT / file).read_text(),
        re.MULTILINE,
    )


def test_every_flag_in_the_docs_is_one(capsys):
    known = set(OTHERS_FLAGS)
    for command in ([], *([name] for name in COMMANDS)):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        known |= set(re.findall(r"--[a-z][\w-]*", capsys.readouterr().out))
    for page in PAGES:
        assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", page.read_text())) <= known, page.name


def test_links_between_the_docs_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if list(blocks(page, "python"))], ids=lambda page: page.name
)
def test_python_of_the_docs_runs(page, folder):
    code = "\n".join(blocks(page, "python"))
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | PYTHONPATH,
    )
    assert run.returncode == 0, run.stderr


PYTHONPATH = {"PYTHONPATH": str(Path(__file__).parents[1])}


def test_importing_sssl_is_light():
    code = (
        "import sys, sssl; sys.exit(bool({'torch', 'apache_beam', 'pandas', 'mlflow'} &"
        " set(sys.modules)))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], check=False, env=os.environ | PYTHONPATH
        ).returncode
        == 0
    )


def test_a_file_of_the_catalog_gets_the_row_that_the_table_has(finished):
    output = sssl.open(finished.root)
    own_fold = "case when split = 'train' then fold end as fold"
    query = (
        f"select s.*, uri, split, {own_fold} from songs s join catalog using (track_id) order by"
        " split, track_id"
    )
    rows = output.sql(query).to_pylist()
    some = [
        row
        for split in ("train", "test", None)
        for row in [r for r in rows if r["split"] == split][:2]
    ]
    assert len(some) == 5
    for row in some:
        song = sssl.label(output, row["uri"], row["fold"], row["split"])
        assert (song.label, song.round, song.model_id) == (
            row["label"],
            row["round"],
            row["model_id"],
        )
        assert (song.segments, song.abstained) == (row["segments"], row["abstained"])
        np.testing.assert_allclose(song.probabilities, row["probabilities"], atol=1e-5)
        for entry, expected in zip(song.timeline, row["timeline"], strict=True):
            assert entry == expected | {
                "confidence": pytest.approx(expected["confidence"], abs=1e-5)
            }


def test_what_labels_new_music_has_learned_from_held_out_tracks(finished):
    """So these have to be measured by `songs`, or with their split."""
    output = sssl.open(finished.root)
    rows = output.sql(
        "select uri, c.label, probabilities from songs join catalog c using (track_id) where split"
        " = 'test'"
    ).to_pylist()
    places = [
        finished.latest().get("catalog").summary["classes"].index(row["label"]) for row in rows
    ]
    as_held_out = [row["probabilities"][place] for row, place in zip(rows, places, strict=True)]
    as_new = [
        sssl.label(output, row["uri"]).probabilities[place]
        for row, place in zip(rows, places, strict=True)
    ]
    # One track more or less moves little where the music is learned well, but all of them move it
    # the same way.
    assert np.log(as_new).mean() > np.log(as_held_out).mean()


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
    with pytest.raises(sssl.StoreError, match="table labels of round 7 is not committed"):
        output.table("labels", round=7)


@pytest.mark.parametrize("quality", [(0.6, 0.9), (0.8, 0.8), (0.9, 0.4)])
def test_queries_of_what_labelled_and_what_looks_wrong_answer_after_any_verdict(quality, in_memory):
    store, snapshot = make_folder(in_memory, quality)
    connection = connect(store, snapshot)
    shown = {title: sql for title, sql, _ in QUERIES}
    made = shown["Which model made the labels, from which files and settings?"]
    songs = connection.execute("select count(*) from songs").fetchone()[0]
    assert {count for _, _, count, *_ in connection.execute(made).fetchall()} == {songs}
    relabelled = shown["What share of each class was relabelled?"]
    assert sum(noisy for _, _, noisy, _ in connection.execute(relabelled).fetchall()) > 0
