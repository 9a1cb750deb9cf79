"""Make room in an output folder: old generations of its tables go, what is published and what that
needs stays.

A generation is old by the manifest that says when it was committed. Before anything of it goes, the
manifest moves to `vacuumed.json`, the evidence that what is left of the generation may go as well:
at once, or, of files that a kept generation took over by reference, once nobody needs them any
more. So a vacuum that is killed is finished by the next one. Files without a manifest are of work
that goes on, and stay.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import filterfalse

from schemas import TABLES
from schemas.summaries import SUMMARIES
from sssl.errors import StoreError
from sssl.removal.deletion import delete_all, refuse_lost_pointer
from sssl.store.folder import Store
from sssl.store.in_flight import noted
from sssl.store.layout import COUNTS, PARTS, RECEIPTS, is_receipt, ref_of_manifest, vacuumed_path
from sssl.store.manifest import KEPT_FROM, Manifest, Receipt
from sssl.store.pointer import BEFORE, newest_pointer, published_refs

IsOld = Callable[[Manifest, int], bool]
"""Whether a generation is old, given how many of its table and round are newer."""


@dataclass(frozen=True)
class Old:
    """What a vacuum deletes: the committed generations that go, the bytes of all files that go by
    their paths, and generations of which nothing is left then."""

    generations: tuple[str, ...]
    files: dict[str, int]
    emptied: tuple[str, ...]
    returned: tuple[str, ...]
    """Generations that an earlier vacuum deleted, and that were made again since."""


def beyond(count: int) -> IsOld:
    """Return the rule by which all but the newest `count` generations of a table and round are
    old."""
    return lambda _, newer: newer >= count


def older_than(days: float) -> IsOld:
    """Return the rule by which generations are old that were committed longer ago."""
    limit = datetime.now(UTC) - timedelta(days=days)
    return lambda manifest, _: datetime.fromisoformat(manifest.created_at) < limit


def find_old(store: Store, is_old: IsOld) -> Old:
    """Find what may go.

    Kept are the generations that the pointer names (those published now, and those before), those
    of a job that was launched, those that are not old, and whatever any of these was made from, or
    takes files over from.

    Raises:
        StoreError: a manifest, or the pointer, or the note of a job is damaged or missing: that
            nothing is known to need a file is no evidence then.
    """
    published = store.latest()
    refuse_lost_pointer(store, published.manifests)
    if not published.manifests:
        raise StoreError(f"{store.root} has published nothing yet: nothing is deleted")
    sizes = _sizes(store)
    committed = {ref: store.named(ref) for ref in filter(None, map(ref_of_manifest, sizes))}
    pointer = newest_pointer(store.medium)
    job = noted(store)
    named = {*published_refs(store.medium, pointer), *published_refs(store.medium, pointer, BEFORE)}
    kept = _with_parents(
        committed, named | {*(job.tables if job else ())} | _young(committed.values(), is_old)
    )
    gone = committed.keys() - kept
    vacuumed = {
        ref for ref in map(_ref_of, sizes) if ref is not None and vacuumed_path(ref) in sizes
    }
    deleted = gone | (vacuumed - kept)
    needed = {file.path for ref in kept & committed.keys() for file in committed[ref].all_files}
    needed |= _of_unfinished(store, sizes, committed.keys() | vacuumed)
    files = dict[str, int]()
    left = set[str]()
    for path, size in sizes.items():
        ref = _ref_of(path)
        if ref in deleted and path != vacuumed_path(ref):
            if path in needed:
                left.add(ref)
            else:
                files[path] = size
    returned = tuple(sorted(vacuumed & kept & committed.keys()))
    return Old(tuple(sorted(gone)), files, tuple(sorted(deleted - left)), returned)


def delete(store: Store, old: Old) -> None:
    """Delete what was found."""
    for ref in old.returned:
        store.delete(vacuumed_path(ref))
    for ref in old.generations:
        store.write_json(vacuumed_path(ref), store.named(ref).as_json())
    delete_all(store, filter(ref_of_manifest, old.files))
    delete_all(store, filterfalse(ref_of_manifest, old.files))
    delete_all(store, map(vacuumed_path, old.emptied))


def _sizes(store: Store) -> dict[str, int]:
    folders = sorted({PARTS, RECEIPTS, *TABLES, *SUMMARIES})
    sizes: dict[str, int] = {}
    for folder in folders:
        sizes |= store.medium.sizes(folder)
    return sizes


def _ref_of(path: str) -> str | None:
    """Return the generation that a file belongs to, None if it is in the folder of none."""
    inner = path.removeprefix(f"{PARTS}/").removeprefix(f"{RECEIPTS}/")
    table, *rest = inner.removesuffix(COUNTS).split("/")
    is_within = len(rest) > 1 or (rest and path.endswith(COUNTS))
    if is_within:
        return f"{table}/{rest[0]}"
    return None


def _young(manifests: Iterable[Manifest], is_old: IsOld) -> set[str]:
    """Return the generations that are not old."""
    newer: dict[tuple[str, int | None], int] = {}
    young = set()
    for manifest in sorted(manifests, key=lambda m: (m.created_at, m.ref), reverse=True):
        of_round = manifest.table, manifest.round
        if not is_old(manifest, newer.get(of_round, 0)):
            young.add(manifest.ref)
        newer[of_round] = newer.get(of_round, 0) + 1
    return young


def _with_parents(committed: Mapping[str, Manifest], refs: Collection[str]) -> set[str]:
    """Add what generations were made from, and that from which a kept model comes."""
    found = set[str]()
    waiting = list(refs)
    while waiting:
        ref = waiting.pop()
        if ref not in found:
            found.add(ref)
            manifest = committed.get(ref)
            if manifest is not None:
                waiting += [*manifest.parents, manifest.config.get(KEPT_FROM, ref)]
    return found


def _of_unfinished(store: Store, paths: Iterable[str], finished: Collection[str]) -> set[str]:
    """Return the files that receipts of generations name that are not committed yet: a run goes on
    from them."""
    own = [
        path
        for path in paths
        if is_receipt(path) and path.startswith(RECEIPTS) and _ref_of(path) not in finished
    ]
    receipts = (store.read_record_if_whole(path, Receipt) for path in own)
    return {
        file.path for receipt in receipts if receipt is not None for file in receipt.files.values()
    }
