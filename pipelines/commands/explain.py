"""Tell the story of one track, from its file to its label.

sssl explain --output OUTPUT --track-id ID [--png track.png]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from pipelines.terminal.console import printed
from pipelines.terminal.flags import complain, parse, require_local
from schemas import REASONS, Ledger, Score, Song
from sssl.catalog.plane import AXES
from sssl.errors import StoreError
from sssl.export.labels import number_in_words
from sssl.plots.colors import color_of, ink_on
from sssl.plots.timeline import clock
from sssl.report.story import Story, TrackRound, draw, tell
from sssl.songs.song import HUMAN
from sssl.store.folder import Store
from sssl.store.rounds import verdict_of
from sssl.words import counted

# Characters of a line's name and of a timeline.
_NAME = 12
_WIDTH = 64
_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Config:
    """Tell the story of one track, from its file to its label."""

    output: str
    """Output folder."""
    track_id: str
    """Id of the track."""
    png: str | None = None
    """Also draw the track into this file: spectrogram, posterior, timeline and noisy segments."""
    all_segments: bool = False
    """List every segment; by default those that agree with the track's label are only counted."""

    def __post_init__(self) -> None:
        require_local("png", self.png)


def facts(story: Story) -> Iterator[tuple[str, str]]:
    """Yield what is known of a track by the stage that found it out."""
    track = story.track
    entry = story.entry
    fingerprint = track.source_fingerprint or "not found"
    yield "file", f"{track.uri} ({fingerprint})"
    label = "no label"
    if track.label is not None:
        label = f"label {track.label}, split {track.split}"
    if track.locked:
        label += ", label locked"
    yield "catalog", f"{label}, group {track.group_id}, fold {track.fold}, part {track.part}"
    yield "ledger", f"{entry.status}: {_decoded(entry)}"
    if entry.reason:
        known = REASONS[entry.reason]
        detail = entry.detail or known.meaning
        yield "reason", f"{entry.reason} ({detail}). {known.remedy}"
    if story.song:
        yield from _facts_of_song(story, story.song)
    if story.split_round:
        yield (
            "suspects",
            (
                f"{story.suspects} of {len(story.split)} segments look wrong by the split of round"
                f" {story.split_round}"
            ),
        )


def _decoded(entry: Ledger) -> str:
    """Say what was decoded of a track."""
    expected = ""
    if entry.expected_s is not None:
        expected = f" of {entry.expected_s:.1f}"
    segments = counted(entry.segments, "segment")
    found = f"{entry.decoded_s:.1f}{expected} s decoded, {segments}"
    if entry.codec:
        found += f", {entry.codec} {entry.sample_rate_hz} Hz, {entry.channels} channels"
        found += f", by {entry.decoder}"
    return found


def _facts_of_song(story: Story, song: Song) -> Iterator[tuple[str, str]]:
    """Yield what a track's song is, and why."""
    by_model = song.label
    said = f"{song.label} with confidence {song.confidence:.2f}"
    if song.abstained:
        said += ", too uncertain to publish without a look"
    if song.label_source == HUMAN:
        by_model = story.classes[song.probabilities.index(max(song.probabilities))]
        said = f"{song.label}, said by a listener or locked in the catalog"
        said += f"; the model takes it for {by_model}"
    yield "song", f"{said} ({_shares(story, song.probabilities)})"
    if song.valence is not None:
        for axis in AXES:
            yield axis, f"{number_in_words(song, axis)}, by regression"
    alone = story.without_sound
    if alone is not None:
        label = story.classes[int(alone.argmax())]
        still = "still " if label == by_model else ""
        shares = _shares(story, alone)
        yield "its sound", f"if it sounded like the average track: {still}{label} ({shares})"
    why = story.why_the_timeline_differs
    if why:
        other = f"most of the timeline is {song.timeline_label}, and not {song.label}"
        yield "but", f"{other}: {why}"
    segments = counted(song.segments, "segment")
    yield "made from", f"{segments} scored in round {song.round} by model {song.model_id}"


def rounds_table(story: Story) -> Table:
    """Show what each round made of the track."""
    table = Table(
        "round",
        "verdict",
        "noisy",
        "relabelled",
        "mean posterior",
        "model",
        title="rounds",
        box=None,
    )
    for round in story.rounds:
        verdict = round.verdict
        mean = round.posterior
        if mean is None:
            peak = "not scored"
        else:
            peak = f"{story.classes[int(mean.argmax())]} {mean.max():.2f}"
        said = f"{verdict_of(verdict)}: {verdict.reason}"
        cells = (
            str(verdict.round),
            said,
            str(round.noisy),
            str(round.relabelled),
            peak,
            verdict.model_id,
        )
        table.add_row(*map(Text, cells))
    return table


