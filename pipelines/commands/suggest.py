"""Say which unlabelled tracks to label next.

sssl suggest --output OUTPUT --tracks 50 --to to-label.csv

Fill in the column `label`, and give the file to the next run: sssl run --labels to-label.csv ... A
run takes one file of labels: if you have one, append the rows to it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from pipelines.terminal.console import printed, tell
from pipelines.terminal.flags import complain, parse, require_local, require_no_folder
from sssl.config import require
from sssl.errors import StoreError
from sssl.export.cells import cell
from sssl.songs.suggest import Suggestion, read_candidates, suggest
from sssl.store.atomic import replacing
from sssl.store.folder import Store
from sssl.words import counted, printable

COLUMNS = ("track_id", "label", "guess", "confidence", "because", "uri")


@dataclass(frozen=True)
class Config:
    """Say which unlabelled tracks to label next: half of them are typical of many that sound alike,
    half lie between two emotions, and no two share an artist or album as long as there are
    others."""

    output: str
    """Output folder of a finished run."""
    tracks: int = 20
    """How many to suggest."""
    to: str | None = None
    """CSV to write, with an empty column `label` to fill in. Give it to the next run as `--labels`,
    or append its rows to the labels file that you have. Default: a table on the screen."""
    seed: int = 0
    """Another one suggests other tracks of those that sound alike."""

    def __post_init__(self) -> None:
        require(self.tracks > 0, "tracks", self.tracks, "1 or more")
        require_local("to", self.to)
        require_no_folder("to", self.to)


def main(argv: Sequence[str]) -> int:
    config = parse(Config, argv, "suggest")
    try:
        store = Store.open(config.output)
        candidates = read_candidates(store, store.latest(), config.seed)
        if not candidates:
            tell(
                "every track with a song has a label: there is none to suggest; `sssl review` shows"
                " which labels look wrong"
            )
            return 0
        suggestions = suggest(candidates, config.tracks, config.seed)
        if config.to is not None:
            with replacing(Path(config.to)) as path:
                path.write_text(as_csv(suggestions), encoding="utf-8")
    except (StoreError, OSError) as error:
        complain(error)
        return 1
    if config.to is None:
        printed.print(_table(suggestions))
    else:
        written = f"{counted(len(suggestions), 'track')} to label written to {printable(config.to)}"
        tell(
            f"{written}: fill in the column label, append it to your --labels file, or give it as"
            " --labels"
        )
    return 0


def as_csv(suggestions: Sequence[Suggestion]) -> str:
    """Return the suggestions as CSV; the column `label` is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for suggestion in suggestions:
        row = asdict(suggestion) | {"confidence": f"{suggestion.confidence:.3f}"}
        writer.writerow({name: cell(value) for name, value in row.items()})
    return text.getvalue()


def _table(suggestions: Sequence[Suggestion]) -> Table:
    table = Table("track_id", "guess", "confidence", "because", box=None)
    for suggestion in suggestions:
        cells = (
            suggestion.track_id,
            suggestion.guess,
            f"{suggestion.confidence:.3f}",
            suggestion.because,
        )
        table.add_row(*map(printable, cells))
    return table
