"""Tables as data: columns with types and docs, reason codes. Imports nothing of ours."""

from schemas.columns import (
    SCHEMA_VERSION,
    Column,
    arrow_schema,
    columns,
    table_doc,
    table_name,
    to_arrow,
)
from schemas.compat import READABLE_VERSIONS, conform, version_of
from schemas.reasons import REASONS, Reason, Status
from schemas.segments import Embedding, Feature, Segment
from schemas.songs import Song
from schemas.tables import OPTIONAL, TABLES, Catalog, Label, Ledger, Round, Score
from schemas.views import VIEWS

__all__ = [
    "OPTIONAL",
    "READABLE_VERSIONS",
    "REASONS",
    "SCHEMA_VERSION",
    "TABLES",
    "VIEWS",
    "Catalog",
    "Column",
    "Embedding",
    "Feature",
    "Label",
    "Ledger",
    "Reason",
    "Round",
    "Score",
    "Segment",
    "Song",
    "Status",
    "arrow_schema",
    "columns",
    "conform",
    "table_doc",
    "table_name",
    "to_arrow",
    "version_of",
]
