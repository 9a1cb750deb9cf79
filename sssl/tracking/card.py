"""The card of a model (Mitchell et al., "Model Cards for Model Reporting", 2019): what it is for,
what it has learned from, how good it is, and where it is not to be trusted."""

from __future__ import annotations

from schemas.summaries import CatalogSummary, SongsSummary
from sssl.embedding.settings import Origin
from sssl.labels.findings import Findings
from sssl.metrics import calibration_error, quality, wilson
from sssl.songs.classifier import SongModel
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.tracking.record import CARD_TITLE
from sssl.urls import without_secrets
from sssl.version import __version__
from sssl.words import counted

_REST = """\
## Limits

- It knows music like that of its catalog. What sounds unlike anything labelled there abstains, and
  what abstains is not labelled.
- It has learned what the catalog's labels mean, and whoever chose them. Another listener may hear
  something else.
- A confidence is the probability of the label. It was measured on tracks of this catalog.

## Licence

The code is under Apache 2.0. The weights were learned from the catalog's music: whoever may use
that music says who may use them.
"""


def model_card(store: Store, snapshot: Snapshot) -> str:
    """Return the card of the models in use, as Markdown."""
    catalog = snapshot.get("catalog")
    about = catalog.about(CatalogSummary)
    guesses = snapshot.about("songs", SongsSummary)
    labelled = ", ".join(f"{label} {tracks}" for label, tracks in about.labelled.items())
    rows = {
        "labels": f"a song or a passage with one of {', '.join(about.classes)}",
        "learned from": f"{counted(about.tracks, 'track')}; with a label: {labelled}",
        "catalog": f"{catalog.ref} sha256:{catalog.digest}",
        "published label, held out": _held_out(guesses),
        "calibration error": _share(
            calibration_error(snapshot.about("songs", SongModel).reliability)
        ),
        "abstains": f"{guesses.abstained} of {counted(guesses.tracks, 'track')}",
        "wrong labels": str(Findings.of(store, snapshot)),
        "made by": f"sssl {__version__}",
    }
    for embeddings in snapshot.of("embeddings"):
        origin = embeddings.about(Origin)
        rows["front-end"] = f"{without_secrets(origin.name)}, licence: {origin.licence}"
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    table = "\n".join(lines)
    return f"{CARD_TITLE}\n\n| | |\n|---|---|\n{table}\n\n{_REST}"


def _held_out(guesses: SongsSummary) -> str:
    found = quality(guesses.confusion("test"))
    if found.accuracy is None:
        return "no track was held out"
    low, high = wilson(found.accuracy, found.tracks)
    tracks = counted(found.tracks, "track")
    return f"right for {found.accuracy:.3f} of {tracks} (95 % interval {low:.2f} to {high:.2f})"


def _share(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"
