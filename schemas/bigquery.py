"""The tables as BigQuery DDL: infra/sql/tables.sql, written by `make docs`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa

from schemas.columns import SCHEMA_VERSION, Column, columns, table_doc
from schemas.tables import TABLES
from schemas.views import (
    ACCEPTED_VIEWS,
    ClassRow,
    ManifestRow,
    ModelRow,
    SongLabel,
    SongProbability,
)

_INTRO = f"""-- Generated from schemas/tables.py by `make docs`; schema version {SCHEMA_VERSION}.
-- `sssl bigquery --output gs://... --dataset sssl` creates these tables and views, and fills them
-- with what is published, but for segments, features and embeddings, which are large. To load one
-- of those, take its files from
-- `select path from files where table_name = 'segments'` in `sssl sql`:
--   bq load --replace --source_format=PARQUET --parquet_enable_list_inference=true \\
--     sssl.segments FILE,FILE,...
-- Tensors (features.log_mel, embeddings.embedding) are bytes here, too: docs/tables.md says how
-- NumPy reads them.
"""

_TENSOR = pa.binary()
_TYPES = {
    _TENSOR: "BYTES",
    pa.string(): "STRING",
    pa.int32(): "INT64",
    pa.int64(): "INT64",
    pa.float32(): "FLOAT64",
    pa.float64(): "FLOAT64",
    pa.timestamp("us", "UTC"): "TIMESTAMP",
    pa.bool_(): "BOOL",
}


_VIEWS = {
    SongLabel.NAME: (
        table_doc(SongLabel),
        """SELECT track_id, c.group_id, c.split, c.label AS catalog_label, s.label AS song_label,
  c.label = s.label AS agrees, s.confidence, s.abstained
FROM {dataset}.songs AS s JOIN {dataset}.catalog AS c USING (track_id)""",
    ),
    SongProbability.NAME: (
        table_doc(SongProbability),
        """SELECT track_id, c.name AS class_name, probabilities[ORDINAL(c.position)] AS probability
FROM {dataset}.songs CROSS JOIN {dataset}.classes AS c""",
    ),
    ModelRow.NAME: (
        table_doc(ModelRow),
        """SELECT m.model_id, m.round, m.generation,
  JSON_VALUE(m.config, '$.model') AS architecture, r.verdict, m.bytes, m.created_at, m.code_version
FROM {dataset}.manifests AS m LEFT JOIN {dataset}.rounds AS r ON r.round = m.round
WHERE m.table_name = 'models'""",
    ),
    "accepted_labels": (
        ACCEPTED_VIEWS["accepted_labels"],
        (
            "SELECT * FROM {dataset}.labels WHERE round = (SELECT MAX(round) FROM {dataset}.rounds"
            " WHERE accepted)"
        ),
    ),
    "accepted_scores": (
        ACCEPTED_VIEWS["accepted_scores"],
        """WITH used AS (
  SELECT MAX(round) AS round FROM {dataset}.rounds
  WHERE accepted
    OR (verdict = 'undecided'
      AND round > (SELECT MAX(round) FROM {dataset}.rounds WHERE accepted))
), before AS (
  SELECT parent_round AS round FROM {dataset}.rounds JOIN used USING (round) WHERE NOT accepted
)
SELECT b.* FROM {dataset}.scores AS b JOIN used USING (round)
WHERE NOT EXISTS (SELECT 1 FROM before)
UNION ALL
SELECT b.* REPLACE (
  CASE WHEN a.reason IS NOT NULL THEN b.probabilities WHEN b.reason IS NOT NULL THEN a.probabilities
    ELSE ARRAY(SELECT (p + q) / 2 FROM UNNEST(a.probabilities) AS p WITH OFFSET AS i
      JOIN UNNEST(b.probabilities) AS q WITH OFFSET AS j ON i = j ORDER BY i) END AS probabilities,
  COALESCE(-LN((EXP(-a.loss) + EXP(-b.loss)) / 2), a.loss, b.loss) AS loss,
  IF(a.reason IS NULL, NULL, b.reason) AS reason,
  CONCAT(a.model_id, '+', b.model_id) AS model_id
)
FROM {dataset}.scores AS b JOIN used USING (round)
JOIN {dataset}.scores AS a ON a.track_id = b.track_id AND a.segment_index = b.segment_index
JOIN before ON a.round = before.round""",
    ),
}


def ddl(dataset: str = "sssl") -> str:
    """Return a CREATE statement for each table and view."""
    return "\n".join([_INTRO, *create_statements(dataset)])


def create_statements(dataset: str) -> list[str]:
    """Return a CREATE statement for each table, those of manifests and classes, and each view."""
    tables = TABLES | {ManifestRow.NAME: ManifestRow, ClassRow.NAME: ClassRow}
    statements = [_create(f"{dataset}.{name}", table) for name, table in tables.items()]
    for name, (doc, sql) in _VIEWS.items():
        about = f"OPTIONS (description = {_text(doc)})"
        query = sql.format(dataset=dataset)
        statements.append(f"CREATE OR REPLACE VIEW {dataset}.{name}\n{about}\nAS {query};\n")
    return statements


def load_statement(name: str, table: type, uris: list[str]) -> str:
    """Return a statement that reads files into a new temporary table."""
    body = ",\n  ".join(_typed(column) for column in columns(table))
    files = ",\n    ".join(map(_text, uris))
    return (
        f"LOAD DATA OVERWRITE TEMP TABLE {name} (\n  {body}\n)\nFROM FILES (\n  format ="
        f" 'PARQUET',\n  enable_list_inference = TRUE,\n  uris = [\n    {files}\n  ]\n);\n"
    )


def columns_of(table: type) -> str:
    """List the columns of a table as SQL."""
    return ", ".join(_name(column.name) for column in columns(table))


def literal(value: Any) -> str:
    """Return a value as SQL."""
    match value:
        case None:
            return "NULL"
        case str():
            return _text(value)
        case datetime():
            return f"TIMESTAMP {_text(value.isoformat())}"
        case list() | tuple():
            return f"[{', '.join(map(literal, value))}]"
        case _:
            return str(value)


def type_of(type: pa.DataType) -> str:
    """Return the BigQuery type of an Arrow type."""
    if pa.types.is_list(type):
        return f"ARRAY<{type_of(type.value_type)}>"
    if pa.types.is_struct(type):
        return (
            f"STRUCT<{', '.join(f'{_name(field.name)} {type_of(field.type)}' for field in type)}>"
        )
    return _TYPES[type]


def _create(name: str, table: type) -> str:
    declared = columns(table)
    keys = ", ".join(_name(column.name) for column in declared if column.key)
    body = [*map(_column, declared), f"PRIMARY KEY ({keys}) NOT ENFORCED"]
    lines, about = ",\n  ".join(body), _text(table_doc(table))
    return f"CREATE TABLE IF NOT EXISTS {name} (\n  {lines}\n)\nOPTIONS (description = {about});\n"


def _column(column: Column) -> str:
    return f"{_typed(column)} OPTIONS (description = {_text(column.description)})"


def _typed(column: Column) -> str:
    type = _TENSOR if column.type is None else column.type
    # An array is never null in BigQuery: a null one is loaded as an empty one.
    required = "" if column.nullable or pa.types.is_list(type) else " NOT NULL"
    return f"{_name(column.name)} {type_of(type)}{required}"


def _name(name: str) -> str:
    return f"`{name}`"  # `partition` is a keyword


def _text(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
