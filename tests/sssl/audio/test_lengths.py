"""Whole files are whole and cut ones are cut, whatever their containers say of themselves."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile
from audio_files import CONTAINERS, noise_bytes, tone, write_audio, write_container
from rows import a_track

from sssl.audio.cut import cut_track
from sssl.audio.integrity import GateConfig
from sssl.audio.mel import MelConfig

SECONDS = 8.0


@pytest.fixture
def ledger_of(tmp_path):
    def run(data):
        path = tmp_path / "audio"
        path.write_bytes(data)
        return cut_track(
            a_track(uri=str(path), label=None, expected_s=None), MelConfig(), GateConfig()
        ).ledger

    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole file in each container, by its name."""
    folder = tmp_path_factory.mktemp("whole")
    files = {}
    for name in CONTAINERS:
        (folder / name).mkdir()
        files[name] = write_container(folder / name, name, SECONDS).read_bytes()
    return files


def is_whole(ledger, seconds=SECONDS):
    assert (ledger.status, ledger.reason, ledger.detail) == ("ok", None, None)
    assert ledger.decoded_s == pytest.approx(seconds, abs=0.15)


def is_cut(ledger):
    assert (ledger.status, ledger.reason) == ("partial", "truncated")


def mux(container, *tracks, video=None, video_s=0.0, options=None):
    """Mux audio tracks (codec, seconds, start in seconds), and video of a codec, into a
    container."""
    file = io.BytesIO()
    with av.open(file, "w", format=container, container_options=options or {}) as out:
        pictures = out.add_stream(video, rate=5) if video else None
        if pictures:
            pictures.width = pictures.height = 64
            pictures.pix_fmt = "yuv420p"
        streams = [out.add_stream(codec, rate=48000, layout="mono") for codec, _, _ in tracks]
        for stream in streams:
            stream.bit_rate = 128_000
        out.start_encoding()
        for number in range(round(video_s * 5)):
            frame = av.VideoFrame(64, 64, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 5)
            out.mux(pictures.encode(frame))
        if pictures:
            out.mux(pictures.encode(None))
        for stream, (_, seconds, start_s) in zip(streams, tracks, strict=True):
            for packet in encoded(stream, seconds):
                ticks = round(start_s / packet.time_base)
                packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                out.mux(packet)
    return file.getvalue()


def encoded(stream, seconds):
    samples = tone(seconds, rate_hz=48000)
    samples += np.random.default_rng(0).normal(0, 0.02, samples.shape)
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(samples.T), format="fltp", layout="mono"
    )
    frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
    yield from stream.encode(frame)
    yield from stream.encode(None)


@pytest.mark.parametrize(
    ("container", "codec", "video"),
    [
        ("matroska", "libopus", "mpeg4"),
        ("mp4", "aac", "mpeg4"),
        ("asf", "wmav2", "wmv2"),
    ],
)
def test_longer_video_beside_the_audio_makes_no_track_truncated(ledger_of, container, codec, video):
    is_whole(ledger_of(mux(container, (codec, SECONDS, 0), video=video, video_s=30)))


