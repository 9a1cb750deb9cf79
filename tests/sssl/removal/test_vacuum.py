"""Old generations go; what is published, what that takes over, and what a stopped run goes on from
stay."""

from datetime import UTC, datetime, timedelta

import pytest

from pipelines.cli import main
from sssl.errors import StoreError
from sssl.removal.deletion import delete_unpublished
from sssl.removal.vacuum import beyond, delete, find_old, older_than
from sssl.store.folder import Store
from sssl.store.in_flight import InFlight, launched
from sssl.store.layout import vacuumed_path
from sssl.store.manifest import KEPT_FROM, Manifest, PartFile, Receipt, Snapshot
from sssl.store.verify import verify


class Nights:
    """An output folder to which each night adds a part, and that takes the parts before over."""

    def __init__(self, root):
        self.store = Store.open(root, create=True)
        self.files = {}

    def night(self, number, table="songs", parents=(), publish=True, config=None, days_ago=None):
        generation = f"{number:012x}"
        part = self.store.write_file(
            f"_parts/{table}/{generation}/part-{number:05d}.parquet", b"%d" % number, 1
        )
        readers = self.store.write_file(
            f"{table}/{generation}/{table}-00000.parquet", b"all %d" % number, 1
        )
        self.store.write_receipt(f"{table}/{generation}", Receipt(number, {table: part}))
        self.files = {**self.files, number: part}
        ago = timedelta(days=100 - number if days_ago is None else days_ago)
        manifest = Manifest(
            table,
            generation,
            "songs",
            None,
            config or {},
            tuple(parents),
            {**self.files, 1000 + number: readers},
            {},
            created_at=(datetime.now(UTC) - ago).isoformat(timespec="seconds"),
        )
        committed = self.store.commit(manifest)
        if publish:
            self.store.publish(Snapshot((committed,)))
        return committed

    def vacuum(self, rule):
        delete(self.store, find_old(self.store, rule))

    def all_files(self):
        return {
            path
            for folder in ("songs", "models", "_parts", "_receipts")
            for path in self.store.find(folder)
        }


@pytest.fixture
def nights(request):
    return Nights(f"memory://vacuum-{request.node.name}")


def readable(manifest, store):
    return all(store.read_bytes(file.path) for file in manifest.all_files)


def test_all_but_the_newest_generations_go_and_files_that_are_taken_over_stay(nights):
    made = [nights.night(number) for number in range(5)]
    nights.vacuum(beyond(3))
    assert nights.store.committed_refs() == [manifest.ref for manifest in made[2:]]
    assert all(readable(manifest, nights.store) for manifest in made[2:])
    old = [path for path in nights.all_files() if made[0].generation in path]
    assert sorted(old) == sorted([made[0].files[0].path, vacuumed_path(made[0].ref)])
    assert verify(nights.store).damages == []


def test_the_two_publications_that_the_pointer_names_stay_however_old(nights):
    made = [nights.night(number) for number in range(4)]
    nights.vacuum(older_than(0))
    assert nights.store.committed_refs() == [manifest.ref for manifest in made[2:]]


def test_generations_of_the_last_days_stay(nights):
    made = [nights.night(number, days_ago=40 - 10 * number) for number in range(4)]
    nights.vacuum(older_than(35))
    assert nights.store.committed_refs() == [manifest.ref for manifest in made[1:]]


def test_what_is_left_of_a_generation_goes_once_nobody_takes_it_over(nights):
    first = nights.night(0)
    nights.night(1)
    nights.night(2)
    nights.vacuum(beyond(1))
    assert nights.store.exists(first.files[0].path)
    nights.files = {}
    nights.night(3)
    nights.night(4)
    nights.vacuum(beyond(1))
    assert not [path for path in nights.all_files() if first.generation in path]


def test_what_a_kept_generation_was_made_from_stays(nights):
    origin = nights.night(0, "models", publish=False)
    nights.files = {}
    model = nights.night(1, "models", config={KEPT_FROM: origin.ref}, publish=False)
    nights.files = {}
    songs = nights.night(2, parents=[model.ref], publish=False)
    nights.store.publish(Snapshot((model, songs)))
    nights.vacuum(beyond(1))
    assert {origin.ref, model.ref, songs.ref} == set(nights.store.committed_refs())


def test_a_run_that_was_stopped_goes_on_from_the_files_that_its_receipts_name(nights):
    made = [nights.night(number) for number in range(4)]
    part = made[0].files[0]
    alone = {number: file for number, file in nights.files.items() if number}
    nights.files = alone
    nights.night(4)
    nights.night(5)
    nights.store.write_receipt("songs/unfinished000", Receipt(0, {"songs": part}))
    nights.vacuum(beyond(1))
    assert nights.store.receipt("songs/unfinished000", 0).files == {"songs": part}
    assert nights.store.exists(part.path)


