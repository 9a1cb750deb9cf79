"""Publish the tables as of an earlier round: later rounds leave them, songs are made from that round's scores again.

sssl rollback --output OUTPUT --round R

Nothing is deleted: `sssl run` with the flags of before finds the later rounds and publishes them again, `--rounds R`
stays at R. A takedown deletes what is not published, the later rounds among it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from pipelines.commands import report
from pipelines.stages import songs
from pipelines.stages.command import stage
from pipelines.terminal.console import console
from pipelines.terminal.flags import parse, split_beam_args
from sssl.errors import StoreError
from sssl.songs.classifier import SongConfig
from sssl.store.folder import Snapshot, Store
from sssl.store.rounds import last_accepted, read_rounds


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
    return Snapshot(tuple(kept)).add(snapshot.get("catalog"))  # without the songs, which lost a parent


def run(store: Store, snapshot: Snapshot, config: Config, beam_args: Sequence[str]) -> Snapshot:
    """Make the songs of the round and return the snapshot as of it."""
    if last_accepted(store, snapshot).round == config.round:
        console.print(f"round {config.round} is in use: nothing to go back to")
        return snapshot
    used = snapshot.get("songs").config
    settings = SongConfig(**{field.name: used[field.name] for field in fields(SongConfig) if field.name in used})
    earlier = songs.run(store, as_of(store, snapshot, config.round), songs.Config(config.output, settings), beam_args)
    store.publish(earlier)
    if config.truth:
        report.run(store, earlier, report.Config(config.output, config.truth))
    else:
        report.again(store, earlier)
    console.print(f"round {config.round} is in use; `sssl run --rounds {config.round}` keeps it so", soft_wrap=True)
    return earlier


def main(argv: Sequence[str]) -> int:
    flags, beam_args = split_beam_args(argv)
    return stage(parse(Config, flags, "rollback"), run, beam_args)
