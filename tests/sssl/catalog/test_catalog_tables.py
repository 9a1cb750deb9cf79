import datetime
import decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sssl.catalog.assign import CatalogConfig, Dealt
from sssl.catalog.committed import rows_of
from sssl.catalog.read import read_catalog
from sssl.catalog.tables import is_table, read_columns
from sssl.errors import CatalogError
from sssl.store.removals import hash_id

NAN = float("nan")
CONFIG = CatalogConfig()
LATIN = b"track_id,uri\na,/caf\xe9\n"
UTF_16 = "track_id,uri\na,/b\n".encode("utf-16")


def csv(folder, text, name="c.csv"):
    (folder / name).write_text(text)
    return str(folder / name)


def parquet(folder, name="c.parquet", **columns):
    pq.write_table(pa.table(columns), folder / name)
    return str(folder / name)


def rows(catalog, labels=None, **config):
    found = rows_of(read_catalog(catalog, labels, CatalogConfig(**config)))
    return {row.track_id: row for row in found}


def test_a_class_that_starts_like_a_formula_is_read_as_our_csv_files_have_it(tmp_path):
    classes = ("+V+A", "-V+A")
    catalog = csv(tmp_path, "track_id,uri,label\na,/a,'-V+A\nb,/b,-V+A\n")
    labels = csv(tmp_path, "track_id,label\na,'+V+A\n", "labels.csv")
    assert {row.label for row in rows(catalog, classes=classes).values()} == {"-V+A"}
    assert rows(catalog, labels, classes=classes)["a"].label == "+V+A"


@pytest.mark.parametrize(
    "header", ["track_id,label,,", "track_id,label,note,note", "track_id,label,x y,0"]
)
def test_columns_that_nobody_asks_for_do_not_matter(tmp_path, header):
    catalog = csv(tmp_path, "track_id,uri,,\na,/a,1,2\nb,/b,n/a,\n")
    labels = csv(tmp_path, f"{header}\na,Q1,2001,x\nb,Q2,n/a,y\n", "l.csv")
    assert {i: row.label for i, row in rows(catalog, labels).items()} == {"a": "Q1", "b": "Q2"}


def test_other_columns_of_parquet_are_not_even_read(tmp_path):
    table = pa.table(
        [["a"], ["/a"], [1], [2], [[{"x": 1}]]], names=["track_id", "uri", "n", "n", "nested"]
    )
    pq.write_table(table, tmp_path / "c.parquet")
    assert list(rows(str(tmp_path / "c.parquet"))) == ["a"]


def test_labels_and_catalog_may_hold_a_column_in_different_types(tmp_path):
    catalog = csv(tmp_path, "track_id,uri,expected_s,locked,group_id\na,/a,30.5,yes,1\nb,/b,,,2\n")
    labels = parquet(
        tmp_path, "l.parquet", track_id=["b"], expected_s=[7], locked=[True], group_id=[1]
    )
    found = rows(catalog, labels)
    held = {i: (row.expected_s, row.locked, row.group_id) for i, row in found.items()}
    assert held == {"a": (30.5, True, "1"), "b": (7, True, "1")}


def test_a_flag_that_labels_leave_empty_is_that_of_the_catalog(tmp_path):
    catalog = csv(tmp_path, "track_id,uri,locked\na,/a,true\n")
    labels = csv(tmp_path, "track_id,locked\na,\n", "l.csv")
    assert rows(catalog, labels)["a"].locked


def test_no_value_is_the_same_in_parquet_and_in_csv(tmp_path):
    text = "track_id,uri,label,group_id,expected_s,locked\na,/a,,,,\nb,/b, , , , \n"
    blank = ["", " "]
    of_parquet = parquet(
        tmp_path,
        track_id=["a", "b"],
        uri=["/a", "/b"],
        label=blank,
        group_id=blank,
        expected_s=blank,
        locked=blank,
    )
    assert rows(csv(tmp_path, text)) == rows(of_parquet)
    of_parquet = parquet(
        tmp_path,
        track_id=["a", "b"],
        uri=["/a", "/b"],
        label=[NAN, None],
        group_id=pa.array([NAN, NAN], pa.float32()),
        expected_s=[NAN, None],
        locked=pa.nulls(2),
    )
    assert rows(csv(tmp_path, text)) == rows(of_parquet)


