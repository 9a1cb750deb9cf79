"""Commands that are struck amid their work: killed, or refused something by the disk.

A strike hits the n-th operation of a command on its output folder: that it opens, writes, syncs,
renames, deletes or lists something there. Afterwards the folder has to be whole, and the same
command, left alone, has to end with the tables of an undisturbed one.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import soundfile
from conftest import RATE_HZ, TRAINING, music, write_catalog

from sssl.store.folder import Store
from sssl.store.sql import connect, rows_on_disk
from sssl.store.verify import verify

CODES = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.EACCES)
PARTS = ["--tracks-per-part", "4", "--folds", "2", "--max-error-ratio", "1", "--sound-version", "0"]
FLAGS = [*PARTS, *TRAINING, "--rounds", "1"]
FLAGS += ["--warmup-epochs", "1"]
TAKEN_DOWN = "Q1_1"
TURNS = ("run", "songs", "takedown", "delivery", "songs", "takedown", "delivery")
"""Scenes in the order that they are struck in; a whole run takes longest."""
_TIMEOUT_S = 3600.0
_WITH_DIGEST = (".parquet", ".safetensors", ".pt")
# Imported once by the server that all commands are forked from: an import of torch and Beam takes
# longer than they do.
_PRELOADED = [
    "pipelines.commands.all_stages",
    "pipelines.commands.takedown",
    "sssl.audio.cut",
    "sssl.tracking.mlflow_copy",
    "mlflow.pyfunc",
]
_OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.listdir", "os.scandir", "os.chmod"}
"""What Python tells its audit hooks before it happens; the first argument is the path."""


@dataclass(frozen=True)
class Strike:
    """What befalls a command: a kill, unless there is the `code` that the disk gives.

    It comes at an operation or at a moment, each as the share of all that an undisturbed command
    does or takes.
    """

    at_operation: float | None = None
    at_moment: float | None = None
    code: int | None = None

    def __str__(self) -> str:
        what = "kill -9" if self.code is None else errno.errorcode[self.code]
        if self.at_moment is not None:
            return f"{what} after {self.at_moment:.0%} of its time"
        return f"{what} after {self.at_operation:.0%} of its operations"


NOTHING = Strike()


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, negative for a signal, what it printed, and how much it
    did on its folder."""

    code: int
    said: str
    operations: int
    seconds: float


@dataclass(frozen=True)
class Scene:
    """A command, the folder that it begins with (None: nothing is there), and the tables that it
    ends with."""

    name: str
    command: tuple[str, ...]
    before: Path | None
    digests: dict[str, str]
    undisturbed: Ended


