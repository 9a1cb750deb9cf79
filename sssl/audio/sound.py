"""What a segment sounds like, whatever a model thinks of it: three statistics of each group of mel
bands, and timbre, tonality, rhythm, dynamics and texture as musicians speak of them.

A network that learns from some hundred labelled tracks does not learn all that such plain features
tell (LOG.md has the measurement). They stand in the tradition of Tzanetakis and Cook, "Musical
genre classification of audio signals", 2002.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sssl.audio import dynamics, rhythm, texture, timbre, tonality
from sssl.audio.spectra import Floats, Measure, Spectra

_GROUPS = 16  # of neighbouring mel bands, which say much the same
_STATISTICS = 3


def sound_width(mels: int) -> int:
    """Return how many numbers describe a segment of so many mel bands."""
    return _STATISTICS * min(_GROUPS, mels)


def sound_db(log_mel: NDArray[np.floating]) -> NDArray[np.float32]:
    """Describe log-mel spectrograms [N, mels, frames] in dB as [N, K]: by group of bands the mean
    level, then the standard deviation over the frames, then the mean step from a frame to the next,
    each as the mean of the bands."""
    mel = log_mel.astype(np.float32)
    segments, mels, frames = mel.shape
    step = np.zeros_like(mel)
    if frames > 1:
        step = np.abs(np.diff(mel, axis=2))
    mean = mel.mean(axis=2)
    std = mel.std(axis=2)
    by_band = np.stack([mean, std, step.mean(axis=2)], axis=1)  # [N, 3, mels]
    groups = np.array_split(np.arange(mels), min(_GROUPS, mels))
    starts = [group[0] for group in groups]
    sizes = [len(group) for group in groups]
    sums = np.add.reduceat(by_band, starts, axis=2)
    by_group = (sums / sizes).astype(np.float32)
    return by_group.reshape(segments, -1)


def sound_of(segments: pa.Table) -> NDArray[np.float64]:
    """Return the column `sound_db` of a segments table as [N, K]."""
    column = segments["sound_db"].combine_chunks()
    if not len(column):
        return np.empty((0, 0))
    values = column.flatten().to_numpy()
    return values.astype(np.float64).reshape(len(column), -1)


def without_levels(sound: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the deviations and the steps of a sound [N, K]."""
    levels = sound.shape[1] // _STATISTICS
    return sound[:, levels:]


SOUND_VERSION = 1
"""Of the measures of `describe`: raised where one is added, goes, or is measured otherwise."""
METADATA = "sssl.sound"
"""Key of the schema's metadata that says version and names of the column `sound`."""

MEASURES: dict[str, tuple[Measure, ...]] = {
    "timbre": timbre.MEASURES,
    "tonality": tonality.MEASURES,
    "rhythm": rhythm.MEASURES,
    "dynamics": dynamics.MEASURES,
    "texture": texture.MEASURES,
}
"""Measures by family, in the order of the column `sound`."""
SOUND_NAMES = tuple(
    name
    for family, measures in MEASURES.items()
    for measure in measures
    for name in measure.names(family)
)


def sound_metadata(version: int | None) -> dict[str, str]:
    """Return what a schema says of the column `sound` of a version; nothing where there is none."""
    if not version:
        return {}
    described = {"version": version, "names": SOUND_NAMES}
    return {METADATA: json.dumps(described)}


def measured(
    spectra: Spectra, long_power: Callable[[Spectra], Floats]
) -> dict[str, Callable[[], Mapping[str, Floats]]]:
    """Return how each family of measures is taken of a batch of segments; `long_power` gives the
    spectra by the window that tells pitches apart."""
    return {
        "timbre": lambda: timbre.timbre(spectra),
        "tonality": lambda: tonality.tonality(long_power(spectra), spectra.config),
        "rhythm": lambda: rhythm.rhythm(spectra),
        "dynamics": lambda: dynamics.dynamics(spectra),
        "texture": lambda: texture.texture(spectra),
    }