def test_numbers_as_labels_are_those_of_a_csv(tmp_path):
    catalog = parquet(tmp_path, track_id=[1, 2, 3], uri=["/a", "/b", "/c"], label=[0.0, 1.0, NAN])
    found = rows(catalog, classes=("0", "1"))
    assert {i: row.label for i, row in found.items()} == {"1": "0", "2": "1", "3": None}


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        (pa.array([90], pa.duration("s")), 90),
        (pa.array([1500], pa.duration("ms")), 1.5),
        (pa.array([2_500_000_000], pa.duration("ns")), 2.5),
        (pa.array([decimal.Decimal("3.25")]), 3.25),
        (pa.array([" 4.5 "]), 4.5),
        (pa.array([" 4.5 "], pa.large_string()), 4.5),
        (pa.array(["4.5"]).dictionary_encode(), 4.5),
        (pa.array([5], pa.uint8()), 5),
        (np.array([6], np.float16), 6),
    ],
)
def test_seconds_are_seconds_in_whatever_type_they_come(tmp_path, values, seconds):
    catalog = parquet(tmp_path, track_id=["a"], uri=["/a"], expected_s=values)
    assert rows(catalog)["a"].expected_s == seconds


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("expected_s", pa.array([True]), "column expected_s is bool, expected seconds"),
        (
            "expected_s",
            pa.array([datetime.datetime.now()]),
            "column expected_s is timestamp.* expected seconds",
        ),
        ("expected_s", pa.array([[1.0]]), "column expected_s is list.* expected seconds"),
        ("expected_s", pa.array(["3:20"]), "track 'a' has expected_s '3:20', expected seconds"),
        ("expected_s", pa.array([float("inf")]), "track 'a' has expected_s inf, expected seconds"),
        ("expected_s", pa.array([-1.0]), "track 'a' has expected_s -1.0, expected seconds"),
        ("locked", pa.array([2]), "track 'a' has locked 2, expected true or false"),
        ("label", pa.array([["Q1"]]), "column label is list.* expected text"),
        ("label", pa.array([{"x": 1}]), "column label is struct.* expected text"),
        ("group_id", pa.array([b"\xff"]), "column group_id is binary, expected text"),
    ],
)
def test_a_column_of_another_kind_is_a_sentence(tmp_path, column, values, message):
    catalog = parquet(tmp_path, track_id=["a"], uri=["/a"], **{column: values})
    with pytest.raises(CatalogError, match=message):
        rows(catalog)


@pytest.mark.parametrize("empty", ["", " ", None])
def test_an_empty_id_is_refused_in_parquet_as_in_csv(tmp_path, empty):
    with pytest.raises(CatalogError, match="row 2 has no track_id"):
        rows(parquet(tmp_path, track_id=["a", empty], uri=["/a", "/b"]))


@pytest.mark.parametrize("content", [LATIN, UTF_16, b"track_id,uri\na,/b,x\n", b"PAR1"])
@pytest.mark.parametrize("name", ["c.csv", "c.parquet"])
def test_a_file_that_is_no_table_is_a_sentence(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CatalogError, match=f"{name}"):
        rows(str(tmp_path / name))


def test_a_table_is_told_by_its_name_without_what_signs_its_address():
    signed = "https://host/c.csv?X-Amz-Signature=a/b&x=.mp3"
    tables = [signed, "c.csv", "/a/C.Parquet", "gs://bucket/c.parquet", "file:///a%20b/c.CSV"]
    assert all(map(is_table, tables))
    assert not any(
        map(is_table, ["https://host/music?list=c.csv", "music", "/a/c.csv/b", "c.csv.mp3"])
    )


def test_only_wanted_columns_are_judged(tmp_path):
    catalog = csv(tmp_path, "track_id,uri,expected_s\na,/a,long\n")
    assert read_columns(catalog, ["uri"], ["track_id", "uri"]).to_pydict() == {
        "track_id": ["a"],
        "uri": ["/a"],
    }


def test_ids_that_differ_in_the_encoding_of_accents_only_are_one(tmp_path):
    catalog = csv(tmp_path, "track_id,uri\ncafe\u0301.mp3,/a\nb.mp3,/b\n")  # as Macs write it
    for spelling in ("caf\u00e9.mp3", "caf\u00e9", "cafe\u0301"):
        labels = csv(tmp_path, f"track_id,label\n{spelling},Q3\n", "l.csv")
        assert rows(catalog, labels)["cafe\u0301.mp3"].label == "Q3"
    both = csv(tmp_path, "track_id,uri\ncafe\u0301,/a\ncaf\u00e9,/b\n", "both.csv")
    labels = csv(tmp_path, "track_id,label\ncafe\u0301,Q1\ncaf\u00e9,Q2\n", "l.csv")
    assert [row.label for row in rows(both, labels).values()] == ["Q1", "Q2"]


