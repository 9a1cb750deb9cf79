"""Cross-validation of methods: which are compared, what a fold withholds, what is measured, and the
summary.

Tracks of the outer fold are in a fold's catalog without their label, as new music is: no stage can
learn from them, stop by them or accept a round by them. What `guarded` accepts rounds by is held
out of the other tracks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score

from schemas import Catalog
from schemas.songs import NUMBER_COLUMNS
from sssl.arrays import Flags, Floats, column, mean_of_models, posteriors
from sssl.catalog.assign import CatalogConfig, deal_folds
from sssl.errors import CatalogError
from sssl.evaluate.numbers import NUMBER_METRICS, Better, Metrics, number_metrics
from sssl.html import template
from sssl.metrics import calibration_error, reliability
from sssl.presets import GUARDED, PAPER, Preset
from sssl.songs.classifier import EMBEDDING, NUMBERS, OPINIONS, SongModel
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.store.rounds import in_use, last_split

MethodName = Literal["ce", "mixup", "paper", "guarded", "prune"]

_CALIBRATION_BINS = 10
"""Of the songs of all folds, of equal mass."""


@dataclass(frozen=True)
class Method:
    """A way to learn from inherited labels."""

    preset: Preset
    refit: Preset | None = None
    """Train anew with this on what confident learning leaves of the warm-up's labels; None: no
    pruning."""

    def with_settings(self, seed: int, warmup_epochs: int | None, rounds: int | None) -> Method:
        """Return the method with a seed and, where given, other epochs of the warm-up and at most
        so many rounds."""
        preset = _with_settings(self.preset, seed, warmup_epochs, rounds)
        refit = self.refit
        if refit is not None:
            refit = _with_settings(refit, seed, warmup_epochs, rounds)
        return Method(preset, refit)


def _with_settings(
    preset: Preset, seed: int, warmup_epochs: int | None, rounds: int | None
) -> Preset:
    epochs = preset.train.warmup_epochs if warmup_epochs is None else warmup_epochs
    train = replace(preset.train, seed=seed, warmup_epochs=epochs)
    most_rounds = preset.rounds if rounds is None else min(preset.rounds, rounds)
    return replace(preset, rounds=most_rounds, train=train)


def _warm_up(*, cross_fit: bool, mixup: bool = True, bag: int = 1) -> Preset:
    # Single networks are the plain methods themselves, however many tracks there are.
    plain_from = GUARDED.train.plain_from if cross_fit else None
    train = replace(
        GUARDED.train, cross_fit=cross_fit, warmup_mixup=mixup, bag=bag, plain_from=plain_from
    )
    return replace(GUARDED, rounds=0, train=train)


METHODS: dict[MethodName, Method] = {
    "ce": Method(_warm_up(cross_fit=False, mixup=False)),
    "mixup": Method(_warm_up(cross_fit=False)),
    "paper": Method(PAPER),
    "guarded": Method(GUARDED),
    # By the scores of the warm-up that `guarded` has, which costs nothing more and finds more than
    # a plain one.
    "prune": Method(
        _warm_up(cross_fit=True, bag=GUARDED.train.bag), refit=_warm_up(cross_fit=False)
    ),
}


@dataclass(frozen=True)
class Metric:
    """A column of the summary."""

    name: str
    title: str
    better: Better


METRICS = (
    Metric("song_accuracy", "song accuracy", "higher"),
    Metric("song_accuracy_gain", "against the first", "higher"),
    Metric("song_accuracy_mean_posterior", "by mean posterior", "higher"),
    *(
        Metric(f"accuracy_by_{name}", f"train tracks by {name}", "higher")
        for name in (*OPINIONS, EMBEDDING, NUMBERS)
    ),
    Metric("song_macro_f1", "song macro-F1", "higher"),
    *(Metric(*column) for column in NUMBER_METRICS),
    Metric("segment_accuracy", "segment accuracy", "higher"),
    Metric("wrong_segment_auc", "wrong-segment AUC", "higher"),
    Metric("wrong_segment_ap", "wrong-segment AP", "higher"),
    Metric("relabelled_wrongly", "relabelled wrongly", "lower"),
    Metric("calibration_error", "calibration error", "lower"),
    Metric("cpu_minutes", "CPU minutes", "lower"),
)
METRIC_NAMES = tuple(metric.name for metric in METRICS)


@dataclass(frozen=True)
class Fold:
    """One fold to learn and to measure on: its tables, the labels it withholds by track, and the
    true label of each row of `segments`, None where nobody knows."""

    seed: int
    number: int
    snapshot: Snapshot
    held_out: Mapping[str, str]
    truth: NDArray[np.object_]
    numbers: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Valence and arousal that it withholds, by track."""