def test_tables_of_a_job_that_counts_as_dead_stay(nights):
    made = [nights.night(number) for number in range(4)]
    long_ago = (datetime.now(UTC) - timedelta(days=9)).isoformat()
    launched(nights.store, InFlight("songs", None, (made[0].ref,), 1, long_ago))
    nights.vacuum(beyond(1))
    assert made[0].ref in nights.store.committed_refs()


@pytest.mark.parametrize(
    "lost", ["pointer", "manifest", "damaged pointer", "damaged manifest", "note"]
)
def test_nothing_is_deleted_where_something_that_tells_what_is_needed_is_lost(nights, lost):
    made, store = [nights.night(number) for number in range(5)], nights.store
    match lost:
        case "pointer":
            store.delete("latest.json")
        case "damaged pointer":
            store.write_bytes("latest.json", b"{}")
        case "manifest":
            store.delete(store.manifest_path(made[-1].ref))
        case "damaged manifest":
            store.write_bytes(store.manifest_path(made[0].ref), b"{")
        case "note":
            store.write_bytes("in_flight.json", b"{")
    before = nights.all_files()
    said = {"manifest": "is not there", "pointer": "nothing is deleted"}.get(lost, "damaged")
    with pytest.raises(StoreError, match=said):
        nights.vacuum(beyond(1))
    assert nights.all_files() == before


def test_a_vacuum_that_is_stopped_anywhere_leaves_what_is_published_and_is_finished_by_the_next(
    monkeypatch, request
):
    untouched = Nights(f"memory://{request.node.name}")
    for number in range(4):
        untouched.night(number, days_ago=4 - number)
    untouched.vacuum(beyond(1))
    wanted, deleted, kill_at = untouched.all_files(), 0, 0
    delete_one = type(untouched.store.medium).delete
    while True:
        stopped = Nights(f"memory://{request.node.name}-{kill_at}")
        made = [stopped.night(number, days_ago=4 - number) for number in range(4)]
        deleted = 0

        def dies(medium, path, kill_at=kill_at):
            nonlocal deleted
            deleted += 1
            if deleted > kill_at:
                raise KeyboardInterrupt
            delete_one(medium, path)

        with monkeypatch.context() as patch:
            patch.setattr(type(stopped.store.medium), "delete", dies)
            try:
                stopped.vacuum(beyond(1))
                break
            except KeyboardInterrupt:
                pass
        assert readable(stopped.store.latest().get("songs"), stopped.store)
        assert verify(stopped.store).damages == []
        stopped.vacuum(beyond(1))
        assert stopped.all_files() == wanted
        assert readable(made[-1], stopped.store)
        kill_at += 1
    assert kill_at > 5


def test_a_generation_that_is_made_again_is_one_like_any_other(nights):
    first = nights.night(0)
    nights.night(1)
    nights.night(2)
    nights.vacuum(beyond(1))
    nights.files = {}
    assert nights.night(0, days_ago=0).ref == first.ref
    nights.vacuum(beyond(1))
    assert first.ref in nights.store.committed_refs()
    assert not nights.store.exists(vacuumed_path(first.ref))
    assert nights.store.exists(first.files[0].path)


def test_a_takedown_reaches_what_a_vacuum_kept(nights):
    made = [nights.night(number) for number in range(4)]
    nights.vacuum(beyond(3))
    nights.files = {}
    last = nights.night(4)
    delete_unpublished(nights.store)
    left = nights.all_files()
    assert left == {file.path for file in last.all_files} | {nights.store.manifest_path(last.ref)}
    assert not [path for path in left if any(manifest.generation in path for manifest in made)]


def test_nothing_is_touched_until_it_is_asked_for(tmp_path, capfd):
    nights = Nights(str(tmp_path / "out"))
    for number in range(4):
        nights.night(number)
    before, vacuum = nights.all_files(), ["vacuum", "--output", nights.store.root]
    assert main([*vacuum, "--keep", "1"]) == 0
    assert "2 old generations (songs 2) could go: 6 files" in " ".join(
        capfd.readouterr().err.split()
    )
    assert nights.all_files() == before
    with pytest.raises(SystemExit, match="2"):
        main(vacuum)
    assert "either --keep N or --older-than DAYS" in capfd.readouterr().err
    assert main([*vacuum, "--keep", "1", "--delete"]) == 0
    assert nights.all_files() < before | {vacuumed_path(f"songs/{n:012x}") for n in range(4)}


def test_a_part_file_outlives_its_own_generation_only_where_it_is_named():
    nights = Nights("memory://vacuum-named")
    nights.night(0)
    assert isinstance(nights.files[0], PartFile)
    nights.files = {}
    nights.night(1)
    nights.night(2)
    nights.vacuum(beyond(1))
    assert not [path for path in nights.all_files() if f"{0:012x}" in path]


@pytest.mark.parametrize("days", ["1000000", "inf", "nan", "-1"])
def test_days_that_lead_to_no_date_are_refused(tmp_path, days, capfd):
    with pytest.raises(SystemExit, match="2"):
        main(["vacuum", "--output", str(tmp_path), "--older-than", days])
    assert "expected 0 to 36500 days" in capfd.readouterr().err
