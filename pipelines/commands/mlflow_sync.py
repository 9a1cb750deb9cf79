"""Send MLflow what it missed while its server was away.

sssl mlflow-sync --output OUTPUT [--mlflow-uri URI]
"""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.stages.command import StageCommand
from pipelines.stages.context import Context
from pipelines.terminal.console import console
from sssl.errors import StoreError
from sssl.tracking.mlflow_copy import Refused, Untold
from sssl.tracking.record import FOLDER
from sssl.tracking.tracker import sync
from sssl.words import counted


@dataclass(frozen=True)
class Config:
    """Send MLflow what it missed of the runs into an output folder; what it has is not sent
    again."""

    output: str
    """Output folder of the runs."""
    mlflow_uri: str | None = None
    """MLflow tracking server; default: MLFLOW_TRACKING_URI, else SQLite in a local output
    folder."""


def run(context: Context, config: Config) -> None:
    """Send what is missing and say how much it was."""
    store = context.store
    if not store.names(FOLDER):
        console.print(
            f"no training run is recorded in {store.url(FOLDER)}: nothing to send", soft_wrap=True
        )
        return
    try:
        sent = sync(store, config.mlflow_uri)
    except Refused as error:
        raise StoreError(f"MLflow: {error}") from error
    except Untold as error:
        raise StoreError(
            f"MLflow: {error}; check --mlflow-uri, and try again when it answers"
        ) from error
    console.print(f"{counted(sent, 'record')} sent" if sent else "nothing to send")


main = StageCommand("mlflow-sync", Config, run, takes_beam_args=False).main
