"""Names of files in an output folder.

O/sssl.json                                  what this folder is, and its schema version
O/<table>/<generation>/part-00012.parquet    one file per part, under a deterministic name
O/_parts/<table>/<generation>/...            the same where parts are small and only stages read
                                             them; then readers get their rows sorted, in few files:
O/<table>/<generation>/songs-00000.parquet
O/_receipts/<table>/<generation>/00012.json  written after the part's files: the part is done
O/_receipts/<table>/<generation>.counts      what was counted in each part, for generations that
                                             take parts over
O/_tries/<table>/<generation>/...            how often workers began a part, until the table is
                                             committed
O/<table>/<generation>/_manifest.json        written last: the table is committed
O/<table>/<generation>/_manifest-<sha>.files the files of its parts, as Parquet, where they are many
O/tracking/, O/mlflow.db, O/mlflow/          what MLflow is told: see sssl.tracking.record
O/latest.json                                the generations that belong together, flipped
                                             atomically
O/latest/00000008.json                       the same on an object store, one per command: see
                                             sssl.store.media.lease

So the folder of a generation has nothing but what readers take for rows, and a manifest, whose `_`
they pass over. In schema versions 1 to 5 manifests had no `_`, and all parts lay there, as did
receipts, in a folder of their own.
"""

from __future__ import annotations

MARK = "sssl.json"
PARTS = "_parts"
RECEIPTS = "_receipts"
COUNTS = ".counts"
TRIES = "_tries"
WORK = ("shards", "examples")
"""Tables that nobody publishes: what training made for itself, and can make again."""
COMPACTED = ("ledger", "scores", "labels", "songs")
"""Tables whose parts are small and only stages read them."""
SEGMENTED = ("segments", "features", "ledger")
"""Tables of the segment stage."""
BEFORE_ROUNDS = ("catalog", *SEGMENTED, "embeddings")
"""Tables that are made before anything is learned."""

_MANIFESTS = ("_manifest.json", "manifest.json")  # of today, then up to schema version 5


def part_path(table: str, generation: str, part: int) -> str:
    """Return the path of one part of a table."""
    within = f"{PARTS}/" if table in (*COMPACTED, *WORK) else ""
    return f"{within}{table}/{generation}/part-{part:05d}.parquet"


def compacted_path(ref: str, number: int) -> str:
    """Return the path of a file that holds the rows of several parts."""
    return f"{ref}/{ref.partition('/')[0]}-{number:05d}.parquet"


def manifest_paths(ref: str) -> list[str]:
    """Return the paths that the manifest of a generation may have, that of today first."""
    return [f"{ref}/{name}" for name in _MANIFESTS]


def file_list_path(ref: str, sha256: str) -> str:
    """Return the path of the list that a manifest of many parts names by its digest."""
    return f"{ref}/_manifest-{sha256[:16]}.files"


def ref_of_manifest(path: str) -> str | None:
    """Return which generation a path is the manifest of, None if it is that of another file."""
    ref, _, name = path.rpartition("/")
    if name in _MANIFESTS and ref.count("/") == 1:
        return ref
    return None


def fit_path(ref: str) -> str:
    """Return the path of what was fitted to the labelled tracks of a generation, kept for tracks
    that come later."""
    return f"{PARTS}/{ref}/fit.json"


def vacuumed_path(ref: str) -> str:
    """Return the path of the manifest of a generation that a vacuum deleted, as long as files of it
    are left."""
    return f"{PARTS}/{ref}/vacuumed.json"


def receipts_folder(ref: str) -> str:
    """Return the folder of a generation's receipts."""
    return f"{RECEIPTS}/{ref}"


def tries_folder(ref: str) -> str:
    """Return the folder that says how often workers began the parts of a generation."""
    return f"{TRIES}/{ref}"


def receipt_paths(ref: str, part: int) -> list[str]:
    """Return the paths that the receipt of a part may have, that of today first."""
    return [f"{receipts_folder(ref)}/{part:05d}.json", f"{ref}/receipts/{part:05d}.json"]


def is_receipt(path: str) -> bool:
    """Whether a path is that of a receipt."""
    return (path.startswith(f"{RECEIPTS}/") and not path.endswith(COUNTS)) or "/receipts/" in path


def counts_path(ref: str) -> str:
    """Return the path of what was counted in each part of a generation."""
    return f"{RECEIPTS}/{ref}{COUNTS}"
