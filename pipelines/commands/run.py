"""The whole job: segment, warm-up, rounds of relabel, train, score and judge, then songs and
report.

sssl run --catalog CATALOG --output OUTPUT [flags] [-- beam options]

Stopped anywhere and started again it goes on: each stage finds its finished parts, epochs and
    tables by their names.
"""

from __future__ import annotations

from pipelines.commands.run_settings import Config
from pipelines.stages.command import StageCommand
from pipelines.stages.context import Context
from pipelines.stages.settings import Settings


def run(context: Context, config: Config) -> Context:
    """Run all stages and return the context with their tables."""
    # Here, since neither --help nor a flag that is refused needs Beam and torch.
    from pipelines.commands.all_stages import run_all

    return run_all(context, config)


main = StageCommand(
    "run",
    Config,
    run,
    of_settings=lambda given: {"segment": Settings.of(given), "method": given.method},
    creates=True,
    copies_itself=True,
).main
