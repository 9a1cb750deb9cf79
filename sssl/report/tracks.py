"""A few tracks to look at and to listen to."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sssl.audio.mel import MelConfig, in_db
from sssl.evaluate.sections import read_sections
from sssl.plots.timeline import in_words
from sssl.plots.track import LEFT, RIGHT, Bands, TrackView, draw_track
from sssl.report import audio
from sssl.report.source import Context, Source
from sssl.store.manifest import PartFile
from sssl.store.tensors import log_mels

SHOWN_TRACKS = 6
SHOWN_PASSAGES = 3  # of a track

_EXAMPLES = {
    "largest share of noisy segments": (
        "select track_id from suspects join (select track_id, count(*) as segments "
        "from segments group by all) using (track_id) group by track_id, segments "
        "order by segments >= 4 desc, count(*) / segments desc, segments desc, track_id limit 6"
    ),
    "least confident": (
        "select track_id from songs order by segments >= 4 desc, confidence, track_id limit 6"
    ),
    "most confident": (
        "select track_id from songs where label_source is distinct from 'human' order by segments"
        " >= 4 desc, confidence desc, track_id limit 6"
    ),
}

_SONG = (
    "select s.*, c.uri, c.label as inherited, c.split, c.part from songs s join catalog c using"
    " (track_id) where track_id = ?"
)
_SEGMENTS = (
    "select start_s, s.probabilities, l.partition = 'noisy' as noisy, l.inherited_label as"
    " inherited, l.label as learned from accepted_scores s join (from labels where round = ?) l"
    " using (track_id, segment_index) join segments using (track_id, segment_index) where"
    " track_id = ? order by segment_index"
)


def chosen_tracks(source: Source) -> dict[str, str]:
    """Choose the tracks to show, with what each of them is an example of."""
    examples = {}
    for why, sql in _EXAMPLES.items():
        examples[why] = [row["track_id"] for row in source.rows(sql)]
    kinds = sum(map(bool, examples.values()))
    each = SHOWN_TRACKS // max(1, kinds)
    chosen: dict[str, str] = {}
    for why, track_ids in examples.items():
        new = [track_id for track_id in track_ids if track_id not in chosen]
        chosen |= dict.fromkeys(new[:each], why)
    return chosen


def context(source: Source, truth: str | None) -> list[Context]:
    """Draw a few tracks: spectrogram, posterior, timeline, noisy segments and, if known, true
    sections."""
    sections = read_sections(truth, source.classes) if truth else None
    shown = []
    for number, (track_id, why) in enumerate(chosen_tracks(source).items()):
        track = _shown_track(source, track_id, f"track{number}", sections)
        shown.append({"why": why, **track})
    return shown


def _shown_track(
    source: Source, track_id: str, name: str, sections: pd.DataFrame | None
) -> Context:
    (song,) = source.rows(_SONG, track_id)
    rows = source.rows(_SEGMENTS, source.split.round, track_id)
    features = source.snapshot.features
    cut = features.settings(MelConfig, "cut")
    log_mel = _log_mels(source, features.files[song["part"]], track_id)
    unknown = [np.nan] * len(source.classes)
    start_s = []
    posterior = []
    noisy_s = []
    changes = []
    for row in rows:
        start = float(row["start_s"])
        start_s.append(start)
        posterior.append(row["probabilities"] or unknown)
        changes.append((start, row["inherited"], row["learned"]))
        if row["noisy"]:
            noisy_s.append(start)
    starts = np.array(start_s, dtype=np.float64)
    bands = _bands(song, noisy_s, cut.start_distance_s, sections)
    view = TrackView(
        start_s=starts,
        log_mel=log_mel,
        posterior=np.array(posterior, dtype=np.float64),
        bands=bands,
        segment_s=cut.segment_s,
        rate_hz=cut.rate_hz,
        frame_hop=cut.frame_hop,
    )
    alt = f"Spectrogram, posterior and timeline: {in_words(song['timeline'])}"
    axis = {"left": LEFT, "right": RIGHT, "start_s": starts[0], "end_s": view.end_s}
    return {
        "song": song,
        "noisy": len(noisy_s),
        "plot": draw_track(name, alt, view, source.classes),
        "axis": axis,
        "audio": audio.link(source.store.medium, song["uri"]),
        "passages": audio.passages(changes, cut.start_distance_s, SHOWN_PASSAGES),
    }


def _bands(
    song: Context, noisy_s: list[float], distance_s: float, sections: pd.DataFrame | None
) -> Bands:
    blocks = [(entry["start_s"], entry["end_s"], entry["label"]) for entry in song["timeline"]]
    bands: Bands = {"timeline": blocks}
    if sections is not None:
        own = sections[sections["track_id"] == song["track_id"]]
        bands["truth"] = list(zip(own["start_s"], own["end_s"], own["true_label"], strict=True))
    if noisy_s:
        bands["noisy"] = [(start, start + distance_s, None) for start in noisy_s]
    return bands


def _log_mels(source: Source, file: PartFile, track_id: str) -> NDArray[np.float32]:
    """Read the spectrograms [N, mels, frames] of one track, in dB."""
    of_track = [("track_id", "=", track_id)]
    with source.store.open_file(file.path) as opened:
        table = pq.read_table(opened, columns=["log_mel"], filters=of_track)
    return in_db(log_mels(table))
