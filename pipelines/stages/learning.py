"""Whether a run learns, or labels what is new with the models that are published: a policy, and its
reason."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from pipelines.stages.context import Context
from pipelines.stages.material import Material
from pipelines.stages.policy import LearnConfig
from pipelines.stages.standing import changed_since_learned, own_config
from schemas.records import dump
from sssl.audio.mel import MelConfig
from sssl.errors import TrainError
from sssl.labels.acceptance import JudgeConfig
from sssl.labels.settings import RelabelConfig
from sssl.model.settings import ScoreConfig, TrainConfig
from sssl.presets import Preset
from sssl.store.manifest import Manifest, Snapshot
from sssl.words import counted


class Decision(NamedTuple):
    """Whether a run learns, and why."""

    learns: bool
    reason: str
    keeps_songs: bool = False
    """Whether the classifier of songs stands, too, whatever became of the labelled tracks."""

    def __str__(self) -> str:
        return f"{'learning' if self.learns else 'not learning'}: {self.reason}"


def decide(context: Context, method: Preset, policy: LearnConfig) -> Decision:
    """Decide whether a run on a segmented catalog learns.

    Raises:
        TrainError: it must not, and there is no published model that could label.
    """
    material = Material.of(context.snapshot)

    def count_changed() -> int:
        return changed_since_learned(context)

    return decide_by(context.published, material, count_changed, method, policy)


def decide_by(
    published: Snapshot,
    material: Material,
    count_changed: Callable[[], int],
    method: Preset,
    policy: LearnConfig,
) -> Decision:
    """Decide whether a run learns from some material, given how to count the labelled tracks that
    changed since the published model learned.

    Raises:
        TrainError: it must not, and there is no published model that could label.
    """
    if not has_learned(published):
        if policy.learn == "never":
            raise TrainError(
                "--learn never: the output folder publishes no model yet; run once with --learn"
                " auto"
            )
        return Decision(True, "no model is published yet")
    if policy.learn == "always":
        return Decision(True, "--learn always")
    if policy.learn == "never":
        _check_fits(published, material)
        reason = "--learn never: the published model labels what is new"
        return Decision(False, reason, keeps_songs=True)
    setting = next(_other_settings(published, material, method), None)
    if setting is not None:
        return Decision(True, f"{setting} changed")
    changed = count_changed()
    if changed >= policy.learn_after:
        tracks = counted(changed, "labelled track")
        return Decision(True, f"{tracks} new, gone or changed since the published model learned")
    if not changed:
        return Decision(False, "no labelled track changed: what is published labels what is new")
    return Decision(
        False,
        f"{counted(changed, 'labelled track')} new, gone or changed, --learn-after "
        f"{policy.learn_after}: the published model labels what is new",
        keeps_songs=True,
    )


def has_learned(published: Snapshot) -> bool:
    """Whether a model is published, and what became of its round."""
    return bool(published.of("models") and published.of("rounds"))


def published_method(published: Snapshot) -> Preset:
    """Return the settings that the published models were made with."""
    return Preset(
        rounds=max(manifest.round or 0 for manifest in published.of("rounds")),
        relabel=published.of("labels")[-1].settings(RelabelConfig),
        train=replace(published.of("models")[-1].settings(TrainConfig), init=None),
        score=published.of("scores")[-1].settings(ScoreConfig),
        judge=published.of("rounds")[-1].settings(JudgeConfig),
    )


def _other_settings(published: Snapshot, material: Material, method: Preset) -> Iterator[str]:
    """Name the settings that the published tables were not made with."""
    asked = {
        "labels": dump(method.relabel),
        "models": dump(material.settled(method.train)),
        "scores": dump(method.score),
        "rounds": dump(method.judge),
    }
    for table, config in asked.items():
        for manifest in published.of(table):
            if table == "labels" and (not manifest.round or _is_as_before(manifest, method)):
                continue
            yield from _differing(manifest, config, free=method.train.left_open())
    last = published.of("rounds")[-1]
    rounds = last.round or 0
    if rounds > method.rounds or (rounds < method.rounds and last.summary.get("accepted")):
        yield f"rounds ({rounds} published, {method.rounds} asked for)"
    if not published.features.settings(MelConfig, "cut").is_alike(material.cut):
        yield "the cut of segments"
    if published.catalog.classes != material.classes:
        yield "--classes"


def _is_as_before(labels: Manifest, method: Preset) -> bool:
    """Whether labels were split by the same settings as earlier versions read them."""
    return own_config(labels) == dump(method.relabel.as_before)


def _differing(
    manifest: Manifest, asked: Mapping[str, Any], free: Collection[str]
) -> Iterator[str]:
    made_with = own_config(manifest)
    names = (asked.keys() | (made_with.keys() - {"judged_by"})) - set(free)
    for name in sorted(names):
        if made_with.get(name) != asked.get(name):
            yield f"{name} ({manifest.stage})"


def _check_fits(published: Snapshot, material: Material) -> None:
    """Check that the published model can label what is, or will be, segmented now.

    Raises:
        TrainError: it has other classes, or takes other segments.
    """
    before = published.features.settings(MelConfig, "cut")
    cut = material.cut
    if not before.is_alike(cut):
        raise TrainError(
            f"--learn never: the published model takes segments as {before}, not {cut}: "
            "leave the flags of the cut as they were, or let the run learn"
        )
    known = published.catalog.classes
    classes = material.classes
    if known != classes:
        raise TrainError(
            f"--learn never: the published model knows the classes {', '.join(known)}, "
            f"not {', '.join(classes)}: leave --classes as it was, or let the run learn"
        )
