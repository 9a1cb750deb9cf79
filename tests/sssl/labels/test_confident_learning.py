"""Labels that confident learning leaves out: what is counted is what is written."""

import numpy as np
import pytest
from reports import CLASSES, make_folder

from schemas.summaries import LabelsSummary
from sssl.labels import confident_learning


@pytest.fixture
def pruned(in_memory, monkeypatch):
    """Labels of which every fifth that is trained on is left out."""

    def find_issues(labels, _posterior):
        place = np.arange(len(labels))
        return place % 5 == 0, np.full(len(labels), 0.5)

    monkeypatch.setattr(confident_learning, "find_issues", find_issues)
    store, snapshot = make_folder(in_memory, (0.9,))
    after = confident_learning.prune(store, snapshot)
    labels = after.get("labels", 0)
    return labels.about(LabelsSummary, CLASSES), store.read_table(labels).to_pylist()


def test_the_summary_of_pruned_labels_counts_what_is_written(pruned):
    summary, rows = pruned
    noisy = sum(row["reason"] == "pruned" for row in rows)
    assert summary.noisy == noisy > 0
    assert sum(summary.by_class["noisy"].values()) == noisy
    assert sum(summary.by_class["confident"].values()) == summary.confident
    moved = sum(count for own in summary.moved.values() for count in own.values())
    assert moved == summary.confident + summary.noisy
