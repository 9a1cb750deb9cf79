"""How many song labels a publication may change."""

from __future__ import annotations

from pipelines.errors import ChurnExceeded
from pipelines.terminal.flags import warn
from sssl.config import require
from sssl.songs.changes import SongChanges
from sssl.store.folder import Store
from sssl.store.publications import songs_were_deleted


def require_share(allowed: float | None) -> None:
    """Check what `--max-churn` was given.

    Raises:
        ConfigError: it is no share.
    """
    valid = allowed is None or 0 <= allowed <= 1
    require(valid, "max_churn", allowed, "a share from 0 to 1")


def check_churn(store: Store, changes: SongChanges | None, allowed: float | None) -> None:
    """Refuse a publication that changes more labels than expected; say so where nobody can tell.

    Raises:
        ChurnExceeded: it does.
    """
    if allowed is None:
        return
    if changes is None and songs_were_deleted(store):
        warn(
            f"--max-churn {allowed}: the songs that were published before are gone, as after a"
            " takedown, so nothing tells how many labels change, and all are published"
        )
    if changes is not None and changes.share > allowed:
        raise ChurnExceeded(
            f"{changes} would change, --max-churn allows {allowed:.1%}: what is published stays."
            " The new tables are kept, too; the same command with a larger --max-churn publishes"
            " them"
        )
