"""The HTML report of an output folder: one file beside the tables, readable offline.

A module per section: it makes what the template of the same name shows. Counts come from the tables
by SQL and from the manifests' summaries; of the segments only those of a few shown tracks are read.
Every list has a limit, also the songs that the page's script shows, so that a page of 10,000 tracks
is as quick as one of 100. The same tables, and the same audio files in place, make the same bytes.
"""

from __future__ import annotations

from types import ModuleType

from sssl.evaluate.sections import wrong_segments
from sssl.html import template
from sssl.plots.colors import ink_on
from sssl.plots.figure import standalone
from sssl.report import cost, health, labels, learning, provenance, quality, summary, tracks
from sssl.report.browse import changes, groups, plane, songs
from sssl.report.source import FILTERS, Context, Source, stopped
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot

__all__ = ["Source", "figures", "render", "write_report"]

_SECTIONS: dict[str, ModuleType] = {
    "summary": summary,
    "quality": quality,
    "learning": learning,
    "changes": changes,
    "labels": labels,
    "health": health,
    "cost": cost,
    "provenance": provenance,
}


def write_report(store: Store, snapshot: Snapshot, truth: str | None) -> str:
    """Write `report.html` into the output folder and return its path or URL; `truth` is a CSV of
    true sections.

    Raises:
        StoreError: a stage up to `songs` has not run yet.
    """
    page = render(Source.of(store, snapshot), truth)
    store.write_bytes("report.html", page.encode())
    return store.url("report.html")


def figures(store: Store, snapshot: Snapshot) -> dict[str, bytes]:
    """Draw the plots that show no single track, as SVG by name: nothing in them that a takedown
    would have to reach."""
    source = Source.of(store, snapshot)
    learned = learning.context(source)
    good = quality.context(source)
    plots = {
        "accuracy_by_round": learned["accuracy"],
        "confident_share_by_round": learned["confident"],
        "song_confidence": good["confidence"],
    }
    if learned["flow"]:
        plots["label_flow"] = learned["flow"]["plot"]
    if good["reliability"]:
        plots["reliability"] = good["reliability"]["plot"]
    for split in learned["splits"]:
        number = split["round"].round
        plots[f"losses_round_{number}"] = split["plot"]
    return {name: standalone(plot) for name, plot in plots.items()}


def render(source: Source, truth: str | None) -> str:
    """Return the report as HTML."""
    shown: Context = {"classes": []}
    for name, color in zip(source.classes, source.colors, strict=True):
        shown["classes"].append((name, color, ink_on(color)))
    for name, section in _SECTIONS.items():
        shown[name] = section.context(source)
    shown["browse"] = _browse(source)
    shown["tracks"] = tracks.context(source, truth)
    shown["truth"] = None
    if truth:
        shown["truth"] = wrong_segments(source.store, source.snapshot, truth)
    page = template("report/page.html.jinja", FILTERS, {"stopped": stopped})
    return page.render(shown)


def _browse(source: Source) -> Context:
    """Return what the reader can sort, search and filter."""
    by_group = groups.context(source)
    columns = songs.columns(source)
    return {
        "listed": songs.listed(source),
        "groups": by_group,
        "plane": plane.context(source),
        "embedded": len(columns["track"]),
        "audible": bool(columns["folders"]),
        "data": songs.as_json(source, columns, by_group),
    }
