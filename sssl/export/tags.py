"""Emotion tags in music files, in the place where players look for a mood. Needs mutagen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mutagen
from mutagen.asf import ASFTags
from mutagen.id3 import ID3, TMOO, TXXX, Encoding
from mutagen.mp4 import MP4FreeForm, MP4Tags


class Untaggable(Exception):
    """A file whose format has no place for tags, or none that is known."""


def tag(path: Path, mood: str, fields: Mapping[str, str]) -> None:
    """Write a mood, and fields of our own, into a file's tags; others stay as they are.

    The mood goes where the format keeps one (ID3 `TMOO`, before its version 2.4 `TXXX:MOOD`; Vorbis
    and APE `MOOD`, MP4 `MOOD`, ASF `WM/Mood`).

    Raises:
        Untaggable: the file's format is not one of these.
    """
    audio = mutagen.File(path)
    if audio is None:
        raise Untaggable("no format with tags")
    if audio.tags is None:
        audio.add_tags()
    if isinstance(audio.tags, ID3):
        _tag_id3(type(audio), path, mood, fields)
        return
    if isinstance(audio.tags, MP4Tags):
        for name, value in {"MOOD": mood, **fields}.items():
            audio.tags[f"----:com.apple.iTunes:{name}"] = [MP4FreeForm(value.encode())]
    elif isinstance(audio.tags, ASFTags):
        audio.tags.update({"WM/Mood": [mood], **{name: [value] for name, value in fields.items()}})
    else:  # Vorbis comments and APE tags
        audio.tags.update({"MOOD": [mood], **{name: [value] for name, value in fields.items()}})
    audio.save()


def _tag_id3(format: Callable[..., Any], path: Path, mood: str, fields: Mapping[str, str]) -> None:
    """Tag with ID3 in the version that the file has: in another, players may not know it and frames
    would be lost."""
    audio = format(path, translate=False)
    if audio.tags is None:
        audio.add_tags()
    newest = audio.tags.version >= (2, 4, 0)
    text = {"encoding": Encoding.UTF8 if newest else Encoding.UTF16}
    audio.tags.add(TMOO(text=[mood], **text) if newest else TXXX(desc="MOOD", text=[mood], **text))
    for name, value in fields.items():
        audio.tags.add(TXXX(desc=name, text=[value], **text))
    audio.save(v2_version=4 if newest else 3, v23_sep=None)
