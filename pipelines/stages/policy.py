"""When a run trains; apart from what decides it, so that whoever parses flags need not load
Beam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sssl.config import require


@dataclass(frozen=True)
class LearnConfig:
    """When a run trains."""

    learn: Literal["auto", "never", "always"] = "auto"
    """`auto`: train if settings or labelled tracks changed. `never`: label what is new with the
    published model as it is. `always`: train everything anew."""
    learn_after: int = 1
    """With `--learn auto`: train once this many labelled tracks are new, gone or changed since the
    published model was trained; until then that model labels."""

    def __post_init__(self) -> None:
        require(self.learn_after > 0, "learn_after", self.learn_after, "1 or more")
