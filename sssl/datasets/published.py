"""The field's data sets as they lie on disk, read as a catalog and, where they are annotated over
time, true sections.

`docs/datasets.md` shows how each set is laid out and gives the reasons for what is decided here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from sssl.catalog.listing import AUDIO_SUFFIXES
from sssl.errors import CatalogError

SetName = Literal["4q", "pmemo", "emomusic", "deam"]
Task = Literal["quadrant", "valence", "arousal"]

CLASSES: dict[Task, tuple[str, ...]] = {
    "quadrant": ("Q1", "Q2", "Q3", "Q4"),
    "valence": ("positive", "negative"),
    "arousal": ("high", "low"),
}
FRAME_S = 0.5  # the sets that are annotated over time have two values a second

# A download of its own, with other column names each year.
_DEAM_METADATA = (
    ("metadata_2013.csv", "song_id", "Artist"),
    ("metadata_2014.csv", "Id", "Artist"),
    ("metadata_2015.csv", "id", "artist"),
)
_NO_GROUPS = pd.DataFrame({"track_id": [], "group_id": []}, dtype=str)
_OVERLAP = (
    "DEAM's ids up to 1000 are EmoMusic's clips: never train on one of the two sets and test on the"
    " other"
)
_NO_ARTISTS = (
    "no metadata_2013.csv, _2014, _2015 found: one artist may be both in training and in testing"
)


@dataclass(frozen=True)
class Source:
    """The folder of a set, or one above it."""

    root: Path

    def find(self, name: str) -> Path | None:
        """Find a file or folder by the end of its path: the one nearest to the root.

        Raises:
            CatalogError: there are several.
        """
        found = sorted(self.root.rglob(name), key=lambda path: len(path.parts))
        nearest = [path for path in found if len(path.parts) == len(found[0].parts)]
        if len(nearest) > 1:
            raise CatalogError(
                f"{self.root} has several {name}, e.g. in {nearest[0].parent}: give the folder of"
                " one set"
            )
        if nearest:
            return nearest[0]
        return None

    def get(self, name: str) -> Path:
        """Find what the set cannot be read without.

        Raises:
            CatalogError: it is not there, or there are several.
        """
        path = self.find(name)
        if path is None:
            raise CatalogError(
                f"{self.root}: expected {name} in it or below, as the set is when unpacked"
            )
        return path


@dataclass(frozen=True)
class DataSet:
    """What a set says, and where its audio is.

    Valence and arousal are distances from the midpoint of their scale, NaN where the set gives
    none.
    """

    annotated: pd.DataFrame
    """`track_id`, `valence`, `arousal`, and `uri`: where the set puts the file."""
    about: pd.DataFrame
    """`track_id`, `group_id`, and `split` if the set has one."""
    files: dict[str, Path]
    """The audio that is there, by track id."""
    frames: pd.DataFrame | None = None
    """`track_id`, `time_s`, `valence`, `arousal`."""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Imported:
    """A set ready for `sssl run`: its catalog and, if it is annotated over time, its true
    sections."""

    catalog: pd.DataFrame
    truth: pd.DataFrame | None
    unannotated: int
    """Tracks with a file and no annotation: in the catalog, without a label."""
    undecided: int
    """Tracks whose annotation is exactly at a midpoint or no number: in the catalog, without a
    label."""
    missing: int
    """Tracks with an annotation and no file: in the catalog, so that the ledger has them."""
    remarks: tuple[str, ...]


def import_set(name: SetName, src: str, task: Task) -> Imported:
    """Read a data set from its folder, or from one above it.

    Raises:
        CatalogError: a file or a column is not where the set has it, its values leave the published
            scale, or a track is annotated twice.
    """
    found = READERS[name](Source(Path(src).absolute()))
    tracks = _tracks(found, task)
    return Imported(
        catalog=tracks[["track_id", "uri", "label", "split", "group_id"]].fillna(""),
        truth=None if found.frames is None else sections(found.frames, task),
        unannotated=int(tracks["label"].isna().sum()),
        undecided=int((tracks["label"] == "").sum()),
        missing=int(tracks["path"].isna().sum()),
        remarks=found.remarks,
    )


def classify(points: pd.DataFrame, task: Task) -> pd.Series:
    """Name the class of each point by the signs of its `valence` and `arousal`, '' if one that
    matters is 0 or NaN."""
    positive = points["valence"] > 0
    negative = points["valence"] < 0
    high = points["arousal"] > 0
    low = points["arousal"] < 0
    conditions = {
        "quadrant": (positive & high, negative & high, negative & low, positive & low),
        "valence": (positive, negative),
        "arousal": (high, low),
    }
    return pd.Series(np.select(conditions[task], CLASSES[task], ""), points.index, dtype=str)


def sections(frames: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Merge neighbouring frames of one class into sections: `track_id`, `start_s`, `end_s`,
    `true_label`.

    A value at time t holds for [t - 0.5 s, t), as a listener judges what has been heard. Time
    without a frame, or with one that has no class, is in no section.
    """
    spans = frames.assign(start_s=frames["time_s"] - FRAME_S, true_label=classify(frames, task))
    spans = spans[(spans["true_label"] != "") & spans["time_s"].notna()].sort_values(
        ["track_id", "time_s"]
    )
    before = spans.shift()
    goes_on = (spans["track_id"] == before["track_id"]) & (
        spans["true_label"] == before["true_label"]
    )
    goes_on &= np.isclose(spans["start_s"], before["time_s"])
    return spans.groupby((~goes_on).cumsum()).agg(
        track_id=("track_id", "first"),
        start_s=("start_s", "first"),
        end_s=("time_s", "last"),
        true_label=("true_label", "first"),
    )


