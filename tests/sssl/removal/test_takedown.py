"""A takedown goes through a catalog and its ledger piece by piece, and the result is as if they had
been read whole."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from rows import a_ledger_row, a_track

from pipelines.cli import main
from schemas import Catalog, Ledger, to_arrow
from schemas.records import dump
from schemas.summaries import LedgerSummary
from sssl.catalog import committed
from sssl.catalog.assign import CatalogConfig
from sssl.catalog.committed import commit_catalog
from sssl.catalog.ledger import summarize_whole_ledger
from sssl.errors import StoreError
from sssl.removal.deletion import delete_unpublished
from sssl.removal.known import may_have_any
from sssl.removal.takedown import without
from sssl.store import manifest, parquet
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, Snapshot

PARTS = 11
CONFIG = CatalogConfig()


@pytest.fixture(autouse=True)
def few_in_a_file(monkeypatch):
    monkeypatch.setattr(committed, "PARTS_PER_FILE", 2)
    monkeypatch.setattr("sssl.removal.takedown.PARTS_PER_FILE", 2)
    monkeypatch.setattr(manifest, "MOST_IN_JSON", 4)
    monkeypatch.setattr(parquet, "_FILE_BYTES", 40_000)  # some four parts of a ledger


def tables():
    """The rows of a catalog and its ledger, two tracks a part; what was decoded of them adds up
    otherwise in another order."""
    tracks = [
        a_track(f"{part:02d}{name}", part=part, label="Q1" if part % 2 else None)
        for part in range(PARTS)
        for name in "ab"
    ]
    rows = [
        a_ledger_row(track.track_id, part=track.part, decoded_s=0.1 * number)
        for number, track in enumerate(tracks)
    ]
    return to_arrow(Catalog, tracks), to_arrow(Ledger, rows)


@pytest.fixture(params=["readers", "parts"])
def folder(request, tmp_path):
    """A published folder, whose ledger has files for readers or only those of parts."""
    store = Store.open(str(tmp_path / "out"), create=True)
    tracks, ledger = tables()
    catalog = commit_catalog(store, tracks, CONFIG)
    files = {
        part: store.write_part(
            "ledger", "made", part, ledger.filter(pc.equal(ledger["part"], part))
        )
        for part in range(PARTS)
    }
    summary = dump(summarize_whole_ledger(tracks, ledger))
    made = Manifest("ledger", "made", "segment", None, {}, (catalog.ref,), files, summary)
    if request.param == "readers":
        made = store.compact(made)
        assert len(made.compacted) > 2
    store.publish(Snapshot((catalog, store.commit(made))))
    return store


@pytest.mark.parametrize(
    "gone",
    [
        ["00a"],
        ["04a", "04b", "05a", "05b"],  # a whole file of the catalog
        ["10a", "10b"],  # the last part, and with it a file
        ["08a", "08b", "09a", "09b", "10a", "10b", "03b"],
    ],
)
def test_a_takedown_commits_what_is_left_as_if_it_had_been_read_whole(folder, tmp_path, gone):
    tracks, ledger = tables()
    left = tracks.filter(pc.invert(pc.is_in(tracks["track_id"], pa.array(gone))))
    alone = Store.open(str(tmp_path / "alone"), create=True)
    expected = commit_catalog(alone, left, CONFIG)
    found = without(folder, folder.latest(), gone)
    catalog = found.get("catalog")
    assert catalog.ref == expected.ref
    assert catalog.files == expected.files
    assert replace(folder_summary(catalog), cpu_s=None) == replace(
        folder_summary(expected), cpu_s=None
    )
    assert folder.read_table(catalog).equals(left)
    summary = found.about("ledger", LedgerSummary)
    assert summary == summarize_whole_ledger(left, ledger)
    rows = folder.read_table(found.get("ledger"))
    assert rows["track_id"].to_pylist() == left["track_id"].to_pylist()
    folder.publish(found)
    delete_unpublished(folder)
    assert folder.is_there(folder.latest().get("ledger"))
    assert {ref.partition("/")[0] for ref in folder.committed_refs()} == {"catalog", "ledger"}
    assert len(folder.committed_refs()) == 2


def folder_summary(catalog):
    return catalog.about(committed.CatalogSummary)


def test_nothing_changes_without_a_track_and_not_all_may_go(folder):
    snapshot = folder.latest()
    assert without(folder, snapshot, ["elsewhere"]) == snapshot
    everybody = tables()[0]["track_id"].to_pylist()
    with pytest.raises(StoreError, match="no track would be left"):
        without(folder, snapshot, everybody)


def test_nothing_is_deleted_where_a_list_of_needed_files_cannot_be_read(folder):
    snapshot = folder.latest()
    folder.publish(without(folder, snapshot, ["00a"]))
    ledger = folder.latest().get("ledger")
    folder.write_bytes(ledger.listed.path, b"damaged")
    before = folder.find("")
    with pytest.raises(StoreError, match="damaged"):
        delete_unpublished(Store.open(folder.root))
    assert folder.find("") == before


def published(root, names):
    """Publish a catalog and a ledger of some tracks."""
    store = Store.open(root, create=True)
    rows = [a_track(name) for name in names]
    ledger = to_arrow(Ledger, [a_ledger_row(name) for name in names])
    catalog = commit_catalog(store, to_arrow(Catalog, rows), CONFIG)
    files = {0: store.write_part("ledger", "made", 0, ledger)}
    summary = dump(summarize_whole_ledger(to_arrow(Catalog, rows), ledger))
    made = Manifest("ledger", "made", "segment", None, {}, (catalog.ref,), files, summary)
    store.publish(Snapshot((catalog, store.commit(made))))
    return store


def test_a_file_of_ids_may_be_one_that_we_exported(tmp_path):
    store = published(str(tmp_path / "out"), ("-guarded", "'-literal", "stays", "-literal"))
    (tmp_path / "ids.csv").write_text("track_id\n'-guarded\n'-literal\n")
    arguments = ["--output", store.root, "--file", str(tmp_path / "ids.csv")]
    assert main(["takedown", *arguments]) == 0
    left = store.read_table(store.latest().get("catalog"))
    assert set(left["track_id"].to_pylist()) == {"-literal", "stays"}


def test_what_was_never_taken_down_is_named_where_it_is_to_come_back(tmp_path, capsys):
    store = published(str(tmp_path / "out"), ("x", "y", "z"))
    arguments = ["takedown", "--output", store.root, "--track-id"]
    assert main([*arguments, "x", "y"]) == 0
    assert main([*arguments, "X", "--undo"]) == 1
    assert "X: not taken down, so nothing was changed" in " ".join(capsys.readouterr().err.split())
    assert main([*arguments, "x", "Y", "--undo"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "warning: Y: not taken down; is the spelling right?" in said
    assert "1 id may come back" in said


def test_what_was_said_of_a_track_whose_id_differs_in_blanks_stays(tmp_path):
    store = published(str(tmp_path / "out"), ("x", " x", "y"))
    header = b"track_id,start_s,end_s,label\n"
    store.write_bytes("corrections.csv", header + b"x,,,Q1\n x,,,Q2\nx ,,,Q3\ny,,,Q4\n")
    assert main(["takedown", "--output", store.root, "--track-id", "x"]) == 0
    assert store.read_bytes("corrections.csv") == header + b" x,,,Q2\ny,,,Q4\n"


def test_a_folder_may_have_a_track_whose_id_is_corrected_with_or_without_its_blanks(tmp_path):
    store = Store.open(str(tmp_path / "out"), create=True)
    store.write_bytes("corrections.csv", b"track_id,start_s,end_s,label\n a ,,,Q1\n")
    assert may_have_any(store, {" a "})
    assert may_have_any(store, {"a"})
    assert not may_have_any(store, {"b"})
