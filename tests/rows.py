"""Rows of tables as tests need them: every column has a plain value, a test names those that it is
about."""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from schemas import Catalog, Ledger, Song

_TRACK = Catalog(
    track_id="t",
    uri="/nowhere",
    label="Q1",
    split="train",
    group_id="t",
    fold=0,
    expected_s=None,
    locked=False,
    part=0,
    source_fingerprint=None,
    corrections=None,
    valence=None,
    arousal=None,
)
_LEDGER_ROW = Ledger(
    track_id="t",
    status="ok",
    reason=None,
    retryable=False,
    detail=None,
    expected_s=None,
    decoded_s=6.0,
    decoder="pyav",
    codec="flac",
    sample_rate_hz=44100,
    channels=1,
    segments=2,
    part=0,
    source_fingerprint=None,
)
_SONG = Song(
    track_id="t",
    label="Q1",
    confidence=0.75,
    probabilities=[0.75, 0.25],
    abstained=False,
    segments=2,
    timeline=[],
    round=0,
    model_id="m",
    timeline_label="Q1",
    familiarity=0.75,
    unlike=False,
    label_source="model",
    valence=None,
    valence_low=None,
    valence_high=None,
    arousal=None,
    arousal_low=None,
    arousal_high=None,
    valence_arousal_timeline=None,
)


def a_track(track_id="t", **changes):
    """Return a labelled train track, the only one of its group; without a label it has no split
    either."""
    split = {} if changes.get("label", "Q1") else {"split": None}
    return replace(_TRACK, **{"track_id": track_id, "group_id": track_id} | changes | split)


def a_ledger_row(track_id="t", **changes):
    """Return what the ledger says of a track that was decoded whole."""
    return replace(_LEDGER_ROW, track_id=track_id, **changes)


def a_song(track_id="t", **changes):
    """Return the song of a track, of two classes."""
    return replace(_SONG, track_id=track_id, **changes)


def half_floats(values):
    """Tensors [N, ...] of half floats as a column of them was up to schema version 4."""
    lists = pa.FixedSizeListArray.from_arrays(
        pa.array(values.reshape(-1)), int(np.prod(values.shape[1:]))
    )
    return pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.float16(), values.shape[1:]), lists
    )
