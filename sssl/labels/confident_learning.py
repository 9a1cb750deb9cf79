"""Confident learning as the peer of self-learning (Northcutt, Jiang, Chuang, "Confident Learning",
2021, by cleanlab): labels that the warm-up finds wrong are left out of training."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas import Label, arrow_schema
from schemas.records import dump
from schemas.summaries import LabelsSummary, of_today
from sssl.arrays import Floats, class_indices, column, posteriors
from sssl.errors import TrainError
from sssl.store.folder import Store
from sssl.store.manifest import Made, Manifest, Snapshot


def prune(store: Store, snapshot: Snapshot) -> Snapshot:
    """Commit the warm-up's labels without those that confident learning finds wrong, as the labels
    of a new round 0.

    `clean_probability` becomes cleanlab's quality score. The snapshot keeps nothing that was
    learned from the old ones.
    """
    labels = snapshot.get("labels", 0)
    scores = snapshot.get("scores", 0)
    planned = replace(
        Manifest.plan("labels", "prune", {}, [labels, scores], round=0),
        config={"of": labels.ref, "by": scores.ref},
        parents=labels.parents,  # not the scores, which are of the model that the new one replaces
    )
    return snapshot.add(store.commit_once(planned, partial(_make, store, snapshot)))


def find_issues(labels: NDArray[np.int64], posterior: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """Return which labels [N] are wrong by cross-fitted posteriors [N, C], and the quality of each.

    Raises:
        TrainError: cleanlab is not installed.
    """
    check_installed()
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    return find_label_issues(labels, posterior, n_jobs=1), get_label_quality_scores(
        labels, posterior
    )


def check_installed() -> None:
    """Check that cleanlab is there before anything expensive starts.

    Raises:
        TrainError: it is not.
    """
    try:
        import cleanlab  # noqa: F401
    except ImportError:
        raise TrainError(
            "the method prune needs cleanlab: pip install 'sssl[evaluate]', or leave it out"
        ) from None


def _make(store: Store, snapshot: Snapshot, planned: Manifest) -> Made:
    """Write the labels without those that are wrong."""
    labels = snapshot.get("labels", 0)
    scores = snapshot.get("scores", 0)
    classes = snapshot.catalog.classes
    table = store.read_table(labels)
    posterior = posteriors(store.read_table(scores, ["probabilities"]), len(classes))
    trained = (column(table, "weight") > 0) & np.isfinite(posterior).all(axis=1)
    issue = np.zeros(len(table), bool)
    quality = np.full(len(table), np.nan)
    issue[trained], quality[trained] = find_issues(
        class_indices(table["inherited_label"], classes)[trained], posterior[trained]
    )
    issue &= np.array(table["partition"]) != "locked"
    pruned = _pruned(table, issue, quality)
    files = {}
    first = 0
    for part, file in sorted(labels.files.items()):
        files[part] = store.write_part(
            "labels", planned.generation, part, pruned.slice(first, file.rows)
        )
        first += file.rows
    partitions = Counter(pruned["partition"].filter(pa.array(trained)).to_pylist())
    summary = replace(
        labels.about(LabelsSummary, classes),
        confident=partitions["confident"],
        noisy=partitions["noisy"],
        locked=partitions["locked"],
    )
    return Made(files, of_today(labels.summary, classes) | dump(summary))


def _pruned(labels: pa.Table, issue: NDArray[np.bool_], quality: Floats) -> pa.Table:
    """Set the labels with an issue aside."""
    known = np.isfinite(quality)
    changed = {
        "clean_probability": pa.array(quality, pa.float32(), mask=~known),
        "partition": pa.array(
            np.where(issue, "noisy", np.array(labels["partition"])).astype(object), pa.string()
        ),
        "weight": pa.array(np.where(issue, 0.0, column(labels, "weight")), pa.float32()),
        "reason": pa.array(
            np.where(issue, "pruned", np.array(labels["reason"])).astype(object), pa.string()
        ),
    }
    return pa.table(
        {name: changed.get(name, labels[name]) for name in labels.column_names}, arrow_schema(Label)
    )
