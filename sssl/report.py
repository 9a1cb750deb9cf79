"""The HTML report of an output folder: one file, no external resource, the same bytes for the same tables.

Counts come from the tables by SQL and from the manifests' summaries; of the segments only those of a few shown tracks
are read.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from schemas import REASONS, Round
from sssl import mixture, plots
from sssl.features import MelConfig
from sssl.html import template
from sssl.judge import confusion_of
from sssl.metrics import Bin, quality, reliability, wilson
from sssl.presets import PRESETS
from sssl.rounds import last_accepted, read_rounds
from sssl.songs import Threshold, bins_for
from sssl.sql import connect
from sssl.store import Manifest, Snapshot, Store
from sssl.truth import wrong_segments

Floats = NDArray[np.float64]
Context = dict[str, Any]

SHOWN_TRACKS = 6
SHOWN_SONGS = 200
SHOWN_FAILURES = 50
SHOWN_FORMATS = 20
FEWEST_FOR_CURVE = 30  # tracks behind a reliability curve: three bins of ten
FEW_TRACKS = 500  # below, a histogram of durations reaches to the longest


@dataclass(frozen=True)
class Source:
    """What a report is made from."""

    store: Store
    snapshot: Snapshot
    connection: duckdb.DuckDBPyConnection
    classes: tuple[str, ...]
    rounds: list[Round]
    accepted: Round

    @classmethod
    def of(cls, store: Store, snapshot: Snapshot) -> Source:
        classes = tuple(snapshot.get("catalog").summary["classes"])
        rounds, accepted = read_rounds(store, snapshot), last_accepted(store, snapshot)
        return cls(store, snapshot, connect(store, snapshot), classes, rounds, accepted)

    def rows(self, sql: str, *values: Any) -> list[Context]:
        """Run a query and return its rows by column name."""
        result = self.connection.execute(sql, list(values))
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def write_report(store: Store, snapshot: Snapshot, truth: str | None) -> str:
    """Write `report.html` into the output folder and return its path or URL; `truth` is a CSV of true sections.

    Raises:
        StoreError: a stage up to `songs` has not run yet.
    """
    store.write_bytes("report.html", render(Source.of(store, snapshot), truth).encode())
    return store.url("report.html")


def figures(store: Store, snapshot: Snapshot) -> dict[str, bytes]:
    """Draw the plots that show no single track, as SVG by name: nothing in them that a takedown would have to reach."""
    source = Source.of(store, snapshot)
    learned = learning(source, [plots.color_of(c) for c in range(len(source.classes))])
    quality = song_and_score_quality(source)
    curve = quality["reliability"]
    found = {
        "accuracy_by_round": learned["accuracy"],
        "confident_share_by_round": learned["confident"],
        "label_flow": learned["flow_plot"],
        "song_confidence": quality["confidence"],
        "reliability": curve and curve["plot"],
        **{f"losses_round_{split['round'].round}": split["plot"] for split in learned["splits"]},
    }
    return {name: plots.standalone(plot) for name, plot in found.items() if plot}


def render(source: Source, truth: str | None) -> str:
    """Return the report as HTML."""
    colors = [plots.color_of(c) for c in range(len(source.classes))]
    return template("report.html.jinja", _FILTERS, {"stopped": stopped}).render(
        classes=[(name, color, plots.ink_on(color)) for name, color in zip(source.classes, colors, strict=True)],
        summary=summary(source),
        learning=learning(source, colors),
        quality=song_and_score_quality(source),
        truth=wrong_segments(source.store, source.snapshot, truth) if truth else None,
        tracks=shown_tracks(source, truth),
        health=health(source),
        labels=labels(source),
        provenance=provenance(source),
    )


def summary(source: Source) -> Context:
    """What came out, in numbers."""
    (found,) = source.rows(
        "select (select count(*) from catalog) tracks, (select count(*) from songs) labelled, "
        "(select count(*) from songs where abstained) abstained, "
        "(select coalesce(sum(decoded_s), 0) from ledger) decoded_s, "
        "(select count(*) from ledger where status = 'failed') failed, "
        "(select count(*) from ledger where status = 'partial') partial"
    )
    segments, songs, accepted = source.snapshot.get("segments"), source.snapshot.get("songs"), source.accepted
    split = accepted.confident + accepted.noisy
    scores, train = (source.snapshot.get(table, accepted.round) for table in ("scores", "models"))
    by_song, by_mean = (confusion_of(table.summary, "test", source.classes) for table in (songs, scores))
    song_quality = quality(by_song)
    max_drop = source.snapshot.of("rounds")[-1].config["max_drop"]
    preset, differences = nearest_preset(source)
    return found | {
        "segments": segments.rows,
        "segment_s": segments.config["cut"]["segment_s"],
        "threshold": Threshold(**songs.summary["threshold"]),
        "abstained_share": found["abstained"] / found["labelled"] if found["labelled"] else None,
        "warm_up": source.rounds[0],
        "accepted": accepted,
        "noisy_share": accepted.noisy / split if split else None,
        "song_quality": song_quality,
        "mean_quality": quality(by_mean),
        "gained": int(np.trace(by_song) - np.trace(by_mean)),
        "selected": max_drop is not None and any(row.round and not stopped(row) for row in source.rounds),
        "interval": wilson(song_quality.accuracy, song_quality.tracks) if song_quality.accuracy is not None else None,
        "made_at": songs.created_at,
        "train": train.config,
        "cross_fitted": train.config["cross_fit"] and source.snapshot.get("catalog").summary["folds"] > 1,
        "preset": preset,
        "differences": differences,
    }


def nearest_preset(source: Source) -> tuple[str, list[str]]:
    """Name the preset that a run's settings are nearest to, and each setting in which they differ from it."""
    tables = {"relabel": "labels", "train": "models", "score": "scores", "judge": "rounds"}
    used = {stage: source.snapshot.of(table)[-1].config for stage, table in tables.items()}
    differing = {name: list(_differences(used, asdict(preset))) for name, preset in PRESETS.items()}
    nearest = min(differing, key=lambda name: len(differing[name]))
    return nearest, differing[nearest]


