"""Measuring against sections that a human labelled. Nothing in here is ever trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sssl.arrays import column
from sssl.audio.mel import MelConfig
from sssl.errors import CatalogError
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.store.rounds import last_split
from sssl.urls import opened, why_unreadable, without_secrets


@dataclass(frozen=True)
class WrongSegments:
    """How well wrong segments (their inherited label is not the section's true label) were found,
    on train tracks.

    `auc` and `average_precision` rank by the loss that the last split was made on, precision and
    recall are of its noisy partition, whatever became of the model trained after it. None where
    nothing (or everything) is wrong, or no segment has a true label.
    """

    round: int
    segments: int
    wrong: int
    flagged: int
    found: int
    auc: float | None
    average_precision: float | None
    relabelled_right: int
    relabelled_wrong: int
    segment_accuracy_before: float | None
    segment_accuracy_after: float | None

    @property
    def precision(self) -> float | None:
        if self.flagged:
            return self.found / self.flagged
        return None

    @property
    def recall(self) -> float | None:
        if self.wrong:
            return self.found / self.wrong
        return None


def read_sections(path: str, classes: Sequence[str]) -> pd.DataFrame:
    """Read the true label of sections: `track_id`, `start_s`, `end_s`, `true_label`.

    Raises:
        CatalogError: there is no such table, it is another one, or a label is none of the classes.
    """
    shown = without_secrets(path)
    try:
        with opened(path) as file:
            sections = pd.read_csv(
                file,
                dtype={"track_id": str, "true_label": str},
                keep_default_na=False,  # a track may be called NA, and a class None
                na_values=[""],
            )
    except (OSError, ValueError) as error:
        raise CatalogError(f"cannot read {shown}: {why_unreadable(path, error)}") from None
    missing = {"track_id", "start_s", "end_s", "true_label"} - set(sections.columns)
    if missing:
        raise CatalogError(
            f"{shown}: column {min(missing)} is missing; it has {', '.join(sections.columns)}"
        )
    for name in ("start_s", "end_s"):
        seconds = pd.to_numeric(sections[name], errors="coerce")
        wrong = np.flatnonzero(~np.isfinite(seconds))
        if len(wrong):
            track_id, value = sections.loc[wrong[0], ["track_id", name]]
            raise CatalogError(
                f"{shown}: track {track_id!r} has {name} {value!r}, expected seconds as a number"
            )
        sections[name] = seconds
    may_be = sections["true_label"].isna() | sections["true_label"].isin(classes)
    wrong = np.flatnonzero(~may_be)
    if len(wrong):
        track_id, value = sections.loc[wrong[0], ["track_id", "true_label"]]
        raise CatalogError(
            f"{shown}: track {track_id!r} has true_label {value!r}, expected one of"
            f" {', '.join(classes)}"
        )
    return sections


def why_none_fits(store: Store, snapshot: Snapshot, truth_csv: str) -> str | None:
    """Say that no section is of a track of the catalog, with an id of each; None if one is.

    Raises:
        CatalogError: as `read_sections` does.
    """
    catalog = snapshot.get("catalog")
    given = read_sections(truth_csv, snapshot.catalog.classes)["track_id"]
    asked = pa.array(given.dropna().unique(), pa.string())
    named = f", e.g. {asked[0].as_py()!r}" if len(asked) else ""
    looks = ""
    for _, rows in store.iter_parts(catalog, ["track_id"]):
        track_ids = rows["track_id"]
        if pc.any(pc.is_in(track_ids, asked)).as_py():
            return None
        if len(track_ids):  # a part may have lost all its tracks
            looks = f"; ids look like {track_ids[0].as_py()!r}"
    return (
        f"{without_secrets(truth_csv)}: no section is of a track of the catalog, so nothing is"
        f" measured{named}{looks}"
    )


def true_labels(rows: pd.DataFrame, sections: pd.DataFrame, segment_s: float) -> pd.Series:
    """Return the true label of each segment (`track_id`, `start_s`): of the section that covers its
    middle."""
    middle_s = rows["start_s"].astype(float) + segment_s / 2
    middle = rows.assign(middle_s=middle_s, row=np.arange(len(rows)))
    middle = middle.sort_values("middle_s")
    starts = sections.astype({"start_s": float}).sort_values("start_s")
    starts = starts.rename(columns={"start_s": "section_s"})
    # The last section that starts before the middle, of the same track.
    joined = pd.merge_asof(middle, starts, left_on="middle_s", right_on="section_s", by="track_id")
    joined = joined.sort_values("row")
    covered = joined["middle_s"] < joined["end_s"].astype(float)
    return joined["true_label"].where(covered).set_axis(rows.index)


def wrong_segments(store: Store, snapshot: Snapshot, truth_csv: str) -> WrongSegments:
    """Measure the last split made against sections (`track_id`, `start_s`, `end_s`, `true_label`).

    Where there was no round after the warm-up, its scores rank the segments and nothing counts as
    flagged. What a listener has corrected or vouches for is not the split's to find: it is left
    out.
    """
    rows = labelled_segments(store, snapshot, truth_csv)
    rows = rows[rows["partition"] != "locked"]
    true = rows["true_label"]
    inherited = rows["inherited_label"]
    relabelled = rows["label"]
    wrong = true != inherited
    flagged = rows["partition"] == "noisy"
    auc, average_precision = _ranking(wrong, rows["loss"])
    return WrongSegments(
        round=last_split(snapshot).round or 0,
        segments=len(rows),
        wrong=int(wrong.sum()),
        flagged=int(flagged.sum()),
        found=int((wrong & flagged).sum()),
        auc=auc,
        average_precision=average_precision,
        relabelled_right=int((wrong & (relabelled == true)).sum()),
        relabelled_wrong=int((~wrong & (relabelled != true)).sum()),
        segment_accuracy_before=_share(inherited == true),
        segment_accuracy_after=_share(relabelled == true),
    )


def _share(flags: pd.Series) -> float | None:
    if len(flags):
        return float(flags.mean())
    return None


def _ranking(wrong: pd.Series, loss: pd.Series) -> tuple[float | None, float | None]:
    """Return AUC and average precision of wrong segments [N] by their loss [N], where it is known;
    None for both where all segments are alike, so that there is nothing to tell apart."""
    ranked = loss.notna()
    wrong = wrong[ranked]
    loss = loss[ranked]
    if wrong.nunique() < 2:
        return None, None
    # Here, as its import takes longer than most commands that may measure, and few do.
    from sklearn.metrics import average_precision_score, roc_auc_score

    auc = roc_auc_score(wrong, loss)
    average_precision = average_precision_score(wrong, loss)
    return float(auc), float(average_precision)


def labelled_segments(store: Store, snapshot: Snapshot, truth_csv: str) -> pd.DataFrame:
    """Return the train tracks' segments with their true label, those that a section covers."""
    split = last_split(snapshot)
    sections = read_sections(truth_csv, snapshot.catalog.classes)
    segment_s = snapshot.get("segments").settings(MelConfig, "cut").segment_s
    labels = store.read_table(split)
    start = store.read_table(snapshot.get("segments"), ["start_s"])["start_s"].to_pandas()
    rows = labels.select(
        ["track_id", "segment_index", "inherited_label", "label", "partition"]
    ).to_pandas()
    # The warm-up was split on nothing, so its own scores stand in.
    ranking = labels if split.round else store.read_table(snapshot.get("scores", 0), ["loss"])
    rows = rows.assign(start_s=start, loss=column(ranking, "loss"))
    catalog = store.read_table(snapshot.get("catalog"), ["track_id", "split"]).to_pandas()
    train_ids = catalog["track_id"][catalog["split"] == "train"]
    is_train = rows["track_id"].isin(train_ids)
    rows = rows[is_train].reset_index(drop=True)
    rows["true_label"] = true_labels(rows, sections, segment_s)
    return rows[rows["true_label"].notna()].reset_index(drop=True)
