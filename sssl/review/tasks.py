"""Songs as tasks of Label Studio, with what the model thinks as predictions to accept or change.

The format is what Label Studio imports as JSON with predictions: a choice for the whole song, and a
region of the sound for each passage that looks wrong. `annotations.py` reads what people made of
them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import pyarrow as pa

from sssl.errors import StoreError
from sssl.export.songs import Exported
from sssl.plots.colors import color_of
from sssl.report.source import Source
from sssl.review.queue import Item, make_queue, passages
from sssl.store.atomic import replacing
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot
from sssl.urls import chain_of, local_path, scheme_of

SONG, PASSAGE, AUDIO = "emotion", "passage", "audio"
"""Names of the controls and of the object in the labelling configuration."""
_OPENED = ("azure-blob", "gs", "http", "https", "s3")
"""Schemes of what Label Studio opens, from storages that are connected to its project."""
_ROWS_AT_ONCE = 10_000
_LOCAL_FILES = "LABEL_STUDIO_LOCAL_FILES"

_SONGS = """
select s.track_id, c.uri, s.label, s.confidence, s.model_id, c.label as catalog_label, decoded_s
from songs s join catalog c using (track_id) join ledger using (track_id)
left join ranks using (track_id) order by rank nulls last, track_id
"""
_WITHOUT_SONG = """
select track_id, coalesce(reason, 'not scored') as reason
from ledger anti join songs using (track_id)
"""


def write_tasks(store: Store, snapshot: Snapshot, to: str) -> Exported:
    """Write all songs as tasks into a JSON file, those first whose answer tells most, and the
    labelling configuration of their project beside it, as XML.

    Raises:
        StoreError: there are no songs, or both files would be one.
    """
    path = Path(to)
    if config_path(to) == path:
        raise StoreError(
            f"{to}: the labelling configuration would overwrite it; "
            "choose a name that ends in .json"
        )
    source = Source.of(store, snapshot)
    exported = Exported()
    exported.left_out |= {row["track_id"]: row["reason"] for row in source.rows(_WITHOUT_SONG)}
    root = document_root(row["uri"] for row in source.rows("select uri from catalog"))
    if root is not None:
        exported.environment = {
            f"{_LOCAL_FILES}_SERVING_ENABLED": "true",
            f"{_LOCAL_FILES}_DOCUMENT_ROOT": root,
        }
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        separator = "[\n"
        for task in _tasks(source, root, exported):
            file.write(separator + json.dumps(task, ensure_ascii=False, allow_nan=False))
            separator = ",\n"
            exported.songs += 1
        file.write("\n]\n" if exported.songs else "[]\n")
    with replacing(config_path(to)) as temporary:
        temporary.write_text(labelling_config(source.classes), encoding="utf-8")
    return exported


def config_path(to: str) -> Path:
    """Return where the labelling configuration of a file of tasks lies."""
    return Path(to).with_suffix(".xml")


def document_root(uris: Iterable[str]) -> str | None:
    """Return the folder that Label Studio has to serve so that it finds the files on this machine;
    None if there are none. It is above the one that holds them all, as its local storages have to
    lie below it."""
    folders = set()
    for path in map(local_path, uris):
        if path:
            whole = os.path.abspath(path)
            folders.add(os.path.dirname(whole))
    if not folders:
        return None
    common = os.path.commonpath(folders)
    return os.path.dirname(common)


def labelling_config(classes: Sequence[str]) -> str:
    """Return the labelling configuration of a project for such tasks."""
    labels = ""
    choices = ""
    for place, name in enumerate(classes):
        value = quoteattr(name)
        background = quoteattr(color_of(place))
        labels += f"    <Label value={value} background={background}/>\n"
        choices += f"    <Choice value={value}/>\n"
    return f"""<View>
  <Header value="$track_id"/>
  <Text name="about" value="$about"/>
  <Labels name="{PASSAGE}" toName="{AUDIO}">
{labels}  </Labels>
  <Audio name="{AUDIO}" value="$audio"/>
  <Header value="The whole song"/>
  <Choices name="{SONG}" toName="{AUDIO}" choice="single" showInline="true">
{choices}  </Choices>
</View>
"""


def _tasks(source: Source, root: str | None, exported: Exported) -> Iterator[dict[str, Any]]:
    by_track: dict[str, list[Item]] = {}
    for item in passages(source):
        by_track.setdefault(item.track_id, []).append(item)
    for number, row in enumerate(_songs(source)):
        audio = _audio(row["uri"], root)
        if audio is None:
            exported.left_out[row["track_id"]] = "Label Studio cannot open its URI"
        else:
            wrong = by_track.get(row["track_id"], [])
            yield _task(number, row, audio, wrong)


def _songs(source: Source) -> Iterator[dict[str, Any]]:
    """Yield the rows of all songs, those of the review's queue first."""
    queue = make_queue(source, {}, most_open=None)
    # A track may have several items: its first one counts.
    queued = dict.fromkeys(item.track_id for item in queue.items)
    track_ids = pa.array(queued, pa.string())
    places = pa.array(range(len(queued)), pa.int64())
    ranks = pa.table({"track_id": track_ids, "rank": places})
    connection = source.connection.cursor()
    connection.register("ranks", ranks)
    for batch in connection.sql(_SONGS).to_arrow_reader(_ROWS_AT_ONCE):
        yield from batch.to_pylist()


def _task(number: int, row: dict[str, Any], audio: str, wrong: Sequence[Item]) -> dict[str, Any]:
    confidence = row["confidence"]
    choice = {"choices": [row["label"]]}
    results = [_result(f"{number}-song", SONG, "choices", confidence, choice)]
    for place, item in enumerate(wrong):
        region: dict[str, Any] = {"start": item.start_s, "end": item.end_s, "channel": 0}
        region["labels"] = [item.label]
        result = _result(f"{number}-{place}", PASSAGE, "labels", item.confidence, region)
        result["original_length"] = row["decoded_s"]
        results.append(result)
    data = {
        "audio": audio,
        "track_id": row["track_id"],
        "about": _about(row, wrong),
        "label": row["label"],
        "catalog_label": row["catalog_label"],
        "confidence": confidence,
        "passages_that_look_wrong": len(wrong),
    }
    prediction = {"model_version": row["model_id"], "score": confidence, "result": results}
    return {"data": data, "predictions": [prediction]}


def _result(
    name: str, control: str, kind: str, score: float | None, value: dict[str, Any]
) -> dict[str, Any]:
    return {
        "id": name,
        "from_name": control,
        "to_name": AUDIO,
        "type": kind,
        "score": score,
        "value": value,
    }


def _about(row: dict[str, Any], wrong: Sequence[Item]) -> str:
    """Say in a sentence what a listener should know."""
    label = row["label"]
    confidence = row["confidence"]
    known = ""
    if row["catalog_label"]:
        known = f"; the catalog says {row['catalog_label']}"
    said = f"The model takes it for {label} ({confidence:.0%}){known}."
    if wrong:
        said += " The regions look wrong, and are labelled as they sound."
    return said


def _audio(uri: str, root: str | None) -> str | None:
    """Return the address of a file for Label Studio, None if it opens none of that kind."""
    path = local_path(uri)
    if path is not None and root is not None:
        below = os.path.relpath(os.path.abspath(path), root)
        return f"/data/local-files/?d={quote(os.fsencode(below))}"  # names may be no UTF-8
    is_opened = scheme_of(uri) in _OPENED and len(chain_of(uri)) == 1
    return uri if is_opened else None
