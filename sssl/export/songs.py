"""Songs with the tracks that they are the labels of, for other tools; and files per song: JAMS
annotations, or tags in copies of the music."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.csv

from schemas import Catalog, Ledger, Song
from schemas.songs import NUMBER_COLUMNS
from sssl.catalog.committed import read_part
from sssl.catalog.fingerprints import fingerprint
from sssl.errors import StoreError
from sssl.export.cells import cell
from sssl.store.atomic import remove_leftovers, replacing
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.urls import file_system, local_path, readable, suffix_of
from sssl.version import __version__

if TYPE_CHECKING:
    from sssl.export.tags import Changes  # needs mutagen

_LEFT_OUT_FILE = "left_out.csv"
_LEFT_OUT = pa.schema([("track_id", pa.string()), ("reason", pa.string())])


class Labelled(NamedTuple):
    """A song with the track that it is the label of."""

    song: Song
    track: Catalog
    entry: Ledger


@dataclass
class Exported:
    """How many songs were written, and why each other track of the catalog was not."""

    songs: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    """Variables that the program which reads the export has to be started with."""
    others: list[str] = field(default_factory=list)
    """Files in the folder that this export has not written, such as those of an earlier one."""


def labelled_parts(
    store: Store, snapshot: Snapshot, exported: Exported
) -> Iterator[list[Labelled]]:
    """Yield the songs part by part; tracks without one are noted as left out, with their reason in
    the ledger."""
    catalog = snapshot.get("catalog")
    ledger = snapshot.get("ledger")
    for part, content in store.iter_parts(snapshot.get("songs")):
        songs = {row["track_id"]: Song(**row) for row in content.to_pylist()}
        entries = {
            row["track_id"]: Ledger(**row)
            for row in store.read_part(ledger.files[part]).to_pylist()
        }
        tracks = read_part(store, catalog, part)
        missing = [track.track_id for track in tracks if track.track_id not in songs]
        exported.left_out |= {
            track_id: entries[track_id].reason or "not scored" for track_id in missing
        }
        yield [
            Labelled(songs[track.track_id], track, entries[track.track_id])
            for track in tracks
            if track.track_id in songs
        ]


Names = Mapping[str, str]
"""What classes are called, where that is not their own name."""
OWN_NAMES: Names = MappingProxyType({})


def write_jams(store: Store, snapshot: Snapshot, to: str, names: Names = OWN_NAMES) -> Exported:
    """Write one JAMS file per song (Humphrey et al., "JAMS: a JSON annotated music specification",
    2014).

    The label is a `tag_open` over the whole track, with probabilities, round and model in its
    sandbox; the timeline is a `segment_open`.

    Raises:
        StoreError: the library is not installed.
    """
    try:
        import jams
    except ImportError:
        raise StoreError("the format jams needs its library: pip install 'sssl[export]'") from None

    classes = [names.get(name, name) for name in snapshot.catalog.classes]

    def write(labelled: Labelled, path: Path) -> None:
        with replacing(path) as temporary:
            jams_of(jams, renamed(labelled, names), classes).save(
                str(temporary), strict=True, fmt="jams"
            )

    return _write_files(store, snapshot, Path(to), lambda _: ".jams", write, abstained=True)


def jams_of(jams: Any, labelled: Labelled, classes: Iterable[str]) -> Any:
    """Return the JAMS object of a song."""
    song, track, entry = labelled
    duration_s = entry.decoded_s
    about = jams.AnnotationMetadata(
        annotation_tools=f"sssl {__version__}", data_source="program", version=song.model_id
    )
    label = jams.Annotation("tag_open", annotation_metadata=about, time=0, duration=duration_s)
    label.append(time=0, duration=duration_s, value=song.label, confidence=song.confidence)
    if song.valence is not None:
        label.sandbox.update({name: getattr(song, name) for name in NUMBER_COLUMNS})
    label.sandbox.update(
        abstained=song.abstained,
        probabilities=dict(zip(classes, song.probabilities, strict=True)),
        round=song.round,
        model_id=song.model_id,
    )
    timeline = jams.Annotation(
        "segment_open", annotation_metadata=about, time=0, duration=duration_s
    )
    for e in _entries(song):
        timeline.append(
            time=e["start_s"],
            duration=e["end_s"] - e["start_s"],
            value=e["label"],
            confidence=e["confidence"],
        )
    found = jams.JAMS(annotations=[label, timeline])
    found.file_metadata.title = track.track_id
    found.file_metadata.duration = duration_s
    found.file_metadata.identifiers.update(track_id=track.track_id)
    return found


def write_tags(
    store: Store, snapshot: Snapshot, to: str | None, names: Names = OWN_NAMES, *, abstained: bool
) -> Exported:
    """Tag copies of the music in the folder `to`, or the music itself where that is None.

    Raises:
        StoreError: the library is not installed.
    """
    tag = _tagger()
    moods = _moods(snapshot, names)
    uris = store.read_table(snapshot.get("catalog"), ["uri"])["uri"].to_pylist()
    paths = map(local_path, uris)
    music = {Path(path).resolve() for path in paths if path is not None}

    def write(labelled: Labelled, path: Path) -> None:
        if to is not None and path in music:
            raise ValueError("it would overwrite the catalog's own file")
        if to is None:
            remove_leftovers(path)
            if fingerprint(labelled.track.uri) != labelled.entry.source_fingerprint:
                raise ValueError(
                    "changed since it was labelled, by tags or otherwise: the next run labels it"
                    " again"
                )
        with replacing(path) as temporary:
            _fetch(labelled.track.uri, temporary)
            song = renamed(labelled, names).song
            tag(temporary, song.label, _fields(song), moods)

    folder = None if to is None else Path(to)
    return _write_files(
        store, snapshot, folder, lambda labelled: suffix_of(labelled.track.uri), write, abstained
    )


def tag_changes(
    store: Store, snapshot: Snapshot, names: Names = OWN_NAMES, *, abstained: bool
) -> tuple[Exported, dict[str, Changes]]:
    """Return what `write_tags` would change in the tags of each song, by its id, and how many songs
    it would tag; nothing is written.

    Raises:
        StoreError: the library is not installed.
    """
    tag = _tagger()
    moods = _moods(snapshot, names)
    exported = Exported()
    changes: dict[str, Changes] = {}

    def changes_of(labelled: Labelled) -> Changes:
        song = renamed(labelled, names).song
        with _at_hand(labelled.track.uri) as path:
            return tag(path, song.label, _fields(song), moods, save=False)

    for labelled in chain.from_iterable(labelled_parts(store, snapshot, exported)):
        track_id = labelled.track.track_id
        if labelled.song.abstained and not abstained:
            exported.left_out[track_id] = "abstained"
            continue
        try:
            changes[track_id] = changes_of(labelled)
        except Exception as error:  # noqa: BLE001 (as in `_write_files`)
            exported.left_out[track_id] = _why(error)
    exported.songs = len(changes)
    return exported, changes


@contextmanager
def _at_hand(uri: str) -> Iterator[Path]:
    """Give the path of a file, of a copy if it is not on this machine.

    Raises:
        OSError: it is missing, or cannot be fetched.
    """
    path = local_path(uri)
    if path is not None:
        Path(path).stat()
        yield Path(path)
        return
    with TemporaryDirectory() as folder:
        copy = Path(folder, f"song{suffix_of(uri)}")
        _fetch(uri, copy)
        yield copy


def _tagger() -> Callable[..., Changes]:
    try:
        from sssl.export.tags import tag
    except ImportError:
        raise StoreError("the format id3 needs mutagen: pip install 'sssl[export]'") from None
    return tag


def _moods(snapshot: Snapshot, names: Names) -> frozenset[str]:
    """Return all that songs are called by us: classes by their own and their given names."""
    classes = snapshot.catalog.classes
    return frozenset([*classes, *(names.get(name, name) for name in classes)])


def _write_files(
    store: Store,
    snapshot: Snapshot,
    folder: Path | None,
    suffix: Callable[[Labelled], str],
    write: Callable[[Labelled, Path], None],
    abstained: bool,
) -> Exported:
    """Write one file per song, named after the track, and `left_out.csv`; without a folder, in the
    place of the music.

    Raises:
        StoreError: the folder has files, and none says that an export made them.
    """
    exported = Exported()
    if folder is not None:
        require_own(folder)
        write_left_out(folder, exported)
    written: set[Path] = set()

    def write_one(labelled: Labelled) -> str | None:
        """Return why a song was not written, if it was not."""
        if labelled.song.abstained and not abstained:
            return "abstained"
        try:
            if folder is None:
                path = _local(labelled.track.uri)
            else:
                path = _place(folder, labelled, suffix(labelled))
            if path in written:
                return "same file as another track"  # ids like `a` and `a.mp3`
            write(labelled, path)
        except Exception as error:  # noqa: BLE001
            # What storages and tag readers raise has no end; one track must not stop the others.
            return _why(error)
        written.add(path)
        return None

    for part in labelled_parts(store, snapshot, exported):
        reasons = {labelled.song.track_id: write_one(labelled) for labelled in part}
        exported.left_out |= {track_id: reason for track_id, reason in reasons.items() if reason}
    exported.songs = len(written)
    if folder is not None:
        write_left_out(folder, exported)
        note_others(folder, written, exported)
    return exported


def require_own(folder: Path) -> None:
    """Refuse a folder that is not ours.

    Raises:
        StoreError: it has files, and none says that an export made them.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _LEFT_OUT_FILE).exists():
        raise StoreError(
            f"{folder} has files that are not of an export (no {_LEFT_OUT_FILE}): choose another"
            " --to"
        )


