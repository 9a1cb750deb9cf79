import contextlib
import io
import os
import pickle
import struct
import subprocess
import sys

import av
import numpy as np
import pytest
import soundfile
import soxr
from audio_files import (
    CONTAINERS,
    DECLARES,
    ENDS_IN_A_FRAME,
    LACKS_END_MARK,
    NEEDS_ITS_END,
    noise_bytes,
    overwrite,
    tone,
    truncate,
    write_audio,
    write_container,
)

from schemas import REASONS
from sssl.audio.decode import Decoder
from sssl.errors import AudioError

RATE_HZ = 16000


def decode(source, rate_hz=RATE_HZ, max_s=None):
    decoder = Decoder(source, rate_hz, max_s)
    return decoder.info, np.concatenate([np.empty(0, np.float32), *decoder.blocks()])


def peak_hz(wave, rate_hz=RATE_HZ):
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return spectrum.argmax() * rate_hz / len(wave)


def rms_db(wave):
    return 10 * np.log10(np.mean(np.square(wave, dtype=np.float64)) + 1e-20)


def sine_db(level):
    return 20 * np.log10(level / np.sqrt(2))


@pytest.mark.parametrize("name", CONTAINERS)
def test_duration_pitch_and_level_survive_every_codec(tmp_path, name):
    path = write_container(tmp_path, name, hz=1000, channels=2, level=(0.6, 0.2))
    info, wave = decode(path)
    middle = wave[RATE_HZ : 5 * RATE_HZ]
    assert info.decoded_s == pytest.approx(6, abs=0.06)
    assert len(wave) == pytest.approx(info.decoded_s * RATE_HZ, abs=1)
    assert wave.dtype == np.float32
    assert peak_hz(middle) == pytest.approx(1000, abs=1)
    assert rms_db(middle) == pytest.approx(sine_db(0.4), abs=0.5)
    assert (info.channels, info.damaged_packets, info.limited) == (2, 0, False)


@pytest.mark.parametrize(
    "codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"]
)
def test_sample_formats_have_the_same_scale(tmp_path, codec):
    samples = tone(1, hz=100, rate_hz=RATE_HZ, channels=2, level=(0.7, 0.1))
    info, wave = decode(write_audio(tmp_path / "a.wav", samples, RATE_HZ, codec))
    assert info.codec == codec
    np.testing.assert_allclose(wave, samples.mean(axis=1), atol=0.01 if codec == "pcm_u8" else 5e-5)


@pytest.mark.parametrize("suffix", [".flac", ".wav", ".ogg"])
def test_six_channels_are_averaged_the_lfe_like_the_others(tmp_path, suffix):
    samples = tone(2, hz=80, rate_hz=48000, channels=6, level=(0.3, 0.3, 0.3, 0.9, 0.0, 0.0))
    info, wave = decode(write_audio(tmp_path / f"a{suffix}", samples, 48000))
    assert info.channels == 6
    assert rms_db(wave[4000:-4000]) == pytest.approx(sine_db(0.3), abs=0.5)


@pytest.mark.parametrize("rate_hz", [8000, 11025, 22050, 32000, 44100, 48000, 96000, 192000])
def test_any_rate_is_resampled_to_the_nearest_length(tmp_path, rate_hz):
    info, wave = decode(
        write_audio(tmp_path / "a.flac", tone(1.2345, hz=1000, rate_hz=rate_hz), rate_hz)
    )
    assert info.sample_rate_hz == rate_hz
    assert len(wave) == pytest.approx(round(1.2345 * rate_hz) * RATE_HZ / rate_hz, abs=0.5)
    assert peak_hz(wave) == pytest.approx(1000, abs=1)


def test_a_tone_above_the_new_nyquist_leaves_no_alias(tmp_path):
    path = write_audio(tmp_path / "a.wav", tone(3, hz=8500, level=0.9), 44100, "pcm_f32le")
    _, wave = decode(path)
    assert rms_db(wave[RATE_HZ:-RATE_HZ]) < -100