@dataclass(frozen=True)
class Outcome:
    """What a method reached on a fold; `confidence` and `correct` are of the held-out songs, for
    the calibration."""

    method: str
    seed: int
    fold: int
    metrics: Metrics
    confidence: Floats
    correct: Flags


def check_folds(rows: Sequence[Catalog], folds: int, classes: Sequence[str]) -> None:
    """Check that every fold can have tracks of every class.

    Raises:
        CatalogError: a class has too few groups of usable tracks.
    """
    for name in classes:
        groups = {row.group_id for row in rows if row.label == name}
        if len(groups) < folds:
            raise CatalogError(
                f"class {name} has usable tracks of {len(groups)} groups, expected at least"
                f" --folds {folds}"
            )


def withhold(
    rows: Sequence[Catalog], folds: int, number: int, seed: int, config: CatalogConfig
) -> tuple[list[Catalog], dict[str, str]]:
    """Return the catalog of an outer fold and the labels it withholds by track.

    The other tracks are dealt anew, as a run of its own would: some held out to accept rounds by,
    all into cross-fitting folds.
    """
    labelled = [row for row in rows if row.label is not None]
    outer = deal_folds(labelled, folds, f"outer {seed} ")
    withheld = {}
    known = []
    for row in labelled:
        if row.label is not None and outer[row.group_id] == number:
            withheld[row.track_id] = row.label
        else:
            known.append(row)
    salt = f"inner {seed} {number} "
    held_out = _held_out(known, config.test_share, salt)
    # Folds are dealt side by side: one that is even among all may be empty among held-out tracks.
    known_ids = {row.track_id for row in known}
    # Without what a listener said of them, which is a label, too.
    unlabelled: dict[str, Any] = {"label": None, "split": None}
    unlabelled |= {"locked": False, "corrections": None, "valence": None, "arousal": None}
    new = [replace(row, **unlabelled) for row in rows if row.track_id not in known_ids]
    train = [replace(row, split="train") for row in known if row.group_id not in held_out]
    test = [replace(row, split="test") for row in known if row.group_id in held_out]
    dealt = []
    for side in (new, train, test):
        fold = deal_folds(side, config.folds, salt)
        dealt += [replace(row, fold=fold[row.group_id]) for row in side]
    return sorted(dealt, key=lambda row: (row.part, row.track_id)), withheld


def _held_out(rows: Sequence[Catalog], share: float, salt: str) -> set[str]:
    """Return the groups that are held out to accept rounds by: one of as many folds as the share
    asks for."""
    if not share:
        return set()
    fold = deal_folds(rows, round(1 / share), f"held out {salt}")
    return {group for group, number in fold.items() if number == 0}


def measure(store: Store, learned: Snapshot, fold: Fold, method: str, cpu_s: float) -> Outcome:
    """Measure what a method made of a fold: songs and segments of withheld tracks, labels of train
    tracks."""
    classes = learned.catalog.classes
    used = in_use(store, learned)
    columns = ["track_id", "label", "confidence", *NUMBER_COLUMNS]
    table = store.read_table(learned.get("songs"), columns)
    songs = table.to_pandas()
    songs = songs[songs["track_id"].isin(fold.held_out)]
    songs["true_label"] = songs["track_id"].map(fold.held_out)
    scores = []
    for row in used.rounds:
        of_round = learned.get("scores", row.round)
        scores.append(store.read_table(of_round, ["track_id", "probabilities"]))
    posterior = mean_of_models([posteriors(table, len(classes)) for table in scores])
    track_id = scores[0]["track_id"].to_pandas()
    metrics: Metrics = {"held_out_tracks": len(songs)}
    metrics |= song_metrics(songs)
    metrics |= number_metrics(songs, fold.numbers)
    metrics |= opinion_metrics(learned.about("songs", SongModel))
    metrics |= posterior_metrics(track_id, posterior, fold, classes)
    metrics |= label_metrics(train_labels(store, learned, fold))
    metrics["cpu_minutes"] = cpu_s / 60
    correct = songs["label"] == songs["true_label"]
    return Outcome(
        method=method,
        seed=fold.seed,
        fold=fold.number,
        metrics=metrics,
        confidence=songs["confidence"].to_numpy(float),
        correct=correct.to_numpy(bool),
    )


