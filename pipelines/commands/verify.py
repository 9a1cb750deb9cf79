"""Check an output folder against the digests that were noted when it was written.

sssl verify --output OUTPUT [--repair]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.terminal.console import console, printed, tell
from pipelines.terminal.flags import complain, parse
from sssl.errors import StoreError
from sssl.store.folder import Store
from sssl.store.in_flight import refuse_others
from sssl.store.verify import Damage, repair, verify
from sssl.words import counted


@dataclass(frozen=True)
class Config:
    """Read every file of the tables and compare digests; say what is damaged or lost."""

    output: str
    """Output folder."""
    repair: bool = False
    """Set aside what is damaged, so that the command that made it makes it again."""


def main(argv: Sequence[str]) -> int:
    config = parse(Config, argv, "verify")
    store = Store.at(config.output)
    try:
        if not config.repair:
            if _checked(store):
                return 1
            return 0
        with store.hold(tell) as held:
            refuse_others(held)
            damages = _checked(held)
            if damages:
                return _repaired(held, damages)
            return 0
    except StoreError as error:
        complain(error)
        return 1


def _checked(store: Store) -> list[Damage]:
    found = verify(store)
    for damage in found.damages:
        printed.print(str(damage), soft_wrap=True)
    if found.damages:
        damaged = f"{len(found.damages)} damaged or lost"
    else:
        damaged = "all as they were written"
    console.print(
        f"{counted(found.files, 'file')}, {found.bytes / 1e6:.1f} MB: {damaged}", soft_wrap=True
    )
    return found.damages


def _repaired(store: Store, damages: list[Damage]) -> int:
    snapshot = repair(store, damages)
    left = [damage for damage in damages if not damage.can_be_remade]
    published = (
        ", ".join(dict.fromkeys(manifest.table for manifest in snapshot.manifests)) or "nothing"
    )
    then = "`sssl run` with the flags of before makes again what is missing"
    tell(f"set aside; published are {published}; {then}")
    for damage in left:
        complain(str(damage))
    if left:
        return 1
    return 0
