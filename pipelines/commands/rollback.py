"""Publish the tables as of an earlier round: later rounds leave them, songs are made from that
round's scores again.

sssl rollback --output OUTPUT --round R

Nothing is deleted: `sssl run` with the settings of before finds the later rounds and publishes them
again, `rounds = R` stays at R. A takedown deletes what is not published, the later rounds among it.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.commands import report
from pipelines.stages.command import StageCommand
from pipelines.stages.context import Context
from pipelines.terminal.console import console, tell
from sssl.errors import StoreError
from sssl.songs.settings import SongConfig
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.store.rounds import in_use, read_rounds


@dataclass(frozen=True)
class Config:
    """Publish the tables as of an earlier round, with the songs that its scores make."""

    output: str
    """Output folder."""
    round: int
    """Round to go back to: an accepted one."""
    truth: str | None = None
    """CSV of true sections, to measure against in the report."""


def as_of(store: Store, snapshot: Snapshot, round: int) -> Snapshot:
    """Return the snapshot without later rounds, and without what was made from them.

    Raises:
        StoreError: the round was not accepted, or there is none of that number.
    """
    accepted = [row.round for row in read_rounds(store, snapshot) if row.accepted]
    if round not in accepted:
        known = ", ".join(map(str, accepted)) or "none"
        raise StoreError(f"round {round} cannot be gone back to: accepted are {known}")
    kept = [m for m in snapshot.manifests if m.round is None or m.round <= round]
    # The catalog, added anew, takes away the songs, which lost a parent.
    return Snapshot(tuple(kept)).add(snapshot.get("catalog"))


def run(context: Context, config: Config) -> Context:
    """Make the songs of the round and return the context as of it."""
    store = context.store
    snapshot = context.snapshot
    round = config.round
    if in_use(store, snapshot).last.round == round:
        console.print(f"round {round} is in use: nothing to go back to")
        return context
    from pipelines.stages import songs  # here, since it brings Beam along

    settings = snapshot.get("songs").settings(SongConfig)
    earlier = songs.run(context.on(as_of(store, snapshot, round)), settings)
    store.publish(earlier.snapshot)
    report.again(earlier, config.truth)
    tell(f"round {round} is in use; `sssl run` with rounds = {round} in its settings keeps it so")
    return earlier


main = StageCommand("rollback", Config, run).main
