import json
import os
import socket
import threading
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from rows import a_track

from schemas.records import dump
from sssl.arrays import real_lists
from sssl.audio.cut import cut_track, features_table, opened_audio, segments_table
from sssl.audio.decode import Decoder
from sssl.audio.info import AudioInfo
from sssl.audio.integrity import Evidence, GateConfig, judge
from sssl.audio.mel import STEP_DB, MelConfig, in_db
from sssl.audio.sound import SOUND_NAMES, sound_db, sound_features, sound_of, sound_width
from sssl.runtime.process_pool import Failure, IsolatedPool, Limits
from sssl.store.tensors import log_mels
from sssl.urls import file_system, uri_of

CONFIG, GATE = MelConfig(), GateConfig()
HALVES = MelConfig(stored_as="float16")
KEY = ["track_id", "segment_index"]
RATE_HZ = 16_000


def noise(seconds, seed=0):
    return (
        np.random.default_rng(seed).uniform(-0.3, 0.3, round(seconds * RATE_HZ)).astype(np.float32)
    )


def track(uri, expected_s=None):
    return a_track(
        uri=str(uri), label=None, expected_s=expected_s, part=7, source_fingerprint="print"
    )


@pytest.fixture
def cut(tmp_path):
    def run(wave, config=CONFIG, gate=GATE, expected_s=None, subtype="FLOAT", sound=None):
        soundfile.write(tmp_path / "a.wav", wave, RATE_HZ, subtype=subtype)
        return cut_track(track(tmp_path / "a.wav", expected_s), config, gate, sound)

    return run


def test_what_is_no_regular_file_fails_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    for path, kind in (
        (tmp_path / "pipe.wav", "a pipe"),
        ("/dev/zero", "a pipe"),
        (tmp_path, "a folder"),
    ):
        entry = cut_track(track(path), CONFIG, GATE).ledger
        assert (entry.status, entry.reason, entry.retryable) == ("failed", "not-audio", False)
        assert entry.detail.startswith(kind)


def test_a_name_that_no_file_can_have_is_missing():
    assert cut_track(track("/music/a\0b.wav"), CONFIG, GATE).ledger.reason == "missing"


@pytest.mark.parametrize("name", ["Re::Start.wav", "100%.wav", "Why? #1.wav", "two words é.wav"])
def test_a_track_is_read_under_every_way_to_write_its_place(tmp_path, name):
    soundfile.write(tmp_path / name, noise(6), RATE_HZ)
    path = f"{tmp_path}/{name}"
    for uri in (path, f"file://{path}", f"file://{quote(path)}", f"file:{quote(path)}"):
        assert cut_track(track(uri), CONFIG, GATE).ledger.status == "ok"


def test_a_track_is_read_whose_name_is_not_utf8(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")
    with open(path, "wb") as file:
        soundfile.write(file, noise(6), RATE_HZ, format="WAV")
    assert cut_track(track(uri_of(path)), CONFIG, GATE).ledger.status == "ok"


def test_the_tail_shorter_than_a_segment_is_dropped(cut):
    done = cut(noise(10))
    assert (done.ledger.status, done.ledger.reason, done.ledger.segments) == ("ok", None, 3)
    assert done.segments.log_mel.shape == (3, *CONFIG.shape)
    assert done.ledger.decoded_s == pytest.approx(10)
    assert (done.ledger.part, done.ledger.source_fingerprint) == (7, "print")


def test_long_tracks_are_cut_as_one_though_read_in_blocks(cut):
    wave = noise(200)
    done = cut(wave)
    assert done.segments.segment_index.tolist() == list(range(66))
    alone = cut(wave[60 * 3 * RATE_HZ : 61 * 3 * RATE_HZ])
    np.testing.assert_array_equal(done.segments.log_mel[60], alone.segments.log_mel[0])


def test_the_sound_of_segments_is_described_where_it_is_asked_for(cut):
    wave = noise(20)
    names, values = sound_features(segments_table([cut(wave, sound=1)], CONFIG, sound=1))
    assert names == list(SOUND_NAMES)
    assert values.shape == (6, len(SOUND_NAMES))
    (alone,) = sound_features(
        segments_table([cut(wave[15 * RATE_HZ : 18 * RATE_HZ], sound=1)], CONFIG, 1)
    )[1]
    np.testing.assert_array_equal(values[5], alone)
    plain = segments_table([cut(wave)], CONFIG)
    assert plain["sound"].null_count == 6
    assert b"sssl.sound" not in plain.schema.metadata


def test_segments_may_overlap(cut):
    wave = noise(60)
    done = cut(wave, MelConfig(hop_s=1.0))
    assert done.ledger.segments == 58
    plain = cut(wave)
    np.testing.assert_array_equal(done.segments.log_mel[::3], plain.segments.log_mel)
    assert segments_table([done], MelConfig(hop_s=1.0))["start_s"].to_pylist() == list(range(58))


def test_segments_may_leave_gaps(cut):
    wave = noise(200)
    done = cut(wave, MelConfig(hop_s=9.0))
    np.testing.assert_array_equal(done.segments.log_mel, cut(wave).segments.log_mel[::3])


def test_a_track_shorter_than_a_segment_is_too_short(cut):
    ledger = cut(noise(2)).ledger
    assert (ledger.status, ledger.reason, ledger.detail) == (
        "failed",
        "too-short",
        "decoded 2.0 s, a segment is 3.0 s",
    )


def test_a_track_shorter_than_the_catalog_promises_is_truncated(cut):
    ledger = cut(noise(10), expected_s=30).ledger
    assert (ledger.status, ledger.reason, ledger.detail) == (
        "partial",
        "truncated",
        "decoded 10.0 of 30.0 s",
    )
    assert cut(noise(10), expected_s=10.5).ledger.status == "ok"


def test_a_silent_track_is_rejected(cut):
    done = cut(noise(10) * 1e-4)
    assert (done.ledger.status, done.ledger.reason) == ("failed", "silent")
    assert len(segments_table([done], CONFIG)) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -1e20])