def test_a_track_that_is_new_for_its_accents_only_is_named(tmp_path):
    before = read_catalog(csv(tmp_path, "track_id,uri\ncafe\u0301,/a\nb,/b\n"), None, CONFIG)
    said = []
    again = csv(tmp_path, "track_id,uri\ncaf\u00e9,/a\nb,/b\nc,/c\n")
    read_catalog(again, None, CONFIG, Dealt(before, CONFIG), tell=said.append)
    assert said == ["1 id of before with accents encoded otherwise (NFC, NFD), as new: caf\u00e9"]


@pytest.mark.parametrize("content", [LATIN, UTF_16])
def test_a_table_in_another_encoding_says_so(tmp_path, content):
    (tmp_path / "c.csv").write_bytes(content)
    with pytest.raises(CatalogError, match="save it as UTF-8"):
        rows(str(tmp_path / "c.csv"))


@pytest.mark.parametrize("path", ["c.csv", "c.parquet", "music/"])
def test_a_server_that_gives_no_answer_is_named_without_secrets(path):
    with pytest.raises(CatalogError, match="ClientConnectorError") as raised:
        rows(f"http://me:password@127.0.0.1:9/{path}?X-Signature=secret")
    assert "password" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_what_was_taken_down_stays_so_in_another_encoding_of_its_accents(tmp_path):
    catalog = csv(tmp_path, "track_id,uri\ncafe\u0301,/a\nb,/b\n")
    gone = {hash_id("caf\u00e9")}
    found = read_catalog(catalog, None, CatalogConfig(), leave_out=gone)
    assert found["track_id"].to_pylist() == ["b"]


def test_ids_that_fit_nothing_are_counted_and_the_first_named(tmp_path):
    catalog = csv(tmp_path, "track_id,uri\na,/a\n")
    unknown = "".join(f"x{n},Q1\n" for n in range(9))
    labels = csv(tmp_path, f"track_id,label\na,Q1\n{unknown}", "l.csv")
    said = []
    read_catalog(catalog, labels, CatalogConfig(), tell=said.append)
    assert said == [f"{labels}: 9 of 10 ids not in the catalog: x0, x1, x2, x3, x4, ..."]


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("track_id,uri,lable", ["'lable' is not read; is label meant?"]),
        (
            "track_id,uri,Labels,group",
            ["'Labels' is not read; is label meant?", "'group' is not read; is group_id meant?"],
        ),
        ("track_id,uri,label,labels", []),
        ("track_id,uri,looped,emotion", []),
    ],
)
def test_columns_that_look_misspelt_are_named(header, told, tmp_path):
    (tmp_path / "c.csv").write_text(f"{header}\n{','.join('x' for _ in header.split(','))}\n")
    said = []
    read_columns(str(tmp_path / "c.csv"), ["track_id", "uri"], tell=said.append)
    assert [sentence.partition(": column ")[2] for sentence in said] == told


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("second", ['"Low,Q2', "Low,Q2"])
def test_a_quote_that_nobody_closed_takes_no_other_track_with_it(second, end, tmp_path):
    lines = ["track_id,uri,title,label", "z,/z,,Q3", 'a,/a,"Heroes,Q1', f"b,/b,{second}", ""]
    path = csv(tmp_path, end.join(lines))
    with pytest.raises(CatalogError, match="cannot read"):
        read_columns(path, ["track_id", "uri"])


def test_the_line_of_a_quote_that_nobody_closed_is_named(tmp_path):
    lines = ["track_id,uri,title,label", 'z,/z,"two\nlines",Q3', 'a,/a,"Heroes,Q1']
    path = csv(tmp_path, "\n".join([*lines, 'b,/b,"Low,Q2', ""]))
    with pytest.raises(CatalogError, match="line 4: a quote opens a cell, and none closes it"):
        read_columns(path, ["track_id", "uri"])


def test_cells_may_have_several_lines_and_quotes(tmp_path):
    title = '"He said ""hi"",\nthen left"'
    path = csv(tmp_path, f"track_id,uri,title,label\na,/a,{title},Q1\nb,/b,12in,Q2\n")
    assert read_columns(path, ["track_id", "uri"])["label"].to_pylist() == ["Q1", "Q2"]


@pytest.mark.parametrize(
    "row", ["a{}/a.wav", 'a{}"/music/one, two.wav"', "a{}/one, two, three.wav"]
)
@pytest.mark.parametrize("sign", [";", "\t"])
def test_a_table_with_other_separators_says_which_are_expected(sign, row, tmp_path):
    (tmp_path / "c.csv").write_text(f"track_id{sign}uri\n{row.format(sign)}\n")
    with pytest.raises(
        CatalogError,
        match=r"column track_id is missing; it has a single one, .*: separate columns by commas",
    ):
        read_columns(str(tmp_path / "c.csv"), ["track_id", "uri"])
