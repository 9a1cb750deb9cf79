"""Confusion matrices of the song classifier and of the scores in use, and confidence against
accuracy."""

from __future__ import annotations

import numpy as np

from schemas.records import dump
from schemas.summaries import SongsSummary
from sssl.arrays import Floats
from sssl.metrics import quality, reliability
from sssl.plots import charts
from sssl.report.source import Context, Source
from sssl.songs.threshold import bins_for
from sssl.store.rounds import guesses_in_use

OPINION_TITLES = {
    "network": "mean posterior of the segments",
    "softmax": "posteriors and sound, weighed",
    "kernel": "tracks that sound alike",
    "embedding": "embedding of the front-end",
    "numbers": "sides of valence and arousal",
    "pool": "all of them, as published",
}
FEWEST_FOR_CURVE = 30  # tracks behind a reliability curve: three bins of ten


def context(source: Source) -> Context:
    """Confusion matrices of published labels and of the scores in use, and the confidence of
    songs."""
    songs = source.snapshot.about("songs", SongsSummary)
    by_mean = guesses_in_use(source.snapshot, source.used)
    matrices = []
    for what, guesses in (("Published label", songs), ("Mean posterior", by_mean)):
        for split, which in (("test", "held-out tracks"), ("train", "train tracks")):
            matrix = _matrix(guesses.confusion(split))
            matrices.append({"what": what, "which": which, **matrix})
    edges, counts = source.histogram("confidence", "songs", 1.0, 20)
    threshold = source.song_model.threshold.abstain_below
    alt = "Histogram of the songs' confidence; songs below the threshold abstain"
    return {
        "matrices": [matrix for matrix in matrices if matrix["quality"].tracks],
        "held_out": source.rows(
            "select abstained, count(*) as tracks, avg(confidence) as confidence, avg((s.label ="
            " c.label)::int) as accuracy from songs s join catalog c using (track_id) where split ="
            " 'test' and label_source is distinct from 'human' group by all order by all"
        ),
        "confidence": charts.histogram(
            "confidence", alt, edges, counts, "confidence", 1.0 if threshold is None else threshold
        ),
        "reliability": reliability_curve(source),
        "rests_on": [
            {"title": OPINION_TITLES[part.name], **dump(part)} for part in source.song_model.parts
        ],
        "numbers": [dump(found) for found in source.song_model.numbers],
    }


def reliability_curve(source: Source) -> Context | None:
    """Draw whether confidences keep their word: for held-out tracks, where these are too few for
    train tracks that were left out of the fit, and not at all where those are too few as well."""
    held_out = source.connection.sql(
        "select s.confidence::double as confidence, s.label = c.label as correct "
        "from songs s join catalog c using (track_id) where split = 'test' "
        "and label_source is distinct from 'human' order by track_id"
    ).fetchnumpy()
    confidence = held_out["confidence"]
    correct = held_out["correct"]
    bins = reliability(confidence, correct, bins_for(len(confidence)))
    of_held_out = len(confidence) >= FEWEST_FOR_CURVE
    if not of_held_out:
        bins = list(source.song_model.reliability)
    tracks = sum(found.tracks for found in bins)
    if tracks < FEWEST_FOR_CURVE:
        return None
    said = ", ".join(f"{b.accuracy:.0%} right at a confidence of {b.confidence:.0%}" for b in bins)
    return {
        "of_held_out": of_held_out,
        "tracks": tracks,
        "bins": len(bins),
        "plot": charts.reliability("reliability", f"Reliability curve: {said}", bins),
    }


def _matrix(confusion: Floats) -> Context:
    hits = np.diag(confusion)
    true = confusion.sum(axis=1)
    predicted = confusion.sum(axis=0)
    with np.errstate(invalid="ignore"):
        precision = hits / predicted
        recall = hits / true
        harmonic_mean = 2 * hits / (true + predicted)
        f1 = np.where(true > 0, harmonic_mean, np.nan)
    return {
        "counts": confusion,
        "quality": quality(confusion),
        "precision": precision,
        "recall": recall,
        "f1": f1,
    }
