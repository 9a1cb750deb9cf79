"""What was measured, line by line."""

import contextlib
import json
import time
import traceback
from pathlib import Path

from rich.console import Console

BARS = {"one member": 250_000, "mean of four": 80_000, "stage / loop": 0.9, "train": 10}

console = Console(highlight=False)


class Results:
    """What was measured, on the screen and in a file that is whole after each line."""

    def __init__(self, path):
        self._path, self._found, self._began = path, {}, time.perf_counter()

    def tell(self, name, value):
        self._found[name] = value
        console.print(
            f"{time.perf_counter() - self._began:6.1f} s  {name}: {json.dumps(value)}",
            soft_wrap=True,
        )
        if self._path:
            Path(self._path).write_text(json.dumps(self._found, indent=1))

    def of(self, name):
        return self._found[name]

    @contextlib.contextmanager
    def trying(self, name):
        """Go on with the next measurement where one fails."""
        try:
            yield
        except Exception as error:  # noqa: BLE001
            traceback.print_exc()
            self.tell(f"{name} failed", f"{type(error).__name__}: {error}"[:500])