def read_4q(source: Source) -> DataSet:
    """Read the 4Q audio emotion data set (Panda, Malheiro and Paiva, 2018): a quadrant for each
    clip."""
    path = source.get("panda_dataset_taffc_annotations.csv")
    songs = _read_text(path, "Song", "Quadrant")
    annotated = pd.DataFrame(
        {
            "track_id": songs["Song"],
            "valence": songs["Quadrant"].map({"Q1": 1.0, "Q2": -1.0, "Q3": -1.0, "Q4": 1.0}),
            "arousal": songs["Quadrant"].map({"Q1": 1.0, "Q2": 1.0, "Q3": -1.0, "Q4": -1.0}),
            "uri": f"{path.parent}/" + songs["Quadrant"] + "/" + songs["Song"] + ".mp3",
        }
    )
    about = _groups(source.get("panda_dataset_taffc_metadata.csv"), "Song", "Artist")
    # The folders Q1 to Q4 are often flattened: a clip is known by its name, wherever it lies.
    return DataSet(annotated, about, _audio(source.root, "MT[0-9]*"))


def read_pmemo(source: Source) -> DataSet:
    """Read PMEmo 2019 (Zhang et al., 2018): chorus clips, rated from 0 to 1."""
    columns = ("musicId", "Valence(mean)", "Arousal(mean)")
    clips = source.get("chorus")
    dynamic = source.find("annotations/dynamic_annotations.csv")
    return DataSet(
        annotated=_placed(
            _points(source.get("annotations/static_annotations.csv"), columns, (0, 1)), clips
        ),
        about=_groups(source.get("metadata.csv"), "musicId", "artist"),
        files=_audio(clips),
        frames=_points(dynamic, columns, (0, 1), time_s="frameTime") if dynamic else None,
    )


def read_emomusic(source: Source) -> DataSet:
    """Read Emotion in Music (Soleymani et al., 2013), the "1000 songs": clips of 45 s, rated from 1
    to 9."""
    columns = ("song_id", "mean_valence", "mean_arousal")
    clips = source.get("clips_45seconds")
    info = source.get("songs_info.csv")
    challenge = _read_text(info, "Mediaeval 2013 set")["Mediaeval 2013 set"]
    return DataSet(
        annotated=_placed(
            _points(source.get("annotations/static_annotations.csv"), columns, (1, 9)), clips
        ),
        about=_groups(
            info,
            "song_id",
            "Artist",
            split=challenge.map({"development": "train", "evaluation": "test"}),
        ),
        files=_audio(clips),
        frames=_frames(source, "annotations/{}_cont_average.csv"),
        remarks=(_OVERLAP,),
    )


def read_deam(source: Source) -> DataSet:
    """Read DEAM (Aljanaki, Yang and Soleymani, 2017), also called MEMD: clips of 45 s and songs,
    rated from 1 to 9."""
    columns = ("song_id", "valence_mean", "arousal_mean")
    clips = source.get("MEMD_audio")
    static = [
        source.get(f"song_level/static_annotations_averaged_songs_{ids}.csv")
        for ids in ("1_2000", "2000_2058")
    ]
    groups = [
        _groups(path, *names) for file, *names in _DEAM_METADATA if (path := source.find(file))
    ]
    return DataSet(
        annotated=_placed(
            pd.concat([_points(path, columns, (1, 9)) for path in static], ignore_index=True), clips
        ),
        about=pd.concat([_NO_GROUPS, *groups]),
        files=_audio(clips),
        frames=_frames(source, "dynamic (per second annotations)/{}.csv"),
        remarks=(_OVERLAP,) if len(groups) == len(_DEAM_METADATA) else (_OVERLAP, _NO_ARTISTS),
    )


READERS: dict[SetName, Callable[[Source], DataSet]] = {
    "4q": read_4q,
    "pmemo": read_pmemo,
    "emomusic": read_emomusic,
    "deam": read_deam,
}


