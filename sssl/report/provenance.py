"""Tables with their digests, the configuration of each stage, and where to query."""

from __future__ import annotations

import json
import shlex

from sssl.report.source import Context, Source


def context(source: Source) -> Context:
    """Tables with their digests, the configuration of each stage, and where to query."""
    made_with: dict[tuple[str, str], set[str]] = {}
    for m in source.snapshot.manifests:
        if m.config:
            content = json.dumps(m.config, indent=2, sort_keys=True)
            made_with.setdefault((m.stage, content), set()).add(
                m.table + ("" if m.round is None else f" {m.round}")
            )
    return {
        "manifests": source.rows("select * from manifests order by table_name, round nulls first"),
        "configs": [
            (stage, sorted(tables), content)
            for (stage, content), tables in sorted(made_with.items())
        ],
        "versions": sorted({m.code_version for m in source.snapshot.manifests}),
        "output": shlex.quote(source.store.root),
    }