def test_segments_that_are_not_finite_are_dropped_and_the_others_keep_their_place(cut, value):
    wave = noise(30)
    wave[4 * 3 * RATE_HZ + RATE_HZ] = value
    done = cut(wave)
    assert (done.ledger.status, done.ledger.reason) == ("partial", "non-finite")
    assert done.segments.segment_index.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert np.isfinite(done.segments.log_mel.astype(np.float32)).all()


@pytest.mark.parametrize(("count", "packets"), [(1, "1 packet"), (2, "2 packets")])
def test_damaged_packets_are_counted_in_words(count, packets):
    info = AudioInfo("FFmpeg", "mp3", RATE_HZ, 1, None, None, 9.0, damaged_packets=count)
    verdict = judge(Evidence(None, info, 3.0, 3, 0, -20.0), GateConfig())
    assert (verdict.reason, verdict.detail) == ("damaged", f"{packets} could not be decoded")


def test_a_track_over_the_limit_is_cut_there(cut):
    ledger = cut(noise(30), gate=GateConfig(max_s=12.0)).ledger
    assert (ledger.status, ledger.reason, ledger.segments) == ("partial", "too-long", 4)


def test_a_missing_file_is_a_row(tmp_path):
    ledger = cut_track(track(tmp_path / "none.mp3"), CONFIG, GATE).ledger
    assert (ledger.status, ledger.reason, ledger.retryable) == ("failed", "missing", True)


def test_a_file_behind_a_url_is_read(tmp_path):
    soundfile.write(tmp_path / "a.flac", noise(10), RATE_HZ)
    here = cut_track(track(tmp_path / "a.flac"), CONFIG, GATE)
    for url in (f"file://{tmp_path}/a.flac", f"local://{tmp_path}/a.flac"):
        there = cut_track(track(url), CONFIG, GATE)
        np.testing.assert_array_equal(there.segments.log_mel, here.segments.log_mel)


def test_the_tensor_column_has_its_shape_and_parameters(cut):
    done = cut(noise(9))
    table = features_table([done, done], CONFIG)
    assert table["log_mel"].type == pa.binary(CONFIG.mels * CONFIG.shape[1])
    np.testing.assert_array_equal(log_mels(table)[3:], done.segments.log_mel)
    about = json.loads(table.schema.metadata[b"sssl.log_mel"])
    shape = list(CONFIG.shape)
    scale = {"scale": 0.5625, "offset": -100.0}
    assert about == {"dtype": "uint8", "shape": shape, **scale, "mel": dump(CONFIG)}


def test_the_tensor_column_of_an_older_folder_is_as_it_was(cut):
    table = features_table([cut(noise(9), HALVES)], HALVES)
    assert table["log_mel"].type == pa.binary(2 * CONFIG.mels * CONFIG.shape[1])
    about = json.loads(table.schema.metadata[b"sssl.log_mel"])
    assert about == {"dtype": "<f2", "shape": list(CONFIG.shape), "mel": dump(HALVES)}
    assert "stored_as" not in about["mel"]


def test_bytes_are_within_half_a_step_of_what_is_computed(cut):
    computed = cut(noise(9), HALVES).segments.log_mel
    stored = cut(noise(9)).segments.log_mel
    assert (computed.dtype, stored.dtype) == (np.float16, np.uint8)
    assert np.abs(in_db(stored) - computed.astype(np.float32)).max() <= STEP_DB / 2


