"""Settings of songs; apart from what fits them, so that whoever only reads them loads no
scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.records import later
from sssl.config import require


@dataclass(frozen=True)
class SongConfig:
    """How segment posteriors and sound become a song's emotion."""

    abstain_below: float = 0.5
    """Abstain below this confidence."""
    wanted_precision: float | None = None
    """Abstain instead below the lowest confidence above which at least this share of labels is
    right. That must be shown on train tracks that were left out of the fit, by the lower end of a
    95 % interval; if it cannot be shown, all songs abstain."""
    smooth_segments: int = 3
    """Timeline: centred moving average of the posterior over this many segments, an odd number; 1
    turns it off."""
    regularization: float = 0.1
    """How far the song classifier may go beyond the mean posterior: inverse L2 strength
    (scikit-learn's C)."""
    sound: bool = True
    """Use the sound of a track for its label, beside the posteriors of its segments."""

    def __post_init__(self) -> None:
        below = self.abstain_below
        require(0 <= below <= 1, "abstain_below", below, "a confidence from 0 to 1")
        wanted = self.wanted_precision
        require(
            wanted is None or 0 < wanted < 1, "wanted_precision", wanted, "a share between 0 and 1"
        )
        smooth = self.smooth_segments
        is_odd = smooth > 0 and smooth % 2 == 1
        require(is_odd, "smooth_segments", smooth, "an odd number, 1 or more")
        require(self.regularization > 0, "regularization", self.regularization, "above 0")


@dataclass(frozen=True)
class SongsMade(SongConfig):
    """The settings that songs were made with, and what versions of the program did differently."""

    timeline_to_end: bool = later(False, neutral=False)
    """Whether timelines last until their tracks end, rather than until their last segments do."""

    def __post_init__(self) -> None:
        """Refuse nothing: songs were made with these settings, whatever is refused today."""
