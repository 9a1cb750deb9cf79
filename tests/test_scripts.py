"""The scripts that `make` runs from tests/: they take long, and no other test starts them all."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
LOAD = """
import runpy, sys
for script in sys.argv[1:]:
    runpy.run_path(script, run_name="loaded")
"""


def test_every_script_of_the_makefile_finds_what_it_imports():
    scripts = re.findall(r"^\t\$\(SCRIPT\) (tests/\S+\.py)", MAKEFILE, re.MULTILINE)
    assert scripts
    assert "python tests/" not in MAKEFILE, "it lacks $(SCRIPT)"
    path = re.search(r"^SCRIPT = PYTHONPATH=(\S+) ", MAKEFILE, re.MULTILINE)[1]
    process = subprocess.run(
        [sys.executable, "-c", LOAD, *dict.fromkeys(scripts)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
