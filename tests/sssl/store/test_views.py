"""Views that answer common questions without a join: names apart, one row per class, times, and
what is published."""

import dataclasses
import hashlib
from pathlib import Path

import duckdb
import pytest
from reports import make_folder

from schemas import VIEWS
from schemas.bigquery import create_statements
from sssl.store.folder import Store
from sssl.store.removals import remember
from sssl.store.sql import connect

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="module")
def connection(report_folder):
    with connect(*report_folder) as opened:
        yield opened


def rows(connection, sql):
    return connection.sql(sql).fetchall()


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_has_the_columns_and_comments_of_the_docs(connection, name):
    declared = [field.name for field in dataclasses.fields(VIEWS[name])]
    assert connection.sql(f"from {name}").columns == declared
    without = f"select 1 from duckdb_columns() where table_name = '{name}' and comment is null"
    assert rows(connection, without) == []


def test_a_songs_label_and_the_catalogs_have_names_of_their_own(connection):
    found = rows(
        connection,
        "select l.catalog_label = c.label and l.song_label = s.label "
        "and l.agrees = (c.label = s.label) from song_labels l join songs s using (track_id) "
        "join catalog c using (track_id) where c.label is not null",
    )
    assert set(found) == {(True,)}
    unlabelled = rows(connection, "select agrees from song_labels where catalog_label is null")
    assert all(agrees is None for (agrees,) in unlabelled)


def test_quadrants_lie_in_russells_plane():
    store = Store.open(str(GOLDEN / "v7"))
    with connect(store, store.latest()) as opened:
        found = {
            name: place for name, *place in rows(opened, "select * exclude position from classes")
        }
    signs = {"Q1": [1, 1], "Q2": [-1, 1], "Q3": [-1, -1], "Q4": [1, -1]}
    assert found == {name: signs[name] for name in found}


def test_classes_are_in_the_order_of_probabilities(connection):
    found = rows(connection, "from classes order by position")
    assert [position for position, *_ in found] == [*range(1, len(found) + 1)]
    assert all(place == [None, None] for _, _, *place in found)  # theirs is not known
    peak = (
        "select s.label, c.name from songs s join classes c "
        "on c.position = list_position(s.probabilities, list_max(s.probabilities)) "
        "where s.label_source = 'model'"
    )
    assert all(label == name for label, name in rows(connection, peak))


@pytest.mark.parametrize("name", ["song_probabilities", "segment_probabilities"])
def test_probabilities_in_long_form_add_up_to_one(connection, name):
    keys = "track_id" + (", segment_index" if name.startswith("segment") else "")
    sums = rows(connection, f"select sum(probability), count(*) from {name} group by {keys}")
    (classes,) = rows(connection, "select count(*) from classes")[0]
    assert sums
    assert all(total == pytest.approx(1, abs=1e-5) for total, _ in sums)
    assert {count for _, count in sums} == {classes}


def test_a_segment_ends_where_the_next_one_starts(connection):
    gaps = rows(
        connection,
        "select lead(start_s) over (partition by track_id order by segment_index) - end_s "
        "from segments",
    )
    assert {gap for (gap,) in gaps if gap is not None} == {0.0}
    (longest,) = rows(connection, "select max(end_s - start_s) from segments")[0]
    assert longest == 3.0


def test_models_say_what_became_of_their_rounds(connection):
    found = rows(connection, "select round, verdict from models order by round")
    assert found == rows(connection, "select round, verdict from rounds order by round")


def test_what_is_published_and_what_was_before_are_rows_too(connection, report_folder):
    store, snapshot = report_folder
    now = rows(
        connection,
        "select table_name || '/' || generation from publications where publication = 'now'",
    )
    assert {ref for (ref,) in now} == {manifest.ref for manifest in snapshot.manifests}


def test_a_takedown_is_told_by_the_hash_of_its_id_alone(tmp_path):
    store, snapshot = make_folder(tmp_path, (0.8,))
    remember(store, ["t3", "t1"])
    with connect(Store.open(str(tmp_path)), snapshot) as opened:
        found = {digest for (digest,) in rows(opened, "from takedowns")}
        assert found == {hashlib.sha256(name.encode()).hexdigest() for name in ("t1", "t3")}
        asked = "select count(*) from takedowns where track_id_sha256 = sha256('t1')"
        assert rows(opened, asked) == [(1,)]


def test_bigquery_has_the_views_too():
    names = {
        statement.split()[4] for statement in create_statements("sssl") if " VIEW " in statement
    }
    assert {"sssl.song_labels", "sssl.song_probabilities", "sssl.models"} <= names


def test_the_views_are_in_a_database_file_for_other_clients(report_folder, tmp_path):
    path = str(tmp_path / "sssl.duckdb")
    connect(*report_folder, path).close()
    with duckdb.connect(path, read_only=True) as opened:
        assert len(rows(opened, "from classes")) > 1