def test_all_but_the_log_mels_is_the_same_however_they_are_stored(cut):
    in_bytes, in_halves = cut(noise(9), sound=1), cut(noise(9), HALVES, sound=1)
    assert in_bytes.ledger == in_halves.ledger
    assert segments_table([in_bytes], CONFIG, 1).equals(segments_table([in_halves], HALVES, 1))


def test_features_are_row_by_row_those_of_the_segments(cut):
    cuts = [cut(noise(9)), cut(noise(6))]
    segments, features = segments_table(cuts, CONFIG), features_table(cuts, CONFIG)
    assert features.select(KEY).equals(segments.select(KEY))


def test_tracks_without_segments_make_empty_tables(cut):
    assert len(segments_table([], CONFIG)) == len(features_table([], CONFIG)) == 0
    for config in (CONFIG, HALVES):
        nothing = log_mels(features_table([], config))
        assert (nothing.shape, nothing.dtype) == ((0, *CONFIG.shape), config.stored_as)


def test_band_levels_are_the_means_of_the_tensor(cut):
    done = [cut(noise(7), HALVES)]
    mels, levels = (
        log_mels(features_table(done, HALVES)),
        real_lists(segments_table(done, HALVES), "band_level_db"),
    )
    assert levels.shape == mels.shape[:2]
    np.testing.assert_allclose(levels, mels.astype(np.float32).mean(axis=2), atol=0.04)


def test_sound_is_that_of_the_tensor(cut):
    done = [cut(noise(7), HALVES)]
    table, described = (
        segments_table(done, HALVES),
        sound_db(log_mels(features_table(done, HALVES))),
    )
    assert described.shape == (2, sound_width(CONFIG.mels))
    np.testing.assert_allclose(sound_of(table), described, atol=1e-5)


def test_a_clipped_track_is_partial_and_says_how_much(cut):
    wave = np.clip(noise(30) * 4, -1, 1)
    done = cut(wave)
    assert (done.ledger.status, done.ledger.reason, done.ledger.segments) == (
        "partial",
        "clipped",
        10,
    )
    share = np.mean(np.abs(wave) >= 1)
    assert done.ledger.detail == f"{share:.1%} of the samples at full scale"
    assert cut(noise(30) * 3.2).ledger.reason is None


@pytest.mark.parametrize("offset", [0.05, -0.05])
def test_a_dc_offset_is_found_on_either_side(cut, offset):
    assert cut(noise(30) + offset).ledger.reason == "dc-offset"


def test_what_the_policy_rejects_fails_with_its_reason_and_no_segments(cut):
    wave = np.clip(noise(30) * 4, -1, 1) + 0.05
    wave[RATE_HZ] = np.nan
    kept = cut(wave)
    assert (kept.ledger.status, kept.ledger.reason, kept.ledger.segments) == (
        "partial",
        "non-finite",
        9,
    )
    assert "of the samples at full scale" in kept.ledger.detail
    done = cut(wave, gate=GateConfig(on_clipped="reject"))
    assert (done.ledger.status, done.ledger.reason, done.segments) == ("failed", "clipped", None)


@pytest.mark.parametrize(
    ("flag", "seconds", "expected_s", "max_s"),
    [("truncated", 10, 30, 60), ("too_long", 30, None, 12)],
)
def test_a_track_of_the_wrong_length_can_be_rejected(cut, flag, seconds, expected_s, max_s):
    gate = GateConfig(max_s=max_s, **{f"on_{flag}": "reject"})
    ledger = cut(noise(seconds), gate=gate, expected_s=expected_s).ledger
    assert (ledger.status, ledger.reason, ledger.segments) == ("failed", flag.replace("_", "-"), 0)


@pytest.mark.parametrize(
    ("answer", "reason"), [("401", "denied"), ("403", "denied"), ("418", "unavailable")]
)
def test_what_a_bucket_refuses_is_a_row_to_try_again(answer, reason, cloud):
    uri = f"{cloud.make_bucket()}/a.wav"
    file_system(uri)[0].pipe_file(uri, b"audio")
    with cloud.failing(1.0, kinds=[answer]):
        ledger = cut_track(track(uri), CONFIG, GATE).ledger
    assert (ledger.status, ledger.reason, ledger.retryable) == ("failed", reason, True)


def test_a_bucket_that_fails_in_the_middle_of_a_track_is_no_damage(cloud, tmp_path):
    uri = f"{cloud.make_bucket()}/a.wav"
    soundfile.write(tmp_path / "a.wav", noise(600), RATE_HZ)
    file_system(uri)[0].put_file(str(tmp_path / "a.wav"), uri)
    with opened_audio(uri) as source:
        decoder = Decoder(source, RATE_HZ)
        with (
            cloud.failing(1.0, kinds=["418"]),
            pytest.raises(OSError, match="HttpError of the storage client"),
        ):
            list(decoder.blocks())


