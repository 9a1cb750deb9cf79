"""The rounds of a snapshot, read back: what was split, what was judged, and which models label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schemas import Round
from schemas.summaries import Guesses, LabelsSummary, RoundsSummary, ScoresSummary
from sssl.errors import StoreError
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, Snapshot

Verdict = Literal["accepted", "kept", "undecided"]


@dataclass(frozen=True)
class InUse:
    """The rounds whose models label: the last accepted one and, where its successor's verdict is
    undecided, that one, too. Then a posterior is the mean of both."""

    rounds: tuple[Round, ...]

    @property
    def last(self) -> Round:
        """The round that songs carry."""
        return self.rounds[-1]

    @property
    def model_id(self) -> str:
        return "+".join(row.model_id for row in self.rounds)

    @property
    def name(self) -> str:
        """Say which rounds these are."""
        return " and ".join(f"round {row.round}" for row in self.rounds)


def read_rounds(store: Store, snapshot: Snapshot) -> list[Round]:
    """Read the rows of all judged rounds, in order."""
    return [
        Round(**row)
        for manifest in snapshot.of("rounds")
        for row in store.read_table(manifest).to_pylist()
    ]


def verdict_of(row: Round) -> Verdict:
    """Return the verdict of a round; earlier versions accepted or kept."""
    if row.verdict == "undecided":
        return "undecided"
    if row.accepted:
        return "accepted"
    return "kept"


def in_use(store: Store, snapshot: Snapshot) -> InUse:
    """Return the rounds whose models label.

    Raises:
        StoreError: none was judged yet.
    """
    accepted = last_accepted(store, snapshot)
    later = [row for row in read_rounds(store, snapshot) if row.round > accepted.round]
    undecided = [row for row in later if verdict_of(row) == "undecided"]
    return InUse((accepted, *undecided[-1:]))


def guesses_in_use(snapshot: Snapshot, used: InUse) -> Guesses:
    """Return what the mean posterior in use makes of labelled tracks: by the scores or, where two
    rounds label, by the verdict that made them do so."""
    if len(used.rounds) == 1:
        return snapshot.about("scores", ScoresSummary, used.last.round)
    return snapshot.about("rounds", RoundsSummary, used.last.round)


def has_nothing_to_split(snapshot: Snapshot, round: int) -> bool:
    """Whether a later round's labels are the inherited ones: training on them again would show
    nothing.

    Where a listener corrected segments they may be what the round had split, and its model stays.
    """
    labels = [manifest for manifest in snapshot.of("labels") if manifest.round == round]
    if not round or not labels:
        return False
    about = labels[0].about(LabelsSummary)
    return not about.noisy and not about.corrected


def last_split(snapshot: Snapshot) -> Manifest:
    """Return the labels of the last split made, whatever became of the model that was trained after
    it; before the first those of round 0, in which nothing is noisy.

    Raises:
        StoreError: there are no labels yet.
    """
    labels = snapshot.of("labels") or [snapshot.get("labels", 0)]
    return max(labels, key=_round_of)


def scores_behind(snapshot: Snapshot, labels: Manifest) -> Manifest | None:
    """Return the scores that labels were split by, those of round 0 where nothing was split; None
    if unpublished."""
    scores = {manifest.ref: manifest for manifest in snapshot.of("scores")}
    if not labels.round:
        return next(iter(scores.values()), None)
    return next((scores[ref] for ref in labels.parents if ref in scores), None)


def last_accepted(store: Store, snapshot: Snapshot, before: int | None = None) -> Round:
    """Return the last accepted round (before a given one), which the next one starts from.

    Raises:
        StoreError: none was judged yet.
    """
    accepted = [
        row
        for row in read_rounds(store, snapshot)
        if row.accepted and (before is None or row.round < before)
    ]
    if not accepted:
        raise StoreError(
            "no accepted round yet: run relabel, train, score and judge with --round 0 first"
        )
    return accepted[-1]


def _round_of(manifest: Manifest) -> int:
    return manifest.round or 0
