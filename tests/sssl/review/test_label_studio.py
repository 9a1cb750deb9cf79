"""Tasks for Label Studio and back: what is accepted there is in the file of corrections, and says
who and when."""

import json
import xml.etree.ElementTree as ET

import pytest
from reports import CLASSES, make_folder, query

from pipelines.cli import main
from sssl.catalog.corrections import Correction
from sssl.errors import CatalogError
from sssl.review.annotations import read_annotations
from sssl.review.tasks import config_path, document_root, labelling_config, write_tasks
from sssl.urls import uri_of

WHEN = "2026-11-27T10:00:00.123456Z"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("tasks")
    store, snapshot = make_folder(root / "out", (0.6, 0.9), uri="/music/a b/{}.flac")
    store.publish(snapshot)
    return store, snapshot


@pytest.fixture(scope="module")
def tasks(folder, tmp_path_factory):
    to = tmp_path_factory.mktemp("exported") / "tasks.json"
    assert (
        main(["export", "--output", folder[0].root, "--format", "label-studio", "--to", str(to)])
        == 0
    )
    return to


def submitted(tasks, **changes):
    """Tasks as Label Studio exports them once somebody has accepted every prediction."""
    found = []
    for number, task in enumerate(json.loads(tasks.read_text()), start=1):
        annotation = {
            "id": number,
            "completed_by": {"id": 7, "email": "ann@label.example"},
            "result": [one | {"origin": "prediction"} for one in task["predictions"][0]["result"]],
            "was_cancelled": False,
            "created_at": "2026-11-27T09:00:00Z",
            "updated_at": WHEN,
            "lead_time": 30.0,
        }
        found.append({"id": number, "data": task["data"], "annotations": [annotation | changes]})
    return found


def read(tmp_path, content, track_ids):
    (tmp_path / "export.json").write_text(json.dumps(content))
    return read_annotations(str(tmp_path / "export.json"), CLASSES, track_ids)


def ids(folder):
    return {track_id for (track_id,) in query(folder, "select track_id from catalog")}


def test_every_song_is_a_task_with_its_label_as_a_choice(folder, tasks):
    found = {
        task["data"]["track_id"]: (
            task["predictions"][0]["score"],
            task["predictions"][0]["result"][0]["value"]["choices"],
        )
        for task in json.loads(tasks.read_text())
    }
    rows = query(folder, "select track_id, confidence, label from songs")
    assert found == {track_id: (confidence, [label]) for track_id, confidence, label in rows}


def test_every_segment_that_looks_wrong_lies_in_a_region_of_what_it_sounds_like(folder, tasks):
    regions = [
        (
            task["data"]["track_id"],
            one["value"]["start"],
            one["value"]["end"],
            one["value"]["labels"],
        )
        for task in json.loads(tasks.read_text())
        for one in task["predictions"][0]["result"][1:]
    ]
    suspects = query(folder, "select track_id, start_s, end_s, model_label from suspects")
    for track_id, start_s, end_s, label in suspects:
        inside = [r for r in regions if r[0] == track_id and r[1] <= start_s and end_s <= r[2]]
        assert [labels for *_, labels in inside] == [[label]]


def test_tasks_fit_their_labelling_configuration(tasks):
    view = ET.fromstring(config_path(str(tasks)).read_text())
    controls = {one.get("name"): one for one in view if one.get("toName")}
    (audio,) = view.iter("Audio")
    for task in json.loads(tasks.read_text()):
        fields = {one.get("value")[1:] for one in view if (one.get("value") or "").startswith("$")}
        assert fields <= task["data"].keys()
        for one in task["predictions"][0]["result"]:
            control = controls[one["from_name"]]
            assert control.tag.lower() == one["type"]
            assert control.get("toName") == one["to_name"] == audio.get("name")
            assert set(one["value"][one["type"]]) <= {child.get("value") for child in control}
    names = [
        one["id"] for t in json.loads(tasks.read_text()) for one in t["predictions"][0]["result"]
    ]
    assert len(set(names)) == len(names)


def test_names_of_classes_do_not_end_the_configuration_early():
    view = ET.fromstring(labelling_config(['a "b"', "<c>", "d & 'e'"]))
    assert [one.get("value") for one in view.iter("Choice")] == ['a "b"', "<c>", "d & 'e'"]


def test_what_tells_most_comes_first(folder, tasks):
    found = [
        bool(task["data"]["passages_that_look_wrong"]) for task in json.loads(tasks.read_text())
    ]
    assert any(found)
    assert not any(found[sum(found) + 5 :])


def test_files_of_this_machine_are_below_the_folder_that_is_served(tasks):
    assert document_root(["/music/a b/1.flac", "gs://bucket/x.mp3"]) == "/music"
    audio = json.loads(tasks.read_text())[0]["data"]["audio"]
    assert audio.startswith("/data/local-files/?d=a%20b/")
    assert document_root(["gs://bucket/x.mp3"]) is None


