"""Integrity gate: what is wrong with a decoded track, and whether it is used nevertheless."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from sssl.audio.info import AudioInfo
from sssl.config import require
from sssl.words import counted

Policy = Literal["keep", "reject"]
Defect = Literal["too-long", "truncated", "non-finite", "damaged", "clipped", "dc-offset"]
"""Reasons with which a track may be kept as partial."""


@dataclass(frozen=True)
class GateConfig:
    """When a track is suspicious, and what to do with it: `keep` it as partial, or `reject` it as
    failed."""

    silence_db: float = -60.0
    """A track without any segment louder than this RMS level is rejected as silent, in dB re full
    scale."""
    tolerance_s: float = 1.0
    """How much shorter than expected a track may decode before it counts as truncated, in
    seconds."""
    max_s: float = 6 * 3600.0
    """Decode at most this much of a track, in seconds."""
    max_clipped_share: float = 0.01
    """A track with a larger share of samples at or beyond full scale counts as clipped."""
    max_dc_offset: float = 0.01
    """A track whose samples have a larger mean counts as offset, re full scale."""
    on_too_long: Policy = "keep"
    """Tracks longer than `max_s`."""
    on_truncated: Policy = "keep"
    """Tracks of which less decodes than the catalog or the container declares."""
    on_non_finite: Policy = "keep"
    """Tracks with NaN, infinite or huge samples; the segments that have them are left out in any
    case."""
    on_damaged: Policy = "keep"
    """Tracks with packets that cannot be decoded."""
    on_clipped: Policy = "keep"
    """Clipped tracks."""
    on_dc_offset: Policy = "keep"
    """Tracks with a DC offset."""

    def __post_init__(self) -> None:
        require(self.tolerance_s >= 0, "tolerance_s", self.tolerance_s, "0 or more")
        require(self.max_s > 0, "max_s", self.max_s, "above 0")
        # No upper limits: folders may have been made with one that turns a check off.
        clipped = self.max_clipped_share
        require(clipped >= 0, "max_clipped_share", clipped, "0 or more")
        require(self.max_dc_offset >= 0, "max_dc_offset", self.max_dc_offset, "0 or more")

    def policy(self, reason: str) -> Policy:
        """Return what to do with tracks of a reason; what has no setting leaves nothing to keep."""
        policy: Policy = getattr(self, _setting_of(reason), "reject")
        return policy

    def rejecting(self, defects: Iterable[Defect]) -> GateConfig:
        """Return a gate that rejects these defects, too."""
        rejected: dict[str, Any] = dict.fromkeys(map(_setting_of, defects), "reject")
        return replace(self, **rejected)


def _setting_of(reason: str) -> str:
    return "on_" + reason.replace("-", "_")


class Evidence(NamedTuple):
    """What is known of a decoded track."""

    expected_s: float | None  # by the catalog, else by the container
    info: AudioInfo
    segment_s: float
    segments: int  # finite ones
    dropped: int  # segments with samples that are not finite
    loudest_db: float  # the loudest segment


class Verdict(NamedTuple):
    """The reason code of a track's gravest defect and all defects in words; None if there is
    none."""

    reason: str | None
    detail: str | None
    usable: bool


def judge(evidence: Evidence, config: GateConfig) -> Verdict:
    """Judge a track: a defect that its policy rejects comes first, then the gravest."""
    defects = list(_defects(evidence, config))
    if not defects:
        return Verdict(None, None, True)
    rejected = [reason for reason, _ in defects if config.policy(reason) == "reject"]
    reason = rejected[0] if rejected else defects[0][0]
    usable = bool(evidence.segments) and not rejected
    return Verdict(reason, "; ".join(detail for _, detail in defects), usable)


def _defects(found: Evidence, config: GateConfig) -> Iterator[tuple[str, str]]:
    """Yield (reason, detail), the gravest first."""
    info = found.info
    if found.segments and found.loudest_db < config.silence_db:
        yield (
            "silent",
            f"loudest segment {found.loudest_db:.1f} dB, threshold {config.silence_db:.1f} dB",
        )
    if info.limited:
        yield "too-long", f"the limit is {config.max_s:.0f} s"
    elif found.expected_s is not None and info.decoded_s < found.expected_s - config.tolerance_s:
        yield "truncated", f"decoded {info.decoded_s:.1f} of {found.expected_s:.1f} s"
    elif info.ended is False:
        yield "truncated", "the file ends without its end mark, or inside a frame or chunk"
    if found.dropped:
        yield (
            "non-finite",
            f"{counted(found.dropped, 'segment')} with NaN, infinite or huge samples",
        )
    if info.damaged_packets:
        yield "damaged", f"{counted(info.damaged_packets, 'packet')} could not be decoded"
    if not found.segments and not found.dropped:
        yield "too-short", f"decoded {info.decoded_s:.1f} s, a segment is {found.segment_s:.1f} s"
    if info.clipped_share > config.max_clipped_share:
        yield "clipped", f"{info.clipped_share:.1%} of the samples at full scale"
    if abs(info.dc_offset) > config.max_dc_offset:
        yield "dc-offset", f"mean {info.dc_offset:+.3f} of full scale"
