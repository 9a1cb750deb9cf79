"""The user's catalog: read, checked, and dealt into parts, splits and folds."""

from __future__ import annotations

import hashlib
import io
import logging
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import Catalog, arrow_schema, conform, to_arrow, version_of
from sssl.config import require
from sssl.store import Manifest, PartFile, Store, check_version, digest_of

LOGGER = logging.getLogger(__name__)
PARTS_PER_FILE = 1024
AUDIO_SUFFIXES = (
    ".aac",
    ".aif",
    ".aiff",
    ".alac",
    ".flac",
    ".m4a",
    ".m4b",
    ".mp2",
    ".mp3",
    ".mp4",
    ".oga",
    ".ogg",
    ".opus",
    ".wav",
    ".wma",
)


class CatalogError(Exception):
    """A catalog that cannot be used; the message says which row or column and what was expected."""


@dataclass(frozen=True)
class CatalogConfig:
    """How the catalog is read and dealt."""

    classes: tuple[str, ...] = ("Q1", "Q2", "Q3", "Q4")
    """The emotion classes, in the order that probabilities are written in (Russell quadrants by default)."""
    folds: int = 4
    """Cross-fitting folds: a model has one member a fold, which never sees the tracks it scores."""
    test_share: float = 0.2
    """Share of labelled groups held out for measuring, if the catalog has no `split` column."""
    tracks_per_part: int | None = None
    """Tracks in a part; default: a sixteenth of the catalog, at most 32. Parts that are there keep their size."""

    def __post_init__(self) -> None:
        require(len(set(self.classes)) == len(self.classes) > 1, "classes", self.classes, "two or more, each once")
        require(self.folds > 1, "folds", self.folds, "2 or more (`--no-cross-fit` trains a single model)")
        require(0 <= self.test_share < 1, "test_share", self.test_share, "a share from 0 to below 1")
        per_part = self.tracks_per_part
        require(per_part is None or per_part > 0, "tracks_per_part", per_part, "1 or more")


@dataclass(frozen=True)
class Dealt:
    """The catalog as an earlier run dealt it."""

    rows: Sequence[Catalog] = ()
    config: CatalogConfig = CatalogConfig()

    def groups(self, config: CatalogConfig) -> list[Catalog]:
        """Return the rows whose split and fold stand under a config: all or none."""
        mine, other = ((c.classes, c.folds, c.test_share) for c in (self.config, config))
        return list(self.rows) if mine == other else []


def read_catalog(
    catalog: str,
    labels: str | None,
    config: CatalogConfig,
    before: Dealt = Dealt(),
    leave_out: Container[str] = frozenset(),
) -> list[Catalog]:
    """Read a CSV, a Parquet file, a folder or a glob of audio as catalog rows, sorted by part and id.

    Args:
        catalog: path or fsspec URL of a table with `track_id` and `uri` (and optional `label`, `split`, `group_id`,
            `expected_s`, `locked`), or a folder or glob of audio files, whose ids are their paths below the folder.
        labels: CSV with `track_id` and any of the optional columns, joined by id.
        config: how to read and deal.
        before: what an earlier run dealt, whose places are kept.
        leave_out: SHA-256 of ids that must not come back.

    Raises:
        CatalogError: a column is missing, an id is doubled, a class is unknown, or there is no track at all.
    """
    table = _read_table(catalog) if catalog.endswith((".csv", ".parquet")) else _list_audio(catalog)
    _check_ids(table, catalog)
    if labels is not None:
        table = _join_labels(table, _read_table(labels), labels)
    _check_columns(table, catalog, config.classes)
    rows = [_row(record) for record in table.to_dict("records") if _hash(str(record["track_id"])) not in leave_out]
    if not rows:
        raise CatalogError(f"{catalog}: every track was taken down")
    return with_fingerprints(deal(rows, config, before))


def deal(rows: Sequence[Catalog], config: CatalogConfig, before: Dealt) -> list[Catalog]:
    """Give each track its part, split and fold: by a hash of ids, so that the order of the catalog does not matter.

    Groups of a class are dealt in turn, so each fold and the held-out split get their share of each class. Tracks and
    groups that were dealt `before` stay where they are, so that their work can be reused and the held-out tracks stay
    held out; new tracks fill the last part up, then new ones.
    """
    known = {row.track_id: row for row in before.rows}
    settled = before.groups(config)
    parts = _deal_parts(rows, known, config.tracks_per_part or min(32, max(1, ceil(len(rows) / 16))))
    by_group: dict[str, list[Catalog]] = defaultdict(list)
    for row in rows:
        by_group[row.group_id].append(row)
    splits = {row.group_id: row.split for row in settled if row.split is not None}
    if any(row.split is not None for row in rows):
        held_out = {row.group_id for row in rows if row.split == "test"}
        split_of = {row.track_id: row.split or "train" for row in rows}
    else:
        held_out = _held_out_groups(by_group, splits, config.test_share)
        split_of = {row.track_id: "test" if row.group_id in held_out else "train" for row in rows}
    folds = {row.group_id: row.fold for row in settled}
    for same_side in (set(by_group) - held_out, held_out):
        _deal_folds({group: by_group[group] for group in same_side}, config.folds, folds)
    dealt = [
        replace(
            row,
            part=parts[row.track_id],
            fold=folds[row.group_id],
            split=split_of[row.track_id] if row.label is not None else None,
        )
        for row in rows
    ]
    return sorted(dealt, key=lambda row: (row.part, row.track_id))


