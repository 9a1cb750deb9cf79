"""Estimated and reported, side by side."""

import numpy as np
import pytest

from pipelines.commands.reported import beside, print_beside
from sssl.estimate import Estimate, StageTime, Traffic


@pytest.fixture
def estimated(finished):
    """An estimate that is right for one stage, and ten times too high for another."""
    cpu_s = {m.stage: 0.0 for m in finished.latest().manifests}
    jobs = {
        (m.stage, m.round): m.cpu_s for m in finished.latest().manifests if m.table != "catalog"
    }
    for (stage, _), spent_s in jobs.items():
        cpu_s[stage] += spent_s
    spread = np.linspace(0.9, 1.1, 1001)
    cpu_s["songs"] *= 10
    nothing = np.zeros(1001)
    stages = {stage: StageTime(s * spread, s * spread, cores=2) for stage, s in cpu_s.items()}
    return Estimate(stages, {}, Traffic(nothing, nothing, nothing))


def test_what_jobs_report_is_held_against_the_estimate(finished, estimated, capsys):
    found = beside(estimated, finished)
    assert {"segment", "relabel", "score", "songs"} <= set(found)
    assert found["score"]["is_within"]
    assert not found["songs"]["is_within"]
    assert found["segment"]["read_bytes"] > 0
    ledger = finished.latest().get("ledger")
    assert found["segment"]["cpu_h"] == pytest.approx(ledger.cpu_s / 3600)
    print_beside(found)
    said = capsys.readouterr().out
    assert "outside" in said
    assert "reported / estimated" in said
