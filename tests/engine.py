"""Beam's Prism with a pool of SDK worker processes, in a network of their own: both listen on every
address there is.

Run as a program it starts them, says so, and ends with its standard input.
"""

import fcntl
import os
import socket
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PRISM = REPOSITORY / ".tools/bin/prism"
JOB_PORT, POOL_PORT = 8073, 50000
ON_PRISM = [
    "--runner=PortableRunner", f"--job_endpoint=localhost:{JOB_PORT}",
    "--environment_type=EXTERNAL", f"--environment_config=localhost:{POOL_PORT}",
]  # fmt: skip
# Without being root, one is root of a namespace only.
_AS_ROOT = os.geteuid() == 0
_UNSHARE = ["unshare", "--net"] if _AS_ROOT else ["unshare", "--net", "--map-root-user"]
_NSENTER = (
    ["nsenter", "--net"] if _AS_ROOT else ["nsenter", "--net", "--user", "--preserve-credentials"]
)


class Engine:
    """Prism and its worker pool, which run until the block ends that made them."""

    def __init__(self, pid):
        self.pid = pid

    def start(self, command, *args, beam_args=ON_PRISM):
        """Start a command of ours in the engine's network."""
        program = [
            sys.executable,
            "-m",
            "pipelines.cli",
            command,
            *map(str, args),
            "--",
            *beam_args,
        ]
        return subprocess.Popen(
            [*_NSENTER, "--target", str(self.pid), *program], stderr=subprocess.PIPE, text=True
        )


@contextmanager
def engine():
    """Start Prism, built if it is not there yet, and its worker pool."""
    subprocess.run(
        ["make", "--silent", str(PRISM.relative_to(REPOSITORY))], cwd=REPOSITORY, check=True
    )
    # The pool starts its workers with the first `python` on the path.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = subprocess.Popen(
        [*_UNSHARE, sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(REPOSITORY)},
    )
    try:
        assert process.stdout.readline() == b"ready\n"
        yield Engine(process.pid)
    finally:
        process.communicate()


def serve():
    """Start both, wait for the end of standard input, stop both."""
    _bring_loopback_up()
    prism = subprocess.Popen(
        [PRISM, f"-job_port={JOB_PORT}", "-serve_http=false", "-log_level=error"], stdout=sys.stderr
    )
    pool = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "apache_beam.runners.worker.worker_pool_main",
            f"--service_port={POOL_PORT}",
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        for port in (JOB_PORT, POOL_PORT):
            _wait_for(port)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()
    finally:
        for process in (prism, pool):
            process.terminate()
            process.wait()


def _bring_loopback_up():
    with socket.socket() as any_socket:
        up_and_running = struct.pack("16sh", b"lo", 0x1 | 0x40)
        fcntl.ioctl(any_socket, 0x8914, up_and_running)  # SIOCSIFFLAGS


def _wait_for(port, timeout_s=60):
    limit = time.monotonic() + timeout_s
    while True:
        try:
            return socket.create_connection(("localhost", port), timeout=5).close()
        except OSError:
            assert time.monotonic() < limit, f"nothing listens on port {port}"
            time.sleep(0.1)


if __name__ == "__main__":
    serve()