def deal_folds(rows: Iterable[Catalog], folds: int, salt: str) -> dict[str, int]:
    """Deal groups into folds, class by class; each `salt` gives another deal. Returns the fold by group id."""
    by_group: dict[str, list[Catalog]] = defaultdict(list)
    for row in rows:
        by_group[row.group_id].append(row)
    dealt: dict[str, int] = {}
    _deal_folds(by_group, folds, dealt, salt)
    return dealt


def fingerprint(uri: str) -> str | None:
    """Identify a file as its storage does: etag or hash, else size and mtime; None if it can't be read."""
    try:
        fs, path = fsspec.core.url_to_fs(uri)
        info = fs.info(path)
    except Exception:  # noqa: BLE001
        # Whatever is wrong with the file is found, and named, by the worker that opens it.
        return None
    for name in ("etag", "ETag", "md5Hash", "crc32c"):
        if info.get(name):
            return f"{name.lower()}:{info[name]}"
    return f"size:{info.get('size')} mtime:{info.get('mtime') or info.get('LastModified') or info.get('updated')}"


def with_fingerprints(rows: list[Catalog]) -> list[Catalog]:
    """Look up the fingerprint of each track's file."""
    with ThreadPoolExecutor(32) as pool:
        prints = list(pool.map(fingerprint, [row.uri for row in rows]))
    return [replace(row, source_fingerprint=found) for row, found in zip(rows, prints, strict=True)]


def commit_catalog(store: Store, rows: list[Catalog], config: CatalogConfig) -> Manifest:
    """Commit the catalog table: a row group a part, so that a worker reads just its own."""
    by_part: dict[int, list[Catalog]] = defaultdict(list)
    for row in rows:
        by_part[row.part].append(row)
    generation = digest_of([[asdict(row) for row in rows], asdict(config)])[:12]
    committed = store.manifest("catalog", generation)
    if committed is not None:
        return committed
    parts = rows[-1].part + 1  # one whose tracks are all gone stays, as an empty row group
    files = {
        first // PARTS_PER_FILE: _write_file(
            store, generation, first, [by_part[p] for p in range(first, min(first + PARTS_PER_FILE, parts))]
        )
        for first in range(0, parts, PARTS_PER_FILE)
    }
    return store.commit(
        Manifest(
            table="catalog",
            generation=generation,
            stage="segment",
            round=None,
            config=asdict(config),
            parents=(),
            files=files,
            summary={
                "parts": parts,
                "tracks": len(rows),
                "classes": list(config.classes),
                "folds": config.folds,
                **{f"labelled/{name}": count for name, count in sorted(class_counts(rows).items())},
            },
        )
    )


def read_part(store: Store, catalog: Manifest, part: int) -> list[Catalog]:
    """Read the catalog rows of one part."""
    file = catalog.files[part // PARTS_PER_FILE]
    with store.open_file(file.path) as source:
        parquet = pq.ParquetFile(source)
        check_version(version_of(parquet.schema_arrow), file.path)
        group = conform(parquet.read_row_group(part % PARTS_PER_FILE))
    return [Catalog(**record) for record in group.to_pylist()]


def read_held_out(store: Store, catalog: Manifest) -> list[Catalog]:
    """Read the held-out tracks; of row groups (parts) that have none only the statistics are read."""
    held_out: list[Catalog] = []
    for _, file in sorted(catalog.files.items()):
        with store.fs.open(store.url(file.path), "rb") as source:
            rows = pq.read_table(source, filters=[("split", "==", "test")])
        check_version(version_of(rows.schema), file.path)
        rows = conform(rows)
        held_out += [Catalog(**record) for record in rows.to_pylist()]
    return held_out


def read_dealt(store: Store, catalog: Manifest) -> Dealt:
    """Read a committed catalog with the config it was dealt by."""
    rows = [Catalog(**record) for record in store.read_table(catalog).to_pylist()]
    return Dealt(rows, CatalogConfig(**(catalog.config | {"classes": tuple(catalog.config["classes"])})))


def class_counts(rows: Iterable[Catalog]) -> Counter[str]:
    """Count the labelled tracks of each class."""
    return Counter(row.label for row in rows if row.label is not None)


def _write_file(store: Store, generation: str, first: int, groups: list[list[Catalog]]) -> PartFile:
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, arrow_schema(Catalog), compression="zstd") as writer:
        for group in groups:
            writer.write_table(to_arrow(Catalog, group), row_group_size=max(1, len(group)))
    path = f"catalog/{generation}/part-{first // PARTS_PER_FILE:05d}.parquet"
    return store.write_file(path, buffer.getvalue(), sum(map(len, groups)))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _group_class(rows: list[Catalog]) -> str:
    """Return the most common label of a group, '' for a group without any."""
    counts = class_counts(rows)
    return min(counts, key=lambda name: (-counts[name], name)) if counts else ""