@pytest.mark.parametrize("container", ["matroska", "mp4", "asf"])
def test_audio_beside_video_that_was_cut_is_noticed(ledger_of, container):
    codec, video = ("wmav2", "wmv2") if container == "asf" else ("aac", "mpeg4")
    options = {"movflags": "frag_keyframe+empty_moov"} if container == "mp4" else None
    data = mux(container, (codec, SECONDS, 0), video=video, video_s=30, options=options)
    is_cut(ledger_of(data[: len(data) * 3 // 4]))


def test_of_several_tracks_the_one_that_is_decoded_counts(ledger_of):
    is_whole(ledger_of(mux("matroska", ("flac", 30, 0), ("flac", 30, 0))), 30)
    data = mux("matroska", ("flac", SECONDS, 0), ("flac", 30, 0))
    assert ledger_of(data).reason is None


@pytest.mark.parametrize("start_s", [20, 3600])
@pytest.mark.parametrize(
    ("container", "codec"),
    [("matroska", "libopus"), ("ogg", "libopus"), ("ogg", "flac"), ("ipod", "aac")],
)
def test_audio_that_begins_late_is_whole(ledger_of, container, codec, start_s):
    is_whole(ledger_of(mux(container, (codec, SECONDS, start_s))))


@pytest.mark.parametrize("codec", ["libopus", "flac"])
def test_a_late_ogg_that_was_cut_is_noticed(ledger_of, codec):
    data = mux("ogg", (codec, 30, 3600))
    is_cut(ledger_of(data[: len(data) // 2]))


def test_a_picture_beside_the_audio_hides_no_cut(ledger_of, whole):
    art = noise_bytes(500)
    kind = b"image/png"
    picture = (
        struct.pack(">II", 3, len(kind)) + kind + bytes(20) + struct.pack(">I", len(art)) + art
    )
    data = whole["flac"]
    data = (
        data[:42] + b"\6" + len(picture).to_bytes(3, "big") + picture + data[42:]
    )  # behind STREAMINFO
    is_whole(ledger_of(data))
    is_cut(ledger_of(data[: len(data) // 2]))


def chunk(name, data, order="<"):
    return name + struct.pack(f"{order}I", len(data)) + data


def wav(head=b"RIFF", before=b"", bytes_a_second=32000, long=False):
    """A WAV of 16 bits at 16 kHz; `long` has the size of its data in `ds64`."""
    pcm = (tone(SECONDS, rate_hz=16000)[:, 0] * 8000).astype("<i2").tobytes()
    fmt = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16000, bytes_a_second, 2, 16))
    if not long:
        return head + struct.pack("<I", len(pcm)) + b"WAVE" + fmt + before + chunk(b"data", pcm)
    ds64 = chunk(b"ds64", struct.pack("<QQQI", len(pcm) + 80, len(pcm), len(pcm) // 2, 0))
    return head + b"\xff" * 4 + b"WAVE" + ds64 + fmt + before + b"data" + b"\xff" * 4 + pcm


@pytest.mark.parametrize(
    "data",
    [
        wav(),
        wav(before=chunk(b"iXML", b" " * 70_000)),
        wav(before=chunk(b"JUNK", bytes(3_000_001)) + b"\0"),
        wav(b"RF64", long=True),
        wav(b"BW64", before=chunk(b"axml", b" " * 70_000), long=True),
    ],
    ids=["plain", "iXML", "JUNK", "RF64", "BW64"],
)
def test_a_cut_wav_is_noticed_wherever_its_data_begin(ledger_of, data):
    is_whole(ledger_of(data))
    cut = ledger_of(data[: -8 * 16000])
    is_cut(cut)
    assert cut.detail == "decoded 4.0 of 8.0 s"


@pytest.mark.parametrize(
    ("format", "subtype", "endian"),
    [
        ("WAV", "PCM_16", "BIG"), ("WAV", "FLOAT", "FILE"), ("WAV", "ULAW", "FILE"),
        ("WAV", "IMA_ADPCM", "FILE"),
        ("WAV", "MS_ADPCM", "FILE"), ("WAV", "GSM610", "FILE"), ("WAVEX", "PCM_24", "FILE"),
        ("RF64", "PCM_24", "FILE"),
        ("W64", "PCM_16", "FILE"), ("AIFF", "PCM_24", "FILE"), ("AIFF", "FLOAT", "FILE"),
        ("AIFF", "PCM_16", "LITTLE"),
        ("CAF", "PCM_16", "FILE"), ("CAF", "ALAC_16", "FILE"), ("AU", "PCM_16", "FILE"),
        ("AU", "ULAW", "FILE"),
    ],
)  # fmt: skip
def test_a_file_of_chunks_is_whole_or_cut(ledger_of, format, subtype, endian):
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 16000, 1, subtype, endian, format) as sound:
        for block in np.array_split(tone(SECONDS, rate_hz=16000)[:, 0], 50):
            sound.write(block)
    data = file.getvalue()
    is_whole(ledger_of(data))
    is_cut(ledger_of(data[: len(data) // 2]))


@pytest.mark.parametrize("bytes_a_second", [0, 1, 16000, 2**31])
def test_the_bytes_a_second_of_a_wav_are_a_hint(ledger_of, bytes_a_second):
    is_whole(ledger_of(wav(bytes_a_second=bytes_a_second)))
    is_cut(ledger_of(wav(bytes_a_second=bytes_a_second)[: -8 * 16000]))


@pytest.mark.parametrize("samples", [0, 1, 2**31, 2**32 - 1])
def test_the_samples_in_fact_are_asked_for_only_where_bytes_are_missing(
    tmp_path, ledger_of, samples
):
    data = bytearray(write_audio(tmp_path / "a.wav", tone(SECONDS), 44100, "adpcm_ms").read_bytes())
    at = data.index(b"fact") + 8
    data[at : at + 4] = struct.pack("<I", samples)
    is_whole(ledger_of(data))
    is_cut(ledger_of(data[: len(data) // 2]))


def aiff(frames, size):
    """An AIFF of 16 bits at 16 kHz whose header says so many frames, and so many bytes of sound."""
    pcm = (tone(SECONDS, rate_hz=16000)[:, 0] * 8000).astype(">i2").tobytes()
    rate = struct.pack(">HQ", 16383 + 13, 16000 << 50)  # 80 bits: exponent and mantissa
    comm = chunk(b"COMM", struct.pack(">hIh", 1, frames, 16) + rate, ">")
    return (
        b"FORM"
        + struct.pack(">I", len(pcm))
        + b"AIFF"
        + comm
        + b"SSND"
        + struct.pack(">III", size, 0, 0)
        + pcm
    )


def au(size):
    pcm = (tone(SECONDS, rate_hz=16000)[:, 0] * 8000).astype(">i2").tobytes()
    return (
        b".snd" + struct.pack(">IIIII", 24, len(pcm) if size is None else size, 3, 16000, 1) + pcm
    )


@pytest.mark.parametrize(
    "data",
    [
        aiff(0, 0),
        aiff(2**31 - 1, 2**31 - 1),
        aiff(2**32 - 1, 2**32 - 1),
        au(2**32 - 1),
        mux("matroska", ("libopus", SECONDS, 0), options={"live": "1"}),
        mux("webm", ("libopus", SECONDS, 0), options={"live": "1"}),
    ],
    ids=["AIFF 0", "AIFF 2^31", "AIFF 2^32", "AU", "Matroska", "WebM"],
)
def test_a_length_that_was_never_filled_in_is_none(ledger_of, data):
    ledger = ledger_of(data)
    is_whole(ledger)
    assert ledger.expected_s is None


def test_a_header_of_frames_in_a_fraunhofer_mp3_is_read(ledger_of, whole):
    data = bytearray(whole["mp3 without Xing"])
    frames = 2 * round(SECONDS * 44100 / 1152)
    at = data.index(b"\xff\xfb") + 36
    data[at : at + 18] = b"VBRI" + struct.pack(">HHHII", 1, 0, 0, len(data), frames)
    assert ledger_of(data).expected_s == pytest.approx(2 * SECONDS, abs=0.1)


def ape(flags):
    """Header or footer of an APEv2 tag of 30,000 bytes."""
    return b"APETAGEX" + struct.pack("<IIII", 2000, 30_032, 1, flags) + bytes(8)


TAIL = {
    "zeros": bytes(100_000),
    "a newline": b"\r\n",
    "ID3v1": b"TAG" + b"title".ljust(125, b"\0"),
    "APE": ape(0xA0000000) + noise_bytes(30_000) + ape(0x80000000),
}


@pytest.mark.parametrize("tail", TAIL)
@pytest.mark.parametrize("name", CONTAINERS)
def test_padding_and_tags_behind_the_last_frame_are_no_damage(ledger_of, whole, name, tail):
    is_whole(ledger_of(whole[name] + TAIL[tail]))


@pytest.mark.parametrize("tail", TAIL)
@pytest.mark.parametrize("codec", ["ac3", "eac3", "mp2"])
def test_nor_are_they_behind_streams_of_other_frames(ledger_of, codec, tail):
    data = mux(codec, (codec, SECONDS, 0))
    is_whole(ledger_of(data + TAIL[tail]))
    is_cut(ledger_of(data[:-100]))


@pytest.mark.parametrize(
    "name", ["flac", "m4a", "matroska", "mp3", "mp3 VBR", "ogg vorbis", "opus", "wavpack", "wma"]
)
def test_zeros_in_place_of_the_rest_are_not_the_rest(ledger_of, whole, name):
    """As a downloader leaves a file that it laid out in full and did not finish."""
    data, half = whole[name], len(whole[name]) // 2
    ledger = ledger_of(data[:half] + bytes(len(data) - half))
    assert ledger.status == "partial"
    assert ledger.reason in ("truncated", "damaged")


def id3(size):
    body = b"TXXX" + struct.pack(">IH", size, 0) + b"\0" * size
    return b"ID3\3\0\0" + bytes(len(body) >> shift & 0x7F for shift in (21, 14, 7, 0)) + body


@pytest.mark.parametrize("name", ["mp3", "mp3 VBR", "mp3 without Xing", "aac"])
def test_tags_between_joined_files_are_no_damage(ledger_of, whole, name):
    picture = b"TAG".ljust(128) + id3(20)[:10] + noise_bytes(20) + b"\0" * 10
    is_whole(ledger_of(whole[name] + id3(40) + whole[name]), 2 * SECONDS)
    assert ledger_of(whole[name] + picture + whole[name]).decoded_s == pytest.approx(
        2 * SECONDS, abs=0.3
    )


@pytest.mark.parametrize(
    "tags", [id3(40), id3(200_000), id3(40) * 2], ids=["small", "large", "two"]
)
@pytest.mark.parametrize("name", CONTAINERS)
def test_a_tag_in_front_of_any_container_is_skipped(ledger_of, whole, name, tags):
    is_whole(ledger_of(tags + whole[name]))


def test_what_lies_behind_the_data_of_an_au_is_not_heard(ledger_of):
    data = au(None)
    is_whole(ledger_of(data))
    is_whole(ledger_of(data + noise_bytes(100_000)))
    is_cut(ledger_of(data[: len(data) // 2]))


def dsf(seconds):
    """DSD at 64 times 44.1 kHz, mono, as its makers wrap it."""
    count = int(2822400 * seconds) // 32768 * 32768
    wave = np.sin(2 * np.pi * 440 * np.arange(count) / 2822400) / 2
    bits = np.diff(np.concatenate([[0], np.floor(np.cumsum((wave + 1) / 2))])).astype(np.uint8)
    data = np.packbits(bits, bitorder="little").tobytes()
    fmt = b"fmt " + struct.pack("<QIIIIIIQII", 52, 1, 0, 1, 1, 2822400, 1, count, 4096, 0)
    sound = b"data" + struct.pack("<Q", 12 + len(data)) + data
    return b"DSD " + struct.pack("<QQQ", 28, 28 + len(fmt) + len(sound), 0) + fmt + sound


def test_dsd_is_read(ledger_of):
    data = dsf(SECONDS)
    is_whole(ledger_of(data))
    is_cut(ledger_of(data[: len(data) // 2]))


@pytest.mark.parametrize(
    ("container", "codec", "named"),
    [("mpegts", "aac", "mpegts"), ("avi", "libmp3lame", "avi"), ("flv", "aac", "flv"),
    ("mpeg", "mp2", "mpeg"),
     ("voc", "pcm_s16le", "voc")],
)  # fmt: skip
def test_a_container_that_is_left_out_is_named(ledger_of, container, codec, named):
    rate = {"rate": 44100} if container == "flv" else {}
    data = write_muxed(container, codec, **rate)
    ledger = ledger_of(data)
    assert (ledger.status, ledger.reason, ledger.retryable) == ("failed", "unread-container", False)
    assert ledger.detail.startswith(f"{named} (")


def write_muxed(container, codec, rate=48000):
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(tone(4, rate_hz=rate).T), format="fltp", layout="mono"
        )
        frame.sample_rate = rate
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()
