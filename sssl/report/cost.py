"""What the published tables cost: time, CPU time and space, by stage and round."""

from __future__ import annotations

from sssl.report.source import Context, Source

# Several may have ended within a second.
_ORDER = (
    "max(created_at), coalesce(round, if(stage = 'songs', 1e9, -1)), "
    "list_position(['relabel', 'train', 'score', 'judge'], stage)"
)
# The tables of a job are of one generation, and share its CPU time; the catalog is of another.
_JOBS = (
    "select stage, round, generation, string_agg(table_name, ', ' order by table_name) as names,"
    " sum(bytes) as bytes, max(cpu_s) as cpu_s, max(created_at) as created_at, min(created_at) as"
    " first_at from manifests group by stage, round, generation"
)
_STAGES = (
    "select stage, round, string_agg(names, ', ' order by names) as tables, sum(bytes) as bytes,"
    " sum(cpu_s) as cpu_s, epoch(max(created_at)) - lag(epoch(max(created_at)), 1,"
    f" epoch(min(first_at))) over (order by {_ORDER}) as took_s from ({_JOBS}) group by stage,"
    f" round order by {_ORDER}"
)


def context(source: Source) -> Context:
    stages = source.rows(_STAGES)
    (audio,) = source.rows("select coalesce(sum(decoded_s), 0) / 3600 as hours from ledger")
    took_s = [row["took_s"] for row in stages]
    cpu_s = [row["cpu_s"] for row in stages]
    shown: Context = {"stages": stages}
    shown["took_s"] = sum(took_s)
    shown["longest_s"] = max(took_s)
    shown["bytes"] = sum(row["bytes"] for row in stages)
    # A sum without one of its parts would be too small.
    shown["cpu_s"] = None if None in cpu_s else sum(cpu_s)
    shown["hours"] = audio["hours"]
    return shown
