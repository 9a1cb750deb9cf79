"""Write song labels for other tools.

sssl export --output OUTPUT --format csv|parquet|label-studio --to FILE
sssl export --output OUTPUT --format jams|id3|m3u --to FOLDER

What is exported is a copy: a later takedown does not reach it. Exit code 1 says that no song was
    written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Literal

from pipelines.terminal.console import printed, tell
from pipelines.terminal.flags import complain, parse, require_local, require_no_folder
from sssl.config import require
from sssl.errors import StoreError
from sssl.export.playlists import write_playlists
from sssl.export.songs import Exported, tag_changes, write_jams, write_tags
from sssl.export.tables import write_csv, write_parquet
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.words import counted, some

if TYPE_CHECKING:
    from sssl.export.tags import Changes  # needs mutagen

_MOOD = "MOOD"
_TO_FOLDER = ("jams", "id3", "m3u")
QUADRANTS = {"Q1": "happy", "Q2": "tense", "Q3": "sad", "Q4": "calm"}
"""What the quadrants of valence and arousal are called (Russell, "A circumplex model of affect",
1980)."""


@dataclass(frozen=True)
class Config:
    """Write song labels for other tools: as a table, one JAMS file per song, tags in copies of the
    music, or playlists."""

    output: str
    """Output folder."""
    format: Literal["csv", "parquet", "jams", "id3", "m3u", "label-studio"]
    """csv, parquet: a row per song. jams: an annotation file per song. id3: copies of the music
    with tags (ID3's `TMOO` and `TXXX`, and what other formats have in their place). m3u: a playlist
    per emotion, the surest first. label-studio: a task per song with predictions to correct, as
    JSON, and the labelling configuration beside it, as XML."""
    to: str | None = None
    """File to write, or folder (jams, id3, m3u)."""
    names: tuple[str, ...] = ()
    """What classes are called, for example `Q1=joyful Q4=calm`. Default: in tags and playlists Q1
    is happy, Q2 tense, Q3 sad and Q4 calm; in tables and JAMS classes have their own names."""
    in_place: bool = False
    """id3: tag the catalog's own files instead of copies. The next run finds them changed and
    decodes them again."""
    dry_run: bool = False
    """id3: print what would change in the tags of each song, and write nothing; needs no --to."""
    with_abstained: bool = False
    """id3, m3u: take also songs that are too uncertain to publish. The other formats always carry
    them, marked."""

    def __post_init__(self) -> None:
        require(
            not self.in_place or self.format == "id3", "in_place", self.in_place, "--format id3"
        )
        require_local("to", self.to)
        tags = self.format == "id3" or not self.dry_run
        require(tags, "dry_run", self.dry_run, "nothing but --format id3")
        writes = not self.in_place and not self.dry_run
        require(self.to is not None or not writes, "to", "is missing", "a file or folder to write")
        require(self.to is None or not self.in_place, "to", self.to, "nothing beside --in-place")
        if self.to is not None and self.format in _TO_FOLDER:
            is_file = Path(self.to).is_file()
            expected = f"a folder, as --format {self.format} writes several files; this is one"
            require(not is_file, "to", self.to, expected)
        else:
            require_no_folder("to", self.to)
        for name in self.names:
            label, _, called = name.partition("=")
            require(bool(label and called), "names", name, "CLASS=NAME, as in Q1=happy")
        own = self.format != "label-studio" or not self.names  # answers come back by class
        require(own, "names", self.names, "nothing with --format label-studio")

    @property
    def named(self) -> dict[str, str]:
        """Names by class."""
        given = {label: called for label, _, called in (name.partition("=") for name in self.names)}
        return (QUADRANTS if self.format in ("id3", "m3u") else {}) | given


def write(store: Store, snapshot: Snapshot, config: Config) -> Exported:
    """Write the songs in the format asked for."""
    names = config.named
    unknown = sorted(
        {name.partition("=")[0] for name in config.names} - set(snapshot.catalog.classes)
    )
    if unknown:
        raise StoreError(
            f"--names: {some(unknown)} is no class of {', '.join(snapshot.catalog.classes)}"
        )
    called = [names.get(label, label) for label in snapshot.catalog.classes]
    if len({name.casefold() for name in called}) < len(called):  # as file systems compare names
        raise StoreError(
            f"two classes have one name: {', '.join(called)}; choose others by --names"
        )
    if config.dry_run:
        exported, changes = tag_changes(store, snapshot, names, abstained=config.with_abstained)
        _print_changes(changes)
        return exported
    if config.format == "id3":
        return write_tags(store, snapshot, config.to, names, abstained=config.with_abstained)
    assert config.to is not None
    if config.format == "label-studio":
        from sssl.review.tasks import write_tasks  # here: the other formats need no report

        return write_tasks(store, snapshot, config.to)
    if config.format == "m3u":
        return write_playlists(store, snapshot, config.to, names, abstained=config.with_abstained)
    writers = {"csv": write_csv, "parquet": write_parquet, "jams": write_jams}
    return writers[config.format](store, snapshot, config.to, names)


def _print_changes(changes: dict[str, Changes]) -> None:
    """Print a line per song: its mood before and after, then which fields of ours change."""
    for track_id, changed in changes.items():
        before, after = (", ".join(values) for values in changed.get(_MOOD, ([], [])))
        mood = f"mood {before or 'none'} -> {after}" if _MOOD in changed else "mood as it is"
        others = ", ".join(name for name in changed if name != _MOOD)
        line = f"{track_id}: {mood}{others and f'; {others}'}"
        printed.print(line, soft_wrap=True)


def main(argv: Sequence[str]) -> int:
    config = parse(Config, argv, "export")
    try:
        store = Store.open(config.output)
        exported = write(store, store.latest(), config)
    except (StoreError, OSError) as error:
        complain(error)
        return 1
    reasons = ", ".join(
        f"{reason} {n}" for reason, n in Counter(exported.left_out.values()).most_common()
    )
    left_out = counted(len(exported.left_out), "track")
    names = some(list(exported.left_out))
    rest = f"; {left_out} left out: {reasons} ({names})" if reasons else ""
    done = "would be written" if config.dry_run else "written"
    to_copies = config.dry_run and not config.in_place and config.to is None
    where = "" if to_copies else f" to {config.to or 'their files'}"
    tell(f"{counted(exported.songs, 'song')} {done}{where}{rest}")
    if exported.others:
        others = counted(len(exported.others), "file")
        example = some(exported.others, most=1)
        tell(
            f"{config.to} has {others} that this export did not write ({example}): what an earlier"
            " one wrote may no longer be true"
        )
    if exported.environment:
        variables = [f"{name}={quote(value)}" for name, value in exported.environment.items()]
        tell(f"start the program that reads it with {' '.join(variables)}")
    if exported.songs:
        return 0
    return 1
