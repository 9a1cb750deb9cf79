"""Which files the images install, with their hashes: asks pip, and writes infra/docker/locked/.

Run it on what the images are: Linux on x86-64 with Python 3.11, and a glibc that is no newer than
theirs (2.36).
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
LOCKED = REPOSITORY / "infra/docker/locked"
EXTRAS = {
    "cpu-worker": ("run", "gcp"),
    "gpu-worker": ("run", "gcp"),
    "launcher": ("run", "gcp", "mlflow"),
}
"""By role of an image."""
WITHOUT_GPU = ("cpu-worker",)
CUDA = re.compile(r"(torch|torchaudio|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+)==")
"""What differs between images: cuda-12.txt has the versions of those that may have a GPU."""


def requirements(role):
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(name for extra in EXTRAS[role] for name in extras[extra])]


def constraints(role):
    """Return the versions that an image has, as lines."""
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    if role in WITHOUT_GPU:
        return lines
    cuda_12 = (REPOSITORY / "infra/docker/cuda-12.txt").read_text().splitlines()
    return [line for line in lines if not CUDA.match(line)] + [
        line for line in cuda_12 if not line.startswith("#")
    ]


def locked(role):
    """Return what pip would install, as requirements with hashes."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(constraints(role)))
        file.flush()
        flags = [
            "--quiet",
            "--dry-run",
            "--ignore-installed",
            "--report",
            "-",
            "--constraint",
            file.name,
        ]
        # Files of this machine, that a setting may name, are not those that an image gets.
        environment = {
            name: value for name, value in os.environ.items() if name != "PIP_FIND_LINKS"
        }
        install = [sys.executable, "-m", "pip", "install", *flags, *requirements(role)]
        report = subprocess.run(
            install, env=environment, stdout=subprocess.PIPE, text=True, check=True
        ).stdout
    return sorted(_line(package) for package in json.loads(report)["install"])


def _line(package):
    about, archive = package["metadata"], package["download_info"]["archive_info"]
    name = re.sub(r"[-_.]+", "-", about["name"]).lower()
    return f"{name}=={about['version']} --hash=sha256:{archive['hashes']['sha256']}"


def main():
    LOCKED.mkdir(exist_ok=True)
    for role in EXTRAS:
        (LOCKED / f"{role}.txt").write_text("\n".join(locked(role)) + "\n")


if __name__ == "__main__":
    main()