@pytest.mark.parametrize("channels", [1, 2])
def test_blocks_join_to_the_track_resampled_in_one_piece(tmp_path, channels):
    samples = np.random.default_rng(0).normal(0, 0.1, (10 * 44100, channels)).astype(np.float32)
    path = write_audio(tmp_path / "a.wav", samples, 44100, "pcm_f32le")
    mono = samples.mean(axis=1)
    np.testing.assert_allclose(decode(path, 44100)[1], mono, atol=1e-7)
    np.testing.assert_allclose(decode(path)[1], soxr.resample(mono, 44100, RATE_HZ), atol=1e-6)


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_stream_decodes_like_the_file(tmp_path, name):
    path = write_container(tmp_path, name, seconds=1)
    (file_info, file_wave), (stream_info, stream_wave) = (
        decode(path),
        decode(io.BytesIO(path.read_bytes())),
    )
    assert file_info == stream_info
    np.testing.assert_array_equal(file_wave, stream_wave)


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_whole_file_decodes_to_what_it_declares(tmp_path, name):
    info, _ = decode(write_container(tmp_path, name))
    knows = CONTAINERS[name][-1]
    assert info.ended is not False
    assert info.ended is True or knows not in (ENDS_IN_A_FRAME, LACKS_END_MARK)
    if knows is ENDS_IN_A_FRAME:
        assert info.declared_s is None
    else:
        assert info.declared_s == pytest.approx(info.decoded_s, abs=0.1)


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize(
    "name", [name for name, (*_, knows) in CONTAINERS.items() if knows is not NEEDS_ITS_END]
)
def test_a_cut_file_is_noticed(tmp_path, name, share):
    info, _ = decode(truncate(write_container(tmp_path, name), share))
    assert 0.2 < info.decoded_s < 5.7
    if CONTAINERS[name][-1] is DECLARES:
        assert info.declared_s == pytest.approx(6, abs=0.1)
    else:
        assert (info.declared_s, info.ended) == (None, False)


def test_an_ogg_file_that_lost_its_last_bytes_has_not_ended(tmp_path):
    path = write_container(tmp_path, "ogg vorbis")
    path.write_bytes(path.read_bytes()[:-1])
    assert decode(path)[0].ended is False


def test_an_m4a_cut_before_its_index_is_corrupt(tmp_path):
    path = truncate(write_audio(tmp_path / "a.m4a", tone(3), 44100), 0.9)
    with pytest.raises(AudioError, match=r"^corrupt: FFmpeg: Invalid data"):
        Decoder(path, RATE_HZ)


@pytest.mark.parametrize("rate_hz", [11025, 24000, 32000])
@pytest.mark.parametrize("name", ["aac", "mp3 VBR without Xing"])
def test_the_last_frame_of_a_raw_stream_is_whole_or_not(tmp_path, name, rate_hz):
    suffix, codec, options, _ = CONTAINERS[name]
    data = write_audio(
        tmp_path / f"a{suffix}", tone(3, rate_hz=rate_hz), rate_hz, codec, **options
    ).read_bytes()
    assert decode(io.BytesIO(data))[0].ended is True
    assert decode(io.BytesIO(data[:-1]))[0].ended is False
    assert decode(io.BytesIO(data + b"\xff\xf3"))[0].ended is False
    assert decode(io.BytesIO(data + b"TAG".ljust(128)))[0].ended is True
    assert decode(io.BytesIO(data + b"<html>" * 20))[0].ended is None


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wav_of_unknown_size_decodes_to_its_end(tmp_path, size):
    path = write_audio(tmp_path / "a.wav", tone(3), 44100)
    data = path.read_bytes()
    at = data.index(b"data") + 4
    info, _ = decode(io.BytesIO(data[:at] + struct.pack("<I", size) + data[at + 4 :]))
    assert info.decoded_s == pytest.approx(3, abs=0.001)
    assert info.declared_s is None


