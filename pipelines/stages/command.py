"""What all stages do alike: parse flags, hold the output folder, publish, and turn errors into exit
codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.errors import ChurnExceeded, ErrorRatioExceeded, HandedOver, JobFailed
from pipelines.stages.context import Context
from pipelines.stages.settings_file import OfSettings, parse_with_settings
from pipelines.terminal.console import console, tell
from pipelines.terminal.flags import complain, parse, split_beam_args
from sssl.errors import CatalogError, ConfigError, DeviceError, StoreError, TrainError
from sssl.runtime.fork_server import copy_as_server
from sssl.store.folder import Store
from sssl.store.in_flight import land, launched, refuse_others
from sssl.store.manifest import Snapshot
from sssl.store.publications import last_known


@dataclass(frozen=True)
class StageCommand:
    """A command that works on the published tables of an output folder, which no other writes to at
    the same time.

    `config` declares its flags, `output` among them. `run` takes the parsed ones and returns what
    is to be published, None if that stays as it is. `of_settings` says what of its config comes
    from the settings file, and from the preset below it. One that `creates` starts a folder where
    there is none.
    """

    name: str
    config: type
    run: Callable[[Context, Any], Context | None]
    of_settings: OfSettings | None = None
    creates: bool = False
    takes_beam_args: bool = True
    joins_job: bool = False
    """Whether it is for the job in flight, whatever its stage is."""
    copies_itself: bool = False
    """Whether decoders are forked from a copy of this process; only for a command that has not
    loaded torch when it starts."""

    def main(self, argv: Sequence[str]) -> int:
        """Run the command and return its exit code."""
        return self.execute(*self.parse(argv))

    def parse(self, argv: Sequence[str]) -> tuple[Any, list[str]]:
        """Parse flags into the config, and split off Beam's options."""
        flags, beam_args = split_beam_args(argv) if self.takes_beam_args else (list(argv), [])
        if self.of_settings is None:
            return parse(self.config, flags, self.name), beam_args
        return parse_with_settings(self.config, flags, self.name, self.of_settings), beam_args

    def execute(self, config: Any, beam_args: Sequence[str]) -> int:
        """Run on the published tables, publish what was made, and return the exit code."""
        if self.copies_itself:
            copy_as_server("sssl.audio.cut")  # before there are threads, and a lock on the folder
        if self.takes_beam_args:
            # Here: other commands need no Beam.
            from pipelines.beam.execute import beam_options, launch_nothing

            beam_options(beam_args)
        try:
            with Store.open(config.output, create=self.creates).hold(tell) as store:
                if not self.joins_job:
                    refuse_others(store, self.name)
                context = Context(store, store.latest(), beam_args, published=last_known(store))
                self._run(context, config)
                if self.takes_beam_args:
                    launch_nothing(beam_args)
        except HandedOver as message:
            tell(str(message))
        except (CatalogError, ConfigError, DeviceError, StoreError, TrainError) as error:
            complain(error)
            return 1
        except ErrorRatioExceeded as error:
            complain(error)
            return 3
        except ChurnExceeded as error:
            complain(error)
            return 4
        except BaseException as error:
            if _interrupted(error):
                console.print("stopped; the same command goes on from here")
                return 130
            if isinstance(error, JobFailed):
                complain(error)
                return 1
            raise
        return 0

    def _run(self, context: Context, config: Any) -> None:
        published = context.snapshot
        store = context.store
        try:
            made = self.run(context, config)
        except HandedOver as handed:
            if handed.job is not None:
                launched(store, handed.job)
            raise
        except ErrorRatioExceeded as error:
            # Readers keep what they have; of a first run they get the ledger, to see what went
            # wrong.
            if error.snapshot.covers(published):
                store.publish(error.snapshot)
            # A publication that is tried again must find the job, or it would see nothing wrong.
            if not self.joins_job:
                land(store)
            raise
        if made is not None:
            _tell_withdrawn(published, made.snapshot)
            store.publish(made.snapshot)
            land(store)


def _tell_withdrawn(published: Snapshot, made: Snapshot) -> None:
    """Say which tables readers lose because they were made from older ones."""
    kept = {(manifest.table, manifest.round) for manifest in made.manifests}
    lost = []
    for manifest in published.manifests:
        table, round = manifest.table, manifest.round
        if (table, round) not in kept:
            lost.append(table if round is None else f"{table} {round}")
    if lost:
        tell(f"no longer published, made from what has just changed: {', '.join(lost)}")


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error; Beam raises another one from it."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt) or str(error).startswith("KeyboardInterrupt"):
            return True
        error = error.__cause__ or error.__context__
    return False
