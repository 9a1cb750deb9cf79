"""Settings of training and scoring; apart from both, so that whoever only reads them need not load
torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from schemas.records import later
from sssl.audio.mel import MelConfig
from sssl.catalog.assign import FEWEST_OF_CLASS
from sssl.config import require
from sssl.errors import TrainError

FRONT_END_NAMES = ("cnn", "resnet", "attention")
"""What `model` takes; the networks themselves are in sssl/model/networks.py."""
# How often its pooling halves a spectrogram. A strided convolution takes any size.
_HALVED = {"cnn": 4, "attention": 4}
_NOT_NEGATIVE = (
    "weight_decay",
    "mixup_alpha",
    "lambda_noisy",
    "lambda_consistency",
    "lambda_prior",
)
_WARMUP_EPOCHS = 12
_WARMUP_EPOCHS_OF_PLAIN_MEMBERS = 7


@dataclass(frozen=True)
class AugmentConfig:
    """How a training view is made from a segment."""

    gain_db: float = 6.0
    """Level change, uniform within plus or minus this, in dB."""
    mel_mask: int = 8
    """Longest SpecAugment mask over mel bands; 0 turns it off."""
    frame_mask: int = 12
    """Longest SpecAugment mask over frames; 0 turns it off."""

    def __post_init__(self) -> None:
        require(0 <= self.gain_db < math.inf, "gain_db", self.gain_db, "a number of 0 or more")
        require(self.mel_mask >= 0, "mel_mask", self.mel_mask, "0 or more")
        require(self.frame_mask >= 0, "frame_mask", self.frame_mask, "0 or more")


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained on the labels of a round."""

    model: str = "cnn"
    """Front-end of the members."""
    init: str | None = None
    """Start round 0 from the weights in this `model.safetensors` (a path or any fsspec URL) instead
    of random ones; the head only if the classes are the same. Weights that have seen this
    catalog's labels make its cross-fitting invalid."""
    cross_fit: bool = True
    """Train one member per fold, each without that fold; otherwise one member on everything."""
    # On real clips labels were as good after 7 as after 12
    # (docs/log/2026-11-28-seven-epochs-for-the-members-of-an-ensemble.md).
    warmup_epochs: int | None = None
    """Epochs of round 0, on inherited labels. None: 7 for cross-fitted members where `plain_from`
    applies, since averaging them makes up for the shorter training; 12 otherwise."""
    epochs: int = 4
    """Epochs of each later round, starting from the last accepted model."""
    patience: int | None = None
    """Stop a member after this many epochs without a lower loss on the fold that it leaves out, and
    keep its best epoch; needs cross-fitting, and lets the left-out labels choose the epoch. None:
    all epochs, for which the schedule is made."""
    # On 335 labelled clips single segments had the better likelihood, on 114 piano pieces bags did
    # (docs/log/2026-11-26-how-the-network-is-trained-by-the-number-of-labelled-tracks.md). Below
    # the limit nothing changed, so that no model was trained again without need.
    plain_from: int | None = later(200, neutral=None)
    """Train on single segments and without mixup if this many train tracks or more have a label:
    then bags and mixup do more harm than good (docs/method.md); none: never."""
    # With 30 % of segments planted: segments right 0.455 -> 0.488, songs 0.44 -> 0.50
    # (docs/log/2026-11-21-learning-from-planted-noise.md).
    bag: int = 4
    """Compare the label with the mean posterior of this many segments of a track, since the label
    belongs to the track; 1: with the posterior of each segment."""
    # Batches of 128 at twice the rate took half the time on a GPU, but the loss on new tracks was
    # 1.098 instead of 1.016 (docs/log/2026-11-26-from-parquet-to-the-gpu.md).
    batch_size: int = 32
    """Segments per step."""
    shards: Literal["auto", "never", "always"] = later("auto", neutral="never")
    """Copy labelled features into shuffled shards first and learn from these; `auto`: if they take
    more than `memory_gb`. A published model stays, whichever way it was trained."""
    memory_gb: float | None = later(4.0, neutral=None)
    """Memory that labelled features may take, in GB, before they are copied to shards; none: any
    amount."""
    # Two bags of four. Of a million tracks all segments would take a GPU 60 hours, these 7.5
    # (extrapolated in docs/log/2026-11-27-a-million-labelled-tracks.md).
    track_segments: int | None = later(8, neutral=None)
    """With shards and `thin_from` labelled train tracks or more, an epoch uses about this many
    segments of each track, and the next epoch others; none: all of them."""
    thin_from: int | None = later(100_000, neutral=None)
    """See `track_segments`; none: any number of tracks is enough."""
    # Three times that was worse in one fold of 335 clips and better in another (the page named at
    # `plain_from`).
    learning_rate: float = 2e-3
    """Peak of the one-cycle schedule of round 0; later rounds peak at a third of it."""
    weight_decay: float = 1e-3
    """Decoupled weight decay (AdamW)."""
    ema: float = 0.99
    """Decay per step of the averaged weights that become the model; 0: the last weights."""
    mixup_alpha: float = 0.5
    """Beta parameter of mixup; 0 turns it off."""
    warmup_mixup: bool = True
    """Use mixup in round 0 too."""
    label_smoothing: float = 0.0
    """Share of each soft label that is spread evenly over the classes."""
    class_balance: float = 0.0
    """Weight classes by their frequency to the power of minus this: with 1 all classes count the
    same, with 0 all segments."""
    lambda_noisy: float = 1.0
    """Weight of the loss of noisy segments, ramped up linearly over a round."""
    lambda_consistency: float = 0.0
    """Weight of the KL divergence between two views; anything above 0 doubles the cost of a
    step."""
    lambda_prior: float = 0.1
    """Weight of the KL divergence between class shares and the mean posterior."""
    seed: int = 0
    """Seed of all random numbers in training."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        require(
            self.model in FRONT_END_NAMES,
            "model",
            self.model,
            f"one of {', '.join(FRONT_END_NAMES)}",
        )
        require(self.batch_size > 1, "batch_size", self.batch_size, "2 or more")
        require(0 < self.bag <= self.batch_size, "bag", self.bag, "1 to batch_size")
        segments = self.track_segments
        require(segments is None or segments > 0, "track_segments", segments, "1 or more, or None")
        warmup = self.warmup_epochs
        require(warmup is None or warmup > 0, "warmup_epochs", warmup, "1 or more, or None")
        require(self.epochs > 0, "epochs", self.epochs, "1 or more")
        rate = self.learning_rate
        require(0 < rate < math.inf, "learning_rate", rate, "a number above 0")
        for name in _NOT_NEGATIVE:
            value = getattr(self, name)
            require(0 <= value < math.inf, name, value, "a number of 0 or more")
        require(0 <= self.ema < 1, "ema", self.ema, "0 to below 1")
        require(
            0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "0 to below 1"
        )
        require(0 <= self.class_balance <= 1, "class_balance", self.class_balance, "0 to 1")
        require(
            self.plain_from is None or self.plain_from > 0,
            "plain_from",
            self.plain_from,
            "1 or more, or None",
        )
        if self.patience is not None:
            require(self.patience > 0, "patience", self.patience, "1 or more")
            require(
                self.cross_fit,
                "patience",
                self.patience,
                "none with --no-cross-fit: no fold is left out",
            )

    def epochs_of(self, round: int) -> int:
        """Return how many epochs a round has."""
        if round:
            return self.epochs
        return _WARMUP_EPOCHS if self.warmup_epochs is None else self.warmup_epochs

    def left_open(self) -> tuple[str, ...]:
        """Name the settings that `settled` chooses by the size of the catalog, and which are no
        reason to train a model again."""
        reading = ("shards", "track_segments") if self.shards == "auto" else ()
        length = ("warmup_epochs",) if self.warmup_epochs is None else ()
        return reading + length

    def begun_as(self, settled: TrainConfig) -> list[TrainConfig]:
        """Return how a training may have been begun with these settings: as they are `settled` now,
        while there was less to read, or by a version that had 12 epochs for all."""
        ways = [settled]
        if self.shards == "auto":
            ways.append(settled.on_parts())
        if self.warmup_epochs is None:
            ways += [replace(way, warmup_epochs=_WARMUP_EPOCHS) for way in ways]
        return ways

    def on_parts(self) -> TrainConfig:
        """Return the settings for training that reads parts, not shards."""
        return replace(self, shards="never", track_segments=None)

    def settled(self, labelled_tracks: int, labelled_bytes: float = 0.0) -> TrainConfig:
        """Return the settings for so many labelled train tracks, whose features take so much: what
        a model is trained with, and named after."""
        # Without the limits: a model is named after how it was trained, not after the limits that
        # led to that.
        settled = replace(self, plain_from=None, thin_from=None, memory_gb=None)
        epochs = self.epochs_of(0)
        if self.plain_from is not None and labelled_tracks >= self.plain_from:
            settled = replace(settled, bag=1, mixup_alpha=0.0)
            if self.cross_fit and self.warmup_epochs is None:
                epochs = _WARMUP_EPOCHS_OF_PLAIN_MEMBERS
        settled = replace(settled, warmup_epochs=epochs)
        is_large = self.memory_gb is not None and labelled_bytes > self.memory_gb * 1e9
        if self.shards == "never" or (self.shards == "auto" and not is_large):
            return settled.on_parts()
        if self.thin_from is not None and labelled_tracks < self.thin_from:
            settled = replace(settled, track_segments=None)
        return replace(settled, shards="always")


@dataclass(frozen=True)
class ScoreConfig:
    """How segments are scored."""

    views: int = 1
    """Average the posterior over so many rotated views of a segment; each costs one more pass."""
    score_batch: int = 32
    """Segments a forward pass; 8 to 32 are best on a CPU. A GPU takes 2,048 or more, or half of
    that, and so on, where its memory is full."""
    average_members: bool = True
    """Score tracks that no member trained on (held out, unlabelled) by the mean of all members:
    better labels for new music, and as many passes over it as there are members."""

    def __post_init__(self) -> None:
        require(self.views > 0, "views", self.views, "1 or more")
        require(self.score_batch > 0, "score_batch", self.score_batch, "1 or more")


def smallest_side(model: str) -> int:
    """Return how many mel bands, and frames, a front-end needs at least."""
    halved = _HALVED.get(model, 0)
    return int(2**halved)


def check_size(model: str, cut: MelConfig) -> None:
    """Check that segments are large enough for a front-end.

    Raises:
        ConfigError: they are not.
    """
    mels, frames = cut.shape
    least = smallest_side(model)
    require(mels >= least, "mels", mels, f"{least} or more for model {model}")
    require(
        frames >= least,
        "segment_s",
        cut.segment_s,
        f"{least} frames or more for model {model}, not {frames}",
    )


def check_trainable(by_fold: Mapping[str, Sequence[int]], cross_fit: bool) -> None:
    """Check the labelled train tracks of each class, by fold, before anything expensive starts.

    Raises:
        TrainError: no label at all, or a class with too few tracks to learn and to check.
    """
    first = next(untrainable(by_fold, cross_fit), None)
    if first is not None:
        raise TrainError(first)


def untrainable(by_fold: Mapping[str, Sequence[int]], cross_fit: bool) -> Iterator[str]:
    """Say of each class that cannot be learned why, by its labelled train tracks in each fold."""
    if not any(map(sum, by_fold.values())):
        yield "no track has a label: give a `label` column in the catalog, or --labels labels.csv"
        return
    for name, counts in by_fold.items():
        if sum(counts) < FEWEST_OF_CLASS:
            tracks = "no usable track" if sum(counts) == 0 else "a single usable track"
            yield (
                f"class {name} has {tracks} to train on, expected at least {FEWEST_OF_CLASS}:"
                " label more, or leave it out of --classes"
            )
        elif cross_fit and sum(count > 0 for count in counts) < 2:
            yield (
                f"all {sum(counts)} usable tracks of class {name} are in one fold, so whatever"
                " scores them has never seen the class: check group_id, label more, or train one"
                " model with --no-cross-fit"
            )
