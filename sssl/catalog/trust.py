"""Which files a catalog may name: it may come from others, and what it names is opened with our rights."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from sssl.errors import CatalogError
from sssl.urls import end_of_chain, is_on_web, local_path, without_secrets
from sssl.words import some

_INDIRECT = re.compile(r"(?:^|::)(?:blockcache|cached|filecache|reference|simplecache)(?:::|:)", re.IGNORECASE)
"""File systems that open what stands in another file, or keep copies on this machine."""
_METADATA_HOSTS = frozenset({"metadata", "metadata.goog", "metadata.google.internal", "instance-data"})
_METADATA_ADDRESSES = frozenset({"100.100.100.200", "fd00:ec2::254"})  # Alibaba's and Amazon's, not link-local


def check_uris(uris: Sequence[str], catalog: str, allowed: Sequence[str]) -> None:
    """Check that a catalog names only files that it may.

    Without `allowed` these are all but what lies behind a file system that hides where it reads, hosts that hand out
    credentials to the machine that asks, and, for a catalog from elsewhere, files of this machine. With `allowed` they
    have to lie below one of these places, too. Names that lead to such a host by DNS or by a redirect are not found
    out: that is for the network to forbid.

    Raises:
        CatalogError: some lie elsewhere; the message names the first of them.
    """
    is_from_elsewhere = local_path(catalog) is None
    refused = [uri for uri in uris if _INDIRECT.search(uri) or _is_internal(uri)]
    _refuse(catalog, refused, "of a kind that a catalog may never name")
    if allowed:
        below = f"below none of --allow-uri {' '.join(map(without_secrets, allowed))}"
        _refuse(catalog, [uri for uri in uris if not any(_is_below(uri, place) for place in allowed)], below)
    elif is_from_elsewhere:
        why = "on this machine, and the catalog is not: allow their folder by --allow-uri"
        _refuse(catalog, [uri for uri in uris if local_path(end_of_chain(uri)) is not None], why)


def _refuse(catalog: str, uris: Sequence[str], why: str) -> None:
    if uris:
        shown = some([without_secrets(uri) for uri in uris])
        raise CatalogError(f"{without_secrets(catalog)}: {len(uris)} of its files are {why}: {shown}")


def _is_internal(uri: str) -> bool:
    """Whether a web address is of a host that is only reached from here: link-local, or a cloud's metadata."""
    place = end_of_chain(uri)
    if not is_on_web(place):
        return False
    host = (urlsplit(place).hostname or "").rstrip(".").lower()
    if host in _METADATA_HOSTS:
        return True
    address = _address(host)
    return address is not None and (address.is_link_local or str(address) in _METADATA_ADDRESSES)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host is written as, None for a name. `2852039166` and `0xa9fea9fe` are addresses."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except OSError:
            return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_below(uri: str, place: str) -> bool:
    path, top = local_path(end_of_chain(uri)), local_path(place)
    if path is not None and top is not None:
        # As the file system finds them, whatever links and `..` are on the way.
        return os.path.commonpath([os.path.realpath(path), os.path.realpath(top)]) == os.path.realpath(top)
    if path is not None or top is not None or ".." in unquote(uri).split("/"):
        return False
    url = end_of_chain(uri)
    return url == place or url.startswith(place if place.endswith("/") else f"{place}/")