def _differences(used: Context, wanted: Context) -> Iterator[str]:
    for name, value in sorted(used.items()):
        if isinstance(value, dict):
            yield from _differences(value, wanted.get(name) or {})
        elif name not in wanted or wanted[name] != value:
            yield f"{name} {value}"


def stopped(row: Round) -> bool:
    """Say whether a round had nothing to split, so that nothing was trained."""
    return row.round > 0 and not row.noisy


def learning(source: Source, colors: Sequence[str]) -> Context:
    """What each round split, relabelled and gained."""
    rounds, counts = source.rounds, {m.round: m.summary for m in source.snapshot.of("labels")}
    numbers, accepted = [row.round for row in rounds], [row.accepted for row in rounds]
    accuracy = {
        "held-out tracks": [row.heldout_accuracy for row in rounds],
        "train tracks": [row.train_accuracy for row in rounds],
    }
    confident = {name: [_confident_share(counts[r], name) for r in numbers] for name in source.classes}
    alt = "Confident share by class and round"
    split_rounds = [row for row in rounds if counts[row.round].get("mixture")]
    main = source.accepted if source.accepted in split_rounds else rounds[-1]
    splits = [_split_of(source, row, counts[row.round], large=row == main) for row in split_rounds]
    moved = flow_of(counts[source.accepted.round], source.classes) if source.accepted.round else np.zeros(0)
    return {
        "rounds": rounds,
        "interval_level": source.snapshot.of("rounds")[-1].config["interval_level"],
        "accuracy": plots.by_round("accuracy", "Accuracy by round", numbers, accuracy, ("accent", "muted"), accepted),
        "confident": plots.by_round("confident", alt, numbers, confident, colors, accepted),
        "splits": sorted(splits, key=lambda split: not split["by_class"]),
        "flow": moved,
        "flow_plot": plots.flow("flow", "Inherited to new labels", moved, source.classes) if moved.any() else None,
    }


def _confident_share(counts: Context, name: str) -> float | None:
    confident, noisy = (counts.get(f"{partition}/{name}", 0) for partition in ("confident", "noisy"))
    return confident / (confident + noisy) if confident + noisy else None


