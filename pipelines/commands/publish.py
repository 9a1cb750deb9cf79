"""Publish the tables of a job that was launched, once it has run.

sssl publish --output OUTPUT [--max-churn SHARE] [--abandon]

It decodes and scores nothing, and looks at no catalog: the launch has noted which tables the job
    writes.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.stages.churn import check_churn, require_share
from pipelines.stages.command import StageCommand
from pipelines.stages.context import Context
from pipelines.stages.error_ratio import check_error_ratio
from pipelines.terminal.console import console
from schemas.summaries import EmbeddingsSummary
from sssl.embedding.settings import Origin
from sssl.embedding.table import is_never_finite, require_finite
from sssl.errors import StoreError
from sssl.songs.changes import song_changes
from sssl.store.in_flight import InFlight, give_up, noted, progress
from sssl.store.manifest import Manifest
from sssl.store.publications import last_with_songs


@dataclass(frozen=True)
class Config:
    """Publish the tables of the job that was launched on an output folder, if they are all
    committed."""

    output: str
    """Output folder."""
    abandon: bool = False
    """Give the job up instead, as it failed or was cancelled; parts that it finished stay
    finished."""
    max_churn: float | None = None
    """Publish nothing, and end with exit code 4, if a larger share of the published song labels
    would change; default: what the job was launched with."""

    def __post_init__(self) -> None:
        require_share(self.max_churn)


def run(context: Context, config: Config) -> Context | None:
    """Return the context with the tables of the job in flight."""
    store = context.store
    if config.abandon:
        give_up(store)
        console.print("no job is waited for any more")
        return None
    job = noted(store)
    if job is None:
        nothing = "no job was launched: nothing to publish"
        if config.max_churn is not None:
            # Somebody wants songs that a limit held back.
            raise StoreError(f"{nothing}; launch the songs again, with a larger --max-churn")
        console.print(nothing)
        return None
    made = _made(context, job)
    for manifest in made:
        if manifest.table == "embeddings":
            summary = manifest.about(EmbeddingsSummary)
            if is_never_finite(summary):
                give_up(store)  # no flag lets it through: other jobs need not wait for it
            require_finite(manifest.about(Origin).name, summary)
    context = context.adopt(*made)
    check_error_ratio(context.store, context.snapshot, job.max_error_ratio)
    allowed = job.max_churn if config.max_churn is None else config.max_churn
    changes = song_changes(store, last_with_songs(store), context.snapshot)
    check_churn(store, changes, allowed)
    return context


def _made(context: Context, job: InFlight) -> list[Manifest]:
    store = context.store
    manifests = [store.manifest(*ref.split("/")) for ref in job.tables]
    made = [manifest for manifest in manifests if manifest is not None and store.is_there(manifest)]
    if len(made) < len(job.tables):
        raise StoreError(
            f"the job of {job.stage}, launched at {job.launched_at}, has not committed its tables: "
            f"{progress(store, job)}; if it failed, launch it again, which goes on from there"
        )
    return made


main = StageCommand("publish", Config, run, takes_beam_args=False, joins_job=True).main
