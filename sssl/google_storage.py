"""Google's storage as plain objects. Apart, for importing gcsfs takes half a second."""

from __future__ import annotations

from typing import Any

from gcsfs.core import GCSFile, GCSFileSystem


class GoogleStorage(GCSFileSystem):  # type: ignore[misc]
    """Objects, read one piece after the other.

    The class that gcsfs registers asks a second service about each bucket, whether it has folders:
    we need none. And it reads ahead in the background, which leaves a message on closing for what
    was never taken.
    """

    def _open(
        self, path: str, mode: str = "rb", cache_type: str = "readahead", **options: Any
    ) -> GCSFile:
        return super()._open(path, mode, cache_type=cache_type, **options)
