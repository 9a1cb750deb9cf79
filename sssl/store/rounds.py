"""The rounds of a snapshot, read back."""

from __future__ import annotations

from schemas import Round
from schemas.summaries import LabelsSummary
from sssl.errors import StoreError
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, Snapshot


def read_rounds(store: Store, snapshot: Snapshot) -> list[Round]:
    """Read the rows of all judged rounds, in order."""
    return [Round(**row) for manifest in snapshot.of("rounds") for row in store.read_table(manifest).to_pylist()]


def has_nothing_to_split(snapshot: Snapshot, round: int) -> bool:
    """Whether a later round's labels are the inherited ones: training on them again would show nothing."""
    labels = [manifest for manifest in snapshot.of("labels") if manifest.round == round]
    return round > 0 and bool(labels) and not labels[0].about(LabelsSummary).noisy


def last_split(snapshot: Snapshot) -> Manifest:
    """Return the labels of the last split made, whatever became of the model that was trained after it; before the
    first those of round 0, in which nothing is noisy.

    Raises:
        StoreError: there are no labels yet.
    """
    return max(snapshot.of("labels"), key=_round_of, default=None) or snapshot.get("labels", 0)


def scores_behind(snapshot: Snapshot, labels: Manifest) -> Manifest | None:
    """Return the scores that labels were split by, those of round 0 where nothing was split; None if unpublished."""
    scores = {manifest.ref: manifest for manifest in snapshot.of("scores")}
    if not labels.round:
        return next(iter(scores.values()), None)
    return next((scores[ref] for ref in labels.parents if ref in scores), None)


def last_accepted(store: Store, snapshot: Snapshot, before: int | None = None) -> Round:
    """Return the last accepted round (before a given one).

    Raises:
        StoreError: none was judged yet.
    """
    accepted = [row for row in read_rounds(store, snapshot) if row.accepted and (before is None or row.round < before)]
    if not accepted:
        raise StoreError("no accepted round yet: run relabel, train, score and judge with --round 0 first")
    return accepted[-1]


def _round_of(manifest: Manifest) -> int:
    return manifest.round or 0