def describe(spectra: Spectra, long_power: Callable[[Spectra], Floats]) -> Floats:
    """Describe the segments of a batch by the numbers of SOUND_NAMES, as [N, K]."""
    segments = len(spectra.wave)
    columns = []
    for family, take in measured(spectra, long_power).items():
        values = take()
        for measure in MEASURES[family]:
            numbers = np.asarray(values[measure.name], np.float32)
            columns.append(numbers.reshape(segments, -1))
    return np.concatenate(columns, axis=1)


def sound_features(segments: pa.Table) -> tuple[list[str], Floats] | None:
    """Return names and values [N, K] of the column `sound` of a segments table; None where it has
    none."""
    metadata = segments.schema.metadata or {}
    described = metadata.get(METADATA.encode())
    if described is None or "sound" not in segments.column_names:
        return None
    column = segments["sound"]
    if column.null_count:
        return None
    names = json.loads(described)["names"]
    values = column.combine_chunks().flatten().to_numpy()
    return names, values.reshape(len(segments), len(names))


_MOST_SHOWN = 8
_PAGE = f"""# The column `sound`

Generated from `sssl/audio/` by `make docs`; version {SOUND_VERSION}, {len(SOUND_NAMES)} numbers
per segment.

`segments.sound` describes each segment in the terms of musicians and of music information
retrieval. It is computed when the audio is decoded, mostly from the spectra that the log-mel is
made from. The file's metadata has the version and the names under `{METADATA}`:

```python
from sssl.audio.sound import sound_features
from sssl.store.folder import Store

store = Store.open("out")
segments = store.latest().get("segments")
for part, table in store.iter_parts(segments, ["track_id", "segment_index", "sound"]):
    names, values = sound_features(table)
```

- A new output folder has the column. An older folder keeps its segments and has none:
  `--sound-version {SOUND_VERSION}` decodes its catalog again and adds it, `--sound-version 0`
  leaves it out.
- Names are `family.measure`. `_part` is appended if the measure is taken for several parts, such as
  bands, and `.statistic` if it is taken for each frame: `mean`, `std` (standard deviation) or
  `step` (mean absolute step from one frame to the next).
- Only `dynamics.level` depends on the gain. All other levels are relative to the loudest point of
  the segment; what is more than 80 dB below that point counts as 80 dB below it.
- All numbers are finite, even for silence. The tuning is not estimated: if it is far from
  A4 = 440 Hz, the chroma is blurred.
- The settings of the log-mel (`rate_hz`, `fft`, `frame_hop`, `mels`) and the length of segments
  change the numbers, so compare them within one folder only. Tonality is measured with a window
  four times as long.

Panda, Malheiro and Paiva 2020 is "Novel audio features for music emotion recognition", IEEE
Transactions on Affective Computing 11(4). LOG.md says what each family is worth on real clips.
"""


def sound_page() -> str:
    """Return docs/sound.md."""
    sections = [_PAGE]
    header = ["| name | unit | definition | source |", "|---|---|---|---|"]
    for family, measures in MEASURES.items():
        rows = [_row(family, measure) for measure in measures]
        lines = [f"## {family.capitalize()}", "", *header, *rows, ""]
        sections.append("\n".join(lines))
    return "\n".join(sections)


def _row(family: str, measure: Measure) -> str:
    parts = _choice("_", measure.of)
    statistics = _choice(".", measure.statistics)
    name = f"`{family}.{measure.name}{parts}{statistics}`"
    return f"| {name} | {measure.unit} | {measure.doc} | {measure.source} |"


def _choice(mark: str, names: Sequence[str]) -> str:
    """Show the names that may follow a mark: `.{mean, std}`, and of many the first and the last."""
    if len(names) < 2:
        return "".join(f"{mark}{name}" for name in names)
    shown = list(names)
    if len(names) > _MOST_SHOWN:
        shown = [names[0], "...", names[-1]]
    return f"{mark}{{{', '.join(shown)}}}"


if __name__ == "__main__":
    Path(sys.argv[1], "docs", "sound.md").write_text(sound_page())
