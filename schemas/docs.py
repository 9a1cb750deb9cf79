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

Generated from `schemas/`; schema version {SCHEMA_VERSION}. Each table is Parquet under `OUTPUT/<table>/<generation>/`;
`OUTPUT/latest.json` (in a bucket the highest `OUTPUT/latest/*.json`) names the generations that belong together, and
`sssl sql` shows them as views. Rows of `segments`, `features` and `embeddings` are in the same order in the files of a part. Times count
from the track's start. **Bold** columns are the key.

Each file says the same of itself: its schema version, its table and, for each column, doc, unit, key and example are
Parquet metadata. `sssl sql --output O "select column_name, comment from duckdb_columns() where table_name = 'songs'"` shows
the docs in SQL; `infra/sql/tables.sql` creates the tables in BigQuery. A program refuses a newer schema version than its own.
The path of a file names its generation; the generation's `_manifest.json` has the stage, round, configuration, code version and
parents that made it. What comes behind `songs` exists in SQL only, from `song_labels` on, and so does `segments.end_s`, where a
segment ends.

`features.log_mel` is one value per row, which any Parquet reader takes as bytes. NumPy reads all of a file, whose rows are those of the
same part of `segments`, without copying them again (`about["mel"]` says how to make the same from a waveform):

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
```

`embeddings.embedding`, in folders that have a front-end ([embeddings.md](embeddings.md)), is read likewise, by `sssl.embedding`.

## Tables in other programs

The folder of a generation has Parquet files and `_manifest.json`, which programs that take a folder pass over (beside it, where a table has
more than 4096 parts, the list of their files, `_manifest-<sha256>.files`, in Parquet and named in the manifest); `scores`,
`labels` and `rounds` have one a round. `sssl sql --output O "select table_name, round, folder from manifests"` says which.

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

`ledger`, `scores`, `labels` and `songs` are in files of up to some 64 MB, each of which holds the tracks of neighbouring
parts, sorted by track and segment. Sorting columns, page index and a bloom filter on `track_id` lead to one track; pages
have checksums. The same rows by part, as stages read and write them, lie under `OUTPUT/_parts/`.

`segments`, `features` and `embeddings` have a file per part. A run on a grown catalog keeps the files of parts that did not change, in the
folders of earlier generations: for these tables take the paths that `files` lists. It also takes a whole table of an
output of schema version 5 or earlier, whose folders are not made for other programs.
"""

_REASONS_INTRO = """# Reason codes

Generated from `schemas/reasons.py`. `ledger.reason` is one of these codes, or null where all is well. `partial` tracks
have segments and are labelled; `failed` ones have none. A track that would be `partial` but has no segment left is `failed`.

```
sssl sql --output out "select track_id, reason, detail from ledger where reason is not null"
sssl run --catalog catalog.csv --output out --retry reason=missing
```

A rerun decodes a track again if its file or the settings changed, without being asked. `--retry retryable` also takes those
for which the same file may succeed, `--retry failed` all failed ones. `sssl explain` tells the story of one track.

| code | status | retryable | meaning | what to do |
|---|---|---|---|---|"""

_MISSING_AUDIO = """## When missing audio is noticed

A track that decodes to less than `expected_s` of the catalog is `truncated`, whatever its container. Without `expected_s`
the container has to tell. A loss shorter than `tolerance_s` is noticed only where the end is missing.

| container | what tells | when nothing does |
|---|---|---|
| wav (RF64, BW64, W64), aiff, caf, au | the data should reach beyond the end of the file | it was written into a pipe or while it played, which leaves no size; what is missing was filled with zeros |
| flac, dsf, WavPack, tta | the samples in the header | it was written into a pipe |
| m4a, mp4, mov | the length of the audio track; a box should reach beyond the end of the file | never; without its index it is `corrupt` |
| Matroska, WebM | the segment should reach beyond the end of the file; the track's own length | a live recording whose clusters have no size, either |
| wma | the play duration; with video, the data should reach beyond the end of the file | a broadcast |
| mp3 with a Xing, Info or VBRI header | the frames that the header counts; the last frame is not whole | the header is lost with the beginning |
| mp3 without one, mp2, raw AAC, ac3, eac3 | the last frame is not whole | it was cut between two frames, or lost its beginning or a stretch inside |
| Ogg (Vorbis, Opus, FLAC) | the mark and the position on the last page, less the one that the audio begins at | several files in one, of which the last one is whole |
| ape | nothing | always |

What a container says of the whole file is never taken for the audio: its length is that of the longest stream, such as video; an average of bytes per
second is a hint; and sizes such as 0 and 2^32 - 1 say that the writer never filled them in. Zeros and tags behind the last
frame, and tags in front of any container, are no damage.

Audio that was changed in place is `damaged` where the decoder refuses a packet. Nothing tells of samples changed in a wav
or aiff, of packets that still decode, or of a length that was damaged itself. `make fuzz` tries all of this.
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
