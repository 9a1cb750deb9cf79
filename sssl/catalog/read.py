"""The user's catalog: read, checked and dealt; in columns, since it may have millions of rows."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import Catalog, arrow_schema
from sssl.catalog.assign import CatalogConfig, Dealt, deal, whole
from sssl.catalog.corrections import (
    is_corrections,
    read_corrections,
    with_corrections,
)
from sssl.catalog.fingerprints import with_fingerprints
from sssl.catalog.listing import list_audio
from sssl.catalog.plane import AXES, with_labels_of_numbers
from sssl.catalog.tables import COLUMNS, is_table, read_columns, which_is_meant
from sssl.catalog.trust import check_uris, without_plain
from sssl.errors import CatalogError
from sssl.store.removals import is_removed
from sssl.urls import without_secrets
from sssl.words import GUARDED, counted, some

LOGGER = logging.getLogger(__name__)
_ROWS_AT_ONCE = 1 << 20
"""Of a column that is gone through in pieces, lest a copy of all of it takes the memory."""
_TEXTS_AT_ONCE = 1 << 16  # as Python objects
_NOTHING_DEALT = Dealt()
_SPLITS = ("train", "test")
_NOT_OF_LABELS = "uri"
"""Column that a labels file has none of: where the audio lies is for the catalog to say."""

Tell = Callable[[str], None]


def read_catalog(
    catalog: str,
    labels: str | None,
    config: CatalogConfig,
    before: Dealt = _NOTHING_DEALT,
    leave_out: Container[str] = frozenset(),
    tell: Tell = LOGGER.warning,
    corrections: str | None = None,
) -> pa.Table:
    """Read a CSV, a Parquet file, a folder or a glob of audio as a catalog, sorted by part and id.

    Args:
        catalog: path or fsspec URL of a table with `track_id` and `uri` (and optional `label`,
            `split`, `group_id`, `expected_s`, `locked`, and with `--task valence-arousal` both of
            these), or a folder or glob of audio files, whose
            ids are their paths below the folder.
        labels: CSV with `track_id` and any of the optional columns, joined by id; or one of
            corrections.
        config: how to read and deal.
        before: what an earlier run dealt, whose places are kept.
        leave_out: SHA-256 of ids that must not come back.
        tell: is told, in a sentence, what a folder has besides tracks, which labels fit none, and
            whose storage gives no answer.
        corrections: CSV of what listeners said, which counts more than `labels`: see
            `sssl.catalog.corrections`.

    Raises:
        CatalogError: a column is missing, an id is doubled, a class is unknown, a file is not one
            that a catalog may name, or there is no track at all.
    """
    read = read_tracks(catalog, labels, config, leave_out, tell, corrections)
    tracks = deal(read, config, before)
    tell_respelt(tracks, before.tracks, tell)
    return with_fingerprints(tracks, before.tracks, tell, config.inventory)


def read_tracks(
    catalog: str,
    labels: str | None,
    config: CatalogConfig,
    leave_out: Container[str] = frozenset(),
    tell: Tell = LOGGER.warning,
    corrections: str | None = None,
) -> pa.Table:
    """Read a catalog as `read_catalog` does, without asking the storage for any file; nothing is
    dealt yet.

    Raises:
        CatalogError: as there.
    """
    shown = without_secrets(catalog)
    has_numbers = config.task == "valence-arousal"
    columns = (*COLUMNS, *AXES) if has_numbers else COLUMNS
    table = _read_music(catalog, columns, tell)
    files_of_corrections = _files_of_corrections(labels, corrections)
    if labels is not None and labels not in files_of_corrections:
        of_labels = [name for name in columns if name != _NOT_OF_LABELS]
        given = read_columns(labels, ["track_id"], of_labels, tell)
        table = _join_labels(table, given, without_secrets(labels), config.classes, tell)
    if has_numbers:
        table = with_labels_of_numbers(table, shown)
    for name in table.column_names:
        _check_values(name, table[name], table["track_id"], config.classes, shown)
    _check_groups(table, shown)
    tracks = _typed(table)
    uris = tracks["uri"] if config.allow_uri else without_plain(tracks["uri"], catalog)
    check_uris(_texts(uris), catalog, config.allow_uri)
    if leave_out:
        stays = [not is_removed(track_id, leave_out) for track_id in _texts(tracks["track_id"])]
        tracks = tracks.filter(pa.array(stays))
    if not len(tracks):
        raise CatalogError(f"{shown}: every track was taken down")
    track_ids = whole(tracks["track_id"])
    standing = read_corrections(files_of_corrections, config.classes, tell, track_ids)
    if standing:
        return with_corrections(tracks, standing, tell)
    return tracks


def _files_of_corrections(labels: str | None, corrections: str | None) -> list[str]:
    """Return which of the files are of corrections, each of them once; the file of labels may be
    one, too."""
    found = []
    if labels is not None and labels != corrections and is_corrections(labels):
        found.append(labels)
    if corrections is not None:
        found.append(corrections)
    return found


def read_unlabelled(catalog: str) -> list[Catalog]:
    """Read ids and URIs of a catalog as `read_tracks` does, whatever its labels and other columns
    say.

    Raises:
        CatalogError: a column is missing, an id is doubled, a file is not one that a catalog may
            name, or there is no track at all.
    """
    music = _read_music(catalog, ("track_id", "uri"), LOGGER.warning)
    check_uris(_texts(music["uri"]), catalog, ())
    track_ids = music["track_id"].to_pylist()
    uris = music["uri"].to_pylist()
    return list(map(new_track, track_ids, uris))


def new_track(track_id: str, uri: str) -> Catalog:
    """Return the row of a track that is in no catalog of ours."""
    return Catalog(
        track_id=track_id,
        uri=uri,
        label=None,
        split=None,
        group_id=track_id,
        fold=0,
        expected_s=None,
        locked=False,
        part=0,
        source_fingerprint=None,
        corrections=None,
        valence=None,
        arousal=None,
    )


def _read_music(catalog: str, columns: Sequence[str], tell: Tell) -> pa.Table:
    """Read a table of tracks, or list a folder or a glob as one; each track has an id of its own
    and a URI."""
    shown = without_secrets(catalog)
    if is_table(catalog):
        table = read_columns(catalog, ["track_id", "uri"], columns, tell)
        remarks = list[str]()
    else:
        table, remarks = list_audio(catalog)
    if not len(table):
        expected = "expected a CSV or Parquet file with rows, or a folder or glob with audio files"
        sentences = [f"{shown}: no tracks", expected, *remarks]
        raise CatalogError("; ".join(sentences))
    for remark in remarks:
        tell(remark)
    _check_ids(table, shown)
    return table


def _join_labels(
    table: pa.Table, labels: pa.Table, url: str, classes: Sequence[str], tell: Tell
) -> pa.Table:
    """Put what `labels` say in the place of what the catalog says."""
    labels = labels.filter(labels["track_id"].is_valid())
    if not len(labels):
        raise CatalogError(f"{url}: no row has a track_id")
    _check_unique(labels["track_id"], url)
    track_ids = whole(table["track_id"])
    places = _places(track_ids, whole(labels["track_id"]), url, tell)
    rows = pa.array(np.arange(len(table)), places.type)
    label_of = pc.index_in(rows, places)  # null for a track that no label is for
    for name in labels.column_names:
        if name == "track_id":
            continue
        given = whole(labels[name]).take(label_of)
        # Before it is among what the catalog says, so that an error names the right file.
        _check_values(name, pa.chunked_array([given]), table["track_id"], classes, url)
        if name in table.column_names:
            given = pc.coalesce(given, whole(table[name]))
            table = table.drop_columns(name)
        table = table.append_column(name, given)
    return table


def _places(track_ids: pa.Array, given: pa.Array, url: str, tell: Tell) -> pa.Array:
    """Return the row of the track that each id of a labels file means: by the whole id, else
    without the apostrophe that our CSV files have in front of what a spreadsheet takes for a
    formula, else without its suffix, else by the same letters, however their accents are encoded
    (file systems differ in that)."""
    places = pc.index_in(given, track_ids)
    for spelling in _SPELLINGS:
        missing = places.is_null()
        if pc.any(missing).as_py():
            spelled = spelling(track_ids)
            # Such ids come without a suffix, so that a dot in them is part of the name.
            others = given if spelling is _stem else spelling(given)
            meant = pc.is_in(spelled, others.filter(missing))
            _check_one_each(spelled.filter(meant), track_ids, spelled, url)
            places = pc.coalesce(places, pc.index_in(others, spelled))
    unknown = given.filter(places.is_null()).to_pylist()
    if len(unknown) == len(given):
        expected = pc.min(track_ids).as_py()
        raise CatalogError(
            f"{url}: no track_id fits a file, e.g. {min(unknown)!r}; ids are paths like"
            f" {expected!r}"
        )
    if unknown:
        ids = counted(len(given), "id")
        names = some(sorted(unknown))
        tell(f"{url}: {len(unknown)} of {ids} not in the catalog: {names}")
    twice = _first_doubled(places.filter(places.is_valid()))
    if twice is not None:
        name = track_ids[twice].as_py()
        raise CatalogError(
            f"{url}: track {name!r} is named more than once, in two spellings of its id"
        )
    return places


def tell_respelt(tracks: pa.Table, before: pa.Table, tell: Tell) -> None:
    """Tell which tracks are new for no other reason than that the accents in their ids are encoded
    otherwise."""
    if not len(before):
        return
    ids = whole(tracks["track_id"])
    known = whole(before["track_id"])
    new = ids.filter(pc.invert(pc.is_in(ids, known)))
    gone = known.filter(pc.invert(pc.is_in(known, ids)))
    respelt = new.filter(pc.is_in(_composed(new), _composed(gone))).to_pylist()
    if respelt:
        of_before = counted(len(respelt), "id")
        encoded = "with accents encoded otherwise (NFC, NFD), as new"
        tell(f"{of_before} of before {encoded}: {some(respelt)}")


def _plain(ids: pa.Array) -> pa.Array:
    """Return ids without the apostrophe that `sssl.export.cells` puts in front."""
    return pc.replace_substring_regex(ids, GUARDED, r"\1")


def _stem(track_ids: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(track_ids, r"\.[^.]*$", "")


def _composed(track_ids: pa.Array) -> pa.Array:
    """Return ids with each accent in one sign with its letter (NFC)."""
    return pc.utf8_normalize(track_ids, form="NFC")


def _stem_composed(track_ids: pa.Array) -> pa.Array:
    return _stem(_composed(track_ids))


_SPELLINGS = (_plain, _stem, _composed, _stem_composed)
"""How an id of a labels file may be spelled otherwise than the track's, the likeliest first."""


