"""`sssl`: one command per stage, and `run` for all of them."""

from __future__ import annotations

import argparse
import atexit
import gc
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from types import ModuleType
from typing import Any

from pipelines.terminal.extras import how_to_install
from pipelines.terminal.logs import FORMATS, configure
from sssl.errors import ConfigError

COMMANDS = {
    "run": "label a whole catalog: all stages, resumable",
    "label": "label files, folders or catalogs with a model that is there",
    "plan": "say what a run would decode and why",
    "estimate": "say what a run would take in hours, storage and money",
    "import": "make a catalog of a published data set: 4Q, PMEmo, EmoMusic, DEAM",
    "segment": "decode tracks and cut them into log-mel segments",
    "embed": "embed every segment by a pretrained network",
    "relabel": "split segments into confident and noisy, write a round's labels",
    "shards": "copy what training reads into shuffled shards, for millions of segments",
    "train": "train a round's model on its labels",
    "score": "score every segment with a round's model",
    "judge": "accept a round's model, keep its parent's, or let both label",
    "songs": "aggregate segments to an emotion and a timeline for each track",
    "report": "write the HTML report",
    "evaluate": "compare methods by cross-validation: inherited labels, paper, guarded, pruning",
    "sql": "query the tables with DuckDB",
    "tables": "list the tables with rows and files",
    "bigquery": "show what is published in BigQuery",
    "iceberg": "register what is published in an Iceberg catalog",
    "export": "write song labels as CSV, Parquet, JAMS, tags or playlists",
    "explain": "tell the story of one track, from its file to its label",
    "review": "listen to what looks wrong and correct it, on a page of this machine",
    "suggest": "say which unlabelled tracks to label next",
    "diff": "say what changed between two output folders or two rounds",
    "rollback": "publish the tables as of an earlier round",
    "mlflow-sync": "send MLflow what it missed while its server was away",
    "publish": "publish the tables of a job that was launched on Dataflow",
    "verify": "check all files against their digests, set aside what is damaged",
    "vacuum": "delete old generations of tables, never what is published",
    "takedown": "remove tracks from every table and round",
    "demo": "make a small catalog of synthesized music and label it",
}

LOGGER = logging.getLogger(__name__)
_STAGES = frozenset({"segment", "embed", "relabel", "shards", "train", "score", "judge", "songs"})
_MODULES = {"import": "importers", "mlflow-sync": "mlflow_sync"}  # names that no module can have


def module_of(command: str) -> ModuleType:
    """Import the module of a command."""
    folder = "stages" if command in _STAGES else "commands"
    return importlib.import_module(f"pipelines.{folder}.{_MODULES.get(command, command)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0 done, 1 failed, 2 misused, 3 too many tracks failed, 4 too many
    labels would change, 130 stopped."""
    said, args = _take_talk(sys.argv[1:] if argv is None else argv)
    leading = 2 if args[:1] == ["--print-completion"] else 1
    command = _parser().parse_args(args[:leading]).command
    # Set before any heavy import: MLflow and Beam talk at import, and torch's pool must not fight
    # our own.
    warnings.filterwarnings("ignore", category=FutureWarning)
    level = "INFO" if said.verbose else os.environ.get("SSSL_LOG", "WARNING")
    try:
        configure(command, level, said.log_format)
    except ConfigError as error:
        from pipelines.terminal.flags import complain  # here, like what is below

        complain(error)
        return 2
    try:
        from pipelines.terminal.console import console  # here: Ctrl-C amid imports is quiet, too

        console.quiet = said.quiet
        # What a program imports stays; in a process that goes on, other things would stay, too.
        with _uncollected() if argv is None else nullcontext():
            module = module_of(command)
        code = int(module.main(args[1:]))
        sys.stdout.flush()  # here, where somebody notices that it fails
        return code
    except KeyboardInterrupt:
        return 130  # amid its imports, or a command that only looks
    except BrokenPipeError:
        from pipelines.terminal.storage import leave_output  # here, like what is below

        return leave_output()
    except ImportError as error:
        advice = how_to_install(command, error)
        if advice is None:
            raise
        from pipelines.terminal.flags import complain  # here, like what is above

        complain(advice)
        return 1
    except Exception as error:
        from pipelines.terminal.flags import complain
        from pipelines.terminal.storage import sentence, storage_error

        refused = storage_error(error)
        if refused is None:
            raise
        LOGGER.info("%s failed", command, exc_info=True)
        complain(sentence(refused))
        return 1


@contextmanager
def _uncollected() -> Iterator[None]:
    """Collect no garbage in a block, and never look at what it made: that takes a quarter of what
    imports take (docs/log/2026-11-27-garbage-of-imports.md)."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # or extensions would call what is left at the end leaked
        gc.enable()


def _parser() -> argparse.ArgumentParser:
    """Make the parser of the command's name."""
    commands = "\n".join(f"  {name:<11} {text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="sssl",
        description=f"Emotion labels for whole music catalogs.\n\ncommands:\n{commands}",
        epilog=(
            "`sssl COMMAND --help` explains a command's flags; Beam's own options follow a bare --"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_talk()],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"sssl {version('sssl')}")
    parser.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=("bash", "zsh", "tcsh"),
        help="print a script that completes commands and flags in this shell, and exit",
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    return parser


def _talk() -> argparse.ArgumentParser:
    """Make the parser of how much a command says; these flags stand before or behind its name."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--quiet", action="store_true", help="say nothing but warnings, errors and answers"
    )
    either.add_argument(
        "--verbose", action="store_true", help="log what the program does, as SSSL_LOG=INFO would"
    )
    parser.add_argument(
        "--log-format",
        choices=FORMATS,
        default=os.environ.get("SSSL_LOG_FORMAT", "text"),
        help="messages for people, or a line of JSON each for Cloud Logging (or SSSL_LOG_FORMAT)",
    )
    return parser


def _take_talk(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Take the flags of `_talk` out of the arguments, but for those of Beam."""
    args = list(argv)
    end = args.index("--") if "--" in args else len(args)
    said, ours = _talk().parse_known_args(args[:end])
    return said, ours + args[end:]


class _PrintCompletion(argparse.Action):
    """Prints the script for a shell and ends the program, as --version does."""

    def __call__(self, *given: Any) -> None:
        from pipelines.terminal.completion import print_completion  # here: few ask for it

        _, _, shell, *_ = given
        print_completion(shell, COMMANDS, module_of)


if __name__ == "__main__":
    sys.exit(main())
