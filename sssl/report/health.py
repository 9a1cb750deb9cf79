"""What became of the catalog's tracks, and what to do about those that did not come through."""

from __future__ import annotations

import math

from schemas import REASONS
from sssl.plots import charts
from sssl.report.source import Context, Source

SHOWN_FAILURES = 50
SHOWN_FORMATS = 20
FEW_TRACKS = 500  # below, a histogram of durations reaches to the longest


def context(source: Source) -> Context:
    """What became of the catalog's tracks, and what to do about those that did not come through."""
    reasons = source.rows(
        "select reason, status, count(*) as tracks from ledger where reason is not null "
        "group by all order by tracks desc, reason, status"
    )
    (span,) = source.rows(
        "select count(*) as tracks, max(decoded_s) as longest, quantile_cont(decoded_s, 0.99) as"
        " high from ledger where decoded_s > 0"
    )
    longest_cut = span["tracks"] >= FEW_TRACKS
    longest_s = span["high"] if longest_cut else span["longest"] or 1.0
    high = 30.0 * math.floor(longest_s / 30 + 1)  # whole half minutes, above the longest
    edges, counts = source.histogram("decoded_s", "ledger where decoded_s > 0", high, 30)
    alt = "Histogram of the tracks' decoded durations"
    return {
        "statuses": source.rows(
            "select status, count(*) as n from ledger group by all order by n desc, status"
        ),
        "reasons": [row | {"known": REASONS.get(row["reason"])} for row in reasons],
        "affected": source.rows(
            "select track_id, status, reason, detail, expected_s, decoded_s from ledger where"
            f" status <> 'ok' order by status, reason, track_id limit {SHOWN_FAILURES}"
        ),
        "formats": source.rows(
            "select codec, sample_rate_hz, channels, count(*) as tracks, sum(decoded_s) as"
            " decoded_s from ledger where decoded_s > 0 group by all order by tracks desc, codec,"
            " sample_rate_hz, channels"
        ),
        "shown_formats": SHOWN_FORMATS,
        "longest_cut": longest_cut,
        "durations": charts.histogram(
            "durations", alt, edges, counts, "decoded duration", seconds=True
        ),
    }
