"""Have a stage work again on a folder in which it is done."""

import shutil
from pathlib import Path

from sssl.store.layout import PARTS, RECEIPTS


def forget(store, table):
    """Delete a table with its parts and receipts, or the next run would take what is there for its
    own."""
    for folder in (table, f"{PARTS}/{table}", f"{RECEIPTS}/{table}"):
        shutil.rmtree(Path(store.root, folder), ignore_errors=True)
