"""Beam runners that fail as engines outside the process do; by name:
`--runner=failing_engine.Failing`."""

from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState


class _Failed(PipelineResult):
    def __init__(self, error):
        super().__init__(PipelineState.FAILED)
        self._error = error

    def wait_until_finish(self, duration=None):
        raise self._error


class Failing(PipelineRunner):
    def run_pipeline(self, pipeline, options):
        return _Failed(
            RuntimeError(
                "Pipeline job-001 failed: bundle failed\nTraceback (most recent call"
                " last):\nOSError: x"
            )
        )


class Stopped(PipelineRunner):
    """Ctrl-C while waiting, as Beam passes it on."""

    def run_pipeline(self, pipeline, options):
        error = RuntimeError("job cancelled")
        error.__cause__ = KeyboardInterrupt()
        return _Failed(error)
