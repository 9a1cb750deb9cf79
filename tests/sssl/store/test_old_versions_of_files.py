"""A bucket that keeps versions: what is deleted can be had back, unless a takedown deletes it."""

import pytest
import requests

from pipelines.cli import main
from sssl.google_storage import GoogleStorage
from sssl.store.folder import Store
from sssl.store.sql import connect, rows_on_disk


@pytest.fixture
def output(cloud, report_folder):
    """A published folder, in a bucket that keeps versions, of which a file was deleted."""
    folder, snapshot = report_folder
    store = Store.at(f"{cloud.make_bucket(keeps_versions=True)}/out")
    for path in folder.find(""):
        if path != "report.html":  # which other tests of the session may have written
            store.write_bytes(path, folder.read_bytes(path))
    store.publish(snapshot)
    store.write_bytes("report.html", b"about t0")
    store.write_bytes("report.html", b"about t0 and others")
    store.delete("report.html")
    return store


def versions(cloud, store):
    """Return the contents of all versions of files below the folder, by name."""
    bucket, _, folder = store.root.removeprefix("gs://").partition("/")
    about = f"{cloud.url}/storage/v1/b/{bucket}/o?versions=true&prefix={folder}/"
    found = {}
    for item in requests.get(about, timeout=10).json()["items"]:
        content = requests.get(f"{item['mediaLink']}&generation={item['generation']}", timeout=10)
        found.setdefault(item["name"].removeprefix(f"{folder}/"), []).append(content.content)
    return found


def test_what_was_deleted_or_overwritten_can_be_had_back(cloud, output):
    assert versions(cloud, output)["report.html"] == [b"about t0", b"about t0 and others"]


def test_after_a_takedown_no_version_of_any_file_has_the_track(cloud, output, capsys):
    track_id = output.read_table(output.latest().get("songs"))["track_id"][0].as_py()
    before = versions(cloud, output)
    assert main(["takedown", "--output", output.root, "--track-id", track_id]) == 0
    said = capsys.readouterr().err
    assert "earlier versions of files deleted for good" in said
    left = versions(cloud, output)
    assert set(output.find("")) == set(left)
    of_several = {name for name, contents in left.items() if len(contents) > 1}
    assert {name.partition("/")[0] for name in of_several} == {"latest"}  # pointers, which go on
    assert left["report.html"] not in before["report.html"]
    found = connect(output, output.latest()).sql(rows_on_disk(output, [track_id])).fetchall()
    assert {rows for _, rows in found} == {0}


def test_a_takedown_says_where_deleted_files_stay_for_days_whatever_it_does(
    output, capsys, monkeypatch
):
    monkeypatch.setattr(GoogleStorage, "soft_deletion_days", lambda self, folder: 7.0)
    track_id = output.read_table(output.latest().get("songs"))["track_id"][0].as_py()
    assert main(["takedown", "--output", output.root, "--track-id", track_id]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "keeps what was deleted for 7 more days (soft deletion)" in said


def test_soft_deletion_is_read_from_what_google_says_of_a_bucket(cloud, output, monkeypatch):
    fs = output.medium.fs
    assert fs.soft_deletion_days(output.root) == 0

    async def answer(self, method, path, bucket, fields, json_out):
        assert (method, path, fields) == ("GET", "b/{}", "softDeletePolicy")
        assert output.root.startswith(f"gs://{bucket}/")
        return {"softDeletePolicy": {"retentionDurationSeconds": "604800"}}

    monkeypatch.setattr(GoogleStorage, "_call", answer)
    assert fs.soft_deletion_days(output.root) == 7
