"""Listen to what looks wrong and correct it, on a page of this machine.

sssl review --output OUTPUT [--port N] [--who NAME] [--corrections FILE]
sssl review --output OUTPUT --label-studio EXPORT.json

The page is there until Ctrl-C, and each answer is written at once. The second form takes answers
from Label Studio and serves no page. The next `sssl run` learns from them.
"""

from __future__ import annotations

import getpass
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipelines.terminal.console import console, printed, tell
from pipelines.terminal.flags import complain, parse, warn
from sssl.catalog.corrections import FILE_NAME
from sssl.catalog.trust import check_uris
from sssl.config import require
from sssl.errors import CatalogError, StoreError
from sssl.report.source import Source
from sssl.review.annotations import read_annotations
from sssl.review.answers import Answers, by_track
from sssl.review.listening import Listening
from sssl.review.queue import MOST_OPEN, make_queue
from sssl.review.server import Application, listen, server_of
from sssl.review.session import Session
from sssl.store.folder import Store
from sssl.store.removals import taken_down
from sssl.urls import local_path
from sssl.words import counted

_STOPPED = 130


@dataclass(frozen=True)
class Config:
    """Serve a page on this machine, 127.0.0.1, to listen to what looks wrong and to correct it."""

    output: str
    """Output folder of `sssl run`."""
    port: int = 0
    """Port of the page; 0: one that is free."""
    who: str | None = None
    """Who answers, for the column `who`; default: the name that you are logged in by."""
    corrections: str | None = None
    """CSV on this machine that answers are appended to; default: corrections.csv in the output
    folder, where the next run looks for it."""
    track_id: tuple[str, ...] = ()
    """Ids of songs to list first, whatever is thought of them."""
    most: int = MOST_OPEN
    """Passages, and songs, to list without an answer; start it again for the next ones."""
    label_studio: str | None = None
    """Take the answers of this JSON export of Label Studio instead of serving a page."""
    allow_uri: tuple[str, ...] = ()
    """Folders and URLs below which the catalog's files have to lie, as for `sssl run`."""

    def __post_init__(self) -> None:
        require(0 <= self.port < 1 << 16, "port", self.port, "0 to 65535")
        require(self.most > 0, "most", self.most, "1 or more")


def main(argv: Sequence[str]) -> int:
    config = parse(Config, argv, "review")
    try:
        store = Store.open(config.output)
        snapshot = store.latest()
        answers = Answers(_path_of(store, config.corrections), snapshot.catalog.classes)
        if config.label_studio is not None:
            track_ids = store.read_table(snapshot.get("catalog"), ["track_id"])["track_id"]
            return _take(config.label_studio, answers, set(track_ids.to_pylist()))
        said = by_track(answers.standing())
        queue = make_queue(Source.of(store, snapshot), said, config.most, config.track_id)
        check_uris([track.uri for track in queue.tracks.values()], store.root, config.allow_uri)
        if not queue.items:
            console.print(
                "no passage looks wrong, and no song is uncertain: there is nothing to review"
            )
            return 0
        who = _name() if config.who is None else config.who
        session = Session(queue, answers, who, partial(taken_down, store))
        return _serve(session, config.port)
    except (CatalogError, StoreError, OSError) as error:
        complain(error)
        return 1


def _path_of(store: Store, given: str | None) -> Path:
    """Return the file that answers are appended to.

    Raises:
        StoreError: it would not be on this machine.
    """
    path = local_path(given or store.url(FILE_NAME))
    if path is None:
        raise StoreError(
            "answers are appended to a file on this machine: give --corrections FILE, and the same "
            "to `sssl run`"
        )
    return Path(path)


def _take(export: str, answers: Answers, track_ids: Collection[str]) -> int:
    """Append what people said in Label Studio; return the exit code."""
    annotated = read_annotations(export, answers.classes, track_ids)
    for sentence in annotated.left_out:
        warn(f"left out: {sentence}")
    new = answers.append(annotated.corrections)
    tracks = counted(len({one.track_id for one in annotated.corrections}), "track")
    known = len(annotated.corrections) - new
    again = f", {known} there already" if known else ""
    took = f"; they took {round(annotated.lead_s / 60)} min" if annotated.lead_s else ""
    said = f"{counted(new, 'answer')} on {tracks} written to {answers.path}{again}{took}"
    tell(said)
    return 0 if annotated.corrections or not annotated.left_out else 1


def _name() -> str:
    """Return the name that somebody is logged in by, empty if the system knows none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _serve(session: Session, port: int) -> int:
    """Serve the page until Ctrl-C; return the exit code of a command that was stopped."""
    listening = Listening()
    with listen(port) as opened:
        application = Application(session, listening, opened.getsockname()[1])
        # Ctrl-C ends it quietly from here on: that is how a review ends.
        server = server_of(application, opened)
        console.print("Open this page on this machine; Ctrl-C ends it:")
        printed.print(application.url, soft_wrap=True)
        try:
            server.serve_forever()
        finally:
            session.finish()
            listening.close()
    then = "; the next `sssl run` learns from them" if session.given else ""
    said = f"{counted(session.given, 'answer')} written to {session.answers.path}{then}"
    tell(said)
    return _STOPPED
