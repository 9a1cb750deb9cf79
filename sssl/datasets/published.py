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
from sssl.catalog.plane import AXES, QUADRANTS
from sssl.errors import CatalogError
from sssl.words import counted

SetName = Literal["4q", "pmemo", "emomusic", "deam"]
Task = Literal["quadrant", "valence", "arousal", "valence-arousal"]

CLASSES: dict[Task, tuple[str, ...]] = {
    "quadrant": QUADRANTS,
    "valence": ("positive", "negative"),
    "arousal": ("high", "low"),
    "valence-arousal": QUADRANTS,
}
AXES_TASK = "valence-arousal"
"""The task whose catalog has both numbers beside the quadrant."""
Scale = tuple[float, float]  # lowest and highest rating
FRAME_S = 0.5  # the sets that are annotated over time have two values per second
_NINE_POINTS = (1, 9)
_DECIMALS = 6  # of valence and arousal in the catalog

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
        if not found:
            return None
        depth = len(found[0].parts)
        nearest = [path for path in found if len(path.parts) == depth]
        if len(nearest) > 1:
            raise CatalogError(
                f"{self.root} has several {name}, e.g. in {nearest[0].parent}: give the folder of"
                " one set"
            )
        return nearest[0]

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

    Valence and arousal go from -1 to 1 with the midpoint of their scale at 0, and are NaN where the
    set gives none.
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
    knows_quadrants_only: bool = False
    """Whether the numbers are no more than the signs of a quadrant."""


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
    source = Source(Path(src).absolute())
    found = READERS[name](source)
    texts = ["track_id", "uri", "label", "split", "group_id"]
    columns = [*texts]
    if task == AXES_TASK:
        if found.knows_quadrants_only:
            raise CatalogError(
                f"{name} has quadrants and no numbers of valence and arousal: give --task quadrant"
            )
        columns += AXES
    tracks = _tracks(found, task)
    tracks[list(AXES)] = tracks[list(AXES)].round(_DECIMALS)
    truth = None
    if found.frames is not None:
        truth = sections(found.frames, task)
    labels = tracks["label"]
    undecided = labels == ""
    return Imported(
        catalog=tracks[columns].fillna(dict.fromkeys(texts, "")),
        truth=truth,
        unannotated=int(labels.isna().sum()),
        undecided=int(undecided.sum()),
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
    # In the order of CLASSES.
    conditions = {
        "quadrant": (positive & high, negative & high, negative & low, positive & low),
        "valence": (positive, negative),
        "arousal": (high, low),
    }
    conditions[AXES_TASK] = conditions["quadrant"]
    labels = np.select(conditions[task], CLASSES[task], "")
    return pd.Series(labels, points.index, dtype=str)


def sections(frames: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Merge neighbouring frames of one class into sections: `track_id`, `start_s`, `end_s`,
    `true_label`.

    A value at time t holds for [t - 0.5 s, t), as a listener judges what has been heard. Time
    without a frame, or with one that has no class, is in no section.
    """
    labels = classify(frames, task)
    start_s = frames["time_s"] - FRAME_S
    spans = frames.assign(start_s=start_s, true_label=labels)
    has_class = spans["true_label"] != ""
    has_time = spans["time_s"].notna()
    spans = spans[has_class & has_time].sort_values(["track_id", "time_s"])
    before = spans.shift()
    goes_on = spans["track_id"] == before["track_id"]
    goes_on &= spans["true_label"] == before["true_label"]
    goes_on &= np.isclose(spans["start_s"], before["time_s"])
    begins = ~goes_on
    return spans.groupby(begins.cumsum()).agg(
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
    quadrants = songs["Quadrant"]
    folders = f"{path.parent}/" + quadrants
    annotated = pd.DataFrame({"track_id": songs["Song"]})
    annotated["valence"] = quadrants.map({"Q1": 1.0, "Q2": -1.0, "Q3": -1.0, "Q4": 1.0})
    annotated["arousal"] = quadrants.map({"Q1": 1.0, "Q2": 1.0, "Q3": -1.0, "Q4": -1.0})
    annotated["uri"] = folders + "/" + songs["Song"] + ".mp3"
    about = _groups(source.get("panda_dataset_taffc_metadata.csv"), "Song", "Artist")
    # The folders Q1 to Q4 are often flattened: a clip is known by its name, wherever it lies.
    files = _audio(source.root, "MT[0-9]*")
    return DataSet(annotated, about, files, knows_quadrants_only=True)


def read_pmemo(source: Source) -> DataSet:
    """Read PMEmo 2019 (Zhang et al., 2018): chorus clips, rated from 0 to 1."""
    columns = ("musicId", "Valence(mean)", "Arousal(mean)")
    scale = (0, 1)
    clips = source.get("chorus")
    static = source.get("annotations/static_annotations.csv")
    points = _points(static, columns, scale)
    dynamic = source.find("annotations/dynamic_annotations.csv")
    frames = None
    if dynamic:
        frames = _points(dynamic, columns, scale, time_s="frameTime")
    about = _groups(source.get("metadata.csv"), "musicId", "artist")
    return DataSet(_placed(points, clips), about, _audio(clips), frames)


def read_emomusic(source: Source) -> DataSet:
    """Read Emotion in Music (Soleymani et al., 2013), the "1000 songs": clips of 45 s, rated from 1
    to 9."""
    columns = ("song_id", "mean_valence", "mean_arousal")
    clips = source.get("clips_45seconds")
    static = source.get("annotations/static_annotations.csv")
    points = _points(static, columns, _NINE_POINTS)
    info = source.get("songs_info.csv")
    challenge = _read_text(info, "Mediaeval 2013 set")["Mediaeval 2013 set"]
    split = challenge.map({"development": "train", "evaluation": "test"})
    about = _groups(info, "song_id", "Artist", split=split)
    remarks = (_OVERLAP, *_hold_out_artists(about))
    frames = _frames(source, "annotations/{}_cont_average.csv")
    return DataSet(_placed(points, clips), about, _audio(clips), frames, remarks)


def _hold_out_artists(about: pd.DataFrame) -> list[str]:
    """Give all clips of an artist who has one in testing the split `test`, and say so: a group is
    never split, and a clip of the evaluation set never trained on."""
    artists = about["group_id"]
    is_test = about["split"] == "test"
    of_tested_artist = artists.isin(artists[is_test]) & (artists != "")
    moved = of_tested_artist & (about["split"] == "train")
    about.loc[moved, "split"] = "test"
    if not moved.any():
        return []
    in_both = artists[moved].nunique()
    both = counted(in_both, "artist")
    have = "has" if in_both == 1 else "have"
    clips = counted(int(moved.sum()), "clip")
    return [
        f"{both} {have} clips in both sets of the challenge: {clips} of the development set held"
        " out, too (split test)"
    ]


def read_deam(source: Source) -> DataSet:
    """Read DEAM (Aljanaki, Yang and Soleymani, 2017), also called MEMD: clips of 45 s and songs,
    rated from 1 to 9."""
    columns = ("song_id", "valence_mean", "arousal_mean")
    clips = source.get("MEMD_audio")
    points = []
    for ids in ("1_2000", "2000_2058"):
        static = source.get(f"song_level/static_annotations_averaged_songs_{ids}.csv")
        points.append(_points(static, columns, _NINE_POINTS))
    annotated = pd.concat(points, ignore_index=True)
    groups = [_NO_GROUPS]
    remarks = [_OVERLAP]
    for file, track_id, artist in _DEAM_METADATA:
        path = source.find(file)
        if path:
            groups.append(_groups(path, track_id, artist))
        elif _NO_ARTISTS not in remarks:
            remarks.append(_NO_ARTISTS)
    about = pd.concat(groups)
    frames = _frames(source, "dynamic (per second annotations)/{}.csv")
    return DataSet(_placed(annotated, clips), about, _audio(clips), frames, tuple(remarks))


READERS: dict[SetName, Callable[[Source], DataSet]] = {
    "4q": read_4q,
    "pmemo": read_pmemo,
    "emomusic": read_emomusic,
    "deam": read_deam,
}


def _tracks(found: DataSet, task: Task) -> pd.DataFrame:
    """Put what is annotated and what is there side by side: `label` is NaN without annotation,
    `path` without file."""
    labels = classify(found.annotated, task)
    annotated = found.annotated.assign(label=labels)
    ids = annotated["track_id"]
    doubled = ids[ids.duplicated()]
    if len(doubled):
        raise CatalogError(
            f"track {doubled.iloc[0]!r} is annotated more than once, expected one row per track"
        )
    files = {track_id: str(path) for track_id, path in found.files.items()}
    paths = pd.Series(files, name="path", dtype=str)
    paths_by_id = paths.rename_axis("track_id").reset_index()
    about = found.about.drop_duplicates("track_id")
    about = about.reindex(columns=["track_id", "group_id", "split"], fill_value="")
    tracks = annotated.merge(paths_by_id, "outer", on="track_id")
    uri = tracks["path"].fillna(tracks["uri"])
    return tracks.merge(about, "left", on="track_id").assign(uri=uri)


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
    table = table.rename(columns=str.strip)
    table = table.apply(lambda column: column.str.strip())
    for column in columns:
        if column not in table:
            there = ", ".join(table.columns[:12])
            raise CatalogError(f"{path}: column {column} is missing; it has {there}")
    return table


def _points(
    path: Path, columns: tuple[str, str, str], scale: Scale, time_s: str | None = None
) -> pd.DataFrame:
    """Read `track_id`, `valence`, `arousal` (and `time_s`), with their scale moved to -1 to 1.

    Raises:
        CatalogError: a value is outside the scale, which says that somebody has moved the midpoint.
    """
    names = dict(zip(columns, ("track_id", "valence", "arousal"), strict=True))
    if time_s:
        names[time_s] = "time_s"
    table = _read_text(path, *names)
    points = table[list(names)].rename(columns=names)
    for column in points.columns.drop("track_id"):
        points[column] = pd.to_numeric(points[column], errors="coerce")
    lowest, highest = scale
    midpoint = (lowest + highest) / 2
    reach = (highest - lowest) / 2
    for axis in ("valence", "arousal"):
        values = points[axis]
        is_within = values.isna() | values.between(lowest, highest)
        beyond = points[~is_within]
        if len(beyond):
            raise CatalogError(
                f"{path}: track {beyond['track_id'].iloc[0]!r} has {axis} {beyond[axis].iloc[0]:g},"
                f" expected {lowest} to {highest}: has the file been rescaled?"
            )
        points[axis] = (values - midpoint) / reach
    return points


def _frames(source: Source, name: str) -> pd.DataFrame | None:
    """Read the values over time of both axes, if the set comes with them; {} in the name stands for
    the axis."""
    valence_file = name.format("valence")
    if source.find(valence_file) is None:
        return None
    arousal_file = name.format("arousal")
    valence = _samples(source.get(valence_file), "valence")
    arousal = _samples(source.get(arousal_file), "arousal")
    return valence.merge(arousal, "outer", on=["track_id", "time_s"])


def _samples(path: Path, axis: str) -> pd.DataFrame:
    """Read a table with one row per song and one column per sample: `track_id`, `time_s` and the
    axis, from -1 to 1."""
    text = _read_text(path, "song_id").set_index("song_id")
    table = text.apply(pd.to_numeric, errors="coerce")
    time_ms = table.columns.str.extract(r"^sample_(\d+)ms$", expand=False)
    table.columns = pd.to_numeric(time_ms) / 1000
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
    candidates = folder.rglob(f"{name}.*")
    found = [path for path in candidates if path.suffix.lower() in AUDIO_SUFFIXES]
    # The last one of a stem stays in the dictionary.
    best_last = sorted(found, key=_mp3_first, reverse=True)
    return {path.stem: path for path in best_last}


def _mp3_first(path: Path) -> tuple[bool, Path]:
    is_other = path.suffix.lower() != ".mp3"
    return is_other, path
