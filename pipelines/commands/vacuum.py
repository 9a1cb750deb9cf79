"""Delete old generations of tables: never what is published, or what that takes over.

sssl vacuum --output OUTPUT --keep N | --older-than DAYS [--delete]
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from pipelines.stages.command import StageCommand
from pipelines.stages.context import Context
from pipelines.terminal.console import tell
from sssl.config import require
from sssl.errors import ConfigError
from sssl.removal.vacuum import IsOld, beyond, delete, find_old, older_than
from sssl.words import counted

_MOST_DAYS = 36_500  # a century; no date is some 740,000 days ago


@dataclass(frozen=True)
class Config:
    """Say which old generations of tables could go, and with `--delete` delete them."""

    output: str
    """Output folder."""
    keep: int | None = None
    """Generations of each table (and round) that stay, the newest ones."""
    older_than: float | None = None
    """Days after which a generation may go."""
    delete: bool = False
    """Delete them; without it nothing is touched."""

    def __post_init__(self) -> None:
        require(self.keep is None or self.keep > 0, "keep", self.keep, "1 or more")
        require(
            self.older_than is None or 0 <= self.older_than <= _MOST_DAYS,
            "older_than",
            self.older_than,
            f"0 to {_MOST_DAYS} days",
        )
        if (self.keep is None) == (self.older_than is None):
            raise ConfigError("say what is old: either --keep N or --older-than DAYS")


def run(context: Context, config: Config) -> None:
    """Find what may go, say it, and delete it if that is asked for."""
    old = find_old(context.store, _rule(config))
    by_table = Counter(ref.partition("/")[0] for ref in old.generations)
    tables = ", ".join(f"{table} {count}" for table, count in sorted(by_table.items()))
    found = counted(len(old.generations), "old generation")
    if tables:
        found += f" ({tables})"
    size = f"{counted(len(old.files), 'file')}, {sum(old.files.values()) / 1e6:.1f} MB"
    if config.delete:
        delete(context.store, old)
        tell(f"{found} deleted: {size}")
    else:
        tell(f"{found} could go: {size}; `--delete` deletes them")


def _rule(config: Config) -> IsOld:
    if config.keep is not None:
        return beyond(config.keep)
    assert config.older_than is not None  # one of the two is given
    return older_than(config.older_than)


main = StageCommand("vacuum", Config, run, takes_beam_args=False).main