def opinion_metrics(model: SongModel) -> Metrics:
    """Return what each opinion of the song classifier is worth by itself, on train tracks that its
    fit left out."""
    metrics: Metrics = {}
    for part in model.parts:
        if part.weight is not None:  # the pool itself has none
            metrics[f"accuracy_by_{part.name}"] = part.accuracy
    return metrics


def song_metrics(songs: pd.DataFrame) -> Metrics:
    """Return accuracy and macro-F1 over the classes that occur, of songs with `label` and
    `true_label`."""
    if songs.empty:
        return {"song_accuracy": None, "song_macro_f1": None}
    true = songs["true_label"]
    found = songs["label"]
    accuracy = accuracy_score(true, found)
    f1 = f1_score(true, found, labels=sorted(set(true)), average="macro", zero_division=0)
    return {"song_accuracy": float(accuracy), "song_macro_f1": float(f1)}


def posterior_metrics(
    track_id: pd.Series, posterior: Floats, fold: Fold, classes: Sequence[str]
) -> Metrics:
    """Return what the posteriors [N, C] say about withheld tracks by themselves, without the song
    classifier."""
    names = np.array(classes, dtype=object)
    is_withheld = track_id.isin(fold.held_out).to_numpy()
    own = is_withheld & np.isfinite(posterior).all(axis=1)
    of_tracks = pd.DataFrame(posterior[own]).groupby(track_id[own].to_numpy())
    mean = of_tracks.mean()
    right: Any = ()
    if len(mean):
        peaks = mean.to_numpy().argmax(axis=1)
        right = names[peaks] == mean.index.map(fold.held_out)
    measured = own & pd.notna(fold.truth)
    peaks_of_segments = posterior[measured].argmax(axis=1)
    hits = names[peaks_of_segments] == fold.truth[measured]
    metrics: Metrics = {"song_accuracy_mean_posterior": _mean(right)}
    metrics["segment_accuracy"] = _mean(hits)
    return metrics


def train_labels(store: Store, learned: Snapshot, fold: Fold) -> pd.DataFrame:
    """Return the labels of train tracks with a known truth, and how suspicious each segment was
    when they were split.

    Labels are those of the last split made. Suspicion is a rank, by that split's clean probability
    and then its loss; where there is no round, by the model's own loss; after pruning, by
    cleanlab's quality.
    """
    split = last_split(learned)
    table = store.read_table(split)
    labels = table.select(["track_id", "inherited_label", "label"]).to_pandas()
    if not split.round and split.stage != "prune":
        table = store.read_table(learned.get("scores", 0))
    suspicion = suspicion_rank(table)
    catalog = store.read_table(learned.get("catalog"), ["track_id", "split"]).to_pandas()
    train_ids = catalog["track_id"][catalog["split"] == "train"]
    labels = labels.assign(suspicion=suspicion, true_label=fold.truth)
    is_train = labels["track_id"].isin(train_ids)
    is_known = labels["true_label"].notna()
    return labels[is_train & is_known].reset_index(drop=True)


def suspicion_rank(table: pa.Table) -> pd.Series:
    """Rank the rows [N] of labels or scores from the least to the most suspicious; NaN where
    nothing is known.

    Where a split found one component all labels are clean with certainty, and the loss alone tells
    them apart.
    """
    values = pd.DataFrame(index=range(len(table)))
    for name, sign in (("clean_probability", -1), ("loss", 1)):
        if name in table.column_names:
            values[name] = sign * column(table, name)
    values = values.dropna(axis=1, how="all")  # pruning knows no loss
    if not len(values.columns):
        return pd.Series(np.nan, index=values.index)
    by_value = values.groupby(list(values.columns))
    is_known = values.notna().all(axis=1)
    return by_value.ngroup().where(is_known).astype(float)


