"""The segment stage and its work as others would write it, each over a whole catalog.

python variants.py bare|naive|plain|stage CATALOG OUTPUT
python variants.py track PATH
"""

import csv
import itertools
import os
import shutil
import sys
from operator import attrgetter
from pathlib import Path


def bare(catalog, output):
    """Decode, and nothing else."""
    import av

    for path in uris(catalog):
        with av.open(path) as container:
            stream = container.streams.audio[0]
            stream.codec_context.thread_count = 1
            for _ in container.decode(stream):
                pass


def naive(catalog, output):
    """The loop of most notebooks: librosa and pandas."""
    import librosa
    import numpy as np
    import pandas as pd

    rate_hz, segment_s = 16_000, 3
    rows = []
    for path in uris(catalog):
        # Without the ffmpeg program librosa can't read m4a. What stands in for it is cheaper, not
        # dearer.
        load = (
            load_with_av if path.endswith(".m4a") and not shutil.which("ffmpeg") else librosa.load
        )
        wave, _ = load(path, sr=rate_hz)
        for start in range(0, len(wave) - segment_s * rate_hz + 1, segment_s * rate_hz):
            segment = wave[start : start + segment_s * rate_hz]
            mel = librosa.feature.melspectrogram(
                y=segment, sr=rate_hz, n_fft=1024, hop_length=512, n_mels=64, pad_mode="constant"
            )
            log_mel = librosa.power_to_db(mel, amin=1e-10, top_db=None)
            level_db = 10 * np.log10(max(np.mean(segment**2), 1e-10))
            rows.append((path, start / rate_hz, log_mel.ravel(), level_db))
    frame = pd.DataFrame(rows, columns=["track_id", "start_s", "log_mel", "level_db"])
    Path(output).mkdir(parents=True)
    frame.to_parquet(Path(output, "segments.parquet"))


def load_with_av(path, sr):
    """Decode with PyAV as its documentation shows it, a frame at a time."""
    import av
    import librosa
    import numpy as np

    with av.open(path) as container:
        stream = container.streams.audio[0]
        stream.codec_context.thread_count = 1
        frames = [frame.to_ndarray() for frame in container.decode(stream)]
        wave = librosa.to_mono(np.concatenate(frames, axis=1))
        return librosa.resample(wave, orig_sr=stream.rate, target_sr=sr), sr


def plain(catalog, output):
    """Our own functions in a loop, without Beam and without isolation."""
    from schemas import Ledger, to_arrow
    from sssl.audio.cut import cut_track, features_table, segments_table
    from sssl.audio.integrity import GateConfig
    from sssl.audio.mel import MelConfig
    from sssl.catalog.assign import CatalogConfig
    from sssl.catalog.committed import rows_of
    from sssl.catalog.read import read_catalog
    from sssl.store.folder import Store

    store, mel, gate = Store.open(output, create=True), MelConfig(), GateConfig()
    tracks = rows_of(read_catalog(catalog, None, CatalogConfig()))
    for part, of_part in itertools.groupby(tracks, key=attrgetter("part")):
        cuts = [cut_track(track, mel, gate) for track in of_part]
        store.write_part("segments", "plain", part, segments_table(cuts, mel))
        store.write_part("features", "plain", part, features_table(cuts, mel))
        store.write_part("ledger", "plain", part, to_arrow(Ledger, [cut.ledger for cut in cuts]))


def stage(catalog, output, *flags):
    """Run the stage as its command does."""
    from pipelines.cli import main

    assert main(["segment", "--catalog", catalog, "--output", output, *flags]) == 0


def track(path):
    """One track on its own, as a decoder process has it."""
    from schemas import Catalog
    from sssl.audio.cut import cut_track, features_table, segments_table
    from sssl.audio.integrity import GateConfig
    from sssl.audio.mel import MelConfig

    row = Catalog("track", path, None, None, "track", 0, None, False, 0, *[None] * 4)
    cuts = [cut_track(row, MelConfig(), GateConfig())]
    segments_table(cuts, MelConfig()), features_table(cuts, MelConfig())


def uris(catalog):
    with open(catalog, newline="") as file:
        return [row["uri"] for row in csv.DictReader(file)]


if __name__ == "__main__":
    {"bare": bare, "naive": naive, "plain": plain, "stage": stage, "track": track}[sys.argv[1]](
        *sys.argv[2:]
    )
    # Torch's libraries touch 100 MB of pages as they are unloaded: a peak that hides the work's
    # own.
    os._exit(0)