def _groups_by_class(by_group: dict[str, list[Catalog]], salt: str = "") -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for group in sorted(by_group, key=lambda group: _hash(salt + group)):
        groups[_group_class(by_group[group])].append(group)
    return groups


def _deal_parts(rows: Sequence[Catalog], known: dict[str, Catalog], size: int) -> dict[str, int]:
    """Return the part of each track."""
    parts = {row.track_id: known[row.track_id].part for row in rows if row.track_id in known}
    part = max((row.part for row in known.values()), default=0)
    room = size - sum(found == part for found in parts.values())
    for track_id in sorted({row.track_id for row in rows} - set(parts), key=_hash):
        if room <= 0:
            part, room = part + 1, size
        parts[track_id], room = part, room - 1
    return parts


def _held_out_groups(by_group: dict[str, list[Catalog]], splits: dict[str, str], share: float) -> set[str]:
    """Hold out the share of each class's groups, those held out before first, leaving at least one to train on."""
    held_out = {group for group in by_group if splits.get(group) == "test"}
    for name, groups in _groups_by_class(by_group).items():
        wanted = min(round(len(groups) * share), len(groups) - 1) if name else 0
        missing = wanted - sum(group in held_out for group in groups)
        held_out |= set([group for group in groups if group not in splits][: max(0, missing)])
    return held_out


def _deal_folds(by_group: dict[str, list[Catalog]], folds: int, dealt: dict[str, int], salt: str = "") -> None:
    """Add to `dealt` the fold of each group that has none: the one with the fewest groups of its class, then of all."""
    total = Counter(dealt[group] for group in by_group if group in dealt)
    for _, groups in sorted(_groups_by_class(by_group, salt).items()):
        own = Counter(dealt[group] for group in groups if group in dealt)
        for group in groups:
            if group not in dealt:
                fold = min(range(folds), key=lambda fold: (own[fold], total[fold], fold))
                dealt[group] = fold
                own[fold] += 1
                total[fold] += 1


def _read_table(url: str) -> pd.DataFrame:
    try:
        with fsspec.open(url, "rb") as file:
            if url.endswith(".parquet"):
                table = pq.read_table(file).to_pandas()
                return table.astype({name: str for name in ("track_id", "group_id") if name in table})
            # Ids like 007 are text; an empty cell is a missing value, "NA" or "None" may be a label.
            return pd.read_csv(file, dtype=str, keep_default_na=False, na_values=[""])
    except (
        FileNotFoundError,
        PermissionError,
        pa.ArrowInvalid,
        pd.errors.ParserError,
        pd.errors.EmptyDataError,
        UnicodeDecodeError,
    ) as error:
        raise CatalogError(f"cannot read {url}: {error}") from error


def _list_audio(url: str) -> pd.DataFrame:
    fs, path = fsspec.core.url_to_fs(url)
    is_glob = any(sign in path for sign in "*?[") and not fs.isdir(path)
    found = fs.glob(path) if is_glob else fs.find(path)
    files = sorted(file for file in found if file.lower().endswith(AUDIO_SUFFIXES))
    base = path.split("*")[0].rsplit("/", 1)[0] if is_glob else path.rstrip("/")
    files = [file for file in files if "/." not in file[len(base) :]]  # hidden ones, left by a kill or a file manager
    return pd.DataFrame(
        {"track_id": [file[len(base) + 1 :] for file in files], "uri": [fs.unstrip_protocol(file) for file in files]},
        dtype=str,
    )


