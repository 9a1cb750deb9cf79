"""A real MLflow server on this machine: HTTP, with SQLite and artifacts in a folder."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import requests


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def mlflow_server(folder, port=None):
    """Run a server on what `folder` has, until the block ends; yields its URL."""
    port = port or free_port()
    folder.mkdir(exist_ok=True)
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination",
        str(folder / "artifacts"),
    ]  # fmt: skip
    environment = os.environ | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with (folder / "log").open("ab") as log:
        # Its workers are processes of their own, which outlive it unless all get the signal.
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        _wait_until_up(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _wait_until_up(url, process, timeout_s=180):
    limit = time.monotonic() + timeout_s
    while True:
        try:
            return requests.get(f"{url}/health", timeout=5).raise_for_status()
        except requests.RequestException:
            assert process.poll() is None, "the MLflow server ended"
            assert time.monotonic() < limit, "the MLflow server does not answer"
            time.sleep(0.2)
