"""Say what a run would decode, and why, before anything starts.

sssl plan --catalog CATALOG --output OUTPUT [the flags of sssl segment]
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table

from pipelines.stages.corrections import find_corrections
from pipelines.stages.previous import COMPARED, Previous
from pipelines.stages.settings import Config as SegmentConfig
from pipelines.stages.settings import Settings
from pipelines.stages.settings_file import parse_with_settings
from pipelines.terminal.console import printed
from pipelines.terminal.flags import complain
from sssl.audio.mel import MelConfig
from sssl.catalog.assign import FEWEST_OF_CLASS, Dealt, whole
from sssl.catalog.fingerprints import look_up, with_answers
from sssl.catalog.lookup import in_one_piece
from sssl.catalog.plan import Cause, differ, nothing_in_common
from sssl.catalog.read import read_tracks, tell_respelt
from sssl.errors import CatalogError, StoreError
from sssl.runtime.machine import cores
from sssl.store.folder import Store
from sssl.store.manifest import TAKEN_DOWN, Snapshot
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
        said = find_corrections(store, config.corrections)
        tracks = read_tracks(
            config.catalog, config.labels, settings.deal, taken_down(store), tell, said
        )
        of_labels = list(labels_of(tracks, settings.deal.classes))
        tracks = tracks.select(COMPARED)  # of millions, the other columns take a third
        if previous.refs:  # a first run decodes all there is
            tracks = look_up(in_one_piece(tracks), tell, settings.deal.inventory)
        differing = previous.differing(tracks, settings.again)
    except (CatalogError, StoreError) as error:
        complain(error)
        return 1
    before = differing.before
    tell_respelt(differing.now, before, tell)
    now = with_answers(differing.now, before, tell)
    causes = previous.causes(now, Dealt(before), settings.again)
    causes += Counter({previous.cause_of_alike(settings.again): differing.alike})
    table = Table("tracks", "cause", "what happens")
    for cause, count in causes.most_common():
        table.add_row(f"{count}", cause, _OUTCOME[cause])
    printed.print(table)
    for warning in (nothing_in_common(causes), settings.again.nothing_moved(before)):
        if warning is not None:
            tell(warning)
    tell_missing(tracks, tell)
    for sentence in of_labels:
        tell(sentence)
    changed = 0
    has_model = bool(published.of("models"))
    if has_model:
        changed = changed_labelled(now, settings.again.where_now(before))
        changed += published.get("models", 0).summary.get(TAKEN_DOWN, 0)
        tell(learning(changed))
    decoded = sum(count for cause, count in causes.items() if _OUTCOME[cause] == _DECODED)
    tell(scoring(len(tracks), decoded, changed, has_model))
    if decoded:
        processes = settings.processes or cores()
        tell(decoding(decoded, tracks["expected_s"], settings.cut, processes))
    return 0


def labels_of(tracks: pa.Table, classes: Sequence[str]) -> Iterator[str]:
    """Say how many tracks have a label of which class, in how many groups, and which classes cannot
    be learned."""
    labelled = tracks.select(["label", "group_id", "track_id"]).filter(tracks["label"].is_valid())
    counted_groups = labelled.group_by("label").aggregate(
        [("track_id", "count"), ("group_id", "count_distinct")]
    )
    rows = counted_groups.to_pylist()
    counts = {row["label"]: row["track_id_count"] for row in rows}
    groups = {row["label"]: row["group_id_count_distinct"] for row in rows}
    has_groups = groups != counts
    by_class = []
    for name in classes:
        in_groups = f" ({counted(groups.get(name, 0), 'group')})" if has_groups else ""
        by_class.append(f"{name} {counts.get(name, 0)}{in_groups}")
    yield f"{len(labelled)} of {len(tracks)} have a label: {', '.join(by_class)}"
    if len(labelled) and not has_groups:
        yield (
            "each labelled track is a group of its own: give `group_id` (artist or album) where the"
            " catalog has several tracks of one, or accuracy is measured on what was learned"
        )
    few = [name for name in classes if counts.get(name, 0) < FEWEST_OF_CLASS]
    if few:
        yield (
            f"too few to learn from: {', '.join(few)}; `sssl run` needs {FEWEST_OF_CLASS} labelled"
            " tracks of each class"
        )
    in_one = [name for name in classes if groups.get(name) == 1 and name not in few]
    if in_one:
        yield (
            f"all labelled tracks in one group: {', '.join(in_one)}; `sssl run` needs two groups of"
            " each class, one to learn from and one to score"
        )


def decoding(decoded: int, expected_s: pa.ChunkedArray, cut: MelConfig, processes: int) -> str:
    """Say about how long decoding takes on this machine, and what its tables take on the disk."""
    mean_s = pc.mean(expected_s).as_py()
    assumed = "" if mean_s is not None else f", taken as {_USUAL_TRACK_S / 60:.0f} minutes each"
    hours = decoded * (_USUAL_TRACK_S if mean_s is None else mean_s) / 3600
    minutes = hours * _CPU_S_PER_HOUR / processes / 60
    mels, frames = cut.shape
    segments = hours * 3600 / cut.start_distance_s
    gigabytes = segments * mels * frames * np.dtype(np.float16).itemsize / 1e9
    return (
        f"decoding takes {_rounded(minutes)} min on {counted(processes, 'core')} and"
        f" {_rounded(gigabytes)} GB of disk ({hours:,.1f} h of audio{assumed}); training and"
        " scoring come on top: `sssl estimate` measures all of it on some tracks"
    )


def _rounded(value: float) -> str:
    """Write a rough number: two digits, and nothing below a tenth."""
    if value < 0.1:
        return "less than 0.1"
    digits = 1 - math.floor(math.log10(value))
    return f"about {round(value, digits):,.{max(0, min(digits, 1))}f}"


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
    if missing and len(missing) == len(drawn):
        tell(
            "if a run finds none of them either, it ends with exit code 3: is the working directory"
            " that of the catalog's paths?"
        )


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
        return "no labelled track changed: `sssl run` trains only if its settings changed"
    tracks = counted(changed, "labelled track")
    return (
        f"{tracks} new, gone or changed: `sssl run` trains again, unless --learn or --learn-after"
        " says otherwise"
    )


def scoring(tracks: int, decoded: int, changed: int, has_model: bool) -> str:
    """Say which tracks `sssl run` would score, and why."""
    if not has_model:
        return f"no model is published yet: a new one scores all {counted(tracks, 'track')}"
    if changed:
        return (
            f"if `sssl run` trains a new model, that scores all {counted(tracks, 'track')}; if not,"
            f" the published model scores the {decoded} that are decoded"
        )
    return (
        f"the published model scores the {decoded} that are decoded; all others keep their scores"
    )


def tell(sentence: str) -> None:
    printed.print(sentence, markup=False, soft_wrap=True)


_MOST_LOOKED_FOR = 1_000
_USUAL_TRACK_S = 240.0
"""Length of a track whose catalog says nothing of it."""
_CPU_S_PER_HOUR = 8.5
"""CPU seconds to decode and cut an hour of mp3 on the machine of docs/limits.md, 6, and to measure
its sound, 2.5."""
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
