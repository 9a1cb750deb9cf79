"""Say what a run would decode, and why, before anything starts.

sssl plan --catalog CATALOG --output OUTPUT [the flags of sssl segment]
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from rich.table import Table

from pipelines.stages.corrections import find_corrections
from pipelines.stages.previous import Previous
from pipelines.stages.settings import Config as SegmentConfig
from pipelines.stages.settings import Settings
from pipelines.stages.settings_file import parse_with_settings
from pipelines.terminal.console import printed
from pipelines.terminal.flags import complain
from sssl.catalog.assign import FEWEST_OF_CLASS
from sssl.catalog.fingerprints import with_fingerprints
from sssl.catalog.plan import KNOWN, Cause
from sssl.catalog.read import class_counts, read_tracks, tell_respelt
from sssl.errors import CatalogError, StoreError
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.store.removals import taken_down
from sssl.words import counted


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
            tracks = with_fingerprints(tracks, dealt.tracks, tell)
    except (CatalogError, StoreError) as error:
        complain(error)
        return 1
    causes = previous.causes(tracks, dealt, settings.again)
    table = Table("tracks", "cause", "what happens")
    for cause, count in causes.most_common():
        table.add_row(f"{count}", cause, _OUTCOME[cause])
    printed.print(table)
    counts = class_counts(tracks)
    by_class = ", ".join(f"{name} {counts[name]}" for name in settings.deal.classes)
    printed.print(f"{counts.total()} of {len(tracks)} have a label: {by_class}")
    if published.of("models"):
        tell(learning(changed_labelled(tracks, dealt.tracks)))
    if few := [name for name in settings.deal.classes if counts[name] < FEWEST_OF_CLASS]:
        tell(
            f"too few to learn from: {', '.join(few)}; `sssl run` needs {FEWEST_OF_CLASS} labelled"
            " tracks of a class"
        )
    return 0


def changed_labelled(tracks: pa.Table, before: pa.Table) -> int:
    """Count the labelled tracks of a catalog that are new, gone, or have another label, file or
    correction."""
    columns = ("track_id", "label", "uri", "source_fingerprint", "corrections")
    now = _rows(tracks.filter(tracks["label"].is_valid()), columns)
    then = _rows(before.filter(before["label"].is_valid()), columns)
    return len({track_id for track_id, *_ in now ^ then})


def _rows(table: pa.Table, columns: Sequence[str]) -> set[tuple[str, ...]]:
    cells = (map(str, table[name].to_pylist()) for name in columns)  # text: corrections are lists
    return set(zip(*cells, strict=True))


def learning(changed: int) -> str:
    """Say whether `sssl run` with the settings of before would train, and why."""
    if not changed:
        return "no labelled track changed: `sssl run` trains only if its settings did"
    tracks = counted(changed, "labelled track")
    return f"{tracks} new, gone or changed: `sssl run` trains again (see --learn and --learn-after)"


def tell(sentence: str) -> None:
    printed.print(sentence, markup=False, soft_wrap=True)


_OUTCOME = dict.fromkeys(Cause, "decoded") | {
    Cause.UNCHANGED: "segments reused",
    Cause.GONE: "removed from the tables",
}


def _published(output: str) -> tuple[Store, Snapshot]:
    """Return what is published in a folder that may not exist yet."""
    store = Store.at(output)
    if not store.exists("sssl.json"):
        return store, Snapshot()
    return store, Store.open(output).latest()
