"""Tables with their digests, the configuration of each stage, and where to query."""

from __future__ import annotations

import json
import shlex

from sssl.report.source import Context, Source


def context(source: Source) -> Context:
    """Tables with their digests, the configuration of each stage, and where to query."""
    made_with: dict[tuple[str, str], set[str]] = {}
    versions = set()
    for manifest in source.snapshot.manifests:
        versions.add(manifest.code_version)
        if manifest.config:
            content = json.dumps(manifest.config, indent=2, sort_keys=True)
            name = manifest.table
            if manifest.round is not None:
                name += f" {manifest.round}"
            tables = made_with.setdefault((manifest.stage, content), set())
            tables.add(name)
    configs = []
    for (stage, content), tables in sorted(made_with.items()):
        configs.append((stage, sorted(tables), content))
    sql = "select * from manifests order by table_name, round nulls first"
    output = shlex.quote(source.store.root)
    return {
        "manifests": source.rows(sql),
        "configs": configs,
        "versions": sorted(versions),
        "output": output,
    }