def _split_of(source: Source, row: Round, summary: Context, large: bool) -> Context:
    """Draw the losses of a round with the mixtures that split them; those of the large one also by class."""
    fitted = {m["class"]: m for m in summary["mixture"]}
    common = fitted["*"]
    losses = loss_counts(source, row.round, common["axis"])
    of, alt = f"loss{row.round}", f"Losses of round {row.round}, confident and noisy, with the fitted mixture"
    return {
        "round": row,
        "mixture": common,
        "evidence": summary["evidence"],
        "plot": plots.loss_histogram(of, alt, losses.sum(axis=0), common, large),
        "by_class": [
            (name, plots.loss_histogram(f"{of}-{c}", f"{alt}: {name}", losses[c], fitted.get(name, common)))
            for c, name in enumerate(source.classes)
            if large and losses[c].any()
        ],
    }


def loss_counts(source: Source, round: int, axis: mixture.Axis) -> NDArray[np.int64]:
    """Count the losses that a round was split on: [C, 2, BINS] by inherited label and partition (confident, noisy)."""
    found = source.connection.sql(
        "select list_position(?, l.inherited_label) - 1 as c, l.partition = 'noisy' as noisy, l.loss::double as loss "
        "from labels l join catalog using (track_id) where l.round = ? and split = 'train' "
        "and l.partition in ('confident', 'noisy') and l.loss is not null",
        params=[list(source.classes), round],
    )
    counts = np.zeros((len(source.classes), 2, mixture.BINS), np.int64)
    for batch in found.to_arrow_reader(1 << 16):
        c, noisy, loss = (column.to_numpy(zero_copy_only=False) for column in batch.columns)
        np.add.at(counts, (c, noisy.astype(int), mixture.bin_of(mixture.to_axis(loss, axis), axis)), 1)
    return counts


def flow_of(counts: Context, classes: Sequence[str]) -> Floats:
    """Return how many segments moved from an inherited label to a label [C, C], from a labels table's counts."""
    return np.array([[counts.get(f"flow/{old}/{new}", 0) for new in classes] for old in classes], dtype=np.float64)


def song_and_score_quality(source: Source) -> Context:
    """Confusion matrices of the accepted scores and of the song classifier, and the confidence of songs."""
    songs = source.snapshot.get("songs")
    scores = source.snapshot.get("scores", source.accepted.round)
    matrices = [
        {"what": what, "which": which, **_matrix(confusion_of(table.summary, split, source.classes))}
        for what, table in (("Mean posterior", scores), ("Song classifier", songs))
        for split, which in (("test", "held-out tracks"), ("train", "train tracks"))
    ]
    edges, counts = _histogram(source, "confidence", "songs", 1.0, 20)
    threshold = Threshold(**songs.summary["threshold"]).abstain_below
    alt = "Histogram of the songs' confidence; songs below the threshold abstain"
    return {
        "matrices": [matrix for matrix in matrices if matrix["quality"].tracks],
        "held_out": source.rows(
            "select abstained, count(*) as tracks, avg(confidence) as confidence, avg((s.label = c.label)::int) as "
            "accuracy from songs s join catalog c using (track_id) where split = 'test' group by all order by all"
        ),
        "confidence": plots.histogram(
            "confidence", alt, edges, counts, "confidence", 1.0 if threshold is None else threshold
        ),
        "reliability": reliability_curve(source),
    }


def reliability_curve(source: Source) -> Context | None:
    """Draw whether confidences keep their word: for held-out tracks, where these are too few for train tracks that were
    left out of the fit, and not at all where those are too few as well."""
    held_out = source.connection.sql(
        "select s.confidence::double as confidence, s.label = c.label as correct "
        "from songs s join catalog c using (track_id) where split = 'test' order by track_id"
    ).fetchnumpy()
    confidence, correct = held_out["confidence"], held_out["correct"]
    bins = reliability(confidence, correct, bins_for(len(confidence)))
    of_held_out = len(confidence) >= FEWEST_FOR_CURVE
    if not of_held_out:
        bins = [Bin(**found) for found in source.snapshot.get("songs").summary["reliability"]]
    tracks = sum(found.tracks for found in bins)
    if tracks < FEWEST_FOR_CURVE:
        return None
    said = ", ".join(f"{b.accuracy:.0%} right at a confidence of {b.confidence:.0%}" for b in bins)
    return {
        "of_held_out": of_held_out,
        "tracks": tracks,
        "bins": len(bins),
        "plot": plots.reliability("reliability", f"Reliability curve: {said}", bins),
    }


