"""Emotion tags in music files, in the place where players look for a mood. Needs mutagen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import mutagen
from mutagen.asf import ASFTags
from mutagen.id3 import ID3, TMOO, TXXX
from mutagen.mp4 import MP4FreeForm, MP4Tags


class Untaggable(Exception):
    """A file whose format has no place for tags, or none that is known."""


def tag(path: Path, mood: str, fields: Mapping[str, str]) -> None:
    """Write a mood, and fields of our own, into a file's tags; others stay as they are.

    The mood goes where the format keeps one (ID3 `TMOO`, Vorbis and APE `MOOD`, MP4 `MOOD`, ASF `WM/Mood`).

    Raises:
        Untaggable: the file's format is not one of these.
    """
    audio = mutagen.File(path)
    if audio is None:
        raise Untaggable("no format with tags")
    if audio.tags is None:
        audio.add_tags()
    if isinstance(audio.tags, ID3):
        audio.tags.add(TMOO(encoding=3, text=[mood]))
        for name, value in fields.items():
            audio.tags.add(TXXX(encoding=3, desc=name, text=[value]))
    elif isinstance(audio.tags, MP4Tags):
        for name, value in {"MOOD": mood, **fields}.items():
            audio.tags[f"----:com.apple.iTunes:{name}"] = [MP4FreeForm(value.encode())]
    elif isinstance(audio.tags, ASFTags):
        audio.tags.update({"WM/Mood": [mood], **{name: [value] for name, value in fields.items()}})
    else:  # Vorbis comments and APE tags
        audio.tags.update({"MOOD": [mood], **{name: [value] for name, value in fields.items()}})
    audio.save()