@pytest.mark.parametrize(
    "name", ["aac", "flac", "m4a", "matroska", "mp3", "ogg vorbis", "opus", "wma"]
)
def test_garbage_inside_costs_only_what_it_hits(tmp_path, name):
    path = write_container(tmp_path, name, seconds=10, hz=1000)
    info, wave = decode(overwrite(path, 0.4, noise_bytes(2000)))
    assert 7 < info.decoded_s < 10.1
    assert peak_hz(wave[-RATE_HZ * 2 : -RATE_HZ]) == pytest.approx(1000, abs=1)


@pytest.mark.parametrize("name", ["aac", "ogg vorbis", "opus"])
def test_a_hole_that_stops_the_demuxer_is_not_the_end(tmp_path, name):
    path = write_container(tmp_path, name, seconds=20, hz=1000)
    info, wave = decode(overwrite(path, 0.3, bytes(path.stat().st_size // 5)))
    assert 13 < info.decoded_s < 17
    assert peak_hz(wave[-RATE_HZ * 2 : -RATE_HZ]) == pytest.approx(1000, abs=1)


@pytest.mark.parametrize("name", ["ogg vorbis", "opus"])
@pytest.mark.parametrize(
    "hole_bytes", [20_000, 70_000]
)  # FFmpeg does not search for a page beyond 64 kB
def test_audio_missing_right_behind_the_headers_of_an_ogg_is_missed(tmp_path, name, hole_bytes):
    path = write_container(tmp_path, name, seconds=12)
    info, _ = decode(overwrite(path, 0.035, noise_bytes(hole_bytes)))
    assert info.decoded_s < 11
    assert info.declared_s == pytest.approx(12, abs=0.1)


def test_damaged_packets_are_counted(tmp_path):
    path = write_audio(tmp_path / "a.mp3", tone(10), 44100)
    data = path.read_bytes()
    half = len(data) // 2
    info, _ = decode(io.BytesIO(data[:half] + noise_bytes(4096) + data[half:]))
    assert info.damaged_packets > 0
    assert info.decoded_s == pytest.approx(10, abs=0.2)


@pytest.mark.parametrize("picture_bytes", [1000, 300_000])
def test_cover_art_is_ignored(tmp_path, picture_bytes):
    path = write_audio(tmp_path / "a.mp3", tone(3), 44100)
    path.write_bytes(
        cover_art(b"\x89PNG\r\n\x1a\n" + noise_bytes(picture_bytes)) + path.read_bytes()
    )
    with av.open(str(path)) as container:
        assert [stream.type for stream in container.streams] == ["audio", "video"]
    info, wave = decode(path)
    assert info.declared_s == pytest.approx(3, abs=0.1)
    assert peak_hz(wave) == pytest.approx(440, abs=1)


def cover_art(picture):
    """An ID3v2.3 tag with an APIC frame."""
    body = b"\0image/png\0\3\0" + picture
    frame = b"APIC" + struct.pack(">IH", len(body), 0) + body
    size = bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\3\0\0" + size + frame


def test_video_beside_the_audio_is_ignored(tmp_path):
    path = write_video(tmp_path / "a.mp4", tone(2))
    assert peak_hz(decode(path)[1]) == pytest.approx(440, abs=1)


def test_video_alone_is_not_audio(tmp_path):
    path = write_video(tmp_path / "a.mp4").rename(tmp_path / "a.m4a")
    with pytest.raises(AudioError, match=r"^not-audio: .*no audio stream"):
        Decoder(path, RATE_HZ)


def write_video(path, samples=None):
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width = video.height = 64
        audio = None if samples is None else container.add_stream("aac", rate=44100, layout="mono")
        container.start_encoding()
        for pts in range(25):
            frame = av.VideoFrame(64, 64, "yuv420p")
            frame.pts = pts
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio:
            frame = av.AudioFrame.from_ndarray(samples.T.copy(), format="fltp", layout="mono")
            frame.sample_rate = 44100
            container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".ogg", ".opus"])
def test_both_chains_of_a_chained_ogg_come_out(tmp_path, suffix):
    chains = [
        write_audio(tmp_path / f"{hz}{suffix}", tone(4, hz, 48000), 48000).read_bytes()
        for hz in (440, 880)
    ]
    info, wave = decode(io.BytesIO(b"".join(chains)))
    assert info.decoded_s == pytest.approx(8, abs=0.05)
    assert (info.declared_s, info.ended) == (None, True)
    assert peak_hz(wave[RATE_HZ : 3 * RATE_HZ]) == pytest.approx(440, abs=1)
    assert peak_hz(wave[5 * RATE_HZ : 7 * RATE_HZ]) == pytest.approx(880, abs=1)


@pytest.mark.parametrize(("rate_hz", "channels"), [(22050, 2), (44100, 1), (44100, 6)])
def test_a_chain_of_another_rate_or_layout_is_damage(tmp_path, rate_hz, channels):
    first = write_audio(tmp_path / "1.ogg", tone(3, channels=2), 44100).read_bytes()
    second = write_audio(
        tmp_path / "2.ogg", tone(3, rate_hz=rate_hz, channels=channels), rate_hz
    ).read_bytes()
    info, wave = decode(io.BytesIO(first + second))
    assert info.decoded_s >= 2.99
    assert info.damaged_packets > 0
    assert peak_hz(wave[: 3 * RATE_HZ]) == pytest.approx(440, abs=1)


def test_mp3_parts_of_other_rates_and_channels_come_out_one_after_the_other(tmp_path):
    parts = [(440, 44100, 2), (880, 22050, 1), (660, 48000, 1)]
    files = [
        write_audio(tmp_path / f"{hz}.mp3", tone(3, hz, rate_hz, channels), rate_hz).read_bytes()
        for hz, rate_hz, channels in parts
    ]
    info, wave = decode(io.BytesIO(b"".join(files)))
    assert info.decoded_s == pytest.approx(9, abs=0.3)
    for start_s, (hz, _, _) in zip((0.5, 3.5, 6.5), parts, strict=True):
        start = int(start_s * RATE_HZ)
        assert peak_hz(wave[start : start + 2 * RATE_HZ]) == pytest.approx(hz, abs=1)


def test_vorbis_that_ffmpeg_refuses_is_decoded_by_libsndfile(tmp_path):
    path = write_audio(tmp_path / "a.ogg", tone(5), 44100)
    path.write_bytes(without_codebook_dimensions(path.read_bytes()))
    info, wave = decode(path)
    assert info.decoder.startswith("soundfile")
    assert (info.codec, info.sample_rate_hz, info.channels, info.ended) == (
        "vorbis",
        44100,
        1,
        True,
    )
    assert info.decoded_s == pytest.approx(info.declared_s, abs=0.01)
    assert len(wave) == 5 * RATE_HZ
    assert rms_db(wave) == pytest.approx(sine_db(0.5), abs=0.5)


def without_codebook_dimensions(data):
    """The first codebook of the setup header gets no dimensions: legal for libvorbis, not for
    FFmpeg."""
    data = bytearray(data)
    data[data.index(b"\x05vorbis") + 11] = 0
    page = data.index(b"OggS", 1)
    size = 27 + data[page + 26] + sum(data[page + 27 : page + 27 + data[page + 26]])
    data[page + 22 : page + 26] = bytes(4)
    data[page + 22 : page + 26] = struct.pack("<I", ogg_checksum(data[page : page + size]))
    return data


def ogg_checksum(page):
    checksum = 0
    for byte in page:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = (checksum << 1) ^ (0x04C11DB7 if checksum & 0x80000000 else 0)
        checksum &= 0xFFFFFFFF
    return checksum


@pytest.mark.parametrize(
    ("name", "extension"), [("flac", ".mp3"), ("m4a", ".ogg"), ("mp3", ".wav"), ("wav", ".flac")]
)
def test_a_wrong_extension_does_not_matter(tmp_path, name, extension):
    path = write_container(tmp_path, name)
    assert decode(path.rename(tmp_path / f"wrong{extension}"))[0].decoded_s == pytest.approx(
        6, abs=0.06
    )


def test_an_empty_file_has_its_own_reason(tmp_path):
    (tmp_path / "a.mp3").touch()
    with pytest.raises(AudioError, match=r"^empty-file"):
        Decoder(tmp_path / "a.mp3", RATE_HZ)


@pytest.mark.parametrize(
    "data",
    [
        b"It was the best of times, it was the worst of times\n" * 3000,
        b"<!DOCTYPE html><html><body>403 Forbidden</body></html>",
        "UTF-16 starts like a frame of mp3".encode("utf-16") * 100,
        noise_bytes(200_000),
        bytes(200_000),
        b"x",
    ],
    ids=["text", "html", "utf-16", "noise", "zeros", "one byte"],
)
@pytest.mark.parametrize("extension", [".flac", ".mp3"])
def test_what_is_no_audio_is_refused_quietly(tmp_path, capfd, data, extension):
    path = tmp_path / f"a{extension}"
    path.write_bytes(data)
    with pytest.raises(AudioError, match=r"^not-audio: FFmpeg: Invalid"):
        Decoder(path, RATE_HZ)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "playlist", ["ffconcat version 1.0\nfile b.wav\n", "#EXTM3U\n#EXTINF:3,\nb.wav\n"]
)
def test_playlists_do_not_lead_to_other_files(tmp_path, monkeypatch, playlist):
    monkeypatch.chdir(tmp_path)
    write_audio(tmp_path / "b.wav", tone(3), 44100)
    (tmp_path / "a.mp3").write_text(playlist)
    with pytest.raises(AudioError, match=r"^not-audio"):
        Decoder("a.mp3", RATE_HZ)


