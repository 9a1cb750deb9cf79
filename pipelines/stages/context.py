"""What a stage works with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sssl.store.folder import Store
from sssl.store.layout import SEGMENTED
from sssl.store.manifest import Manifest, Snapshot
from sssl.tracking.tracker import Tracker, Untracked

_HISTORY = ("previous", "again", "tables")
"""Settings of the segment stage that name a generation and decide no row of it."""


@dataclass(frozen=True)
class Context:
    """An output folder that the process holds, and the tables to go on from. A stage returns one
    with its own tables.

    `beam_args` are Beam's own options; `tracker` takes what is logged, None if the stage runs by
    itself. `published` is what readers had when the command began: what of it stands is taken
    over. Where the command `keeps_learned` things, what was learned stands whatever became of the
    labelled tracks; where it `keeps_songs`, so does the classifier of songs, which is learned in
    seconds, and from more than networks are: embeddings, sound, valence and arousal.
    """

    store: Store
    snapshot: Snapshot
    beam_args: Sequence[str] = ()
    tracker: Tracker | Untracked | None = None
    published: Snapshot = Snapshot()
    keeps_learned: bool = False
    keeps_songs: bool = False

    def add(self, *manifests: Manifest) -> Context:
        """Return the context with tables in the place of their predecessors."""
        snapshot = self.snapshot
        for manifest in manifests:
            snapshot = snapshot.add(manifest)
        return self.on(snapshot)

    def adopt(self, *manifests: Manifest) -> Context:
        """Return the context with the tables of a job, and with what they were made from where that
        is new.

        Segments, features and a ledger that are as before, and were made by the same settings, stay
        (after a retry in vain), and so does what was made from them.
        """
        known = {manifest.ref for manifest in self.snapshot.manifests}
        new = {ref for manifest in manifests for ref in manifest.parents} - known
        context = self.add(*map(self.store.named, sorted(new)))
        segmented = [m for table in SEGMENTED for m in context.snapshot.of(table)]
        before = [(m.digest, _without_history(m)) for m in segmented]
        return context.add(*(m for m in manifests if (m.digest, _without_history(m)) not in before))

    def on(self, snapshot: Snapshot) -> Context:
        """Return the context with other tables."""
        return replace(self, snapshot=snapshot)


def _without_history(segmented: Manifest) -> dict[str, Any]:
    return {name: value for name, value in segmented.config.items() if name not in _HISTORY}