def run(
    command: Sequence[str], output: Path, strike: Strike = NOTHING, undisturbed: Ended | None = None
) -> Ended:
    """Run one of our commands in a process of its own; it may be struck, if it is known how it ends
    undisturbed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    log, operations = output.with_suffix(".log"), context.Value("i", 0)
    number = moment_s = None
    if undisturbed is not None and strike.at_operation is not None:
        number = int(strike.at_operation * undisturbed.operations)
    if undisturbed is not None and strike.at_moment is not None:
        moment_s = strike.at_moment * undisturbed.seconds
    argv = [*command, "--output", str(output)]
    process = context.Process(
        target=_commanded, args=(argv, str(output), number, strike.code, str(log), operations)
    )
    began = time.monotonic()
    process.start()
    process.join(_TIMEOUT_S if moment_s is None else moment_s)
    process.kill()  # one that has come to its end is left alone
    process.join()
    code = process.exitcode
    assert code is not None
    said = log.read_text(errors="replace") if log.exists() else ""
    return Ended(code, said, operations.value, time.monotonic() - began)


def _commanded(
    argv: list[str],
    output: str,
    number: int | None,
    code: int | None,
    log: str,
    count: Synchronized[int],
) -> None:
    """Be the command: what it prints goes to a file, and what it does to its folder is counted, and
    may be struck."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    from pipelines.cli import main  # here: who runs commands needs none of them

    def counted(
        path: Any, *, is_named: bool = True, first: Callable[[], Any] = lambda: None
    ) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)) or not os.fsdecode(path).startswith(
            output
        ):
            return
        with count.get_lock():
            is_struck, count.value = count.value == number, count.value + 1
        if is_struck:
            first()
            if code is None:
                os.kill(os.getpid(), signal.SIGKILL)
            # Where a write fails the system does not say where.
            raise OSError(code, os.strerror(code or 0), *([os.fsdecode(path)] if is_named else []))

    sync, write = os.fsync, Path.write_bytes

    def fsync(file: int) -> None:
        counted(os.readlink(f"/proc/self/fd/{file}"), is_named=False)
        sync(file)

    def write_bytes(path: Path, data: bytes) -> int:
        # What is struck amid a write leaves half of it.
        counted(path, is_named=False, first=lambda: write(path, data[: len(data) // 2]))
        return write(path, data)

    sys.addaudithook(
        lambda event, args: counted(args[0]) if event in _OPERATIONS and args else None
    )
    os.fsync, Path.write_bytes = fsync, write_bytes  # type: ignore[assignment, method-assign]
    sys.exit(main(argv))


def scenes(folder: Path) -> dict[str, Scene]:
    """Make what is struck: a first run, and on top of it the songs with another setting, a delivery
    and a takedown."""
    catalog = Path(write_catalog(folder / "music", tracks_per_class=5, seconds=6.0))
    # A database of its own for MLflow takes longer to make than all tables.
    whole = ("run", *FLAGS, "--mlflow-uri", f"sqlite:///{folder}/mlflow.db", "--catalog")
    first = _scene("run", (*whole, str(catalog)), None, folder)
    output = folder / "run"
    down = _scene("takedown", ("takedown", "--track-id", TAKEN_DOWN), output, folder)
    grown = catalog.with_name("grown.csv")
    soundfile.write(added := catalog.with_name("added.flac"), music("Q3", 9.0, seed=5), RATE_HZ)
    grown.write_text(f"{catalog.read_text()}added,{added},Q3\n")
    delivery = _scene("delivery", ("segment", *PARTS, "--catalog", str(grown)), output, folder)
    songs = _scene("songs", ("songs", "--abstain-below", "0.9"), output, folder)
    return {scene.name: scene for scene in (first, delivery, songs, down)}


def _scene(name: str, command: tuple[str, ...], before: Path | None, folder: Path) -> Scene:
    output = folder / name
    if before is not None:
        shutil.copytree(before, output)
    ended = run(command, output)
    assert ended.code == 0, ended.said
    return Scene(name, command, before, digests(output), ended)


def digests(output: Path) -> dict[str, str]:
    """Return the digests of the published tables by their names."""
    return {
        manifest.ref: manifest.digest for manifest in Store.open(str(output)).latest().manifests
    }


@dataclass
class Tally:
    """What became of strikes: how many there were by scene, how commands ended, and what went
    wrong."""

    strikes: Counter[str] = field(default_factory=Counter)
    ends: Counter[int] = field(default_factory=Counter)
    wrongs: list[str] = field(default_factory=list)


def kills(
    number: int, chance: random.Random, turns: Sequence[str] = TURNS
) -> Iterator[tuple[str, Strike]]:
    """Draw kills: half of them at an operation and half at a moment, as shares of what there is of
    either."""
    for n in range(number):
        at = chance.random()
        yield turns[n % len(turns)], Strike(at_operation=at) if n % 2 else Strike(at_moment=at)


def faults(
    number: int, chance: random.Random, turns: Sequence[str] = TURNS
) -> Iterator[tuple[str, Strike]]:
    """Draw operations that the disk refuses."""
    for n in range(number):
        yield (
            turns[n % len(turns)],
            Strike(at_operation=chance.random(), code=CODES[n % len(CODES)]),
        )


def strike(
    made: dict[str, Scene],
    drawn: Iterable[tuple[str, Strike]],
    folder: Path,
    tell: Callable[[str], None] = lambda _: None,
) -> Tally:
    """Strike commands, each in a copy of its folder, look at what is left, and run each again."""
    tally = Tally()
    for name, one in drawn:
        scene, output = made[name], folder / "struck"
        if scene.before is not None:
            shutil.copytree(scene.before, output)
        struck = run(scene.command, output, one, scene.undisturbed)
        tally.strikes[name] += 1
        tally.ends[struck.code] += 1
        wrongs = [
            *_wrong_end(struck, one, output),
            *_half_states(output),
            *_wrong_rerun(scene, output),
        ]
        tally.wrongs += [f"{name}, {one}: {wrong}" for wrong in wrongs]
        tell("\n  ".join([f"{name}, {one}: ended with {struck.code}", *wrongs]))
        shutil.rmtree(output)
    return tally


def _wrong_end(struck: Ended, strike: Strike, output: Path) -> Iterator[str]:
    """A refusal is a sentence with the path and code 1, or the command did without what was
    refused."""
    if strike.code is None:
        return
    said = " ".join(struck.said.split())
    if "Traceback" in said:
        yield f"a traceback: {said[-1500:]}"
    elif struck.code not in (0, 1):
        yield f"exit code {struck.code}: {said[-500:]}"
    elif struck.code == 1 and (str(output) not in said or os.strerror(strike.code) not in said):
        yield f"no sentence with the path and the cause: {said[-500:]}"


def _half_states(output: Path) -> Iterator[str]:
    """Readers see the tables of before or new ones, each of them whole."""
    if not (output / "sssl.json").exists():
        return  # it came before there was a folder to read
    try:
        store = Store.open(str(output))
        published = store.latest()
        if published.manifests:
            connect(store, published).close()
    except Exception as error:  # noqa: BLE001 (whatever a reader meets is what we are looking for)
        yield f"a reader meets {error!r}"
        return
    needed = {file.path for manifest in published.manifests for file in manifest.all_files}
    for damage in verify(store).damages:
        if damage.path in needed or damage.path.endswith("manifest.json"):
            yield f"published and damaged: {damage}"


def _wrong_rerun(scene: Scene, output: Path) -> Iterator[str]:
    """The same command, left alone, ends with the tables of an undisturbed one."""
    again = run(scene.command, output)
    if again.code != 0:
        yield f"the rerun ends with {again.code}: {again.said[-1500:]}"
    elif digests(output) != scene.digests:
        yield (
            "the rerun ends with other tables:"
            f" {sorted(digests(output).items() ^ scene.digests.items())}"
        )
    elif damages := verify(Store.open(str(output))).damages:
        yield f"the rerun leaves {damages}"
    elif scene.name == "takedown" and (left := _rows_left(output)):
        yield f"{left} rows are left of the track"


def _rows_left(output: Path) -> int:
    store = Store.open(str(output))
    with connect(store, store.latest()) as connection:
        found = connection.sql(rows_on_disk(store, [TAKEN_DOWN])).fetchall()
    return sum(rows for _, rows in found)


def damage(scene: Scene, number: int, chance: random.Random, folder: Path) -> list[str]:
    """Damage files of a finished output; say which were not found, and what is not as before after
    repair and rerun."""
    output = folder / "damaged"
    shutil.copytree(folder / scene.name, output)
    store = Store.open(str(output))
    files = [output / path for path in store.find("") if path.endswith(_WITH_DIGEST)]
    damaged = chance.sample(files, number)
    for path in damaged:
        # Nobody misses the checkpoint of a model that is finished.
        how = chance.choice((_flip, _empty) if path.suffix == ".pt" else (_flip, _empty, _lose))
        how(path, chance)
    found = {damage.path for damage in verify(store).damages}
    wrongs = [
        f"{path} is damaged, and not found"
        for path in damaged
        if str(path.relative_to(output)) not in found
    ]
    repaired = run(("verify", "--repair"), output)
    if repaired.code != 0:
        wrongs.append(f"the repair ends with {repaired.code}: {repaired.said[-1500:]}")
    wrongs += _wrong_rerun(scene, output)
    shutil.rmtree(output)
    return wrongs


def _flip(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def _empty(path: Path, chance: random.Random) -> None:
    del chance  # nothing to choose
    path.write_bytes(b"")


def _lose(path: Path, chance: random.Random) -> None:
    del chance  # nothing to choose
    path.unlink()
