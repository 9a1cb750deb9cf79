"""Confident learning as the peer of self-learning (Northcutt, Jiang, Chuang, "Confident Learning",
2021, by cleanlab): labels that the warm-up finds wrong are left out of training."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa

from schemas import Label, arrow_schema
from schemas.records import dump
from schemas.summaries import of_today
from sssl.arrays import Flags, Floats, Indices, class_indices, column, posteriors
from sssl.catalog.committed import rows_of
from sssl.errors import TrainError
from sssl.labels.relabel import summarize_labels
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


def find_issues(labels: Indices, posterior: Floats) -> tuple[Flags, Floats]:
    """Return which labels [N] are wrong by cross-fitted posteriors [N, C], and the quality of each.

    Raises:
        TrainError: cleanlab is not installed.
    """
    check_installed()
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    issues = find_label_issues(labels, posterior, n_jobs=1)
    quality = get_label_quality_scores(labels, posterior)  # 1 for surely right
    return issues, quality


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
    probabilities = store.read_table(scores, ["probabilities"])
    posterior = posteriors(probabilities, len(classes))
    is_scored = np.isfinite(posterior).all(axis=1)
    is_trained = (column(table, "weight") > 0) & is_scored
    inherited = class_indices(table["inherited_label"], classes)
    issue = np.zeros(len(table), bool)
    quality = np.full(len(table), np.nan)
    found = find_issues(inherited[is_trained], posterior[is_trained])
    issue[is_trained], quality[is_trained] = found
    issue &= np.array(table["partition"]) != "locked"  # a human is right by definition
    pruned = _pruned(table, issue, quality)
    files = {}
    # Parts lie in the table one behind the other.
    first = 0
    for part, file in sorted(labels.files.items()):
        rows = pruned.slice(first, file.rows)
        files[part] = store.write_part("labels", planned.generation, part, rows)
        first += file.rows
    tracks = rows_of(store.read_table(snapshot.get("catalog")))
    summary = summarize_labels(pruned, tracks, classes)
    return Made(files, of_today(labels.summary, classes) | dump(summary))


def _pruned(labels: pa.Table, issue: Flags, quality: Floats) -> pa.Table:
    """Set the labels with an issue aside."""
    known = np.isfinite(quality)
    partition = np.array(labels["partition"], dtype=object)
    partition[issue] = "noisy"
    reason = np.array(labels["reason"], dtype=object)
    reason[issue] = "pruned"
    weight = column(labels, "weight")
    weight[issue] = 0.0
    columns = {name: labels[name] for name in labels.column_names}
    columns["clean_probability"] = pa.array(quality, pa.float32(), mask=~known)
    columns["partition"] = pa.array(partition, pa.string())
    columns["weight"] = pa.array(weight, pa.float32())
    columns["reason"] = pa.array(reason, pa.string())
    return pa.table(columns, arrow_schema(Label))
