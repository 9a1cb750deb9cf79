"""Run a job's pipeline: Beam options checked, the default runner chosen, progress shown, the result
read back."""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, TestOptions

from pipelines.beam.job import Job
from pipelines.beam.progress import title, watch
from pipelines.errors import HandedOver, JobFailed
from pipelines.terminal.console import console
from sssl.errors import StoreError
from sssl.runtime.cpu_time import CLOCK
from sssl.runtime.reading import READING
from sssl.store.in_flight import InFlight, in_flight, refusal
from sssl.store.manifest import Manifest

DEFAULT_RUNNER = "FnApiRunner"
"""Beam's in-process runner by name: `DirectRunner` would first try to download another one."""

_IN_PROCESS = {"FnApiRunner", "BundleBasedDirectRunner"}
_RAISED_ANEW = re.compile(r" \[while running '.*'\]$")
_OF_STORAGE = re.compile(r"\w+Error: \[Errno (?P<code>\d+)\] (?P<what>.*): '(?P<path>.*)'")
_OF_FOLDER = re.compile(r"sssl\.errors\.\w+: (?P<what>.*)")
LOGGER = logging.getLogger(__name__)


def run_job(
    job: Job, build: Callable[[beam.Pipeline], None], beam_args: Sequence[str]
) -> list[Manifest]:
    """Run the pipeline that `build` wires, unless this very job is committed already; return the
    job's manifests.

    Raises:
        StoreError: the pipeline ended without committing, or another job is in flight.
        JobFailed: the engine gave it up.
        HandedOver: the pipeline is for others to run.
    """
    committed = job.committed()
    if committed is not None:
        console.print(f"{title(job)}: done before")
        return committed
    other = in_flight(job.store)
    if other is not None and other.tables != _refs(job):
        raise StoreError(refusal(job.store, other))
    # Beam logs each bundle's plumbing at INFO and option look-alikes at WARNING.
    # What fails it logs as well as raises.
    logging.getLogger("apache_beam").setLevel(
        logging.ERROR if LOGGER.isEnabledFor(logging.INFO) else logging.CRITICAL
    )
    CLOCK.lap()  # what went before, in this process, is not the job's
    READING.lap()
    with watch(job):
        pipeline = beam.Pipeline(options=beam_options(beam_args))
        build(pipeline)
        _run(pipeline, job, beam_args)
    if pipeline.options.view_as(TestOptions).dry_run:
        raise HandedOver(f"{title(job)}: job built, and not sent", None)
    if _for_launcher(pipeline.options):
        built = f"{title(job)}: job built; once it has run, `sssl publish` publishes its tables"
        raise HandedOver(built, _in_flight(job))
    committed = job.committed()
    if committed is None:
        raise StoreError(
            f"{job.stage}: the pipeline ended without committing {', '.join(job.tables)}"
        )
    return committed


def _in_flight(job: Job) -> InFlight:
    launched_at = datetime.now(UTC).isoformat(timespec="seconds")
    return InFlight(job.stage, job.round, _refs(job), job.own_parts(), launched_at)


def _refs(job: Job) -> tuple[str, ...]:
    return tuple(planned.ref for planned in job.planned)


def _run(pipeline: beam.Pipeline, job: Job, beam_args: Sequence[str]) -> None:
    try:
        pipeline.run().wait_until_finish()
    except Exception as error:
        # In this process an error is our own, and its traceback says where. Any other engine wraps
        # what went wrong there in an error of its kind (RuntimeError, DataflowRuntimeException,
        # RpcError).
        if in_process(beam_args):
            as_it_was = _as_it_was(error)
            if as_it_was is error:
                raise
            raise as_it_was from error
        LOGGER.info("%s failed", title(job), exc_info=True)
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        said = " ... ".join(dict.fromkeys((lines[0], lines[-1])))
        hint = (
            "the same command goes on from the parts that are done; SSSL_LOG=INFO shows all that"
            " the engine said"
        )
        raise JobFailed(f"{title(job)}: the job failed: {said}; {hint}") from error


def _as_it_was(error: Exception) -> Exception:
    """Return an error of the storage, or of an output folder, that the engine raised anew as text;
    else the error."""
    last = str(error).strip().rpartition("\n")[2] if isinstance(error, RuntimeError) else ""
    said = _RAISED_ANEW.sub("", last)
    if storage := _OF_STORAGE.fullmatch(said):
        return OSError(int(storage["code"]), storage["what"], storage["path"])
    if folder := _OF_FOLDER.fullmatch(said):
        return StoreError(folder["what"])
    return error


def launch_nothing(beam_args: Sequence[str]) -> None:
    """Give a template's launcher, which expects a job whatever happens, one that has nothing to
    do."""
    if is_launcher(beam_args):
        with beam.Pipeline(options=beam_options(beam_args)) as pipeline:
            _ = pipeline | beam.Create([None])


def is_launcher(beam_args: Sequence[str]) -> bool:
    """Whether this process only builds a job for a template's launcher."""
    return _for_launcher(beam_options(beam_args))


def beam_options(beam_args: Sequence[str]) -> PipelineOptions:
    """Parse Beam's own options, with the in-process runner as default.

    A template's launcher may add options of a later Beam: they are passed on with a warning.

    Raises:
        SystemExit: with code 2, for any other option that no part of Beam knows; Beam itself would
            only log a warning.
    """
    usage = "sssl COMMAND [flags] -- [Beam's options]"  # the full list would be two screens
    parser = argparse.ArgumentParser(
        prog="sssl ... --", usage=usage, allow_abbrev=False, add_help=False
    )
    parser.register("type", None, str)
    for options in PipelineOptions.__subclasses__():
        # Beam calls this hook on each class of options; there is no public list of known flags.
        options._add_argparse_args(_Lenient(parser))
    known, unknown = parser.parse_known_args(list(beam_args))
    if unknown and known.template_location is None:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    for argument in unknown:
        LOGGER.warning("Beam does not know %s, which the launcher gave it", argument)
    given = list(beam_args)
    if not any(arg.split("=")[0] == "--runner" for arg in given):
        given.append(f"--runner={DEFAULT_RUNNER}")
    # Dataflow's runner would send along what it finds in the module that was started, which has
    # nothing of ours.
    return PipelineOptions([*given, "--no_save_main_session"])


def _for_launcher(options: PipelineOptions) -> bool:
    return options.view_as(GoogleCloudOptions).template_location is not None


def in_process(beam_args: Sequence[str]) -> bool:
    """Whether the pipeline runs in this process, which then has the machine's cores for itself."""
    runner = str(beam_options(beam_args).get_all_options()["runner"])
    mode = str(beam_options(beam_args).get_all_options()["direct_running_mode"])
    return runner in _IN_PROCESS and mode == "in_memory"


class _Lenient:
    """Adds options to a parser as Beam does: the first class that declares a flag has it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser

    def add_argument(self, *args: str, **kwargs: object) -> None:
        try:
            self._parser.add_argument(*args, **kwargs)  # type: ignore[arg-type]
        except argparse.ArgumentError:
            return

    def __getattr__(self, name: str) -> object:
        return getattr(self._parser, name)