def _matrix(confusion: Floats) -> Context:
    hits, true, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    with np.errstate(invalid="ignore"):
        precision, recall = hits / predicted, hits / true
        f1 = np.where(true > 0, 2 * hits / (true + predicted), np.nan)
    return {"counts": confusion, "quality": quality(confusion), "precision": precision, "recall": recall, "f1": f1}


_EXAMPLES = {
    "largest share of noisy segments": "select track_id from accepted_labels join catalog using (track_id) "
    "where split = 'train' group by track_id having count_if(partition = 'noisy') > 0 "
    "order by count(*) >= 4 desc, count_if(partition = 'noisy') / count(*) desc, count(*) desc, track_id limit 6",
    "least confident": "select track_id from songs order by segments >= 4 desc, confidence, track_id limit 6",
    "most confident": "select track_id from songs order by segments >= 4 desc, confidence desc, track_id limit 6",
}


def chosen_tracks(source: Source) -> dict[str, str]:
    """Choose the tracks to show, with what each of them is an example of."""
    examples = {why: [row["track_id"] for row in source.rows(sql)] for why, sql in _EXAMPLES.items()}
    each = SHOWN_TRACKS // max(1, sum(map(bool, examples.values())))
    chosen: dict[str, str] = {}
    for why, track_ids in examples.items():
        chosen |= dict.fromkeys([track_id for track_id in track_ids if track_id not in chosen][:each], why)
    return chosen


def shown_tracks(source: Source, truth: str | None) -> list[Context]:
    """Draw a few tracks: spectrogram, posterior, timeline, noisy segments and, if known, true sections."""
    sections = pd.read_csv(truth, dtype={"track_id": str, "true_label": str}) if truth else None
    return [
        {"why": why, **_shown_track(source, track_id, f"track{number}", sections)}
        for number, (track_id, why) in enumerate(chosen_tracks(source).items())
    ]


def _shown_track(source: Source, track_id: str, name: str, sections: pd.DataFrame | None) -> Context:
    (song,) = source.rows(
        "select s.*, c.label as inherited, c.split, c.part from songs s join catalog c using (track_id) "
        "where track_id = ?",
        track_id,
    )
    rows = source.rows(
        "select s.probabilities, l.partition = 'noisy' as noisy from accepted_scores s join accepted_labels l "
        "using (track_id, segment_index) where track_id = ? order by segment_index",
        track_id,
    )
    manifest, unknown = source.snapshot.get("segments"), [np.nan] * len(source.classes)
    cut = MelConfig(**manifest.config["cut"])
    start_s, log_mel = _segments(source, manifest, song["part"], track_id)
    bands: plots.Bands = {"timeline": [(e["start_s"], e["end_s"], e["label"]) for e in song["timeline"]]}
    if sections is not None:
        own = sections[sections["track_id"] == track_id]
        bands["truth"] = list(zip(own["start_s"], own["end_s"], own["true_label"], strict=True))
    noisy_s = [start for start, row in zip(start_s, rows, strict=True) if row["noisy"]]
    if noisy_s:
        bands["noisy"] = [(start, start + cut.start_distance_s, None) for start in noisy_s]
    posterior = np.array([row["probabilities"] or unknown for row in rows], dtype=np.float64)
    view = plots.TrackView(start_s, log_mel, posterior, bands, cut.segment_s, cut.rate_hz, cut.frame_hop)
    alt = f"Spectrogram, posterior and timeline: {plots.in_words(song['timeline'])}"
    return {"song": song, "noisy": len(noisy_s), "plot": plots.track(name, alt, view, source.classes)}


def _segments(source: Source, manifest: Manifest, part: int, track_id: str) -> tuple[Floats, NDArray[np.float16]]:
    """Read the starts [N] and spectrograms [N, mels, frames] of one track."""
    with source.store.fs.open(source.store.url(manifest.files[part].path), "rb") as file:
        table = pq.read_table(file, columns=["start_s", "log_mel"], filters=[("track_id", "=", track_id)])
    return table["start_s"].to_numpy().astype(np.float64), table["log_mel"].combine_chunks().to_numpy_ndarray()


