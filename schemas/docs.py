"""docs/tables.md, docs/reasons.md and infra/sql/tables.sql, generated: `python -m schemas.docs
ROOT`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from schemas.bigquery import ddl
from schemas.columns import SCHEMA_VERSION, Column, columns, table_doc
from schemas.reasons import REASONS
from schemas.tables import TABLES
from schemas.views import VIEWS

_TABLES_INTRO = f"""# Tables

Generated from `schemas/`; schema version {SCHEMA_VERSION}. Each table is Parquet under `OUTPUT/<table>/<generation>/`.
`OUTPUT/latest.json` (in a bucket the highest `OUTPUT/latest/*.json`) names the generations that belong together;
`sssl sql` shows them as views. In the files of a part, the rows of `segments`, `features` and `embeddings` are in the same order. Times count
from the start of the track. **Bold** columns are the key.

The same information is in the Parquet metadata of each file: schema version, table and, for each column, description, unit, key and
example. `sssl sql --output O "select column_name, comment from duckdb_columns() where table_name = 'songs'"` shows
the descriptions in SQL; `infra/sql/tables.sql` creates the tables in BigQuery. A program refuses files of a newer schema version than its own.
The path of a file names its generation; the generation's `_manifest.json` says which stage, round, configuration, code version and
parents made it. The tables from `song_labels` on exist in SQL only, as does `segments.end_s`, where a segment ends.

`features.log_mel` has one value per row, which any Parquet reader takes as bytes. NumPy reads a whole file without copying it again; its rows are those of
the same part of `segments` (`about["mel"]` says how to compute them from a waveform). The last line makes dB of the bytes, and leaves the dB of a folder that
schema version 8 or earlier began as they are:

```python
import json

import numpy as np
import pyarrow.parquet

import sssl

path = sssl.open("demo").files("features")[0]
table = pyarrow.parquet.read_table(path).combine_chunks()
about = json.loads(table.schema.metadata[b"sssl.log_mel"])
log_mel = np.frombuffer(table["log_mel"].chunk(0).buffers()[1], about["dtype"]).reshape(
    -1, *about["shape"]
)
log_mel_db = about.get("offset", 0) + about.get("scale", 1) * log_mel.astype(np.float32)
```

`embeddings.embedding`, in folders that have a front-end ([embeddings.md](embeddings.md)), is read in the same way, with the metadata key `sssl.embedding`.

## Tables in other programs

The folder of a generation has Parquet files and `_manifest.json`, which programs that read a whole folder skip. If a table has more
than 4096 parts, the list of its files lies beside the manifest, which names it: `_manifest-<sha256>.files`, also Parquet. `scores`,
`labels` and `rounds` have one folder per round. `sssl sql --output O "select table_name, round, folder from manifests"` lists the folders.

| program | how it opens `FOLDER` |
|---|---|
| pandas | `pd.read_parquet(FOLDER)` |
| polars | `pl.scan_parquet(FOLDER, hidden_file_prefix="_")` |
| PyArrow | `pyarrow.dataset.dataset(FOLDER)` |
| DuckDB | `from 'FOLDER/*.parquet'` |
| DataFusion | `SessionContext().register_parquet("songs", FOLDER)` |
| ClickHouse, chDB | `from file('FOLDER/*.parquet')` |
| Hugging Face datasets | `load_dataset("parquet", data_files=f"{{FOLDER}}/*.parquet", split="train")` |
| Spark 4 | `spark.read.parquet(FOLDER)` |

To join tables, read only the columns that you need: `songs` and `catalog` both have a `label`, so after a join nothing
tells which one is meant. Give each a name of its own (in `sssl sql` the view `song_labels` has both):

```python
import duckdb
import pyarrow.dataset

import sssl

output = sssl.open("demo")
files = {{name: output.files(name) for name in ("songs", "catalog")}}
songs = pyarrow.dataset.dataset(files["songs"]).to_table(columns=["track_id", "label"])
catalog = pyarrow.dataset.dataset(files["catalog"]).to_table(columns=["track_id", "label"])
joined = songs.join(catalog.rename_columns(["track_id", "catalog_label"]), "track_id")

query = "select track_id, s.label, c.label as catalog_label from songs s join catalog c using (track_id)"
same = duckdb.sql(query).fetchall()
```

`ledger`, `scores`, `labels` and `songs` are in files of up to about 64 MB. Each holds the tracks of neighbouring
parts, sorted by track and segment. Sorting columns, a page index and a bloom filter on `track_id` help a reader to find a track; pages
have checksums. The same rows by part, as stages read and write them, are under `OUTPUT/_parts/`.

