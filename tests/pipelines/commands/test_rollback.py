import shutil

import duckdb
import pytest
from conftest import FAST

from pipelines.cli import main
from sssl.store.folder import Store
from sssl.store.rounds import read_rounds
from sssl.store.sql import connect

WARM_UP = [*FAST, "--rounds", "0"]


@pytest.fixture
def output(finished, tmp_path):
    return str(shutil.copytree(finished.root, tmp_path / "out"))


def refs(output):
    return {m.ref: m.digest for m in Store.open(output).latest().manifests}


def test_songs_and_tables_are_those_of_a_run_that_ended_there(output, catalog, tmp_path):
    assert main(["rollback", "--output", output, "--round", "0"]) == 0
    rolled = refs(output)
    store = Store.open(output)
    assert [row.round for row in read_rounds(store, store.latest())] == [0]
    assert connect(store, store.latest()).sql("select distinct round from songs").fetchall() == [
        (0,)
    ]
    assert main(["run", "--catalog", catalog, "--output", output, *WARM_UP]) == 0
    assert refs(output) == rolled


def test_every_song_still_leads_to_its_scores_and_model(output):
    assert main(["rollback", "--output", output, "--round", "1"]) == 0
    store = Store.open(output)
    assert connect(store, store.latest()).sql(
        "select count(*) from songs join rounds using (round, model_id) "
        "join scores using (track_id, round, model_id) where accepted and round = 1"
    ).fetchall() == [(21 * 5,)]


def test_the_run_of_before_brings_everything_back(output, catalog):
    before = refs(output)
    assert main(["rollback", "--output", output, "--round", "1"]) == 0
    assert refs(output).keys() != before.keys()
    assert main(["run", "--catalog", catalog, "--output", output, *FAST]) == 0
    assert refs(output) == before


def test_a_run_that_never_learns_stays_at_the_round_that_was_gone_back_to(output, catalog):
    assert main(["rollback", "--output", output, "--round", "0"]) == 0
    rolled = refs(output)
    assert main(["run", "--catalog", catalog, "--output", output, *FAST, "--learn", "never"]) == 0
    assert refs(output) == rolled


def test_rounds_that_were_left_are_no_reason_to_learn(output, catalog, capsys):
    assert main(["rollback", "--output", output, "--round", "0"]) == 0
    for command in ("plan", "run"):
        assert main([command, "--catalog", catalog, "--output", output, *WARM_UP]) == 0
        said = capsys.readouterr()
        assert "not learning: no labelled track changed" in said.out + said.err


def test_going_back_to_the_round_in_use_changes_nothing(output, capsys):
    before = refs(output)
    assert main(["rollback", "--output", output, "--round", "2"]) == 0
    assert "round 2 is in use" in capsys.readouterr().err
    assert refs(output) == before


def test_a_round_that_was_not_accepted_cannot_be_gone_back_to(output, catalog, capsys):
    assert (
        main(["run", "--catalog", catalog, "--output", output, *FAST, "--min-separation", "100"])
        == 0
    )
    assert main(["rollback", "--output", output, "--round", "1"]) == 1
    assert "round 1 cannot be gone back to: accepted are 0" in " ".join(
        capsys.readouterr().err.split()
    )
    assert main(["rollback", "--output", output, "--round", "9"]) == 1


def test_a_takedown_after_it_leaves_no_row_in_the_rounds_that_were_left(output):
    assert main(["rollback", "--output", output, "--round", "0"]) == 0
    assert main(["takedown", "--output", output, "--track-id", "Q1_0"]) == 0
    for table in ("labels", "scores", "songs"):
        for within in ("", "_parts/"):
            files = f"{output}/{within}{table}/*/*.parquet"
            with duckdb.connect() as connection:  # the module's is other tests', too
                rows = connection.sql(
                    f"select distinct track_id from read_parquet('{files}')"
                ).fetchall()
            assert ("Q1_0",) not in rows
            assert ("Q1_1",) in rows
