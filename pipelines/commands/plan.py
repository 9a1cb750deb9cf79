"""Say what a run would decode, and why, before anything starts.

sssl plan --catalog CATALOG --output OUTPUT [the flags of sssl segment]
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table

from pipelines.stages.corrections import find_corrections
from pipelines.stages.previous import Previous
from pipelines.stages.settings import Config as SegmentConfig
from pipelines.stages.settings import Settings
from pipelines.stages.settings_file import parse_with_settings
from pipelines.terminal.console import printed
from pipelines.terminal.flags import complain
from sssl.catalog.assign import FEWEST_OF_CLASS, whole
from sssl.catalog.committed import class_counts
from sssl.catalog.fingerprints import with_fingerprints
from sssl.catalog.plan import KNOWN, Cause, differ
from sssl.catalog.read import read_tracks, tell_respelt
from sssl.errors import CatalogError, StoreError
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.store.removals import taken_down
from sssl.urls import local_path
from sssl.words import counted, some


class Config(SegmentConfig):
    """Say how many tracks a run would decode, and why; nothing is decoded or written."""


def main(argv: Sequence[str]) -> int:
    config = parse_with_settings(
        Config, argv, "plan", lambda given: {"settings": Settings.of(given)}
    )
    try:
        store, published = _published(config.output)
        settings = config.settings.in_folder(published)
        previous = Previous.of(store, published, settings.of_rows())
        dealt = previous.dealt([*KNOWN, "label", "corrections"])
        said = find_corrections(store, config.corrections)
        tracks = read_tracks(
            config.catalog, config.labels, settings.deal, taken_down(store), tell, said
        )
        if previous.refs:  # a first run decodes all there is
            tell_respelt(tracks, dealt.tracks, tell)
            inventories = settings.deal.inventory
            tracks = with_fingerprints(tracks, dealt.tracks, tell, inventories)
    except (CatalogError, StoreError) as error:
        complain(error)
        return 1
    causes = previous.causes(tracks, dealt, settings.again)
    table = Table("tracks", "cause", "what happens")
    for cause, count in causes.most_common():
        table.add_row(f"{count}", cause, _OUTCOME[cause])
    printed.print(table)
    tell_missing(tracks, tell)
    counts = class_counts(tracks)
    by_class = ", ".join(f"{name} {counts[name]}" for name in settings.deal.classes)
    printed.print(f"{counts.total()} of {len(tracks)} have a label: {by_class}")
    changed, has_model = 0, bool(published.of("models"))
    if has_model:
        changed = changed_labelled(tracks, dealt.tracks)
        tell(learning(changed))
    decoded = sum(count for cause, count in causes.items() if _OUTCOME[cause] == _DECODED)
    tell(scoring(len(tracks), decoded, changed, has_model))
    if decoded:
        tell("`sssl estimate` says how long that takes and what it needs, by trials on some tracks")
    if few := [name for name in settings.deal.classes if counts[name] < FEWEST_OF_CLASS]:
        tell(
            f"too few to learn from: {', '.join(few)}; `sssl run` needs {FEWEST_OF_CLASS} labelled"
            " tracks of a class"
        )
    return 0


def tell_missing(tracks: pa.Table, tell: Callable[[str], None]) -> None:
    """Say which local files are not there, of all or of `_MOST_LOOKED_FOR` evenly drawn ones; files
    elsewhere are not asked for, which would take a request each."""
    step = max(1, -(-len(tracks) // _MOST_LOOKED_FOR))
    drawn = tracks.select(["track_id", "uri"]).take(pa.array(range(0, len(tracks), step)))
    paths = zip(
        drawn["track_id"].to_pylist(), map(local_path, drawn["uri"].to_pylist()), strict=True
    )
    local = [(track_id, path) for track_id, path in paths if path is not None]
    missing = [track_id for track_id, path in local if not os.path.exists(path)]
    if missing:
        looked_for = counted(len(local), "file")
        tell(f"not found: {len(missing)} of {looked_for} looked for ({some(missing)})")


def changed_labelled(tracks: pa.Table, before: pa.Table) -> int:
    """Count the labelled tracks of a catalog that are new, gone, or have another label, file or
    correction."""
    now, then = (_labelled(table) for table in (tracks, before))
    place = pc.index_in(now["track_id"], then["track_id"])
    is_new = place.is_null()
    others = [differ(now[name], then[name].take(place)) for name in _OF_LABELLED]
    is_other = reduce(pc.or_, others)
    new, changed = (pc.sum(mask).as_py() or 0 for mask in (is_new, pc.or_(is_new, is_other)))
    gone = len(then["track_id"]) - (len(place) - new)
    return changed + gone


def _labelled(table: pa.Table) -> dict[str, pa.Array]:
    """Return what may change about the labelled tracks of a catalog, in columns."""
    rows = table.filter(table["label"].is_valid())
    columns = {
        name: whole(rows[name]) for name in ("track_id", "label", "uri", "source_fingerprint")
    }
    said = rows["corrections"]
    has_any = said.null_count < len(said)
    as_text = [str(one) for one in said.to_pylist()] if has_any else ["None"] * len(said)
    return columns | {"corrections": pa.array(as_text, pa.string())}


def learning(changed: int) -> str:
    """Say whether `sssl run` with the settings of before would train, and why."""
    if not changed:
        return "no labelled track changed: `sssl run` trains only if its settings did"
    tracks = counted(changed, "labelled track")
    return f"{tracks} new, gone or changed: `sssl run` trains again (see --learn and --learn-after)"


def scoring(tracks: int, decoded: int, changed: int, has_model: bool) -> str:
    """Say which tracks `sssl run` would score, and why."""
    if not has_model:
        return f"scored: all {counted(tracks, 'track')}, as no model is published yet"
    if changed:
        by_new = f"all {counted(tracks, 'track')} by a new model if it trains"
        return f"scored: {by_new}, else the {decoded} decoded by the published one"
    return f"scored: the {decoded} decoded, by the published model; the others keep their scores"


def tell(sentence: str) -> None:
    printed.print(sentence, markup=False, soft_wrap=True)


_MOST_LOOKED_FOR = 1_000
_OF_LABELLED = ("label", "uri", "source_fingerprint", "corrections")
_DECODED = "decoded"
_OUTCOME = dict.fromkeys(Cause, _DECODED) | {
    Cause.UNCHANGED: "segments reused",
    Cause.GONE: "removed from the tables",
}


def _published(output: str) -> tuple[Store, Snapshot]:
    """Return what is published in a folder that may not exist yet."""
    store = Store.at(output)
    if not store.exists("sssl.json"):
        return store, Snapshot()
    return store, Store.open(output).latest()
