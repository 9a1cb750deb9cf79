"""Say what a run would decode, and why, and whether it would learn, before anything starts.

sssl plan --catalog CATALOG --output OUTPUT [the flags of sssl run]
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table

from pipelines.commands.foreseen import Foreseen, ToDeal
from pipelines.commands.run_settings import Config as RunConfig
from pipelines.stages.corrections import find_corrections
from pipelines.stages.learning import Decision
from pipelines.stages.previous import COMPARED, Previous
from pipelines.stages.settings import Settings
from pipelines.stages.settings_file import parse_with_settings
from pipelines.terminal.console import printed
from pipelines.terminal.flags import complain, split_beam_args
from sssl.audio.mel import MelConfig
from sssl.catalog.assign import Dealt, without_groups
from sssl.catalog.fingerprints import look_up, with_answers
from sssl.catalog.lookup import in_one_piece
from sssl.catalog.plan import AgainConfig, Cause, nothing_in_common
from sssl.catalog.read import read_tracks, tell_respelt
from sssl.errors import CatalogError, StoreError, TrainError
from sssl.runtime.machine import cores
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.store.publications import last_whole
from sssl.store.removals import taken_down
from sssl.urls import local_path
from sssl.words import counted, some

_MOST_LOOKED_FOR = 1_000
_USUAL_TRACK_S = 240.0
"""Length of a track whose catalog says nothing of it."""
_CPU_S_PER_HOUR = 8
"""CPU seconds to decode and cut an hour of mp3 on the machine of docs/limits.md, 6, and to measure
its sound, 2."""
_NOT_DECODED = {Cause.UNCHANGED: "segments reused", Cause.GONE: "removed from the tables"}


class Config(RunConfig):
    """Say how many tracks `sssl run` with the same flags would decode, and why, and whether it
    would learn; nothing is decoded or written."""


def main(argv: Sequence[str]) -> int:
    flags, _ = split_beam_args(argv)
    config = parse_with_settings(
        Config,
        flags,
        "plan",
        lambda given: {"segment": Settings.of(given), "method": given.method},
    )
    try:
        _plan(config)
    except (CatalogError, StoreError) as error:
        complain(error)
        return 1
    return 0


def _plan(config: Config) -> None:
    store, published = _published(config.output)
    settings = config.segment.in_folder(store, published)
    passed_over = settings.passed_over(config.segment)
    if passed_over is not None:
        tell(passed_over)
    config = replace(config, segment=settings)
    previous = Previous.of(store, published, settings.of_rows())
    said = find_corrections(store, config.corrections)
    gone = taken_down(store)
    tracks = read_tracks(config.catalog, config.labels, settings.deal, gone, tell, said)
    of_labels = list(labels_of(tracks, settings.deal.classes))
    to_deal = ToDeal.of(tracks)
    tracks = tracks.select(COMPARED)  # of millions, the other columns take a third
    foreseen = Foreseen.of(to_deal, previous, settings.deal)
    del to_deal  # rows again
    if previous.refs:  # a first run decodes all there is
        tracks = look_up(in_one_piece(tracks), tell, settings.deal.inventory)
    differing = previous.differing(tracks, settings.again)
    before = differing.before
    tell_respelt(differing.now, before, tell)
    now = with_answers(differing.now, before, tell)
    causes = previous.causes(now, Dealt(before), settings.again)
    causes += Counter({previous.cause_of_alike(settings.again): differing.alike})
    table = Table("tracks", "cause", "what happens")
    for cause, count in causes.most_common():
        table.add_row(f"{count}", cause, _NOT_DECODED.get(cause, "decoded"))
    printed.print(table)
    for warning in (nothing_in_common(causes), settings.again.nothing_moved(before)):
        if warning is not None:
            tell(warning)
    tell_missing(tracks, tell)
    for sentence in of_labels:
        tell(sentence)
    decoded = sum(count for cause, count in causes.items() if cause not in _NOT_DECODED)
    labelled = len(foreseen.labelled)
    again = DecodedAgain.of(now, previous, Dealt(before), settings.again, labelled)
    known = last_whole(store) if published.manifests else Snapshot()
    decision = tell_learning(foreseen, store, known, config, again)
    if decision is not None:
        tell(scoring(len(tracks), decoded, decision))
    if decoded:
        processes = settings.processes or cores()
        tell(decoding(decoded, tracks["expected_s"], settings.cut, processes))


def labels_of(tracks: pa.Table, classes: Sequence[str]) -> Iterator[str]:
    """Say how many tracks have a label of which class, and in how many groups."""
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
    alone = without_groups(tracks)
    if alone is not None:
        yield alone


def decoding(decoded: int, expected_s: pa.ChunkedArray, cut: MelConfig, processes: int) -> str:
    """Say about how long decoding takes on this machine, and what its tables take on the disk."""
    mean_s = pc.mean(expected_s).as_py()
    assumed = "" if mean_s is not None else f", taken as {_USUAL_TRACK_S / 60:.0f} minutes each"
    hours = decoded * (_USUAL_TRACK_S if mean_s is None else mean_s) / 3600
    minutes = hours * _CPU_S_PER_HOUR / processes / 60
    segments = hours * 3600 / cut.start_distance_s
    gigabytes = segments * cut.log_mel_bytes / 1e9
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


class DecodedAgain(NamedTuple):
    """The labelled tracks that a run decodes although it knows them: ids of those whose source
    changed, and how many are decoded for another reason."""

    new_sources: frozenset[str]
    others: int

    @classmethod
    def of(
        cls, tracks: pa.Table, previous: Previous, before: Dealt, again: AgainConfig, labelled: int
    ) -> DecodedAgain:
        """Go through the tracks that differ from those of before, of so many `labelled` ones."""
        own = tracks.filter(tracks["label"].is_valid())
        causes = previous.cause_of_each(own, before, again).cast(pa.string())
        new_sources = own["track_id"].filter(pc.equal(causes, Cause.SOURCE))
        as_known = pa.array([Cause.SOURCE, Cause.NEW, Cause.UNCHANGED])
        others = pc.sum(pc.invert(pc.is_in(causes, as_known))).as_py() or 0
        if previous.cause_of_alike(again) is not Cause.UNCHANGED:
            others += labelled - len(own)
        return cls(frozenset(new_sources.to_pylist()), others)


def tell_learning(
    foreseen: Foreseen, store: Store, known: Snapshot, config: Config, again: DecodedAgain
) -> Decision | None:
    """Say whether `sssl run` learns, in its words, and return what it decides; say why it refuses,
    if it does."""
    refusals = list(foreseen.refusals(config))
    decision = None
    try:
        if not refusals:
            decision = foreseen.decision(store, known, config, again.new_sources)
    except TrainError as error:
        refusals.append(str(error))
    for refusal in refusals:
        tell(f"`sssl run` refuses this: {refusal}")
    if decision is None:
        return None
    tell(str(decision))
    if again.others and not decision.learns and config.policy.learn == "auto":
        tracks = counted(again.others, "labelled track")
        tell(f"(unless decoding {tracks} again finds another sound than before)")
    return decision


def scoring(tracks: int, decoded: int, decision: Decision) -> str:
    """Say which tracks `sssl run` would score."""
    if decision.learns:
        return f"each model that is trained scores all {counted(tracks, 'track')}"
    return (
        f"the published model scores the {decoded} that are decoded; all others keep their scores"
    )


def tell(sentence: str) -> None:
    printed.print(sentence, soft_wrap=True)


def _published(output: str) -> tuple[Store, Snapshot]:
    """Return what is published in a folder that may not exist yet."""
    store = Store.at(output)
    if not store.exists("sssl.json"):
        return store, Snapshot()
    return store, Store.open(output).latest()
