"""Packages that are not installed: which extra of ours brings them."""

from __future__ import annotations

_OF_REPORT = (
    "jinja2",
    "librosa",
    "markupsafe",
    "matplotlib",
    "pandas",
    "scipy",
    "sklearn",
    "werkzeug",
)
_OF_WORK = ("apache_beam", "av", "safetensors", "soundfile", "soxr", "torch", "torchaudio")
PACKAGES = {
    "gcp": ("gcsfs", "google"),
    "mlflow": ("mlflow",),
    "export": ("jams", "mutagen"),
    "evaluate": ("cleanlab",),
    "onnx": ("onnxruntime",),
    "iceberg": ("pyiceberg",),
    "report": _OF_REPORT,
    "run": (*_OF_WORK, *_OF_REPORT),
}
"""Packages by the extra that brings them, as they are imported."""

_ONLY_REPORT = ("report", "explain", "export", "review", "suggest", "takedown")
"""Commands that need the packages of a report and no others."""


def how_to_install(command: str, error: ImportError) -> str | None:
    """Say what a command lacks and how to install it, None if what is missing is a module of our
    own.

    An error that was raised from another one, as fsspec's for a file system, goes by that one.
    """
    package = _missing_package(error)
    if package is None or package in ("schemas", "sssl", "pipelines"):
        return None
    extra = _extra_of(package, command)
    what = package if extra is None else f"'sssl[{extra}]'"
    return f"sssl {command} needs {package}: pip install {what}"


def _missing_package(error: BaseException | None) -> str | None:
    while error is not None and not isinstance(error, ModuleNotFoundError):
        error = error.__cause__
    if error is None or error.name is None:
        return None
    return error.name.split(".")[0]


def _extra_of(package: str, command: str) -> str | None:
    extras = [extra for extra, packages in PACKAGES.items() if package in packages]
    if command not in _ONLY_REPORT and "report" in extras:
        extras.remove("report")
    if extras:
        return extras[0]
    return None
