"""Files by URI: which one is on this machine, and what we ask fsspec for of all others.

All of us read a URI here: whoever lists, fingerprints, decodes or copies a file means the same one.

Options, and no variables of the environment or settings of fsspec, which are the whole process's
and not ours.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO
from urllib.parse import quote, unquote, urlsplit

import fsspec

_GOOGLE = ("gs", "gcs")
_WEB = ("http", "https")

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]+"  # two letters or more: a single one is a drive of Windows
_FILE = re.compile(r"(?:file|local)://|file:(?=/)", re.IGNORECASE)
_ELSEWHERE = re.compile(rf"(?:{_SCHEME}::)*{_SCHEME}://")

ARCHIVES = ("dir", "libarchive", "tar", "zip")
"""File systems of fsspec that show a part of another one."""
INDIRECT = ("blockcache", "cached", "filecache", "reference", "simplecache")
"""File systems of fsspec that open what stands in a file of another one, or keep copies of it on
this machine."""
_LINKS = (*ARCHIVES, *INDIRECT)
"""What another file system may follow after `::`. In other URLs that is part of a name."""

_LONGEST_LINE = 1 << 16  # bytes


def local_path(uri: str) -> str | None:
    """Return the path on this machine that a path or URI names, None if it names something
    elsewhere.

    A path is taken as it is, whatever signs it has. What follows `file://` may be a path as it is,
    or one with escapes as RFC 8089 wants it: the file that is there decides, first the one whose
    name is literally that. After `file:/` and `file://localhost/` escapes go first: who writes
    these knows the RFC. A `~` at the start is the home folder, unless there is a file of that name.
    """
    scheme = _FILE.match(uri)
    if scheme is None and _ELSEWHERE.match(uri):
        return None
    spellings = [uri] if scheme is None else _spellings(uri[scheme.end() :], scheme.group())
    spellings += [os.path.expanduser(path) for path in spellings if path.startswith("~")]
    first, *others = dict.fromkeys(spellings)
    if others:
        return next((path for path in (first, *others) if os.path.lexists(path)), first)
    return first


def _spellings(rest: str, scheme: str) -> list[str]:
    """Return the paths that the rest of a `file:` URI may mean, the likeliest first."""
    host, slash, path = rest.partition("/")
    is_local_host = host.lower() == "localhost" and scheme.endswith("//")
    literal = slash + path if is_local_host else rest
    decoded = unquote(literal, errors="surrogateescape")
    is_strict = is_local_host or not scheme.endswith("//")
    if is_strict:
        return [decoded, literal]
    return [literal, decoded]


def uri_of(path: str) -> str:
    """Return the URI of an absolute path on this machine; `local_path` leads back to it.

    Only a name that is not UTF-8, which no table could hold, is written with escapes.
    """
    if readable(path) == path:
        return f"file://{path}"
    return f"file://localhost{quote(os.fsencode(path))}"


def readable(name: str) -> str:
    r"""Return a file's name as text; bytes that are not UTF-8 are written as `\xe9`."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def file_name(uri: str) -> str:
    """Return the name of the file at a URI, without the query of a web address, in which signatures
    are."""
    path = local_path(uri)
    if path is None:
        path = uri.partition("::")[0] if _is_chain(uri) else uri
        path = _without_query(path) if scheme_of(uri) in _WEB else path.partition("?versionId=")[0]
    return path.rpartition("/")[2]


