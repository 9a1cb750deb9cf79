"""Who may ask the review page for what: its own page all that it shows, everybody else nothing."""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from reports import CLASSES, make_folder
from werkzeug.test import Client

from sssl.errors import AudioError
from sssl.report.source import Source
from sssl.review.answers import Answers
from sssl.review.listening import Listening, Sound
from sssl.review.queue import make_queue
from sssl.review.server import Application
from sssl.review.session import Session
from sssl.store.removals import hash_id

PORT = 8123
ORIGIN = f"http://127.0.0.1:{PORT}"
RATE_HZ = 8000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An output folder whose songs have sound: some that browsers play, some that they do not."""
    root = tmp_path_factory.mktemp("review")
    noise = np.random.default_rng(0).normal(0, 0.1, 30 * RATE_HZ)
    for n in range(40):
        soundfile.write(root / f"{n}.wav", noise, RATE_HZ)
        (root / f"{n}.wav").rename(root / f"{n}.{'wav' if n % 2 else 'sound'}")
    made = make_folder(root / "out", (0.6, 0.9), uri=f"{root}/{{}}.wav")
    return root, made


@pytest.fixture
def site(folder, tmp_path):
    root, (store, snapshot) = folder
    answers = Answers(tmp_path / "corrections.csv", CLASSES)
    queue = make_queue(Source.of(store, snapshot), {})
    listening = Listening()
    removed = set()
    session = Session(queue, answers, "ann", lambda: removed)
    application = Application(session, listening, PORT)
    yield Site(application, answers, queue, listening, removed)
    listening.close()


class Site:
    """The application as a browser asks it."""

    def __init__(self, application, answers, queue, listening, removed):
        self.listening, self.removed = listening, removed
        self.client, self.answers, self.queue = Client(application), answers, queue
        self.home = application.url.removeprefix(ORIGIN)

    def get(self, path="", **headers):
        return self.client.get(self.home + path, headers={"Host": f"127.0.0.1:{PORT}", **headers})

    def post(self, content, **headers):
        sent = {"Host": f"127.0.0.1:{PORT}", "Origin": ORIGIN, "Content-Type": "application/json"}
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(
            f"{self.home}answers", data=json.dumps(content), headers=sent | headers
        )


ANSWER = {"track": 0, "start_s": 0.0, "end_s": 3.0, "label": CLASSES[0]}


def rows(answers):
    if not answers.path.exists():
        return []
    return list(csv.DictReader(io.StringIO(answers.path.read_text())))


def test_an_answer_is_written_with_who_said_it_and_when(site):
    found = site.post(ANSWER)
    assert found.status_code == 200
    (row,) = rows(site.answers)
    assert row.pop("when").startswith("20")
    track_id = next(iter(site.queue.tracks))
    assert row == {
        "track_id": track_id, "start_s": "0", "end_s": "3", "label": CLASSES[0], "who": "ann",
    }  # fmt: skip
    assert found.json["before"] is None
    assert found.json["said"][0][0]["label"] == CLASSES[0]
    assert site.post(ANSWER | {"label": None}).json["before"] == CLASSES[0]
    assert site.get("answers").json["said"][0] == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://127.0.0.1:{PORT + 1}"},
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/x-www-form-urlencoded"},
        {"Host": "evil.example"},
        {"Host": f"evil.example:{PORT}"},
        {"Host": f"127.0.0.1.evil.example:{PORT}"},
    ],
)
def test_what_comes_from_another_site_is_refused_and_writes_nothing(site, headers):
    assert site.post(ANSWER, **headers).status_code == 403
    assert rows(site.answers) == []


@pytest.mark.parametrize("path", ["", "answers", "original/0", "decoded/0"])
def test_without_the_token_or_under_another_name_there_is_nothing(site, path):
    host = {"Host": f"127.0.0.1:{PORT}"}
    assert site.client.get(f"/guess/{path}", headers=host).status_code == 404
    assert site.client.get(f"/{path}", headers=host).status_code == 404
    assert site.get(path, Host="rebound.example").status_code == 403


def test_no_answer_allows_another_site_to_read_it(site):
    for found in (site.get(), site.get("answers"), site.get("original/0"), site.post(ANSWER)):
        assert not [name for name, _ in found.headers if name.startswith("Access-Control")]
        assert found.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert found.headers["X-Content-Type-Options"] == "nosniff"
        assert found.headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in found.headers["Content-Security-Policy"]
        found.close()


def test_the_page_runs_its_own_script_only_under_a_new_nonce_each_time(site):
    policies = [site.get().headers["Content-Security-Policy"] for _ in range(2)]
    nonces = [set(re.findall("'nonce-([^']+)'", policy)) for policy in policies]
    assert nonces[0] != nonces[1]
    assert "default-src 'none'" in policies[0]
    assert "unsafe" not in policies[0]
    page = site.get()
    (nonce,) = set(re.findall("'nonce-([^']+)'", page.headers["Content-Security-Policy"]))
    scripts = re.findall(r"<(?:script|style)(.*?)>", page.text)
    assert len(scripts) == 3
    assert all(f'nonce="{nonce}"' in one or "application/json" in one for one in scripts)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": "no such"}, "no such is no class of"),
        ({"track": 10_000}, "there is no track 10000"),
        ({"track": -1}, "there is no track -1"),
        ({"end_s": None}, "a passage has a start and an end"),
        ({"start_s": 3.0}, "a passage ends after its start"),
        ({"start_s": -1.0}, "a passage ends after its start"),
        ({"start_s": 500.0, "end_s": 510.0}, "the song ends after"),
        ({"track": "0"}, "Expected `int`"),
        ({"more": 1}, "unknown field"),
    ],
)
def test_an_answer_that_says_nothing_is_refused_in_a_sentence(site, change, said):
    found = site.post(ANSWER | change)
    assert found.status_code == 400
    assert said in found.text
    assert rows(site.answers) == []


def test_an_answer_that_cannot_be_kept_is_no_answer(site):
    site.answers.path.write_text("dear diary\n")
    found = site.post(ANSWER)
    assert (found.status_code, "column track_id is missing" in found.text) == (400, True)
    assert site.answers.path.read_text() == "dear diary\n"


def playable(site, wanted=True):
    """The place of a track whose file is there, or is not."""
    return next(
        place
        for place, track in enumerate(site.queue.tracks.values())
        if (int(re.search(r"(\d+)\.wav", track.uri)[1]) % 2 == 1) == wanted
    )


def test_a_file_is_sent_in_the_ranges_that_are_asked_for(site):
    place = playable(site)
    path = list(site.queue.tracks.values())[place].uri
    with open(path, "rb") as file:
        content = file.read()
    whole = site.get(f"original/{place}")
    assert (whole.status_code, whole.mimetype, whole.data) == (200, "audio/wav", content)
    part = site.get(f"original/{place}", Range="bytes=100-199")
    assert (part.status_code, part.data) == (206, content[100:200])
    assert part.headers["Content-Range"] == f"bytes 100-199/{len(content)}"
    last = site.get(f"original/{place}", Range="bytes=-10")
    assert last.data == content[-10:]
    assert site.get(f"original/{place}", Range="bytes=99999999-").status_code == 416


def test_a_track_is_decoded_to_a_wav_file_of_its_length(site):
    place = playable(site)
    found = site.get(f"decoded/{place}")
    assert (found.status_code, found.mimetype) == (200, "audio/wav")
    wave, rate_hz = soundfile.read(io.BytesIO(found.data))
    assert len(wave) / rate_hz == pytest.approx(30.0)
    assert site.get(f"decoded/{place}", Range="bytes=0-3").data == b"RIFF"


@pytest.mark.parametrize("kind", ["original", "decoded"])
def test_a_file_that_is_gone_and_one_that_is_not_in_the_list_are_not_found(site, kind):
    assert site.get(f"{kind}/{playable(site, wanted=False)}").status_code == 404
    assert site.get(f"{kind}/{len(site.queue.tracks)}").status_code == 404
    assert site.get(f"{kind}/..%2f..%2fetc%2fpasswd").status_code == 404


def test_a_track_that_was_taken_down_meanwhile_is_neither_played_nor_answered_nor_named(site):
    place = playable(site)
    track = list(site.queue.tracks.values())[place]
    assert site.get(f"original/{place}").status_code == 200
    decoded = site.get(f"decoded/{place}")
    assert decoded.status_code == 200
    decoded.close()
    (kept,) = Path(site.listening._folder.name).iterdir()
    assert track.track_id in site.get().text
    site.removed.add(hash_id(track.track_id))
    for kind in ("original", "decoded"):
        found = site.get(f"{kind}/{place}")
        assert (found.status_code, found.text) == (410, "this track was taken down")
    assert not kept.exists()
    found = site.post(ANSWER | {"track": place})
    assert (found.status_code, "was taken down" in found.text) == (400, True)
    assert rows(site.answers) == []
    gone = site.get("answers").json["gone"]
    assert [n for n, is_gone in enumerate(gone) if is_gone] == [place]
    assert f'"{track.track_id}"' not in site.get().text


def test_a_track_that_could_not_be_decoded_is_gone_once_it_was_taken_down(site):
    place = playable(site, wanted=False)
    track = list(site.queue.tracks.values())[place]
    assert site.get(f"decoded/{place}").status_code == 404
    site.removed.add(hash_id(track.track_id))
    site.listening._decoding(track.uri)  # as a request does that came just before
    assert site.get(f"decoded/{place}").status_code == 410


def test_a_track_that_could_not_be_decoded_is_tried_again(site, tmp_path):
    uri = str(tmp_path / "late.wav")
    with pytest.raises(AudioError, match="missing"):
        site.listening.decoded(uri)
    soundfile.write(uri, np.zeros(RATE_HZ), RATE_HZ)
    with site.listening.decoded(uri).file as file:
        assert file.read(4) == b"RIFF"


def test_what_was_sent_is_asked_for_anew(site):
    """Else a browser would play a track that was taken down from what it keeps."""
    with site.get(f"original/{playable(site)}") as found:
        assert found.headers["Cache-Control"] == "no-store"


def test_a_storage_that_fails_while_a_track_plays_says_nothing_of_its_address(site, caplog):
    class Failing(io.BytesIO):
        def read(self, size=-1):
            raise RuntimeError("403 for https://host/a.mp3?signature=secret")

    site.listening.original = lambda _uri: Sound(Failing(), 100, "audio/mpeg")
    assert site.get("original/0").data == b""
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_at_the_port_of_http_browsers_name_no_port(folder, tmp_path):
    _, (store, snapshot) = folder
    session = Session(
        make_queue(Source.of(store, snapshot), {}), Answers(tmp_path / "c.csv", CLASSES), "ann"
    )
    listening = Listening()
    application = Application(session, listening, 80)
    assert application.url.startswith("http://127.0.0.1/")
    path = application.url.removeprefix("http://127.0.0.1")
    assert Client(application).get(path, headers={"Host": "127.0.0.1"}).status_code == 200
    listening.close()