def test_the_export_says_which_folder_label_studio_has_to_serve(folder, tmp_path, capsys):
    flags = ["--format", "label-studio", "--to", str(tmp_path / "tasks.json")]
    assert main(["export", "--output", folder[0].root, *flags]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert said.endswith(
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true"
        " LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=/music"
    )


def test_files_that_label_studio_cannot_open_are_left_out_by_name(in_memory, tmp_path):
    store, snapshot = make_folder(in_memory, (0.6, 0.9), uri="zip://{}.mp3::/music/all.zip")
    exported = write_tasks(store, snapshot, str(tmp_path / "tasks.json"))
    assert exported.songs == 0
    assert json.loads((tmp_path / "tasks.json").read_text()) == []
    assert "Label Studio cannot open its URI" in exported.left_out.values()


def test_what_is_accepted_comes_back_as_corrections_with_who_and_when(folder, tasks, tmp_path):
    content = submitted(tasks)
    found = read(tmp_path, content, ids(folder))
    assert found.left_out == []
    assert found.lead_s == 30.0 * len(content)
    expected = []
    for task in content:
        track_id = task["data"]["track_id"]
        song, *regions = task["annotations"][0]["result"]
        who_when = ("ann@label.example", WHEN)
        expected.append(Correction(track_id, None, None, song["value"]["choices"][0], *who_when))
        for one in regions:
            value = one["value"]
            expected.append(
                Correction(track_id, value["start"], value["end"], value["labels"][0], *who_when)
            )
    assert found.corrections == expected


def test_what_was_skipped_says_nothing(folder, tasks, tmp_path):
    found = read(tmp_path, submitted(tasks, was_cancelled=True), ids(folder))
    assert (found.corrections, found.left_out) == ([], [])


@pytest.mark.parametrize(
    ("person", "who"), [(10, "user 10"), ({"id": 3}, "user 3"), ("bob", "bob"), (None, "")]
)
def test_a_listener_is_named_as_far_as_the_export_does(folder, tasks, tmp_path, person, who):
    found = read(tmp_path, submitted(tasks, completed_by=person)[:1], ids(folder))
    assert {one.who for one in found.corrections} == {who}


@pytest.mark.parametrize(
    ("result", "why"),
    [
        ({"type": "choices", "value": {"choices": ["grim"]}}, "['grim'] is not one of"),
        ({"type": "choices", "value": {"choices": list(CLASSES[:2])}}, "is not one of"),
        ({"type": "choices", "value": {}}, "None is not one of"),
        ({"type": "textarea", "value": {"text": ["hm"]}}, "a result of type textarea"),
        (
            {"type": "labels", "value": {"start": 3, "end": 3, "labels": [CLASSES[0]]}},
            "a region from 3 to 3 s is no passage",
        ),
        (
            {"type": "labels", "value": {"start": "3", "end": 6, "labels": [CLASSES[0]]}},
            "a region from nan to 6 s is no passage",
        ),
        (
            {"type": "labels", "value": {"start": 3, "end": 1e39, "labels": [CLASSES[0]]}},
            "a region from 3 to inf s is no passage",
        ),
        (
            {"type": "labels", "value": {"start": 3, "end": 10**400, "labels": [CLASSES[0]]}},
            "a region from 3 to inf s is no passage",
        ),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_result_that_says_nothing_is_left_out_by_a_sentence(folder, tasks, tmp_path, result, why):
    content = submitted(tasks, result=[result])[:1]
    found = read(tmp_path, content, ids(folder))
    assert found.corrections == []
    (sentence,) = found.left_out
    assert sentence.startswith(f"{content[0]['data']['track_id']}: ")
    assert why in sentence


@pytest.mark.parametrize(
    ("task", "why"),
    [
        (
            {"id": 5, "emotion": "Q1"},
            "task 5: no annotations; is the export JSON, and not JSON-MIN?",
        ),
        ({"data": {}, "annotations": []}, "task 1: no track_id in its data"),
        ({"data": {"track_id": "x"}, "annotations": []}, "task 1: no track x in the catalog"),
        ({"data": {"track_id": "x"}, "annotations": [{}]}, "task 1: Object missing required field"),
        ("nonsense", "task 1: Expected `object`, got `str`"),
    ],
)
def test_a_task_that_cannot_be_read_is_left_out_by_a_sentence(tmp_path, task, why):
    found = read(tmp_path, [task], {"a"})
    assert found.corrections == []
    assert why in found.left_out[0]


@pytest.mark.parametrize("content", ["{", '{"a": 1}', ""])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "export.json").write_text(content)
    with pytest.raises(CatalogError, match=r"export\.json"):
        read_annotations(str(tmp_path / "export.json"), CLASSES, set())


def test_the_command_appends_answers_once_and_names_what_it_leaves_out(
    folder, tasks, tmp_path, capsys
):
    store, _ = folder
    content = submitted(tasks)
    content[1]["annotations"][0]["result"][0]["value"]["choices"] = ["grim"]
    (tmp_path / "export.json").write_text(json.dumps(content))
    corrections = tmp_path / "corrections.csv"
    flags = ["--output", store.root, "--corrections", str(corrections)]
    command = ["review", *flags, "--label-studio", str(tmp_path / "export.json")]
    assert main(command) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"warning: left out: {content[1]['data']['track_id']}: ['grim'] is not one of" in said
    rows = corrections.read_text().splitlines()[1:]
    assert f"{len(rows)} answers on " in said
    assert all(row.endswith(f",ann@label.example,{WHEN}") for row in rows)
    assert main(command) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "0 answers on " in said
    assert f"{len(rows)} there already; they took {len(content) // 2} min" in said
    assert corrections.read_text().splitlines()[1:] == rows


def test_the_configuration_must_not_overwrite_the_tasks(folder, tmp_path, capsys):
    flags = ["--format", "label-studio", "--to", str(tmp_path / "tasks.xml")]
    assert main(["export", "--output", folder[0].root, *flags]) == 1
    assert "a name that ends in .json" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_a_file_whose_name_is_not_utf8_has_an_address(in_memory, tmp_path):
    folder = make_folder(in_memory, (0.6, 0.9), uri=uri_of("/music/caf\udce9") + "{}.mp3")
    write_tasks(*folder, str(tmp_path / "tasks.json"))
    audio = json.loads((tmp_path / "tasks.json").read_text())[0]["data"]["audio"]
    assert audio.startswith("/data/local-files/?d=music/caf%E9")