def segments_table(story: Story, used: TrackRound, every: bool) -> Table:
    """Show the segments, by default those that are noisy, relabelled or scored as something else
    than the label."""
    table = Table(
        "start",
        "learned label",
        "partition",
        "why",
        "loss",
        "P(catalog's label right)",
        "posterior",
        box=None,
    )
    shown = 0
    for start_s, label, score in zip(story.start_s, story.split, used.scores, strict=True):
        scored, share = _peak(story, score)
        agrees = label.partition != "noisy" and {label.label, scored} <= {label.inherited_label}
        if every or not agrees:
            loss = score.loss if label.loss is None else label.loss
            row = (
                clock(start_s),
                label.label or "",
                label.partition,
                label.reason,
                _number(loss),
                _number(label.clean_probability),
                f"{scored} {share:.2f}",
            )
            table.add_row(*map(Text, row))
            shown += 1
    rest = len(story.start_s) - shown
    agreeing = f"; {rest} agree with the label in every respect" if rest else ""
    table.title = (
        f"segments as split in round {story.split_round}, posterior of round"
        f" {used.verdict.round}{agreeing}"
    )
    return table


def timeline(story: Story, used: TrackRound) -> Iterator[Text]:
    """Draw the timeline over the noisy segments and the confidence of each; it reads without
    colours too."""
    assert story.song is not None
    scale = _WIDTH / story.end_s
    strip = Text(f"{'timeline':<{_NAME}}")
    for entry in story.song.timeline:
        first = round(entry["start_s"] * scale)  # type: ignore[operator]
        last = round(entry["end_s"] * scale)  # type: ignore[operator]
        color = color_of(story.classes.index(str(entry["label"])))
        name = f"|{entry['label']} ".ljust(last - first, "·")[: last - first]
        strip.append(" " * (_NAME + first - len(strip)))  # where segments were left out
        strip.append(name, f"{ink_on(color)} on {color}")
    yield strip
    starts = [round(start * scale) for start in story.start_s]
    lasts = [*starts[1:], _WIDTH]
    peaks = [_peak(story, row)[1] for row in used.scores]
    bars = [_BARS[min(int(p * len(_BARS)), len(_BARS) - 1)] for p in peaks]
    marks = ["x" if row.partition == "noisy" else " " for row in story.split]
    for name, signs in (("confidence", bars), ("noisy", marks)):
        line = "".join(
            sign * (last - first) for first, last, sign in zip(starts, lasts, signs, strict=True)
        )
        yield Text(f"{name:<{_NAME}}{line}")
    yield Text(f"{'':<{_NAME}}0:00{clock(story.end_s):>{_WIDTH - 4}}")


def show(story: Story, every: bool) -> None:
    """Print the story."""
    printed.print(Text(f"track {story.track.track_id}", "bold"))
    table = Table.grid(padding=(0, 2))
    for name, text in facts(story):
        table.add_row(name, Text(text))
    printed.print(table)
    if story.rounds and story.start_s:
        printed.print(rounds_table(story))
    if story.song and story.used:
        printed.print(*timeline(story, story.used), sep="\n")
        printed.print(segments_table(story, story.used, every))


def main(argv: Sequence[str]) -> int:
    config = parse(Config, argv, "explain")
    try:
        store = Store.open(config.output)
        snapshot = store.latest()
        story = tell(store, snapshot, config.track_id)
        show(story, config.all_segments)
        if config.png:
            Path(config.png).write_bytes(draw(store, snapshot, story))
    except (StoreError, OSError) as error:
        complain(error)
        return 1
    return 0


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _shares(story: Story, probabilities: Iterable[float]) -> str:
    return ", ".join(
        f"{name} {p:.2f}" for name, p in zip(story.classes, probabilities, strict=True)
    )


def _peak(story: Story, score: Score) -> tuple[str, float]:
    """Return the most probable class of a segment and its probability."""
    if score.probabilities is None:
        return "none", 0.0
    largest = max(score.probabilities)
    return story.classes[score.probabilities.index(largest)], largest
