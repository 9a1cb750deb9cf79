"""Emotion tags in music files, in the place where players look for a mood. Needs mutagen."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import mutagen
from mutagen.asf import ASFTags
from mutagen.id3 import ID3, TMOO, TXXX, Encoding
from mutagen.mp4 import MP4FreeForm, MP4Tags

Changes = dict[str, tuple[list[str], list[str]]]
"""Values of a tag before and after, by its name; those that stay as they are are left out."""

MOOD = "MOOD"
_OURS = "SSSL_MODEL"
"""A file that has this field has been tagged by us."""


class Untaggable(Exception):
    """A file whose format has no place for tags, or none that is known."""


def tag(
    path: Path, mood: str, fields: Mapping[str, str], moods: Collection[str], *, save: bool = True
) -> Changes:
    """Write a mood, and fields of our own, into a file's tags; others stay as they are. Return what
    changes, and without `save` change nothing.

    The mood goes first where the format keeps one (ID3 `TMOO`, before its version 2.4 `TXXX:MOOD`;
    Vorbis and APE `MOOD`, MP4 `MOOD`, ASF `WM/Mood`). Moods of others stay behind it: all that a
    file has which we did not tag before, else those that are none of `moods`, which are all that
    we give.

    Raises:
        Untaggable: the file's format is not one of these.
    """
    audio = mutagen.File(path)
    if audio is None:
        raise Untaggable("no format with tags")
    if isinstance(audio.tags, ID3):
        # As it is: translated to another version, frames would be lost.
        audio = type(audio)(path, translate=False)
        if audio.tags is not None and audio.tags.version < (2, 3, 0):
            audio.tags.update_to_v23()  # as which it is saved, with types of covers that it knows
    if audio.tags is None:
        audio.add_tags()
    place = _place_of(audio.tags)
    ours = {name.casefold() for name in moods} if place.read(_OURS) else set()
    others = [
        value for value in place.read(MOOD) if value.casefold() not in ours | {mood.casefold()}
    ]
    wanted = {MOOD: [mood, *others], **{name: [value] for name, value in fields.items()}}
    changes = {
        name: (before, after)
        for name, after in wanted.items()
        if (before := place.read(name)) != after
    }
    if save and changes:
        for name, (_, after) in changes.items():
            place.write(name, after)
        audio.save(**place.saving)
    return changes


class _Texts:
    """Texts of a format that keeps lists of them by name: Vorbis comments and APE tags."""

    saving: Mapping[str, Any] = {}

    def __init__(self, tags: Any) -> None:
        self._tags = tags

    def read(self, name: str) -> list[str]:
        """Return the values of a tag; none where it is not there."""
        return [str(value) for value in self._tags.get(self.key(name), [])]

    def write(self, name: str, values: list[str]) -> None:
        """Set the values of a tag."""
        self._tags[self.key(name)] = values

    def key(self, name: str) -> str:
        """Return what the format calls a tag."""
        return name


class _Asf(_Texts):
    def key(self, name: str) -> str:
        return "WM/Mood" if name == MOOD else name


class _Mp4(_Texts):
    def read(self, name: str) -> list[str]:
        return [
            bytes(value).decode(errors="replace") for value in self._tags.get(self.key(name), [])
        ]

    def write(self, name: str, values: list[str]) -> None:
        self._tags[self.key(name)] = [MP4FreeForm(value.encode()) for value in values]

    def key(self, name: str) -> str:
        return f"----:com.apple.iTunes:{name}"


class _Id3(_Texts):
    """ID3 in the version that the file has: players may not know another."""

    @property
    def saving(self) -> Mapping[str, Any]:  # type: ignore[override]
        return {"v2_version": 4 if self._is_newest else 3, "v23_sep": None}

    @property
    def _is_newest(self) -> bool:
        return bool(self._tags.version >= (2, 4, 0))

    def read(self, name: str) -> list[str]:
        return [str(text) for frame in self._tags.getall(self.key(name)) for text in frame.text]

    def write(self, name: str, values: list[str]) -> None:
        encoding = Encoding.UTF8 if self._is_newest else Encoding.UTF16
        frame = TMOO if self.key(name) == "TMOO" else TXXX
        described = {} if frame is TMOO else {"desc": name}
        self._tags.setall(self.key(name), [frame(encoding=encoding, text=values, **described)])

    def key(self, name: str) -> str:
        return "TMOO" if name == MOOD and self._is_newest else f"TXXX:{name}"


def _place_of(tags: Any) -> _Texts:
    """Return where a format keeps texts by name."""
    kinds = ((ID3, _Id3), (MP4Tags, _Mp4), (ASFTags, _Asf))
    return next((place for kind, place in kinds if isinstance(tags, kind)), _Texts)(tags)
