"""The user's catalog: read, checked, and dealt into parts, splits and folds."""

from __future__ import annotations

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Any

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import Catalog, arrow_schema, to_arrow
from sssl.store import Manifest, PartFile, Store, digest_of

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
    folds: int = 3
    """Cross-fitting folds: a model has one member a fold, which never sees the tracks it scores."""
    test_share: float = 0.2
    """Share of labelled groups held out for measuring, if the catalog has no `split` column."""
    tracks_per_part: int | None = None
    """Tracks in a part; default: a sixteenth of the catalog, at most 32."""


def read_catalog(catalog: str, labels: str | None, config: CatalogConfig) -> list[Catalog]:
    """Read a CSV, a Parquet file, a folder or a glob of audio as catalog rows, sorted by part and id.

    Args:
        catalog: path or fsspec URL of a table with `track_id` and `uri` (and optional `label`, `split`, `group_id`,
            `expected_s`, `locked`), or a folder or glob of audio files, whose ids are their paths below the folder.
        labels: CSV with `track_id` and any of the optional columns, joined by id.

    Raises:
        CatalogError: a column is missing, an id is doubled, a class is unknown, or there is no track at all.
    """
    table = _read_table(catalog) if catalog.endswith((".csv", ".parquet")) else _list_audio(catalog)
    if labels is not None:
        table = _join_labels(table, _read_table(labels), labels)
    _check(table, catalog, config.classes)
    return deal([_row(record) for record in table.to_dict("records")], config)


def deal(rows: Sequence[Catalog], config: CatalogConfig) -> list[Catalog]:
    """Give each track its part, split and fold: by a hash of ids, so that the order of the catalog does not matter.

    Groups of a class are dealt in turn, so each fold and the held-out split get their share of each class.
    """
    by_group: dict[str, list[Catalog]] = defaultdict(list)
    for row in rows:
        by_group[row.group_id].append(row)
    given_split = any(row.split is not None for row in rows)
    held_out = set() if given_split else _held_out_groups(by_group, config.test_share)
    folds = _deal_folds({g: r for g, r in by_group.items() if g not in held_out}, config.folds)
    folds |= _deal_folds({g: r for g, r in by_group.items() if g in held_out}, config.folds)
    size = config.tracks_per_part or min(32, max(1, ceil(len(rows) / 16)))
    dealt = []
    for position, row in enumerate(sorted(rows, key=lambda row: _hash(row.track_id))):
        split = (row.split or "train") if given_split else ("test" if row.group_id in held_out else "train")
        dealt.append(
            replace(
                row, part=position // size, fold=folds[row.group_id], split=split if row.label is not None else None
            )
        )
    return sorted(dealt, key=lambda row: (row.part, row.track_id))


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


def commit_catalog(store: Store, rows: list[Catalog], config: CatalogConfig) -> Manifest:
    """Commit the catalog table: a row group a part, so that a worker reads just its own."""
    with ThreadPoolExecutor(32) as pool:
        prints = list(pool.map(fingerprint, [row.uri for row in rows]))
    rows = [replace(row, source_fingerprint=found) for row, found in zip(rows, prints, strict=True)]
    by_part: dict[int, list[Catalog]] = defaultdict(list)
    for row in rows:
        by_part[row.part].append(row)
    generation = digest_of([[asdict(row) for row in rows], asdict(config)])[:12]
    committed = store.manifest("catalog", generation)
    if committed is not None:
        return committed
    files = {
        first // PARTS_PER_FILE: _write_file(
            store, generation, first, [by_part[p] for p in range(first, min(first + PARTS_PER_FILE, len(by_part)))]
        )
        for first in range(0, len(by_part), PARTS_PER_FILE)
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
                "parts": len(by_part),
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
    with store.fs.open(store.url(file.path), "rb") as source:
        group = pq.ParquetFile(source).read_row_group(part % PARTS_PER_FILE)
    return [Catalog(**record) for record in group.to_pylist()]


def class_counts(rows: Iterable[Catalog]) -> Counter[str]:
    """Count the labelled tracks of each class."""
    return Counter(row.label for row in rows if row.label is not None)


def _write_file(store: Store, generation: str, first: int, groups: list[list[Catalog]]) -> PartFile:
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, arrow_schema(Catalog), compression="zstd") as writer:
        for group in groups:
            writer.write_table(to_arrow(Catalog, group), row_group_size=len(group))
    path = f"catalog/{generation}/part-{first // PARTS_PER_FILE:05d}.parquet"
    return store.write_file(path, buffer.getvalue(), sum(map(len, groups)))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _group_class(rows: list[Catalog]) -> str:
    """Return the most common label of a group, '' for a group without any."""
    counts = class_counts(rows)
    return min(counts, key=lambda name: (-counts[name], name)) if counts else ""


def _groups_by_class(by_group: dict[str, list[Catalog]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for group in sorted(by_group, key=_hash):
        groups[_group_class(by_group[group])].append(group)
    return groups


def _held_out_groups(by_group: dict[str, list[Catalog]], share: float) -> set[str]:
    """Hold out the first groups of each class, always leaving at least one to train on."""
    return {
        group
        for name, groups in _groups_by_class(by_group).items()
        if name
        for group in groups[: min(round(len(groups) * share), len(groups) - 1)]
    }


def _deal_folds(by_group: dict[str, list[Catalog]], folds: int) -> dict[str, int]:
    dealt, turn = {}, 0
    for _, groups in sorted(_groups_by_class(by_group).items()):
        for group in groups:
            dealt[group] = turn % folds
            turn += 1
    return dealt


def _read_table(url: str) -> pd.DataFrame:
    try:
        with fsspec.open(url, "rb") as file:
            if url.endswith(".parquet"):
                return pq.read_table(file).to_pandas()
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
    is_glob = any(sign in path for sign in "*?[")
    found = fs.glob(path) if is_glob else fs.find(path)
    files = sorted(file for file in found if file.lower().endswith(AUDIO_SUFFIXES))
    base = path.split("*")[0].rsplit("/", 1)[0] if is_glob else path.rstrip("/")
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
    stems = {track_id.rsplit(".", 1)[0]: track_id for track_id in known}
    named = labels.assign(track_id=[i if i in known else stems.get(i, i) for i in labels["track_id"]])
    unknown = set(named["track_id"]) - known
    if len(unknown) == len(named):
        example, expected = min(unknown, default=""), min(known, default="")
        raise CatalogError(f"{url}: no track_id fits a file, e.g. {example!r}; ids are paths like {expected!r}")
    return table.drop(columns=[c for c in labels.columns if c != "track_id" and c in table]).merge(
        named, on="track_id", how="left"
    )


def _check(table: pd.DataFrame, url: str, classes: tuple[str, ...]) -> None:
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
    _check_values(table, url, "label", classes, "give the class set by --classes")
    _check_values(table, url, "split", ("train", "test"), "leave the cell empty for train")


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
        return None if value is None else float(value)
    except ValueError:
        raise CatalogError(f"track {track_id!r} has expected_s {value!r}, expected seconds as a number") from None


def _flag(value: Any, track_id: str) -> bool:
    text = str(value).strip().lower()
    if text not in ("true", "false", "1", "0", "yes", "no"):
        raise CatalogError(f"track {track_id!r} has locked {value!r}, expected true or false")
    return text in ("true", "1", "yes")