def _check_one_each(found: pa.Array, track_ids: pa.Array, stems: pa.Array, url: str) -> None:
    doubtful = _first_doubled(found)
    if doubtful is not None:
        names = track_ids.filter(pc.equal(stems, doubtful)).to_pylist()
        raise CatalogError(
            f"{url}: {doubtful!r} may be {' or '.join(sorted(names))}: give the whole name"
        )


def _first_doubled(values: pa.Array | pa.ChunkedArray) -> Any:
    """Return the least value that comes more than once, None if there is none; by sorting, since
    sets of millions of texts take twice the memory of the texts."""
    texts = whole(values) if isinstance(values, pa.ChunkedArray) else values
    order = pc.array_sort_indices(texts)
    for start in range(0, len(order), _ROWS_AT_ONCE):
        # One more than a piece has: the first of the next may equal this one's last.
        piece = order.slice(start, _ROWS_AT_ONCE + 1)
        ordered = texts.take(piece)
        is_same = pc.equal(ordered[1:], ordered[:-1])
        at = pc.index(is_same, True).as_py()
        if at >= 0:
            return ordered[at].as_py()
    return None


def _check_unique(track_ids: pa.ChunkedArray, url: str) -> None:
    doubled = _first_doubled(track_ids)
    if doubled is not None:
        times = pc.sum(pc.equal(track_ids, doubled)).as_py()
        raise CatalogError(f"{url}: track_id {doubled!r} appears more than once ({times} times)")