`segments`, `features` and `embeddings` have one file per part. A run on a catalog that has grown keeps the files of unchanged parts, in the
folders of earlier generations; so for these tables use the paths that the view `files` lists. Use them also for every table of an
output of schema version 5 or earlier, whose folders were not made for other programs.
"""

_REASONS_INTRO = """# Reason codes

Generated from `schemas/reasons.py`. `ledger.reason` is one of these codes, or null if nothing went wrong. `partial` tracks
have segments and are labelled; `failed` ones have none. A track that would be `partial` but has no segment left is `failed`.

```
sssl sql --output out "select track_id, reason, detail from ledger where reason is not null"
sssl run --catalog catalog.csv --output out --retry reason=missing
```

A rerun decodes a track again if its file or the settings changed; no flag is needed for that. `--retry retryable` also decodes tracks
whose unchanged file may succeed, `--retry failed` all failed tracks. `sssl explain` tells the story of one track.

| code | status | retryable | meaning | what to do |
|---|---|---|---|---|"""

_MISSING_AUDIO = """## When missing audio is noticed

A track with less audio than `expected_s` of the catalog is `truncated`, whatever its container. Without `expected_s`
it depends on the container. A loss shorter than `tolerance_s` is noticed only if the end is missing.

| container | what shows that audio is missing | when nothing shows it |
|---|---|---|
| wav (RF64, BW64, W64), aiff, caf, au | by its declared size, the data would reach beyond the end of the file | it was written into a pipe or during playback, which leaves no size; or what is missing was filled with zeros |
| flac, dsf, WavPack, tta | the samples in the header | it was written into a pipe |
| m4a, mp4, mov | the length of the audio track; a box would reach beyond the end of the file | never; a file without its index is `corrupt` |
| Matroska, WebM | the segment would reach beyond the end of the file; the track's own length | a live recording whose clusters have no size either |
| wma | the play duration; with video, the data would by its declared size reach beyond the end of the file | a broadcast |
| mp3 with a Xing, Info or VBRI header | the number of frames in the header; the last frame is incomplete | the header is lost with the beginning |
| mp3 without one, mp2, raw AAC, ac3, eac3 | the last frame is incomplete | it was cut between two frames, or lost its beginning or a stretch inside |
| Ogg (Vorbis, Opus, FLAC) | the end mark and the position on the last page, minus the position at which the audio begins | several files in one, the last of which is complete |
| ape | nothing | always |

What a container says about the whole file is never taken for its audio: the length is that of the longest stream, which may be video; an average
of bytes per second is only a hint; and sizes such as 0 and 2^32 - 1 mean that the writer never filled them in. Zeros and tags after the last
frame, and tags in front of any container, do not count as damage.

Audio that was altered in place is `damaged` if the decoder rejects a packet. Altered samples in a wav or aiff, altered packets that still
decode, and a damaged length field go unnoticed. `make fuzz` tries all of this.
"""


def tables_page() -> str:
    """Return docs/tables.md."""
    tables = [_table_section(name, table) for name, table in (TABLES | VIEWS).items()]
    return "\n".join([_TABLES_INTRO, *tables])


def reasons_page() -> str:
    """Return docs/reasons.md."""
    rows = [
        f"| `{r.code}` | {r.status} | {'yes' if r.retryable else 'no'} | {r.meaning} | {r.remedy} |"
        for r in REASONS.values()
    ]
    return "\n".join([_REASONS_INTRO, *rows, "", _MISSING_AUDIO])


def _table_section(name: str, table: type) -> str:
    lines = [
        f"## {name}",
        "",
        table_doc(table),
        "",
        "| column | type | unit | null | example | meaning |",
        "|---|---|---|---|---|---|",
        *map(_column_row, columns(table)),
    ]
    return "\n".join([*lines, ""])


def _column_row(column: Column) -> str:
    shown = f"**{column.name}**" if column.key else column.name
    kind = column.type if column.type is not None else "fixed_size_binary"
    example = f"`{json.dumps(column.example)}`"
    return f"| {shown} | {kind} | {column.unit} | {'yes' if column.nullable else ''} | {example} | {column.doc} |"


def main(root: str) -> None:
    Path(root, "docs", "tables.md").write_text(tables_page())
    Path(root, "docs", "reasons.md").write_text(reasons_page())
    Path(root, "infra", "sql", "tables.sql").write_text(ddl())


if __name__ == "__main__":
    main(sys.argv[1])
