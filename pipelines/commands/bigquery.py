"""Show what is published in BigQuery.

sssl bigquery --output gs://bucket/out --dataset PROJECT.DATASET [--print]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.terminal.console import tell
from pipelines.terminal.flags import complain, parse
from sssl.errors import StoreError
from sssl.export.bigquery import LOADED, script
from sssl.store.folder import Store
from sssl.urls import without_secrets


@dataclass(frozen=True)
class Config:
    """Put the published tables into a dataset of BigQuery, all of them in one transaction."""

    output: str
    """Output folder, in a bucket (`gs://`)."""
    dataset: str
    """Dataset, as `dataset` or `project.dataset`."""
    location: str | None = None
    """Where the dataset lies, as `europe-west4`."""
    print: bool = False
    """Print the statements instead of sending them."""


def main(argv: Sequence[str]) -> int:
    config = parse(Config, argv, "bigquery")
    try:
        store = Store.open(config.output)
        snapshot = store.latest()
        statements = script(store, snapshot, config.dataset)
    except StoreError as error:
        complain(error)
        return 1
    if config.print:
        sys.stdout.write(statements)
        return 0
    if not store.root.startswith("gs://"):
        complain(
            f"{without_secrets(store.root)}: BigQuery reads files in gs:// alone; --print shows the"
            " statements"
        )
        return 1
    from google.api_core.exceptions import GoogleAPIError  # here: to print needs no client
    from google.auth.exceptions import GoogleAuthError
    from google.cloud import bigquery

    try:
        bigquery.Client(location=config.location).query_and_wait(statements)
    except (GoogleAPIError, GoogleAuthError) as error:
        complain(f"{config.dataset} stays as it was: {error}")
        return 1
    shown = ", ".join(f"{name} {sum(m.rows for m in snapshot.of(name))}" for name in LOADED)
    tell(f"{config.dataset} has what is published: {shown}")
    return 0