def _check_ids(table: pa.Table, url: str) -> None:
    for name in ("track_id", "uri"):
        if table[name].null_count:
            at = pc.index(table[name].is_null(), True).as_py()
            raise CatalogError(f"{url}: row {at + 1} has no {name}")
    _check_unique(table["track_id"], url)


def _check_groups(table: pa.Table, url: str) -> None:
    if not {"split", "group_id"} <= set(table.column_names):
        return
    if "label" in table.column_names:
        labelled = table.filter(table["label"].is_valid())
    else:
        labelled = table.slice(0, 0)
    split = pc.fill_null(labelled["split"], "train")
    sides = pa.table({"group": labelled["group_id"], "split": split})
    distinct = sides.group_by(["group", "split"]).aggregate([])
    doubled = _first_doubled(distinct["group"].drop_null())
    if doubled is not None:
        raise CatalogError(
            f"{url}: group {doubled!r} has tracks in train and in test: give it one split"
        )


def _check_values(
    name: str,
    values: pa.ChunkedArray,
    track_ids: pa.ChunkedArray,
    classes: Sequence[str],
    url: str,
) -> None:
    """Refuse a label that is no class, and a split that is none; in other columns all is well."""
    if name == "label":
        allowed, hint = tuple(classes), "give the class set by --classes"
    elif name == "split":
        allowed, hint = _SPLITS, "leave the cell empty for train"
    else:
        return
    may_be = pa.array([*allowed, None], pa.string())
    wrong = pc.invert(pc.is_in(values, may_be))
    first = pc.index(wrong, True).as_py()
    if first >= 0:
        track_id = track_ids[first].as_py()
        value = values[first].as_py()
        hint = _hint(value, allowed) or hint
        expected = f"expected one of {', '.join(allowed)}: {hint}"
        raise CatalogError(f"{url}: track {track_id!r} has {name} {value!r}, {expected}")


