"""What the songs stage fits to: segments whose inherited label stands."""

import numpy as np

from pipelines.io import Job
from pipelines.songs import scored_tracks, train_tracks
from sssl.rounds import last_accepted
from sssl.songs import SongConfig, statistics


def job_of(store):
    snapshot = store.latest()
    round = last_accepted(store, snapshot).round
    inputs = [
        snapshot.get(t, r) for t, r in (("catalog", None), ("segments", None), ("scores", round), ("labels", round))
    ]
    return Job.of(store, "songs", ("songs",), {"scores_round": round}, inputs)


def test_noisy_segments_do_not_shape_the_song_classifier(finished):
    job, settings, smaller = job_of(finished), SongConfig(), 0
    for ref in job.list_parts():
        scored = scored_tracks(ref, job, settings)
        for track in train_tracks(ref, job, settings):
            own = scored[track.track_id]
            kept = ~own.noisy if not own.noisy.all() else np.ones(len(own.noisy), bool)
            np.testing.assert_array_equal(track.statistics, statistics(own.posterior[kept], own.sound[kept]))
            smaller += kept.sum() < len(kept)
    assert smaller