@pytest.mark.parametrize(
    ("name", "share"),
    [("flac", 0.01), ("aiff", 0.0001), ("ogg vorbis", 0.02), ("wav", 0.0001), ("wma", 0.005)],
)
def test_a_file_that_ends_after_its_header_is_corrupt(tmp_path, name, share):
    path = truncate(write_container(tmp_path, name), share)
    with pytest.raises(AudioError, match=r"^corrupt"):
        Decoder(path, RATE_HZ)


def test_a_header_that_points_beyond_any_file_is_corrupt(tmp_path, capfd):
    path = write_audio(tmp_path / "a.wma", tone(3), 44100)
    data = path.read_bytes()
    path.write_bytes(data[:30] + noise_bytes(16) + struct.pack("<Q", 2**55) + data[30:])
    with pytest.raises(AudioError, match=r"^corrupt"):
        Decoder(path, RATE_HZ)
    assert capfd.readouterr() == ("", "")


def test_reasons_are_those_of_the_ledger_and_cross_processes():
    error = pickle.loads(pickle.dumps(AudioError("corrupt", "a detail")))
    assert (error.reason, error.detail, str(error)) == ("corrupt", "a detail", "corrupt: a detail")
    assert {"empty-file", "not-audio", "corrupt"} <= REASONS.keys()


