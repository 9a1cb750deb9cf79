"""Which files a catalog may name: it may come from others, and what it names is opened with our
rights."""

from __future__ import annotations

import ipaddress
import os
import socket
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from sssl.errors import CatalogError
from sssl.urls import (
    ARCHIVES,
    INDIRECT,
    chain_of,
    is_on_web,
    local_path,
    scheme_of,
    without_secrets,
)
from sssl.words import some

_METADATA_HOSTS = frozenset(
    {"metadata", "metadata.goog", "metadata.google.internal", "instance-data"}
)
_METADATA_ADDRESSES = frozenset(
    {"100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254"}
)
"""Alibaba's, Azure's, Oracle's and Amazon's, which are not link-local."""
_OF_BUCKETS = "^(gs|gcs|s3|az|abfs|abfss)://"
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_DOTS = str.maketrans("\u3002\uff0e\uff61", "...")
_MOST_NAMED = 6  # one more than is shown

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_uris(uris: Iterable[str], catalog: str, allowed: Sequence[str]) -> None:
    """Check that a catalog names only files that it may.

    Without `allowed` these are all but what lies behind a file system that hides where it reads,
    hosts that hand out credentials to the machine that asks, and, for a catalog from elsewhere,
    files of this machine. With `allowed` they have to lie below one of these places, too. Names
    that lead to such a host by DNS or by a redirect are not found out: that is for the network to
    forbid.

    Raises:
        CatalogError: some lie elsewhere; the message names the first of them.
    """
    never = _Refused("of a kind that a catalog may never name")
    if allowed:
        below = f"below none of --allow-uri {' '.join(map(without_secrets, allowed))}"
        elsewhere = _Refused(below)
        holds = [_holder(place) for place in allowed]
    else:
        elsewhere = _Refused(
            "on this machine, and the catalog is not: allow their folder by --allow-uri"
        )
        holds = [_is_elsewhere if local_path(catalog) is None else _is_anywhere]
    for uri in uris:
        if _hides_its_place(uri) or _is_internal(uri):
            never.note(uri)
        elif not any(hold(uri) for hold in holds):
            elsewhere.note(uri)
    never.complain(catalog)
    elsewhere.complain(catalog)


def without_plain(uris: pa.ChunkedArray, catalog: str) -> pa.ChunkedArray:
    """Leave out, of millions, those that may be named wherever they lead to: objects of a bucket,
    and for a catalog of this machine absolute paths."""
    plain = pc.match_substring_regex(uris, _OF_BUCKETS)
    if local_path(catalog) is not None:
        plain = pc.or_(plain, pc.starts_with(uris, "/"))
    is_chain = pc.match_substring(uris, "::")
    return uris.filter(pc.or_(is_chain, pc.invert(plain)))


class _Refused:
    """Files that are refused for one reason."""

    def __init__(self, why: str) -> None:
        self._why = why
        self._count = 0
        self._first = list[str]()

    def note(self, uri: str) -> None:
        self._count += 1
        if len(self._first) < _MOST_NAMED:
            self._first.append(without_secrets(uri))

    def complain(self, catalog: str) -> None:
        if self._count:
            shown = some(self._first)
            raise CatalogError(
                f"{without_secrets(catalog)}: {self._count} of its files are {self._why}: {shown}"
            )


def _is_anywhere(_uri: str) -> bool:
    return True


def _is_elsewhere(uri: str) -> bool:
    return local_path(chain_of(uri)[-1]) is None


def _hides_its_place(uri: str) -> bool:
    """Whether a URI does more on its way than show a part of the file that follows: some file
    systems need not even a `::` to read elsewhere."""
    *links, last = chain_of(uri)
    if not all(scheme_of(link) in ARCHIVES for link in links):
        return True
    return local_path(last) is None and scheme_of(last) in INDIRECT


def _is_internal(uri: str) -> bool:
    """Whether a web address is of a host that is only reached from here: link-local, or a cloud's
    metadata."""
    place = chain_of(uri)[-1]
    if not is_on_web(place):
        return False
    try:
        host = urlsplit(place).hostname or ""
    except ValueError:
        return False  # no address at all: its track fails for that
    host = unicodedata.normalize("NFKC", host).translate(_DOTS).rstrip(".").lower()
    if host in _METADATA_HOSTS:
        return True
    return any(
        address.is_link_local or str(address) in _METADATA_ADDRESSES for address in _addresses(host)
    )


def _addresses(host: str) -> list[_Address]:
    """Return the addresses that a host is written as, none for a name. `2852039166` and
    `0xa9fea9fe` are such; an address of IPv6 may carry one of IPv4."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            return [ipaddress.IPv4Address(socket.inet_aton(host))]
        except (OSError, ValueError):
            return []
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    is_compatible = address in _NAT64 or int(address) >> 32 == 0
    last_bits = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if is_compatible else None
    carried = (address.ipv4_mapped, address.sixtofour, last_bits)
    return [address, *(one for one in carried if one is not None)]


def _holder(place: str) -> Callable[[str], bool]:
    """Return whether a file lies below a place."""
    top = local_path(place)
    if top is None:
        return lambda uri: _is_below_url(uri, place)
    real_top = os.path.realpath(top)
    return lambda uri: _is_below_folder(uri, real_top)


def _is_below_url(uri: str, place: str) -> bool:
    url = chain_of(uri)[-1]
    if local_path(url) is not None or ".." in unquote(url).split("/"):
        return False
    return url == place or url.startswith(place if place.endswith("/") else f"{place}/")


def _is_below_folder(uri: str, real_top: str) -> bool:
    """Whether a file lies below a folder as the file system finds it, whatever links and `..` are
    on the way."""
    path = local_path(chain_of(uri)[-1])
    if path is None or "\0" in path:
        return False
    # `abspath` takes `link/..` for nothing, the file system for the folder above where the link
    # leads.
    folder, name = os.path.split(os.path.realpath(path) if ".." in path else os.path.abspath(path))
    real = os.path.join(_real_folder(folder), name)
    if os.path.islink(real):
        real = os.path.realpath(real)
    return real == real_top or real.startswith(real_top.rstrip("/") + "/")


@lru_cache(4096)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)