def _join_labels(table: pd.DataFrame, labels: pd.DataFrame, url: str) -> pd.DataFrame:
    if "track_id" not in labels:
        raise CatalogError(f"{url}: column track_id is missing; it has {', '.join(labels.columns)}")
    doubled = labels["track_id"][labels["track_id"].duplicated()]
    if len(doubled):
        raise CatalogError(f"{url}: track_id {doubled.iloc[0]!r} appears more than once")
    known = set(table["track_id"])
    stems: dict[str, list[str]] = defaultdict(list)
    for track_id in known:
        stems[track_id.rsplit(".", 1)[0]].append(track_id)
    named = labels["track_id"].map(lambda given: [given] if given in known else stems.get(given, []))
    doubtful = next((given for given, ids in zip(labels["track_id"], named, strict=True) if len(ids) > 1), None)
    if doubtful is not None:
        raise CatalogError(f"{url}: {doubtful!r} may be {' or '.join(sorted(stems[doubtful]))}: give the whole name")
    fits = named.str.len() == 1
    if not fits.any():
        example, expected = min(labels["track_id"], default=""), min(known, default="")
        raise CatalogError(f"{url}: no track_id fits a file, e.g. {example!r}; ids are paths like {expected!r}")
    if not fits.all():
        LOGGER.warning("%s: %d of %d ids are not in the catalog", url, (~fits).sum(), len(fits))
    given = labels[fits].assign(track_id=named[fits].str[0]).set_index("track_id")
    if given.index.has_duplicates:
        twice = given.index[given.index.duplicated()]
        raise CatalogError(f"{url}: track_id {twice[0]!r} has two rows, with its suffix and without")
    joined = given.combine_first(table.set_index("track_id")).reindex(table["track_id"])
    return joined.reset_index()


def _check_ids(table: pd.DataFrame, url: str) -> None:
    for name in ("track_id", "uri"):
        if name not in table:
            raise CatalogError(f"{url}: column {name} is missing; it has {', '.join(table.columns) or 'no columns'}")
        if table[name].isna().any():
            raise CatalogError(f"{url}: row {int(table[name].isna().argmax()) + 1} has no {name}")
    if table.empty:
        raise CatalogError(f"{url}: no tracks; expected a table with rows, or a folder or glob with audio files")
    doubled = table["track_id"][table["track_id"].duplicated()]
    if len(doubled):
        raise CatalogError(
            f"{url}: track_id {doubled.iloc[0]!r} appears more than once ({len(doubled)} doubled in all)"
        )


def _check_columns(table: pd.DataFrame, url: str, classes: tuple[str, ...]) -> None:
    _check_values(table, url, "label", classes, "give the class set by --classes")
    _check_values(table, url, "split", ("train", "test"), "leave the cell empty for train")
    _check_groups(table, url)


def _check_groups(table: pd.DataFrame, url: str) -> None:
    if "split" in table and "group_id" in table:
        labelled = table[table["label"].notna()] if "label" in table else table[:0]  # others are on neither side
        sides = labelled.assign(split=labelled["split"].fillna("train")).groupby("group_id")["split"].nunique()
        if (sides > 1).any():
            raise CatalogError(f"{url}: group {sides.idxmax()!r} has tracks in train and in test: give it one split")


def _check_values(table: pd.DataFrame, url: str, name: str, allowed: tuple[str, ...], hint: str) -> None:
    given = table[name].dropna() if name in table else pd.Series(dtype=str)
    wrong = given[~given.astype(str).isin(allowed)]
    if len(wrong):
        track_id = table["track_id"][wrong.index[0]]
        raise CatalogError(
            f"{url}: track {track_id!r} has {name} {wrong.iloc[0]!r}, expected one of {', '.join(allowed)}: {hint}"
        )


def _row(record: dict[Any, Any]) -> Catalog:
    given = {name: value for name, value in record.items() if not pd.isna(value)}
    track_id = str(given["track_id"])
    return Catalog(
        track_id=track_id,
        uri=str(given["uri"]),
        label=str(given["label"]) if "label" in given else None,
        split=given.get("split"),
        group_id=str(given.get("group_id", track_id)),
        fold=0,
        expected_s=_seconds(given.get("expected_s"), track_id),
        locked=_flag(given.get("locked", "false"), track_id),
        part=0,
        source_fingerprint=None,
    )


def _seconds(value: Any, track_id: str) -> float | None:
    try:
        # As the table will give it back.
        return None if value is None else float(np.float32(value))
    except ValueError:
        raise CatalogError(f"track {track_id!r} has expected_s {value!r}, expected seconds as a number") from None


def _flag(value: Any, track_id: str) -> bool:
    text = str(value).strip().lower()
    if text not in ("true", "false", "1", "0", "yes", "no"):
        raise CatalogError(f"track {track_id!r} has locked {value!r}, expected true or false")
    return text in ("true", "1", "yes")
