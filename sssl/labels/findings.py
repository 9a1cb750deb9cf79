"""What a split found, told apart from what became of the model that was trained after it."""

from __future__ import annotations

from dataclasses import dataclass

from schemas import Round
from schemas.summaries import CatalogSummary, LabelsSummary
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.store.rounds import last_split, read_rounds, verdict_of
from sssl.words import counted

_OUTCOMES = {
    "accepted": "was taken",
    "kept": "was not taken",
    "undecided": "labels together with the one before",
}


@dataclass(frozen=True)
class Findings:
    """The segments of train tracks that look wrong by the last split made, of how many, and the
    round's verdict.

    Round 0 makes no split; the verdict is None until the round is judged.
    """

    round: int
    suspects: int
    segments: int
    set_aside: bool
    """Whether the next model was trained without them, rather than on what the model before it took
    them for."""
    verdict: Round | None

    @classmethod
    def of(cls, store: Store, snapshot: Snapshot, round: int | None = None) -> Findings:
        """Collect the findings of the last split of a snapshot, or of that of a round.

        Raises:
            StoreError: there are no labels yet.
        """
        split = last_split(snapshot) if round is None else snapshot.get("labels", round)
        round = split.round or 0
        labels = split.about(LabelsSummary)
        verdict = next((row for row in read_rounds(store, snapshot) if row.round == round), None)
        set_aside = not split.config.get("noisy_weight", 0.0)
        return cls(round, labels.noisy, labels.confident + labels.noisy, set_aside, verdict)

    @property
    def share(self) -> float | None:
        """Share of the segments that look wrong."""
        if self.segments:
            return self.suspects / self.segments
        return None

    @property
    def found(self) -> str:
        """Say how many segments look wrong."""
        if not self.round:
            return "no split was made"
        if not self.suspects:
            return f"none of {self.segments} segments of train tracks looks wrong"
        return f"{self.suspects} of {self.segments} segments of train tracks look wrong"

    @property
    def outcome(self) -> str:
        """Say what became of the model that was trained after the split."""
        if not self.round:
            return "the model of the warm-up is in use"
        if self.verdict is None:
            return "no model was judged after it"
        if not self.suspects:
            return "the labels stand as they are, and no further model was needed"
        trained = "without them" if self.set_aside else "after it"
        return (
            f"the model trained {trained} {_OUTCOMES[verdict_of(self.verdict)]}, because"
            f" {self.verdict.reason}"
        )

    def __str__(self) -> str:
        return f"{self.found}; {self.outcome}"


def corrections_in_words(snapshot: Snapshot) -> str | None:
    """Say how much a listener corrected or confirmed, and how many labels that decides; None if
    nothing."""
    catalog = snapshot.about("catalog", CatalogSummary)
    if not catalog.corrected_tracks + catalog.corrected_passages:
        return None
    tracks = counted(catalog.corrected_tracks, "track")
    passages = counted(catalog.corrected_passages, "passage")
    decided = last_split(snapshot).about(LabelsSummary).corrected
    segments = counted(decided, "segment")
    return f"{tracks} and {passages} by a listener, which decide the labels of {segments}"
