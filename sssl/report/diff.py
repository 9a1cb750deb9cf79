"""What changed between two output folders, or between two rounds of one: counts, and the songs and
segments that changed, are new or are gone.

In every result `before` is the first of the two and `after` the second.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb

from sssl.errors import StoreError
from sssl.store.manifest import Snapshot
from sssl.store.publications import Published
from sssl.store.rounds import read_rounds
from sssl.store.sql import connect, create_views, rows

Rows = list[dict[str, Any]]


_VERDICT = (
    "round, accepted, verdict, reason, confident, noisy, relabelled, heldout_accuracy,"
    " train_accuracy, model_id"
)
_IN_USE = (
    f"(select {_VERDICT} from {{0}}.rounds where (accepted or verdict = 'undecided') "
    "and round >= (select max(round) from {0}.rounds where accepted) order by round)"
)
_SONGS = "before.songs a join after.songs b using (track_id)"

_RUNS = {
    "catalog": (
        "select count(*) filter (a.uri is not null and b.uri is not null) as in_both, count(*)"
        " filter (b.uri is null) as only_before, count(*) filter (a.uri is null) as only_after,"
        " count(*) filter (a.uri is not null and b.uri is not null and a.label is distinct from"
        " b.label) as other_label, count(*) filter (a.uri <> b.uri or a.source_fingerprint <>"
        " b.source_fingerprint) as other_source from before.catalog a full join after.catalog b"
        " using (track_id)"
    ),
    "what became of tracks, where that differs": (
        "select coalesce(a.reason, a.status) as before, coalesce(b.reason, b.status) as after,"
        " count(*) as tracks from before.ledger a join after.ledger b using (track_id) where"
        " (a.status, coalesce(a.reason, '')) <> (b.status, coalesce(b.reason, '')) group by all"
        " order by tracks desc, before, after"
    ),
    "songs in both": (
        "select count(*) as songs, count_if(a.label = b.label) as same_label, count_if(a.label <>"
        " b.label) as other_label, count_if(b.abstained and not a.abstained) as abstained_now,"
        " count_if(a.abstained and not b.abstained) as abstained_before, avg(a.confidence) as"
        f" confidence_before, avg(b.confidence) as confidence_after from {_SONGS}"
    ),
    "song labels that changed": (
        "select a.label as before, b.label as after, count(*) as songs "
        f"from {_SONGS} where a.label <> b.label group by all order by songs desc, before, after"
    ),
    "songs that changed, surest first": (
        "select track_id, c.label as catalog, a.label as before, a.confidence as"
        " confidence_before, b.label as after, b.confidence as confidence_after, if(b.label_source"
        " = 'human', 'listener', 'model') as said_by, b.round, b.model_id as model from"
        f" {_SONGS} join after.catalog c using (track_id) where a.label <> b.label order by"
        " least(a.confidence, b.confidence) desc, track_id limit $limit"
    ),
    "songs that are new, surest first": (
        "select track_id, label, confidence from after.songs anti join before.songs using"
        " (track_id) order by confidence desc, track_id limit $limit"
    ),
    "songs that are gone, surest first": (
        "select track_id, label, confidence from before.songs anti join after.songs using"
        " (track_id) order by confidence desc, track_id limit $limit"
    ),
    "rounds in use": (
        f"select 'before' as of, * from {_IN_USE.format('before')} "
        f"union all select 'after', * from {_IN_USE.format('after')}"
    ),
}

_SEGMENT_LABELS = {
    "labels of segments that changed": (
        "select a.label as before, b.label as after, count(*) as segments from"
        " before.accepted_labels a join after.accepted_labels b using (track_id, segment_index)"
        " where a.label <> b.label group by all order by segments desc, before, after"
    ),
    "segments that changed, in order": (
        "select track_id, s.start_s, a.label as before, b.label as after, if(b.reason ="
        " 'corrected', 'listener', b.reason) as because from before.accepted_labels a join"
        " after.accepted_labels b using (track_id, segment_index) join after.segments s using"
        " (track_id, segment_index) where a.label <> b.label order by track_id, start_s limit"
        " $limit"
    ),
}

_LABELS = (
    "(from labels where round = $before) a join (from labels where round = $after) b using"
    " (track_id, segment_index) join catalog c using (track_id)"
)
_GUESSES = (
    "with means as (select track_id, round, i, avg(probabilities[i]) as p from scores, range(1,"
    " len($classes) + 1) t(i) where round in ($before, $after) group by all), guesses as (select"
    " track_id, round, arg_max($classes[i], p) as label, max(p) as p from means group by all)"
)

_ROUNDS = {
    "verdicts": (
        f"select {_VERDICT} from rounds where round in ($before, $after) order by round = $after"
    ),
    # By split, as the verdicts count segments of train tracks only.
    "partitions of segments": (
        "select c.split, a.partition as before, b.partition as after, count(*) as segments from"
        f" {_LABELS} where a.partition <> b.partition group by all order by c.split desc, segments"
        " desc, before, after"
    ),
    "labels of segments that changed": (
        "select c.split, a.inherited_label as inherited, a.label as before, "
        f"b.label as after, count(*) as segments from {_LABELS} where a.label <> b.label "
        "group by all order by c.split desc, segments desc, before, after"
    ),
    "confidence by class": (
        "select inherited_label as class, count(*) as segments, avg(list_max(a.probabilities)) as"
        " before, avg(list_max(b.probabilities)) as after from (from scores where round = $before)"
        " a join (from scores where round = $after) b using (track_id, segment_index) join (from"
        " labels where round = $after) l using (track_id, segment_index) where inherited_label is"
        " not null group by all order by class"
    ),
    "tracks whose mean posterior peaks elsewhere": (
        f"{_GUESSES} select track_id, c.label as catalog, a.label as before, a.p as share_before,"
        " b.label as after, b.p as share_after from (from guesses where round = $before) a join"
        " (from guesses where round = $after) b using (track_id) join catalog c using (track_id)"
        " where a.label <> b.label order by least(a.p, b.p) desc, track_id limit $limit"
    ),
}


def between_runs(before: Published, after: Published, limit: int) -> dict[str, Rows]:
    """Compare two publications, of one output folder or of two; `limit` is how many changed, new
    and gone songs, and changed segments, to list.

    Raises:
        StoreError: one of them has no songs yet.
    """
    for store, snapshot in (before, after):
        if not snapshot.of("songs"):
            raise StoreError(f"{store.root} publishes no songs: there is nothing to compare")
    connection = duckdb.connect()
    _create_schema(connection, "before", before)
    _create_schema(connection, "after", after)
    settings_before = _settings(before.snapshot)
    settings_after = _settings(after.snapshot)
    settings = list(_other_settings(settings_before, settings_after))
    changed = {setting["setting"] for setting in settings}
    queries = _RUNS
    if changed.isdisjoint(_OF_SEGMENTS):
        queries = _RUNS | _SEGMENT_LABELS  # else the same index is another piece of music
    found = {title: rows(connection, sql, limit=limit) for title, sql in queries.items()}
    return found | {"settings that differ": settings}


def _create_schema(connection: duckdb.DuckDBPyConnection, name: str, published: Published) -> None:
    connection.execute(f"create schema {name}")
    connection.execute(f"set schema = '{name}'")
    create_views(connection, published.store, published.snapshot)


def between_rounds(published: Published, before: int, after: int, limit: int) -> dict[str, Rows]:
    """Compare two rounds of what an output folder publishes, or published; `limit` is how many
    changed tracks to list.

    Raises:
        StoreError: there is no such round.
    """
    store = published.store
    snapshot = published.snapshot
    judged = [row.round for row in read_rounds(store, snapshot)]
    for round in (before, after):
        if round not in judged:
            known = ", ".join(map(str, judged)) or "none"
            raise StoreError(f"no round {round} in {store.root}: it has {known}")
    connection = connect(store, snapshot)
    classes = list(snapshot.catalog.classes)
    values = {"before": before, "after": after, "limit": limit, "classes": classes}
    found = {}
    for title, sql in _ROUNDS.items():
        found[title] = rows(connection, sql, **values)
    return found


def _settings(snapshot: Snapshot) -> dict[tuple[str, str], str]:
    """Return the settings of each stage in its latest round by (stage, name), and the code version
    that wrote it."""
    found: dict[tuple[str, str], str] = {}
    for manifest in snapshot.manifests:
        stage = manifest.stage
        for name, value in manifest.config.items():
            if name not in _HISTORY:
                for whole_name, text in _flatten({name: value}):
                    found[stage, whole_name] = text
        found[stage, "code_version"] = manifest.code_version
    return found


# What says what came before, not how the user set a stage.
_HISTORY = ("previous", "again", "scores_round")
_OF_SEGMENTS = ("cut.segment_s", "cut.hop_s")


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value)


def _other_settings(
    before: Mapping[tuple[str, str], str], after: Mapping[tuple[str, str], str]
) -> Iterator[Any]:
    for stage, name in sorted(before.keys() | after.keys()):
        old = before.get((stage, name), "not set")
        new = after.get((stage, name), "not set")
        if old != new:
            yield {"stage": stage, "setting": name, "before": old, "after": new}
