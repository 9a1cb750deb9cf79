"""How often a round's verdict is wrong, and what hangs on it: simulated pairs of models.

PYTHONPATH=. python tests/bench/verdicts.py

A track has a margin, the log odds by which its music favours its label (normal with deviation 1.5;
three quarters are above 0). A model sees it with an error, a part of which the tracks of an artist
share. Its deviation is such that two trainings of one model disagree on 12 % of the tracks, as
measured. The round's margins are shifted until it is so many points more accurate. Each case is
judged twice, by models that were trained twice: as on two machines that round differently.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from sssl.labels.acceptance import JudgeConfig, decide
from sssl.labels.comparison import JudgedTracks, compare

MARGIN, ERROR, ACCURACY = 1.5, 0.53, 0.75
HELD_OUT = 13
CHANGES = (-8, -4, 0, 4, 8)
SHARE_OF_ROUND = {"accepted": 1.0, "undecided": 0.5, "kept": 0.0}
"""How much of the round's posterior is in what is published."""


@dataclass(frozen=True)
class Tracks:
    """Labelled tracks; those of a group have a share of a model's error in common."""

    count: int
    groups: int
    shared: float

    @property
    def group(self):
        return np.arange(self.count) * self.groups // self.count

    def margins(self, random):
        return random.normal(norm.ppf(ACCURACY) * np.hypot(MARGIN, ERROR), MARGIN, self.count)

    def seen(self, margins, points, random):
        """Return what a parent and a round make of margins [N]: posteriors at the label [2, N]."""
        better = (norm.ppf(ACCURACY + points / 100) - norm.ppf(ACCURACY)) * np.hypot(MARGIN, ERROR)
        common, own = (
            random.normal(size=(2, self.groups))[:, self.group],
            random.normal(size=(2, self.count)),
        )
        error = ERROR * (np.sqrt(self.shared) * common + np.sqrt(1 - self.shared) * own)
        return expit(margins + np.array([[0.0], [better]]) + error)


CATALOGS = {
    "one track a group": Tracks(55, 55, 0.0),
    "14 groups, 30 % of the error in common": Tracks(55, 14, 0.3),
}


@dataclass(frozen=True)
class Rates:
    """Shares of verdicts, and of those that training again turns; then percent of the tracks:
    labels that change by that, and what the published labels gain over the parent's."""

    accepted: float
    undecided: float
    kept: float
    turned: float
    labels_changed: float
    gained: float


def by_log_loss(tracks, seen):
    """The rule as it is."""
    posteriors = [np.stack([p, 1 - p], axis=1) for p in seen]
    none = np.zeros(tracks.count, np.int64)
    judged = JudgedTracks(none, tracks.group, none.astype(bool), *posteriors)
    return decide(compare(judged), JudgeConfig())[0]


def by_held_out_accuracy(tracks, seen):
    """The rule as it was: with few held-out tracks a fall of one is enough to reject."""
    parent, round = (seen[:, -HELD_OUT:] > 0.5).sum(axis=1)
    return "accepted" if round >= parent else "kept"


RULES = {"held-out accuracy (before)": by_held_out_accuracy, "log loss (now)": by_log_loss}


def published(verdict, seen):
    """Which tracks get their label."""
    share = SHARE_OF_ROUND[verdict]
    return (1 - share) * seen[0] + share * seen[1] > 0.5


def rates(rule, tracks, points, repetitions):
    """Judge so many cases, each twice."""
    random = np.random.default_rng(0)
    verdicts, changed, gained = [], [], []
    for _ in range(repetitions):
        margins = tracks.margins(random)
        once, again = (tracks.seen(margins, points, random) for _ in range(2))
        found = rule(tracks, once), rule(tracks, again)
        verdicts.append(found)
        changed.append(np.mean(published(found[0], once) != published(found[1], once)))
        gained.append(np.mean(published(found[1], once)) - np.mean(once[0] > 0.5))
    flat = [verdict for pair in verdicts for verdict in pair]
    shares = [flat.count(name) / len(flat) for name in SHARE_OF_ROUND]
    return Rates(
        *shares,
        np.mean([a != b for a, b in verdicts]),
        100 * np.mean(changed),
        100 * np.mean(gained),
    )


def table(repetitions=2000):
    """Return the rates of both rules as Markdown."""
    lines = [
        "| | true change | accepted | undecided | kept | turned | labels changed by that | gained |"
    ]
    lines.append("|---" * 8 + "|")
    for kind, tracks in CATALOGS.items():
        for name, rule in RULES.items():
            for points in CHANGES:
                found = rates(rule, tracks, points, repetitions)
                shares = [found.accepted, found.undecided, found.kept, found.turned]
                cells = [
                    f"{name}, {kind}",
                    f"{points:+d}",
                    *(f"{100 * share:.0f} %" for share in shares),
                ]
                cells += [f"{found.labels_changed:.1f} %", f"{found.gained:+.1f}"]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())  # noqa: T201