@pytest.mark.filterwarnings("error")
def test_broken_files_print_nothing(tmp_path, capfd):
    for name in CONTAINERS:
        path = overwrite(write_container(tmp_path, name, seconds=4), 0.6, noise_bytes(3000))
        decode(path)
        for share in (0.3, 0.001):
            with contextlib.suppress(AudioError):
                decode(truncate(path, share))
    assert capfd.readouterr() == ("", "")


def test_metadata_need_not_be_utf_8(tmp_path):
    data = write_audio(tmp_path / "a.wav", tone(1), 44100).read_bytes()
    at = data.index(b"data")
    title = b"LIST" + struct.pack("<I", 16) + b"INFOINAM" + struct.pack("<I", 4) + b"caf\xe9"
    with pytest.raises(UnicodeDecodeError, match="utf-8"):
        av.open(io.BytesIO(data[:at] + title + data[at:]))
    assert decode(io.BytesIO(data[:at] + title + data[at:]))[0].decoded_s == pytest.approx(1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("rate_hz", [8000, 44100, 96000])
def test_a_sample_that_is_not_finite_stays_a_local_matter(tmp_path, value, rate_hz):
    samples = tone(6, rate_hz=rate_hz, channels=2)
    samples[3 * rate_hz, 0] = value
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, rate_hz, subtype="FLOAT")
    _, same_rate = decode(path, rate_hz)
    assert np.flatnonzero(~np.isfinite(same_rate)).tolist() == [3 * rate_hz]
    bad_s = np.flatnonzero(~np.isfinite(decode(path)[1])) / RATE_HZ
    assert len(bad_s)
    assert np.abs(bad_s - 3).max() < 0.15