def label_metrics(labels: pd.DataFrame) -> Metrics:
    """Return how well suspicion ranks segments whose inherited label is wrong, and what relabelling
    did."""
    wrong = labels["inherited_label"] != labels["true_label"]
    moved = labels["label"] != labels["inherited_label"]
    right_now = labels["label"] == labels["true_label"]
    metrics: Metrics = {"wrong_share": _mean(wrong)}
    metrics["wrong_segment_auc"] = None
    metrics["wrong_segment_ap"] = None
    is_ranked = labels["suspicion"].notna()
    suspicion = labels["suspicion"][is_ranked]
    of_ranked = wrong[is_ranked]
    if of_ranked.nunique() == 2:  # with wrong ones alone, or none, there is nothing to rank
        metrics["wrong_segment_auc"] = float(roc_auc_score(of_ranked, suspicion))
        metrics["wrong_segment_ap"] = float(average_precision_score(of_ranked, suspicion))
    metrics["relabelled_wrongly"] = _mean(moved & ~wrong)
    metrics["relabelled_rightly"] = _mean(moved & wrong & right_now)
    return metrics


def tabulate(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Return one row per outcome, with the gain in song accuracy over the first method on the same
    fold."""
    records = []
    for outcome in outcomes:
        of = {"method": outcome.method, "seed": outcome.seed, "fold": outcome.fold}
        records.append(of | outcome.metrics)
    rows = pd.DataFrame(records)
    rows = rows.astype(dict.fromkeys(outcomes[0].metrics, float))
    accuracy = rows.groupby(["seed", "fold"])["song_accuracy"]
    gain = rows["song_accuracy"] - accuracy.transform("first")
    is_other = rows["method"] != outcomes[0].method
    rows["song_accuracy_gain"] = gain.where(is_other)
    return rows


def calibration(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Return the calibration error per method and seed, over the songs of all folds: one fold has
    too few for bins."""
    of_both: dict[tuple[str, int], list[Outcome]] = {}
    for outcome in outcomes:
        of_both.setdefault((outcome.method, outcome.seed), []).append(outcome)
    rows = []
    for (method, seed), own in of_both.items():
        confidence = np.concatenate([outcome.confidence for outcome in own])
        correct = np.concatenate([outcome.correct for outcome in own])
        error = calibration_error(reliability(confidence, correct, _CALIBRATION_BINS))
        rows.append({"method": method, "seed": seed, "calibration_error": error})
    return pd.DataFrame(rows).astype({"calibration_error": float})


def summarize(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Metrics]]:
    """Return mean and standard error by method and metric: over seeds and folds, of the calibration
    over seeds."""
    summary: dict[str, dict[str, Metrics]] = {}
    for rows in (tabulate(outcomes), calibration(outcomes)):
        by_method = rows.groupby("method", sort=False)
        for metric in METRICS:
            if metric.name not in rows:
                continue
            for method, values in by_method[metric.name]:
                of_method = summary.setdefault(str(method), {})
                of_method[metric.name] = _mean_and_error(values)
    return summary


def to_records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows for JSON, which has no NaN."""
    records = []
    for row in rows.to_dict("records"):
        record: dict[str, Any] = {}
        for name, value in row.items():
            record[str(name)] = None if pd.isna(value) else value
        records.append(record)
    return records


def render(summary: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Return the summary as one HTML page."""
    page = template("evaluate/evaluation.html.jinja", {"said": said})
    return page.render(summary=summary, metrics=measured_metrics(summary), facts=facts)


def measured_metrics(summary: Mapping[str, Any]) -> list[Metric]:
    """Return the metrics that were measured for every method: an embedding is there with a
    front-end only."""
    measured = set(METRIC_NAMES)
    for of_method in summary.values():
        measured &= set(of_method)
    return [metric for metric in METRICS if metric.name in measured]


def said(value: Mapping[str, float | None]) -> str:
    """Say mean ± standard error."""
    mean = value["mean"]
    error = value["standard_error"]
    if mean is None:
        return "—"
    if error is None:
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {error:.3f}"


def _mean(values: Any) -> float | None:
    if len(values):
        return float(np.mean(values))
    return None


def _mean_and_error(values: pd.Series) -> Metrics:
    known = values.dropna()
    count = len(known)
    found: Metrics = {"mean": None, "standard_error": None, "values": count}
    if count:
        found["mean"] = float(known.mean())
    if count > 1:
        found["standard_error"] = float(known.std() / count**0.5)
    return found
