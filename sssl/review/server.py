"""The review page and what it asks for, as a web application for one person on this machine.

Who knows the token in the address may ask; it is a new one with each start. Requests under another
name than this machine's own are refused, as names of other sites may lead here by DNS, and what
writes has to come from our own page.
"""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO, cast

import msgspec
from werkzeug.exceptions import (
    BadRequest,
    Forbidden,
    Gone,
    HTTPException,
    InternalServerError,
    NotFound,
)
from werkzeug.routing import Map, Rule
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response
from werkzeug.wsgi import wrap_file

from sssl.errors import AudioError, CatalogError, StoreError
from sssl.html import embedded, template
from sssl.report.source import FILTERS
from sssl.review.listening import Listening, Sound
from sssl.review.session import Session

LOGGER = logging.getLogger(__name__)
HOST = "127.0.0.1"
_HTTP = 80
_TOKEN_BYTES = 24
_PIECE_BYTES = 1 << 16
_MOST_BYTES = 10_000
"""Of a request: an answer has some 100."""
_HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
    "connect-src 'self'; media-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_POLICY_OF_OTHERS = "default-src 'none'; sandbox; frame-ancestors 'none'"
"""What is no page of ours runs nothing and loads nothing, if somebody opens it as one."""


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    """What the page says of a track: the label of a passage, or of all of it where there is no
    start and no end."""

    track: int
    start_s: float | None
    end_s: float | None
    label: str | None


class Application:
    """The web application (WSGI) at a port of this machine."""

    def __init__(self, session: Session, listening: Listening, port: int) -> None:
        self._session, self._listening = session, listening
        self._token = secrets.token_urlsafe(_TOKEN_BYTES)
        names = (HOST, "localhost")
        # Browsers leave out the port of HTTP.
        self._hosts = list(names) if port == _HTTP else [f"{name}:{port}" for name in names]
        self._origins = [f"http://{host}" for host in self._hosts]
        self._answers: dict[str, Callable[..., Response]] = {
            "page": self._page,
            "state": self._state,
            "say": self._say,
            "original": self._original,
            "decoded": self._decoded,
        }
        self._urls = Map(
            [
                Rule("/<token>/", endpoint="page", methods=["GET"]),
                Rule("/<token>/answers", endpoint="state", methods=["GET"]),
                Rule("/<token>/answers", endpoint="say", methods=["POST"]),
                Rule("/<token>/original/<int:place>", endpoint="original", methods=["GET"]),
                Rule("/<token>/decoded/<int:place>", endpoint="decoded", methods=["GET"]),
            ],
            strict_slashes=False,
        )

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"{self._origins[0]}/{self._token}/"

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        request.max_content_length = _MOST_BYTES
        try:
            response = self._answer(request)
        except HTTPException as refusal:
            response = Response(refusal.description, refusal.code, mimetype="text/plain")
        for name, value in _HEADERS.items():
            response.headers[name] = value
        response.headers.setdefault("Content-Security-Policy", _POLICY_OF_OTHERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        if request.headers.get("Host") not in self._hosts:
            raise Forbidden(f"this page is only to be had at {self._origins[0]}")
        endpoint, found = self._urls.bind_to_environ(request.environ).match()
        values = dict(found)
        if not secrets.compare_digest(values.pop("token").encode(), self._token.encode()):
            raise NotFound("no such page: open the address that `sssl review` printed last")
        try:
            return self._answers[endpoint](request, **values)
        except (CatalogError, StoreError) as error:
            raise BadRequest(str(error)) from None

    def _page(self, _request: Request) -> Response:
        nonce = secrets.token_urlsafe(_TOKEN_BYTES)
        content = self._session.content() | {"state": self._session.state()}
        page = template("review/page.html.jinja", FILTERS).render(
            nonce=nonce,
            content=embedded(content),
            classes=list(zip(content["classes"], content["colors"], content["inks"], strict=True)),
            passages=sum(item.kind == "passage" for item in self._session.queue.items),
            songs=sum(item.kind == "song" for item in self._session.queue.items),
            file=self._session.answers.path,
        )
        policy = _POLICY.format(nonce=nonce)
        return Response(page, mimetype="text/html", headers={"Content-Security-Policy": policy})

    def _state(self, _request: Request) -> Response:
        return _json(self._session.state())

    def _say(self, request: Request) -> Response:
        # A page of another site can send neither this origin nor, without asking first, this kind
        # of content.
        if (
            request.headers.get("Origin") not in self._origins
            or request.mimetype != "application/json"
        ):
            raise Forbidden("answers are taken from the review page only")
        try:
            answer = msgspec.json.decode(request.get_data(), type=Answer)
        except msgspec.MsgspecError as error:
            raise BadRequest(str(error)) from None
        try:
            said = self._session.say(answer.track, answer.start_s, answer.end_s, answer.label)
        except OSError as error:
            raise InternalServerError(
                f"{self._session.answers.path}: {error.strerror or error}"
            ) from None
        return _json({**said, **self._session.state()})

    def _original(self, request: Request, place: int) -> Response:
        return self._send(request, place, self._listening.original)

    def _decoded(self, request: Request, place: int) -> Response:
        return self._send(request, place, self._listening.decoded)

    def _send(self, request: Request, place: int, open_sound: Callable[[str], Sound]) -> Response:
        if place >= len(self._session.tracks):
            raise NotFound
        uri = self._session.tracks[place].uri
        if self._session.is_gone(place):
            self._listening.forget(uri)
            raise Gone("this track was taken down")
        try:
            sound = open_sound(uri)
        except AudioError as error:
            raise NotFound(f"this track cannot be played: {error}") from None
        except Exception as error:  # noqa: BLE001
            # What storages raise has no end. Without its text, which may repeat a URL with what is
            # secret in it.
            name = type(error).__name__
            raise NotFound(f"this track cannot be played: {name}") from None
        body = wrap_file(request.environ, cast(BinaryIO, _Sending(sound.file)), _PIECE_BYTES)
        response = Response(body, mimetype=sound.type, direct_passthrough=True)
        response.content_length = sound.bytes
        try:
            return response.make_conditional(
                request, accept_ranges=True, complete_length=sound.bytes
            )
        except HTTPException:
            sound.file.close()
            raise


class _Sending:
    """A file that ends where its storage fails: what it says may repeat a URL with what is secret
    in it, and would be logged."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, none where they cannot be had."""
        try:
            return self._file.read(size)
        except Exception as error:  # noqa: BLE001 (as where it is opened)
            LOGGER.warning("a track could not be sent to its end: %s", type(error).__name__)
            return b""


class _Quiet(WSGIRequestHandler):
    """Says nothing of single requests."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        del code, size  # part of the interface


def listen(port: int) -> socket.socket:
    """Listen at a port of this machine, which no other machine reaches; 0 is one that is free.

    Raises:
        OSError: another program has the port.
    """
    return socket.create_server((HOST, port))


def server_of(application: Application, listening: socket.socket) -> BaseWSGIServer:
    """Return a server at a port that is listened at; each request has a thread."""
    port = listening.getsockname()[1]
    return make_server(
        HOST, port, application, threaded=True, request_handler=_Quiet, fd=listening.fileno()
    )


def _json(content: Sequence[Any] | dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(content), mimetype="application/json")