def write_left_out(folder: Path, exported: Exported) -> None:
    """Write which tracks were left out, and why."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"track_id": cell(track_id), "reason": reason}
        for track_id, reason in sorted(exported.left_out.items())
    ]
    pyarrow.csv.write_csv(pa.Table.from_pylist(rows, _LEFT_OUT), folder / _LEFT_OUT_FILE)


def note_others(folder: Path, written: Collection[Path], exported: Exported) -> None:
    """Note which files a folder has beside those that were written (resolved paths). None is
    deleted: a copy of music may be the last one, and a file anybody's."""
    known = {*written, (folder / _LEFT_OUT_FILE).resolve()}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        is_hidden = any(part.startswith(".") for part in name.parts)
        if not is_hidden and path.is_file() and path.resolve() not in known:
            exported.others.append(str(name))


def _fields(song: Song) -> dict[str, str]:
    numbers = {}
    if song.valence is not None and song.arousal is not None:
        numbers["SSSL_VALENCE"] = f"{song.valence:.4f}"
        numbers["SSSL_AROUSAL"] = f"{song.arousal:.4f}"
    return numbers | {
        "SSSL_CONFIDENCE": f"{song.confidence:.4f}",
        "SSSL_TIMELINE": timeline_as_json(song),
        "SSSL_MODEL": song.model_id,
        "SSSL_ROUND": str(song.round),
    }