def _without_query(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:  # its host is none; whoever opens it says so
        return url.partition("?")[0]


def suffix_of(uri: str) -> str:
    """Return the suffix of the file at a URI with its dot, empty if it has none."""
    return os.path.splitext(file_name(uri))[1]


def file_system(url: str, **options: Any) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system that a URI or a path is of, and the path in it.

    Raises:
        ValueError: no file system is known by that name.
        ImportError: it needs a package that is not installed.
    """
    path = local_path(url)
    if path is not None:
        # Absolute, so that fsspec takes no sign of it for one of its own.
        return fsspec.filesystem("file", **options), os.path.join(os.getcwd(), path)
    scheme = scheme_of(url)
    url = scheme + url[len(scheme) :]
    if scheme in _GOOGLE:
        from sssl.google_storage import (
            GoogleStorage,
        )  # here: it loads a client that most never need

        return GoogleStorage(**options), GoogleStorage._strip_protocol(url)
    if _is_chain(url):
        *links, last = url.split("::")
        if not all(scheme_of(link) in _LINKS for link in links):
            raise ValueError(
                "a file can only lie in an archive or a folder of what follows after ::"
            )
        path = local_path(last)
        if path is not None:
            last = f"file://{os.path.join(os.getcwd(), path)}"
        fs, path = fsspec.core.url_to_fs("::".join([*links, last]), **options)
        return fs, path
    kind = fsspec.get_filesystem_class(scheme)
    options = kind._get_kwargs_from_urls(url) | options
    return fsspec.filesystem(scheme, **options), kind._strip_protocol(url)


@contextmanager
def opened(url: str) -> Iterator[BinaryIO]:
    """Open a file to read it.

    Raises:
        OSError: it cannot be read.
        ValueError, ImportError: as `file_system` does.
    """
    fs, path = file_system(url)
    with fs.open(path, "rb") as file:
        yield file


def first_line(file: BinaryIO) -> str:
    """Read the first line of a text file, without its end but with its blanks."""
    # Not by readline(), which takes no limit where the file lies in a bucket.
    start = file.read(_LONGEST_LINE).decode("utf-8-sig", "replace")
    line, *_ = re.split("[\r\n]", start, maxsplit=1)
    return line


def why_unreadable(url: str, error: Exception) -> str:
    """Say why a file could not be read: of a URL the kind of the error only, as clients repeat the
    URL in its text, and with it what is secret."""
    said = type(error).__name__ if local_path(url) is None else str(error)
    if isinstance(error, UnicodeError):
        said += "; save it as UTF-8"
    return said


def is_not_there(error: FileNotFoundError) -> bool:
    """Whether a storage says that there is no such file: fsspec's HTTP calls whatever goes wrong
    so."""
    cause = error.__cause__
    status = getattr(cause, "status", None)
    return cause is None or isinstance(cause, FileNotFoundError) or status in (404, 410)


def leads_nowhere(error: OSError) -> bool:
    """Whether the system says of a path on this machine that it leads to no file."""
    return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


def chain_of(uri: str) -> list[str]:
    """Return the links of a URI, each in the next: `zip://a.mp3` and `gs://bucket/b.zip` of
    `zip://a.mp3::gs://bucket/b.zip`; of a path and of other URIs a single one."""
    if local_path(uri) is None and _is_chain(uri):
        return uri.split("::")
    return [uri]


def beside(uri: str, suffix: str) -> str:
    """Return the URI of the file that is called like another one, with a suffix behind its name,
    and lies beside it. A query stays behind the name."""
    links = chain_of(uri)
    # A link without a path only keeps copies: the file is that of the next one.
    place = next((n for n, link in enumerate(links) if "://" in link), 0)
    link = links[place]
    end = _end_of_name(link)
    links[place] = f"{link[:end]}{suffix}{link[end:]}"
    return "::".join(links)


def _end_of_name(link: str) -> int:
    """Return where the path of a URI ends, and a query may begin."""
    if local_path(link) is not None:
        return len(link)
    query = re.search(r"[?#]" if is_on_web(link) else r"\?versionId=", link)
    return len(link) if query is None else query.start()


def is_on_web(url: str) -> bool:
    """Whether a URL is a web address, in which a question mark starts a query."""
    return local_path(url) is None and scheme_of(url) in _WEB


_BEHIND_A_KIND = re.compile(r"\w+:[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def without_secrets(url: str) -> str:
    """Leave out of a URL what may be secret: user and password, and the query, where signatures
    are. In front of it there may be a kind, as in `onnx:https://host/weights`."""
    if local_path(url) is not None and not _BEHIND_A_KIND.match(url):
        return url
    return "::".join(map(_without_secrets, url.split("::")))


def _without_secrets(url: str) -> str:
    scheme, found, rest = url.partition("://")
    if not found:
        return url
    host, slash, path = rest.partition("/")
    host, query, _ = host.rpartition("@")[2].partition("?")
    if query:
        return f"{scheme}://{host}"
    return f"{scheme}://{host}{slash}{path.partition('?')[0]}"


def scheme_of(url: str) -> str:
    """Return the scheme of a URL in small letters, as all know it (RFC 3986)."""
    return url.partition(":")[0].lower()


def _is_chain(url: str) -> bool:
    """Whether what comes after `::` in a URL is where the file before it lies."""
    return "::" in url and scheme_of(url) in _LINKS
