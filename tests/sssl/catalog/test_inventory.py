import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rows import a_track

import sssl.catalog.fingerprints as module
from schemas import Catalog, to_arrow
from sssl.catalog.fingerprints import with_fingerprints
from sssl.catalog.inventory import listed_fingerprints
from sssl.errors import CatalogError

GOOGLE = """project,bucket,name,size,updated,timeDeleted,etag,md5Hash
1,music,a.mp3,3,2026-11-01,,CJa=,bWQ1
1,music,folder/b.mp3,3,2026-11-01,,,bWQ1
1,music,gone.mp3,3,2026-11-01,2026-11-02,CJg=,bWQ1
"""


def write(path, text):
    path.write_text(text)
    return str(path)


def listed(uris, *inventories):
    return listed_fingerprints(pa.array(uris), inventories).to_pylist()


def test_googles_inventory_tells_what_a_listing_tells(tmp_path):
    inventory = write(tmp_path / "report.csv", GOOGLE)
    uris = [
        "gs://music/folder/b.mp3",
        "gs://music/a.mp3",
        "gs://music/gone.mp3",
        "gs://other/a.mp3",
    ]
    info = {"size": 3, "etag": "CJa=", "md5Hash": "bWQ1"}
    assert listed(uris, inventory) == ["md5hash:bWQ1", "etag:CJa=", None, None]
    assert module._fingerprint(info) == "etag:CJa="


def test_amazons_inventory_tells_what_a_listing_tells(tmp_path):
    rows = {
        "bucket": ["music"] * 3,
        "key": ["a.mp3", "a.mp3", "b.mp3"],
        "is_latest": [True, False, True],
        "is_delete_marker": [False, False, True],
        "e_tag": ["new", "old", "x"],
    }
    pq.write_table(pa.table(rows), tmp_path / "report.parquet")
    found = listed(["s3://music/a.mp3", "s3://music/b.mp3"], str(tmp_path / "report.parquet"))
    assert found == [module._fingerprint({"ETag": '"new"'}), None]


def test_of_two_inventories_the_later_one_counts(tmp_path):
    first = write(tmp_path / "1.csv", "uri,etag\nstore://a,1\nstore://b,1\n")
    second = write(tmp_path / "2.csv", "uri,etag\nstore://b,2\n")
    assert listed(["store://a", "store://b"], first, second) == ["etag:1", "etag:2"]


def test_a_size_tells_nothing_without_a_date(tmp_path):
    dated = write(tmp_path / "1.csv", "uri,size,updated\nstore://a,3,2026-11-01\n")
    assert listed(["store://a"], dated) == ["size:3 mtime:2026-11-01"]
    with pytest.raises(CatalogError, match="no column tells of the content"):
        listed(["store://a"], write(tmp_path / "2.csv", "uri,size\nstore://a,3\n"))


@pytest.mark.parametrize(
    ("text", "said"),
    [("name,etag\na,1\n", "expected a column uri, or bucket"), ("", "cannot be read")],
)
def test_what_is_no_inventory_is_refused(tmp_path, text, said):
    with pytest.raises(CatalogError, match=f"--inventory .*i.csv: {said}"):
        listed(["store://a"], write(tmp_path / "i.csv", text))
    with pytest.raises(CatalogError, match=r"--inventory .*none.csv: cannot be read"):
        listed(["store://a"], str(tmp_path / "none.csv"))


def test_only_files_that_no_inventory_lists_are_looked_up(tmp_path, monkeypatch):
    asked, said = [], []
    monkeypatch.setattr(module, "_look_up", lambda uri: asked.append(uri) or "etag:asked")
    tracks = to_arrow(Catalog, [a_track(name, uri=f"store://{name}") for name in "abc"])
    inventory = write(tmp_path / "i.csv", "uri,etag\nstore://a,1\nstore://c,3\n")
    found = with_fingerprints(tracks, None, said.append, (inventory,))["source_fingerprint"]
    assert found.to_pylist() == ["etag:1", "etag:asked", "etag:3"]
    assert asked == ["store://b"]
    assert said == ["1 file of 3 in no inventory: looked up"]
    all_listed = write(tmp_path / "all.csv", "uri,etag\nstore://a,1\nstore://b,2\nstore://c,3\n")
    found = with_fingerprints(tracks, None, said.append, (all_listed,))["source_fingerprint"]
    assert found.to_pylist() == ["etag:1", "etag:2", "etag:3"]
    assert asked == ["store://b"]


def test_a_date_that_few_rows_have_is_read_wherever_it_is(tmp_path):
    rows = [f"music,{number:06d}.mp3,,e{number}\n" for number in range(60_000)]
    rows.append("music,gone.mp3,2026-11-02T10:00:00Z,g\n")
    inventory = write(tmp_path / "i.csv", "bucket,name,timeDeleted,etag\n" + "".join(rows))
    found = listed(["gs://music/059999.mp3", "gs://music/gone.mp3"], inventory)
    assert found == ["etag:e59999", None]


def test_names_that_are_numbers_or_words_for_nothing_are_names(tmp_path):
    rows = "b,007,01\nb,NA,02\nb,true,\n"
    inventory = write(tmp_path / "i.csv", "\ufeffBucket,Name,ETag\n" + rows)
    found = listed(["gs://b/007", "gs://b/7", "gs://b/NA", "gs://b/true"], inventory)
    assert found == ["etag:01", None, "etag:02", None]


@pytest.mark.parametrize("header", [" uri,etag", "uri, etag ", "\ufeffURI ,ETag"])
def test_a_header_may_have_blanks(header, tmp_path):
    inventory = write(tmp_path / "i.csv", f"{header}\nstore://a,1\n")
    assert listed(["store://a"], inventory) == ["etag:1"]


def test_a_size_that_is_unknown_is_no_reason_to_read_nothing(tmp_path):
    rows = "store://a,5,2026-01-01T00:00:00Z\nstore://b,NULL,2026-01-01T00:00:00Z\n"
    inventory = write(tmp_path / "i.csv", "uri,size,updated\n" + rows)
    first, second = listed(["store://a", "store://b"], inventory)
    assert first.startswith("size:5 mtime:2026-01-01")
    assert second is None


def test_a_file_that_is_no_table_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "i.csv").write_bytes(b'\x00"\r\x00\x01' * 50)
    with pytest.raises(CatalogError, match=r"--inventory .*i.csv"):
        listed(["store://a"], str(tmp_path / "i.csv"))