def _tracks(found: DataSet, task: Task) -> pd.DataFrame:
    """Put what is annotated and what is there side by side: `label` is NaN without annotation,
    `path` without file."""
    annotated = found.annotated.assign(label=classify(found.annotated, task))
    doubled = annotated["track_id"][annotated["track_id"].duplicated()]
    if len(doubled):
        raise CatalogError(
            f"track {doubled.iloc[0]!r} is annotated more than once, expected one row a track"
        )
    paths = pd.Series(
        {track_id: str(path) for track_id, path in found.files.items()}, name="path", dtype=str
    )
    about = found.about.drop_duplicates("track_id").reindex(
        columns=["track_id", "group_id", "split"], fill_value=""
    )
    tracks = annotated.merge(paths.rename_axis("track_id").reset_index(), "outer", on="track_id")
    return tracks.merge(about, "left", on="track_id").assign(
        uri=tracks["path"].fillna(tracks["uri"])
    )


def _read_text(path: Path, *columns: str) -> pd.DataFrame:
    """Read a CSV as text without the blanks and tabs around names and values; rows may be shorter
    or longer than the header."""
    try:
        # Naming columns, if only "all of them", is what lets a row be longer. Names of artists come
        # in any encoding, and are only compared with each other.
        table = pd.read_csv(
            path,
            dtype=str,
            keep_default_na=False,
            index_col=False,
            usecols=lambda _name: True,
            encoding="utf-8-sig",
            encoding_errors="backslashreplace",
        )
    except (OSError, ValueError) as error:
        raise CatalogError(f"cannot read {path}: {error}") from error
    table = table.rename(columns=str.strip).apply(lambda column: column.str.strip())
    for column in columns:
        if column not in table:
            raise CatalogError(
                f"{path}: column {column} is missing; it has {', '.join(table.columns[:12])}"
            )
    return table


def _points(
    path: Path, columns: tuple[str, str, str], scale: tuple[float, float], time_s: str | None = None
) -> pd.DataFrame:
    """Read `track_id`, `valence`, `arousal` (and `time_s`), and move the midpoint of their scale to
    0.

    Raises:
        CatalogError: a value is outside the scale, which says that somebody has moved the midpoint.
    """
    names = dict(zip(columns, ("track_id", "valence", "arousal"), strict=True)) | (
        {time_s: "time_s"} if time_s else {}
    )
    points = _read_text(path, *names)[list(names)].rename(columns=names)
    for axis in points.columns.drop("track_id"):
        points[axis] = pd.to_numeric(points[axis], errors="coerce")
    for axis in ("valence", "arousal"):
        beyond = points[~points[axis].fillna(scale[0]).between(*scale)]
        if len(beyond):
            raise CatalogError(
                f"{path}: track {beyond['track_id'].iloc[0]!r} has {axis} {beyond[axis].iloc[0]:g},"
                f" expected {scale[0]} to {scale[1]}: has the file been rescaled?"
            )
        points[axis] -= sum(scale) / 2
    return points


def _frames(source: Source, name: str) -> pd.DataFrame | None:
    """Read the values over time of both axes, if the set comes with them; {} in the name stands for
    the axis."""
    if source.find(name.format("valence")) is None:
        return None
    valence = _samples(source.get(name.format("valence")), "valence")
    arousal = _samples(source.get(name.format("arousal")), "arousal")
    return valence.merge(arousal, "outer", on=["track_id", "time_s"])


def _samples(path: Path, axis: str) -> pd.DataFrame:
    """Read a table with a row a song and a column a sample: `track_id`, `time_s` and the axis, from
    -1 to 1."""
    table = _read_text(path, "song_id").set_index("song_id").apply(pd.to_numeric, errors="coerce")
    table.columns = (
        pd.to_numeric(table.columns.str.extract(r"^sample_(\d+)ms$", expand=False)) / 1000
    )
    long = table.melt(ignore_index=False, var_name="time_s", value_name=axis).dropna()
    return long.astype({"time_s": float}).reset_index(names="track_id")


def _groups(path: Path, track_id: str, artist: str, **more: pd.Series) -> pd.DataFrame:
    """Read `track_id` and the artist as `group_id`, and put further columns, row by row, beside
    them."""
    table = _read_text(path, track_id, artist)
    return pd.DataFrame({"track_id": table[track_id], "group_id": table[artist], **more})


def _placed(annotated: pd.DataFrame, folder: Path) -> pd.DataFrame:
    return annotated.assign(uri=f"{folder}/" + annotated["track_id"] + ".mp3")


def _audio(folder: Path, name: str = "[0-9]*") -> dict[str, Path]:
    """List audio by id. Of several files of a track the mp3 is taken, as sets are shipped so:
    others are copies."""
    found = [path for path in folder.rglob(f"{name}.*") if path.suffix.lower() in AUDIO_SUFFIXES]
    best_last = sorted(found, key=lambda path: (path.suffix.lower() != ".mp3", path), reverse=True)
    return {path.stem: path for path in best_last}