def health(source: Source) -> Context:
    """What became of the catalog's tracks, and what to do about those that did not come through."""
    reasons = source.rows(
        "select reason, status, count(*) as tracks from ledger where reason is not null "
        "group by all order by tracks desc, reason, status"
    )
    (span,) = source.rows(
        "select count(*) as tracks, max(decoded_s) as longest, quantile_cont(decoded_s, 0.99) as high from ledger "
        "where decoded_s > 0"
    )
    longest_cut = span["tracks"] >= FEW_TRACKS
    high = float(np.ceil(((span["high"] if longest_cut else span["longest"] or 1) + 1e-3) / 30) * 30)
    edges, counts = _histogram(source, "decoded_s", "ledger where decoded_s > 0", high, 30)
    alt = "Histogram of the tracks' decoded durations"
    return {
        "statuses": source.rows("select status, count(*) as n from ledger group by all order by n desc, status"),
        "reasons": [row | {"known": REASONS.get(row["reason"])} for row in reasons],
        "affected": source.rows(
            "select track_id, status, reason, detail, expected_s, decoded_s from ledger where status <> 'ok' "
            f"order by status, reason, track_id limit {SHOWN_FAILURES}"
        ),
        "formats": source.rows(
            "select codec, sample_rate_hz, channels, count(*) as tracks, sum(decoded_s) as decoded_s from ledger "
            "where decoded_s > 0 group by all order by tracks desc, codec, sample_rate_hz, channels"
        ),
        "shown_formats": SHOWN_FORMATS,
        "longest_cut": longest_cut,
        "durations": plots.histogram("durations", alt, edges, counts, "decoded duration", seconds=True),
    }


def labels(source: Source) -> Context:
    """The emotions of the catalog, and the first songs one by one."""
    by_class = source.rows(
        "select name, (select count(*) from songs where label = name) as tracks, "
        "(select count(*) from songs where label = name and abstained) as abstained, "
        "(select median(confidence) from songs where label = name) as confidence, "
        "(select count(*) from catalog where label = name) as inherited, "
        "(select count(*) from songs s join catalog c using (track_id) where s.label = name and c.label <> name) "
        "as other from (select unnest(?) as name) order by list_position(?, name)",
        *[list(source.classes)] * 2,
    )
    songs = source.rows(
        "select s.*, c.label as inherited, c.split from songs s join catalog c using (track_id) "
        f"order by track_id limit {SHOWN_SONGS}"
    )
    return {
        "by_class": by_class,
        "largest": max([1, *(max(row["tracks"], row["inherited"]) for row in by_class)]),
        "songs": [song | {"strip": plots.strip(song["timeline"], source.classes)} for song in songs],
    }


def provenance(source: Source) -> Context:
    """Tables with their digests, the configuration of each stage, and where to query."""
    made_with: dict[tuple[str, str], set[str]] = {}
    for m in source.snapshot.manifests:
        if m.config:
            content = json.dumps(m.config, indent=2, sort_keys=True)
            made_with.setdefault((m.stage, content), set()).add(m.table + ("" if m.round is None else f" {m.round}"))
    return {
        "manifests": source.rows("select * from manifests order by table_name, round nulls first"),
        "configs": [(stage, sorted(tables), content) for (stage, content), tables in sorted(made_with.items())],
        "versions": sorted({m.code_version for m in source.snapshot.manifests}),
        "output": shlex.quote(source.store.root),
    }


def _histogram(source: Source, column: str, table: str, high: float, bins: int) -> tuple[Floats, Floats]:
    """Count a column between 0 and a value; what lies beyond goes to the last bin."""
    counts = np.zeros(bins)
    sql = f"select least(floor({column} * ?), ?)::int as bin, count(*) as n from {table} group by bin"
    for row in source.rows(sql, bins / high, bins - 1):
        counts[row["bin"]] = row["n"]
    return np.linspace(0.0, high, bins + 1), counts


def _said(pattern: str) -> Callable[[float | None], str]:
    return lambda value: "—" if value is None or np.isnan(value) else pattern.format(value)


def _hours(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


_NUMBERS = {"count": _said("{:,.0f}"), "percent": _said("{:.1%}"), "real": _said("{:.3f}")}
_FILTERS = {**_NUMBERS, "hours": _hours, "clock": plots.clock}
