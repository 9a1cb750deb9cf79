"""Messages as lines of JSON, for whoever reads logs by program."""

import json
import logging
import os
import subprocess
import sys

import pytest

from pipelines.terminal.logs import JsonLines


def run(*args, **environment):
    return subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *map(str, args)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


def lines(ended):
    return [json.loads(line) for line in ended.stderr.splitlines()]


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """A segment stage of which every track fails, with a secret in its catalog's URIs."""
    folder = tmp_path_factory.mktemp("logs")
    uri = f"{folder}/none.wav"
    (folder / "c.csv").write_text(f"track_id,uri\nTrack 1,{uri}\nTrack 2,{uri}?sig=SECRET\n")
    return run(
        "segment", "--catalog", folder / "c.csv", "--output", folder / "out",
        SSSL_LOG="INFO", SSSL_LOG_FORMAT="json",
    )  # fmt: skip


def test_every_line_is_json_with_severity_message_and_labels(failed):
    assert failed.returncode == 3
    for line in lines(failed):
        assert line["severity"] in ("INFO", "WARNING", "ERROR")
        assert line["message"]
        assert line["logging.googleapis.com/labels"]["command"] == "segment"
        assert line["time"].endswith("+00:00")


def test_what_a_command_complains_of_is_an_error_as_the_alert_expects_it(failed):
    (complaint,) = (line for line in lines(failed) if line["severity"] == "ERROR")
    assert "2 tracks failed, --max-error-ratio allows" in complaint["message"]
    assert complaint["message"].endswith("missing 2 (Track 1, Track 2)")


def test_a_track_that_failed_is_found_by_its_label(failed):
    labels = [line["logging.googleapis.com/labels"] for line in lines(failed)]
    of_tracks = {one["track_id"]: one for one in labels if "track_id" in one}
    assert set(of_tracks) == {"Track 1", "Track 2"}
    assert of_tracks["Track 1"]["reason"] == "missing"
    assert of_tracks["Track 1"]["part"].isdigit()


def test_no_line_has_a_secret(failed):
    assert "SECRET" not in failed.stderr
    url = "https://me:SECRET@host/c.csv?sig=SECRET"
    record = logging.LogRecord("sssl", logging.ERROR, __file__, 1, "no %s there", (url,), None)
    assert json.loads(JsonLines("segment").format(record))["message"] == (
        "no https://host/c.csv there"
    )


def test_an_error_that_nobody_expected_is_one_line_with_its_traceback():
    code = "from pipelines.terminal.logs import configure; configure('x', 'INFO', 'json'); [][0]"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    (line,) = lines(ended)
    assert line["severity"] == "CRITICAL"
    assert "Traceback" in line["message"]
    assert "IndexError" in line["message"]


def test_the_format_is_a_flag_too_and_one_that_there_is_not_is_misuse(tmp_path):
    (line,) = lines(run("tables", "--log-format", "json", "--output", tmp_path))
    assert "is not an output folder" in line["message"]
    ended = run("tables", "--log-format=xml", "--output", tmp_path)
    assert ended.returncode == 2
    assert "invalid choice: 'xml'" in ended.stderr


def test_a_level_may_be_written_in_small_letters(tmp_path):
    ended = run("tables", "--output", tmp_path, SSSL_LOG="debug")
    assert "is not an output folder" in ended.stderr
    assert ended.returncode == 1


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"SSSL_LOG": "loud"}, "SSSL_LOG=LOUD: expected one of DEBUG, INFO, WARNING"),
        ({"SSSL_LOG_FORMAT": "xml"}, "SSSL_LOG_FORMAT=xml: expected one of text, json"),
    ],
)
def test_a_level_or_a_format_that_there_is_not_is_misuse(tmp_path, environment, said):
    ended = run("tables", "--output", tmp_path, **environment)
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 2
