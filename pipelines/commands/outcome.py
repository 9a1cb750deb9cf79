"""What a run says at its end: what was labelled, how good it is, what looks wrong, what failed,
what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.stages.error_ratio import reasons_of
from pipelines.terminal.shell import sql_command
from schemas.summaries import SongsSummary
from sssl.catalog.assign import CatalogConfig
from sssl.evaluate.sections import WrongSegments
from sssl.labels.findings import Findings, corrections_in_words
from sssl.metrics import quality, wilson
from sssl.songs.changes import SongChanges
from sssl.songs.classifier import SongModel
from sssl.songs.regression import FEWEST_TRACKS, LEVEL, Quality
from sssl.songs.threshold import Threshold
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.store.rounds import guesses_in_use, in_use, read_rounds
from sssl.urls import local_path, without_secrets
from sssl.words import counted


def outcome(
    store: Store,
    snapshot: Snapshot,
    against_truth: WrongSegments | None,
    remarks: Sequence[str] = (),
    changes: SongChanges | None = None,
) -> str:
    """Say in a few lines what came out; where findings were held against the true sections, what
    they are worth, too.

    `remarks` are what was said of the catalog when it was read, such as what a folder has besides
    tracks; `changes` are those of song labels against what was published before.
    """
    ledger = snapshot.get("ledger")
    songs = snapshot.get("songs")
    guesses = songs.about(SongsSummary)
    findings = Findings.of(store, snapshot)
    rows = {
        "tracks labelled": f"{songs.rows} of {ledger.rows}",
        "too uncertain": abstentions(guesses.abstained, songs.about(SongModel).threshold),
        "segments": str(snapshot.get("segments").rows),
        "not clean": reasons_of(ledger) or "none",
        "look wrong": findings.found,
    }
    corrections = corrections_in_words(snapshot)
    if corrections is not None:
        rows["corrections"] = corrections
    if remarks:
        rows["catalog"] = "; ".join(remarks)
    if changes is not None:
        rows["labels changed"] = str(changes)
    if against_truth is not None:
        rows |= _worth_of(findings, against_truth)
    rows["model"] = findings.outcome
    rows["held-out tracks"] = _held_out(store, snapshot, guesses)
    if snapshot.get("catalog").settings(CatalogConfig).task != CatalogConfig.task:
        rows |= numbers_in_words(songs.about(SongModel).numbers)
    rows |= _next_steps(store, findings, guesses)
    return "\n".join(["", *(f"{name:<18}{value}" for name, value in rows.items()), ""])


def abstentions(abstained: int, threshold: Threshold) -> str:
    """Say how many tracks abstain, below which confidence, and what that was chosen for."""
    tracks = counted(abstained, "track")
    if threshold.wanted_precision is None:
        return (
            f"{tracks}, with a confidence below {threshold.abstain_below} or unlike anything"
            " labelled"
        )
    wanted = f"--wanted-precision {threshold.wanted_precision}"
    if threshold.abstain_below is None:
        fitted_without = counted(threshold.left_out_tracks, "track")
        return f"{tracks}: {fitted_without} left out of the fit cannot show {wanted}"
    above = counted(threshold.tracks_above, "track")
    return (
        f"{tracks}, with a confidence below {threshold.abstain_below:.2f} or unlike anything"
        f" labelled. Above it the label is right for {threshold.right_above} of {above} left out of"
        f" the fit, which shows a precision of {_share(threshold.precision_low)} ({wanted})"
    )


def held_out_quality(confusion: NDArray[np.float64], usual: int, classes: Sequence[str]) -> str:
    """Say for how many held-out tracks labels are right (confusion [C, C], true classes in rows),
    and for how many the class that is most common among the train tracks would be."""
    found = quality(confusion)
    if found.accuracy is None:
        return "none, so nothing says how good the labels are"
    low, high = wilson(found.accuracy, found.tracks)
    by_usual = confusion[usual].sum() / found.tracks
    said = (
        f"published label right for {found.accuracy:.3f} of {found.tracks} "
        f"(95 % interval {low:.2f} to {high:.2f}), always {classes[usual]} for {by_usual:.3f}"
    )
    if low > by_usual:
        return said
    return f"{said}, which does not show that the labels are better than that"


def numbers_in_words(numbers: Sequence[Quality]) -> dict[str, str]:
    """Say how good valence and arousal are, of held-out tracks where there are any."""
    if not numbers:
        why = f"fewer than {FEWEST_TRACKS} train tracks have both numbers, or all are of one fold"
        return {"valence, arousal": f"not learned: {why}"}
    said = {}
    for found in numbers:  # held-out tracks come last, and count
        agreed = f"R2 {_share(found.r2)}, RMSE {_share(found.rmse)}, CCC {_share(found.ccc)}"
        within = f"{_share(found.coverage)} in their {LEVEL:.0%} interval"
        said[found.axis] = f"{agreed}; {within} ({found.tracks} {found.of})"
    return said


def _worth_of(findings: Findings, found: WrongSegments) -> dict[str, str]:
    return {
        "look wrong": (
            f"{findings.found}: precision {_share(found.precision)}, recall {_share(found.recall)},"
            f" AUC {_share(found.auc)} (truly wrong: {found.wrong})"
        ),
        "labels right": (
            f"{_share(found.segment_accuracy_before)} of segments as inherited, "
            f"{_share(found.segment_accuracy_after)} as relabelled"
        ),
    }


def _held_out(store: Store, snapshot: Snapshot, guesses: SongsSummary) -> str:
    """Compare published labels with always giving the train tracks' usual class, and with mean
    posteriors."""
    usual = int(guesses.confusion("train").sum(axis=1).argmax())
    said = held_out_quality(guesses.confusion("test"), usual, snapshot.catalog.classes)
    warm_up = read_rounds(store, snapshot)[0]
    used = in_use(store, snapshot)
    by_mean = quality(guesses_in_use(snapshot, used).confusion("test"))
    if by_mean.accuracy is None:
        return said
    said += f"; mean posterior for {by_mean.accuracy:.3f} of {by_mean.tracks} ({used.name})"
    if not used.last.round:  # the warm-up itself
        return said
    return f"{said}, after the warm-up for {_share(warm_up.heldout_accuracy)}"


def _next_steps(store: Store, findings: Findings, guesses: SongsSummary) -> dict[str, str]:
    steps = {"report": without_secrets(store.url("report.html"))}
    if findings.suspects or guesses.abstained:
        # Of a folder in a bucket, answers go to a file of whoever gives them.
        elsewhere = "" if local_path(store.root) else " --corrections corrections.csv"
        shown = shlex.quote(without_secrets(store.root))
        steps["correct by ear"] = f"sssl review --output {shown}{elsewhere}"
    if findings.suspects:
        steps["wrong passages"] = sql_command(store.root, _SUSPECTS)
    if guesses.abstained:
        steps["uncertain songs"] = sql_command(store.root, _UNCERTAIN)
    return steps


_SUSPECTS = (
    "select track_id, start_s, inherited_label, model_label from suspects order by evidence desc"
    " limit 20"
)
_UNCERTAIN = (
    "select track_id, label, confidence from songs where abstained order by confidence limit 20"
)


def _share(value: float | None) -> str:
    if value is None:
        return "n/a"
    return f"{value:.3f}"
