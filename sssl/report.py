"""placeholder"""

from sssl.store import Snapshot, Store


def write_report(store: Store, snapshot: Snapshot, truth: str | None) -> str:
    store.write_bytes("report.html", b"<html></html>")
    return store.url("report.html")
