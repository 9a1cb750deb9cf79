"""Settings of a round's split and of its labels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sssl.config import require
from sssl.labels import mixture as mix
from sssl.labels.evidence import EvidenceConfig


@dataclass(frozen=True)
class RelabelConfig:
    """How a round splits and relabels."""

    tau: float = 0.5
    """A segment is confident if its clean probability is above this."""
    temperature: float = 0.5
    """Sharpening of soft labels: p^(1/T) / sum; 1 leaves them as they are."""
    axis: mix.Axis = "logit"
    """Axis of the mixture: `loss` as in the paper, or `logit`, on which correct labels are closer
    to normal."""
    peaked: bool = True
    """Let the losses of right labels peak more and reach further than one Gaussian does, and give
    the noisy component the same reach; otherwise two Gaussians of any width, as in the paper."""
    clip_quantile: float = 0.005
    """Losses beyond this quantile on either side are clipped before the fit; 0 turns it off."""
    per_class_prior: float | None = 300.0
    """Move the mixture to where each class's easy segments lie, for classes are not equally hard:
    half of the way for a class of so many segments, all of it for a large one; none: one mixture
    for all."""
    min_separation: float | None = 1.5
    """Relabel nothing unless the components are so far apart (Ashman's D) and BIC prefers two;
    none: always split. Only asked where `min_agreement` is not, or the sound of tracks does not
    tell."""
    monotone: bool = True
    """Keep the clean probability from rising with the loss."""
    max_noisy_share: float | None = 0.4
    """Call at most this share of a class's segments noisy, those with the highest loss; none: no
    cap."""
    noisy_weight: float = 0.0
    """Weight of noisy segments in training, labelled with what the model thinks of them; 0 sets
    them aside, for a weak model would learn its own mistakes."""
    evidence: EvidenceConfig = field(default_factory=EvidenceConfig)

    @property
    def as_before(self) -> RelabelConfig:
        """What the same settings meant to versions whose evidence had no second opinion."""
        return replace(self, evidence=self.evidence.as_before)

    def __post_init__(self) -> None:
        require(0 <= self.tau <= 1, "tau", self.tau, "0 to 1")
        require(self.temperature > 0, "temperature", self.temperature, "above 0")
        # From half on nothing is left between the two quantiles.
        clipped = self.clip_quantile
        is_below_half = 0 <= clipped < 0.5
        require(is_below_half, "clip_quantile", clipped, "0 to below 0.5")
        # With 0 a class has a place of its own, however few its segments are.
        prior = self.per_class_prior
        is_count = prior is None or prior >= 0
        require(is_count, "per_class_prior", prior, "0 or more, or None")
        # A share, as somebody may give a percentage.
        cap = self.max_noisy_share
        is_share = cap is None or 0 <= cap <= 1
        require(is_share, "max_noisy_share", cap, "0 to 1, or None")
        require(self.noisy_weight >= 0, "noisy_weight", self.noisy_weight, "0 or more")
