"""The table `embeddings`: one value of half-precision reals a segment, row by row that of
`segments`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas import Catalog, Embedding, arrow_schema
from schemas.summaries import EmbeddingsSummary
from sssl.embedding.embedder import NON_FINITE
from sssl.errors import FrontEndError
from sssl.store.tensors import tensor_column, tensor_metadata, tensor_type, tensors

_TENSOR = "<f2"  # half-precision, little-endian, as NumPy names it


def embeddings_table(
    segments: pa.Table,
    found: NDArray[np.float16],
    reasons: Sequence[str | None],
    about: Mapping[str, Any],
) -> pa.Table:
    """Put embeddings [N, D] beside the segments that they are of; a row with a reason has none.

    What `about` says of the front-end travels with them.
    """
    shape = (found.shape[1],)
    schema = arrow_schema(Embedding, embedding=tensor_type(_TENSOR, shape))
    more = tensor_metadata("embedding", _TENSOR, shape, front_end=dict(about))
    reason = pa.array(reasons, pa.string())
    column = tensor_column(np.nan_to_num(found, nan=0.0))
    nothing = pa.scalar(None, column.type)
    columns = {
        "track_id": segments["track_id"],
        "segment_index": segments["segment_index"],
        "embedding": pc.if_else(reason.is_valid(), nothing, column),
        "reason": reason,
    }
    schema = schema.with_metadata({**schema.metadata, **more})
    return pa.table(columns, schema=schema)


def embeddings_of(table: pa.Table) -> NDArray[np.float32]:
    """Return the embeddings [N, D] of a table's rows, NaN where there is none."""
    found = tensors(table, "embedding").astype(np.float32)
    is_missing = table["embedding"].is_null()
    found[is_missing.to_numpy(zero_copy_only=False)] = np.nan
    return found


def summarize_embeddings(table: pa.Table, tracks: Sequence[Catalog]) -> EmbeddingsSummary:
    """Sum up the embeddings of a part."""
    with_segments = set(table["track_id"].unique().to_pylist())
    has_reason = table["reason"].is_valid()
    lacking = table.filter(has_reason).select(["track_id", "reason"])
    by_track = lacking.group_by(["track_id", "reason"]).aggregate([])
    reasons: dict[str, int] = {}
    for reason in by_track["reason"].to_pylist():
        reasons[reason] = reasons.get(reason, 0) + 1
    return EmbeddingsSummary(
        tracks=sum(track.track_id in with_segments for track in tracks),
        segments=len(table),
        missing=len(lacking),
        reasons=reasons,
    )


def is_never_finite(summary: EmbeddingsSummary) -> bool:
    """Whether no segment has an embedding, and that is not because no file can be read."""
    return NON_FINITE in summary.reasons and summary.missing == summary.segments


def require_finite(front_end: str, summary: EmbeddingsSummary) -> None:
    """Refuse embeddings of which none is finite.

    Raises:
        FrontEndError: see `is_never_finite`.
    """
    if is_never_finite(summary):
        raise FrontEndError(
            f"{none_is_finite(front_end)}: none of {summary.segments} segments has an embedding;"
            " once the cause is gone, embed with --retry"
        )


def none_is_finite(front_end: str) -> str:
    """Say what is wrong with a front-end that embeds nothing."""
    largest = float(np.finfo(_TENSOR).max)
    return (
        f"front-end {front_end} returns NaN, infinity or values beyond ±{largest:,.0f}, which do"
        " not fit half precision"
    )
