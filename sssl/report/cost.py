"""What the published tables cost: time, CPU time and space, by stage and round."""

from __future__ import annotations

from sssl.report.source import Context, Source

# Several may have ended within a second.
_ORDER = (
    "max(created_at), coalesce(round, if(stage = 'songs', 1e9, -1)), "
    "list_position(['relabel', 'train', 'score', 'judge'], stage)"
)
_STAGES = (
    "select stage, round, string_agg(table_name, ', ' order by table_name) as tables, sum(bytes) as bytes, "
    "max(cpu_s) as cpu_s, "  # the tables of a job share it, the catalog has none
    "epoch(max(created_at)) - lag(epoch(max(created_at)), 1, epoch(min(created_at))) "
    f"over (order by {_ORDER}) as took_s from manifests group by stage, round order by {_ORDER}"
)


def context(source: Source) -> Context:
    stages = source.rows(_STAGES)
    (audio,) = source.rows("select coalesce(sum(decoded_s), 0) / 3600 as hours from ledger")
    return {
        "stages": stages,
        "took_s": sum(row["took_s"] for row in stages),
        "longest_s": max(row["took_s"] for row in stages),
        "bytes": sum(row["bytes"] for row in stages),
        "cpu_s": None if any(row["cpu_s"] is None for row in stages) else sum(row["cpu_s"] for row in stages),
        "hours": audio["hours"],
    }