def test_max_s_stops_decoding(tmp_path):
    path = write_audio(tmp_path / "a.wav", tone(60), 44100)
    source = Meter(path.read_bytes())
    info, wave = decode(source, max_s=2.5)
    assert (info.decoded_s, info.limited) == (pytest.approx(2.5), True)
    assert len(wave) == 2.5 * RATE_HZ
    assert source.bytes_read < path.stat().st_size / 5


@pytest.mark.parametrize(("max_s", "limited"), [(6.0, False), (6.1, False), (5.9, True)])
def test_only_what_is_longer_than_max_s_is_limited(tmp_path, max_s, limited):
    info, _ = decode(write_container(tmp_path, "flac"), max_s=max_s)
    assert info.limited is limited
    assert info.decoded_s == pytest.approx(min(6, max_s))


class Meter(io.BytesIO):
    """Counts reads and their bytes; fails at the read number `fails_at`."""

    def __init__(self, data, fails_at=None):
        super().__init__(data)
        self.reads = self.bytes_read = 0
        self.fails_at = fails_at

    def read(self, size=-1):
        if self.reads == self.fails_at:
            raise ConnectionError("the bucket is gone")
        data = super().read(size)
        self.reads += 1
        self.bytes_read += len(data)
        return data


@pytest.mark.parametrize("name", ["aiff", "flac", "m4a", "mp3", "ogg vorbis", "opus", "wav", "wma"])
def test_a_storage_that_fails_is_no_damage(tmp_path, name):
    data = write_container(tmp_path, name).read_bytes()
    healthy = Meter(data)
    decode(healthy)
    for read in range(healthy.reads):
        with pytest.raises(ConnectionError, match="the bucket is gone"):
            decode(Meter(data, fails_at=read))


def test_a_missing_file_is_no_audio_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such"):
        Decoder(tmp_path / "no such.mp3", RATE_HZ)


def test_memory_does_not_grow_with_the_track(tmp_path):
    minute = write_audio(tmp_path / "a.mp3", tone(60, rate_hz=22050), 22050, write_xing="0")
    before_kb = peak_memory_kb(minute)
    minute.write_bytes(minute.read_bytes() * 20)
    assert (
        peak_memory_kb(minute) < before_kb + 8 * 1024
    )  # the 20 minutes are 77 MB of float32 at 16 kHz


def peak_memory_kb(path):
    program = (
        "import resource, sys; from sssl.audio.decode import Decoder;"
        f"assert sum(map(len, Decoder(sys.argv[1], {RATE_HZ}).blocks())) >= 60 * {RATE_HZ};"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return int(
        subprocess.check_output(
            [sys.executable, "-c", program, str(path)], env=environment, text=True
        )
    )