def test_a_uri_that_nothing_reads_is_a_row_that_says_so(tmp_path):
    for uri in ("xyz://host/a.mp3", "s3://bucket/a.mp3"):
        ledger = cut_track(track(uri), CONFIG, GATE).ledger
        assert (ledger.status, ledger.reason) == ("failed", "unsupported-uri")


def test_a_uri_that_makes_no_sense_is_not_said_to_need_a_package():
    ledger = cut_track(track("zip://a.mp3::https://h/a::b?signature=secret"), CONFIG, GATE).ledger
    assert ledger.reason == "unsupported-uri"
    assert ledger.detail == "a URL that cannot be asked for"


def test_an_archive_that_cannot_be_opened_is_no_error_of_a_decoder(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no archive")
    ledger = cut_track(track(f"zip://a.mp3::{tmp_path}/a.zip"), CONFIG, GATE).ledger
    assert (ledger.reason, ledger.detail) == ("unavailable", "BadZipFile while reading")


def test_a_decoder_without_memory_is_a_row_that_says_so(tmp_path):
    soundfile.write(tmp_path / "a.flac", noise(600), RATE_HZ)
    pool = IsolatedPool(1, Limits(memory_mb=12), preload="sssl.audio.cut")
    try:
        (result,) = pool.map(
            partial(cut_track, mel=CONFIG, gate=GATE), [track(tmp_path / "a.flac")]
        )
    finally:
        pool.close()
    assert (
        result.reason if isinstance(result, Failure) else result.ledger.reason
    ) == "decoder-memory"


class FrontToBack(BaseHTTPRequestHandler):
    """Serves one file as servers without ranges do; a path with `chunked` in it without a length,
    too."""

    audio = b""

    def do_GET(self):
        self.send_response(200)
        if "none" in self.path:
            self.send_header("Accept-Ranges", "none")
        if "chunked" not in self.path:
            self.send_header("Content-Length", str(len(self.audio)))
        self.end_headers()
        if self.command == "GET":
            with suppress(ConnectionError):
                self.wfile.write(
                    self.audio[: len(self.audio) // (2 if "breaks" in self.path else 1)]
                )

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def front_to_back(tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "a.wav"
    soundfile.write(path, noise(220), RATE_HZ)  # more than the 5 MiB that fsspec asks for at a time
    with ThreadingHTTPServer(("127.0.0.1", 0), FrontToBack) as server:
        FrontToBack.audio = path.read_bytes()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield path, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("name", ["ignores", "none", "chunked"])
def test_a_file_is_read_front_to_back_where_a_server_serves_no_ranges(name, front_to_back):
    path, url = front_to_back
    there, here = (cut_track(track(uri), CONFIG, GATE) for uri in (f"{url}/{name}.wav", path))
    assert (there.ledger.status, there.ledger.reason) == ("ok", None)
    np.testing.assert_array_equal(there.segments.log_mel, here.segments.log_mel)


def test_a_server_that_breaks_off_is_unavailable(front_to_back):
    ledger = cut_track(track(f"{front_to_back[1]}/none-breaks.wav"), CONFIG, GATE).ledger
    assert (ledger.status, ledger.reason, ledger.retryable) == ("failed", "unavailable", True)


class Answers(BaseHTTPRequestHandler):
    """Answers with the status that the path names."""

    def do_GET(self):
        self.send_error(int(self.path.strip("/")))

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *args):
        pass


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (404, "missing"),
        (403, "denied"),
        (401, "denied"),
        (451, "denied"),
        (429, "unavailable"),
        (503, "unavailable"),
    ],
)
def test_what_a_server_answers_decides_the_reason(status, reason):
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ledger = cut_track(
            track(f"http://127.0.0.1:{server.server_port}/{status}"), CONFIG, GATE
        ).ledger
        server.shutdown()
    assert ledger.reason == reason


def test_a_server_that_is_not_there_is_unreachable():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for uri in (f"http://127.0.0.1:{port}/a.mp3", f"ftp://127.0.0.1:{port}/a.mp3"):
        ledger = cut_track(track(uri), CONFIG, GATE).ledger
        assert (ledger.reason, ledger.retryable) == ("unreachable", True)


def test_a_url_that_cannot_be_asked_for_is_no_failure_of_the_storage():
    assert cut_track(track("http:///a.mp3"), CONFIG, GATE).ledger.reason == "unsupported-uri"


def test_a_path_that_leads_to_no_file_is_missing(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "a").touch()
    for path in (
        tmp_path / "loop",
        tmp_path / "a" / "b.mp3",
        tmp_path / ("x" * 300),
        f"{tmp_path}/\0",
    ):
        assert cut_track(track(path), CONFIG, GATE).ledger.reason == "missing"