def _why(error: Exception) -> str:
    """Name the reason of the ledger where there is one."""
    if isinstance(error, FileNotFoundError):
        return "missing"
    if isinstance(error, PermissionError):
        return "denied"
    return readable(f"{type(error).__name__}: {error}")


def _place(folder: Path, labelled: Labelled, suffix: str) -> Path:
    """Return the file of a track in a folder; an id with slashes makes folders, none leads out of
    it."""
    track_id = labelled.track.track_id
    path = (folder / (track_id if track_id.endswith(suffix) else track_id + suffix)).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError("its id leads out of the folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _local(uri: str) -> Path:
    path = local_path(uri)
    if path is None:
        raise ValueError("only local files are tagged in place")
    return Path(path).resolve()  # a link stays a link


def _fetch(uri: str, path: Path) -> None:
    fs, source = file_system(uri)
    fs.get_file(source, str(path))


def renamed(labelled: Labelled, names: Names) -> Labelled:
    """Return a song whose emotions are called by other names."""
    song, track, entry = labelled
    timeline = [e | {"label": names.get(e["label"], e["label"])} for e in _entries(song)]
    label = names.get(song.label, song.label)
    return Labelled(replace(song, label=label, timeline=timeline), track, entry)


def _entries(song: Song) -> list[dict[str, Any]]:
    return song.timeline


def timeline_as_json(song: Song) -> str:
    """Write the timeline as JSON, its 32-bit reals without the digits that they do not have."""
    entries = [{**entry, "confidence": round(entry["confidence"], 4)} for entry in _entries(song)]
    return json.dumps(entries, separators=(",", ":"))
