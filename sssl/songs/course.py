"""What a song's row says of valence and arousal: of the track, and in the course of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from schemas.songs import NUMBER_COLUMNS
from sssl.arrays import Floats
from sssl.songs.linear import mean_embedding
from sssl.songs.regression import Regression
from sssl.songs.softmax import statistics

_COURSE = "valence_arousal_timeline"
_OF_ENTRY = ("start_s", "end_s", "valence", "arousal")


class Segments(NamedTuple):
    """The segments of a track that have a posterior: [N, C], sound [N, K], starts and ends [N] and,
    where there is a front-end, embeddings [N, D]."""

    posterior: Floats
    sound: Floats
    start_s: Floats
    ends_s: Floats
    embedding: Floats | None = None

    def summed_up(self, rows: range) -> tuple[Floats, Floats | None]:
        """Return what is known of some segments together: statistics [2 C + K] and the mean
        embedding [D]."""
        own = slice(rows.start, rows.stop)
        known = statistics(self.posterior[own], self.sound[own])
        if self.embedding is None:
            return known, None
        return known, mean_embedding(self.embedding[own])


def numbers_of(
    regression: Regression | None, segments: Segments, smooth_segments: int
) -> dict[str, Any]:
    """Return the columns of a song that have its valence and arousal; null without a regression.

    In its course each segment is taken, with its neighbours, for a track of its own: a regression
    on segments would have to learn from what these inherit.
    """
    nothing = dict.fromkeys((*NUMBER_COLUMNS, _COURSE))
    if regression is None:
        return nothing  # made up from classes they would look like more than these
    count = len(segments.start_s)
    # The whole track first, then a piece for each segment.
    pieces = [range(count), *around(count, smooth_segments)]
    known = []
    embeddings = []
    for rows in pieces:
        features, embedding = segments.summed_up(rows)
        known.append(features)
        if embedding is not None:
            embeddings.append(embedding)
    has_embeddings = len(embeddings) > 0
    places = regression.places(np.stack(known), np.stack(embeddings) if has_embeddings else None)
    low, high = regression.intervals(places[:1])
    # By axis, as the columns come: the number and both ends of its interval.
    of_track = np.concatenate([places[:1], low, high]).T
    numbers = dict(zip(NUMBER_COLUMNS, of_track.ravel().tolist(), strict=True))
    columns = (segments.start_s, segments.ends_s, *places[1:].T)
    rows_of_course = zip(*(column.tolist() for column in columns), strict=True)
    course = [dict(zip(_OF_ENTRY, row, strict=True)) for row in rows_of_course]
    return nothing | numbers | {_COURSE: course}


def ends_s_of(start_s: Floats, segment_s: float, decoded_s: float | None) -> Floats:
    """Return until when what is said of segments [N] holds: until the next one starts, if that is
    before their own end; of the last one until its own end, or until `decoded_s`, where the
    track ends, if that is known and later."""
    ends_s = start_s + segment_s
    ends_s[:-1] = np.minimum(ends_s[:-1], start_s[1:])
    if decoded_s is not None:
        # The table of tracks has 32-bit reals, and whoever labels a single file has 64 bits.
        ends_s[-1] = max(ends_s[-1], np.float32(decoded_s))
    return ends_s


def around(count: int, width: int) -> list[range]:
    """Return for each of some segments in a row those around it, fewer at both ends."""
    reach = width // 2
    return [range(max(0, at - reach), min(count, at + reach + 1)) for at in range(count)]
