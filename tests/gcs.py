"""Google Cloud Storage on this machine: the emulator fake-gcs-server, behind a proxy that can fail
as storage does."""

import http.client
import itertools
import json
import random
import re
import socket
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import requests

REPOSITORY = Path(__file__).parents[1]


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


PORT = _free_port()
ENVIRONMENT = {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{PORT}", "NO_GCE_CHECK": "true"}
"""Variables under which gcsfs uses the emulator, and looks for no credentials."""


KINDS = ("429", "503", "cut-request", "lost-answer", "cut-answer")


@dataclass
class Faults:
    """Which share of requests fails, each kind in turn; the seed decides which ones."""

    share: float = 0.0
    seed: int = 0
    kinds: tuple[str, ...] = KINDS
    injected: dict[str, int] = field(default_factory=dict)

    def __post_init__(self):
        self._random, self._lock = random.Random(self.seed), threading.Lock()

    def draw(self):
        with self._lock:
            if self._random.random() >= self.share:
                return None
            kind = self.kinds[sum(self.injected.values()) % len(self.kinds)]
            self.injected[kind] = self.injected.get(kind, 0) + 1
            return kind


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer goes in one packet: two would wait 40 ms for each other
    upstream_port: int
    faults = Faults()
    refused: tuple[str, ...] = ()
    """Names of objects, or what they begin with, that nobody may write or delete."""

    def setup(self):
        super().setup()
        self._upstream = http.client.HTTPConnection("127.0.0.1", self.upstream_port, timeout=60)

    def finish(self):
        self._upstream.close()
        super().finish()

    def handle(self):
        # A client that needs no more may go.
        with suppress(ConnectionError):
            super().handle()

    def _forward(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = type(self).faults.draw()
        if self._written(body).startswith(type(self).refused or ("\0",)):
            self._answer(403, {}, b'{"error": {"message": "Forbidden: no right to it"}}')
        elif fault and fault.isdigit():
            self._answer(int(fault), {}, b'{"error": {"message": "injected"}}')
        elif fault == "cut-request":
            self._cut()
        else:
            status, headers, content = self._ask(body)
            if fault == "lost-answer":
                self._cut()
            else:
                self._answer(
                    status, headers, content, content[: len(content) // 2] if fault else content
                )
                if fault:
                    self._cut()

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _forward  # noqa: N815

    def _written(self, body):
        """Return the name of the object that a request would write or delete, or nothing."""
        path = unquote(self.path)
        if self.command == "DELETE":
            return path.partition("?")[0].partition("/o/")[2]
        if self.command == "POST" and "/upload/" in path and "upload_id=" not in path:
            # Further pieces of an upload have its id, and bytes without a name.
            return json.loads(re.search(rb"\{.*?\}", body)[0])["name"]
        return ""

    def _ask(self, body):
        self._upstream.request(self.command, self.path, body, dict(self.headers))
        answer = self._upstream.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()

    def _answer(self, status, headers, content, sent=None):
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content if sent is None else sent)
        self.wfile.flush()

    def _cut(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *args):
        pass


class Storage:
    """Buckets at `url`."""

    def __init__(self, url, handler):
        self.url, self._handler, self._numbers = url, handler, itertools.count()

    def make_bucket(self, keeps_versions=False):
        name = f"bucket-{next(self._numbers)}"
        about = {"name": name, "versioning": {"enabled": keeps_versions}}
        requests.post(f"{self.url}/storage/v1/b", json=about, timeout=10).raise_for_status()
        return f"gs://{name}"

    @contextmanager
    def failing(self, share, seed=0, kinds=KINDS):
        """Let a share of requests fail until the block ends; yields what was injected."""
        self._handler.faults = Faults(share, seed, kinds)
        try:
            yield self._handler.faults.injected
        finally:
            self._handler.faults = Faults()

    @contextmanager
    def refusing(self, *names):
        """Let nobody write or delete objects whose names begin like this, until the block ends."""
        self._handler.refused = names
        try:
            yield
        finally:
            self._handler.refused = ()


@contextmanager
def storage():
    """Start the emulator, built if it is not there yet, and its proxy."""
    binary = REPOSITORY / ".tools/bin/fake-gcs-server"
    subprocess.run(
        ["make", "--silent", str(binary.relative_to(REPOSITORY))], cwd=REPOSITORY, check=True
    )
    port = _free_port()
    handler = type("Handler", (_Proxy,), {"upstream_port": port, "faults": Faults()})
    proxy = ThreadingHTTPServer(("127.0.0.1", PORT), handler)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    url = ENVIRONMENT["STORAGE_EMULATOR_HOST"]
    flags = {
        "scheme": "http",
        "host": "127.0.0.1",
        "port": port,
        "backend": "memory",
        "log-level": "error",
    }
    # Uploads in several requests are sent where the server says.
    flags |= {"external-url": url, "public-host": url.removeprefix("http://")}
    server = subprocess.Popen([binary, *(f"-{name}={value}" for name, value in flags.items())])
    try:
        _wait_until_up(port)
        yield Storage(url, handler)
    finally:
        server.terminate()
        server.wait()
        proxy.shutdown()


def _wait_until_up(port, timeout_s=20):
    limit = time.monotonic() + timeout_s
    while True:
        try:
            return requests.get(f"http://127.0.0.1:{port}/storage/v1/b", timeout=5)
        except requests.ConnectionError:
            assert time.monotonic() < limit, "the storage emulator does not answer"
            time.sleep(0.05)
