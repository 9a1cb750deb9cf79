"""Tables as data: columns with types and docs, reason codes. Imports nothing of ours."""

from schemas.columns import SCHEMA_VERSION, Column, arrow_schema, columns, table_doc, table_name, to_arrow
from schemas.compat import READABLE_VERSIONS, conform, version_of
from schemas.reasons import REASONS, Reason, Status
from schemas.tables import TABLES, Catalog, Feature, Label, Ledger, Round, Score, Segment, Song
from schemas.views import VIEWS

__all__ = [
    "READABLE_VERSIONS",
    "REASONS",
    "SCHEMA_VERSION",
    "TABLES",
    "VIEWS",
    "Catalog",
    "Column",
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
