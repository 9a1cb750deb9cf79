"""Stop a job early when nearly all tracks fail, as they do when a permission is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from sssl.errors import StoreError

MASS, MASS_RATIO = 500, 0.9
"""So many tracks of a worker, of which such a share failed, say that the cause is not in the
tracks."""


@dataclass
class MassFailure:
    """What became of the tracks of a worker."""

    stage: str
    advice: str
    """What to do once the cause is gone."""
    max_ratio: float = 0.0
    """Share of tracks that may fail, if that is more than usual."""
    tracks: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, tracks: int, reasons: Iterable[str]) -> None:
        """Count tracks, and the reasons of those that failed.

        Raises:
            StoreError: nearly all tracks of this worker failed.
        """
        self.tracks += tracks
        self.reasons.update(reasons)
        most = max(self.max_ratio, MASS_RATIO) * self.tracks
        if self.tracks >= MASS and self.reasons.total() > most:
            said = ", ".join(f"{reason} {count}" for reason, count in sorted(self.reasons.items()))
            raise StoreError(
                f"{self.stage}: stopped, since of {self.tracks} tracks nearly all failed: {said}; "
                f"{self.advice}"
            )