def _hint(value: str, allowed: Sequence[str]) -> str | None:
    """Say what somebody probably meant by a value that is not allowed; None if nobody can tell."""
    several = [part.strip() for part in re.split(r"[;,|/]", value)]
    if len(several) > 1 and set(several) <= set(allowed):
        return "a track has one, that of most of it; corrections have those of its passages"
    return which_is_meant(value, allowed)


def _typed(table: pa.Table) -> pa.Table:
    """Return a table that was checked in the columns of a catalog."""
    schema = arrow_schema(Catalog)
    count = len(table)
    nothing = pa.nulls(count, pa.struct(schema))  # so its columns share 4 bytes per row
    absent = {name: nothing.field(name) for name in schema.names}
    zeros = pa.array(np.zeros(count, np.int32))
    given = {name: table[name] for name in (*COLUMNS, *AXES) if name in table.column_names}
    columns = absent | given
    columns["group_id"] = pc.coalesce(columns["group_id"], columns["track_id"])
    columns["locked"] = pc.fill_null(columns["locked"], False)
    # Decided later: by dealing, by asking the storage, and by corrections.
    columns["fold"] = zeros
    columns["part"] = zeros
    return pa.table(columns, schema=schema)


def _texts(column: pa.ChunkedArray) -> Iterator[str]:
    for start in range(0, len(column), _TEXTS_AT_ONCE):
        yield from column.slice(start, _TEXTS_AT_ONCE).to_pylist()
