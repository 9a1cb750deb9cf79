"""Real audio files for tests: tones, encoded with PyAV (or libsndfile where FFmpeg has no encoder),
then damaged."""

from pathlib import Path

import av
import numpy as np
import soundfile

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
CODECS = {
    ".aac": "aac", ".aiff": "pcm_s16be", ".flac": "flac", ".m4a": "aac", ".mka": "libmp3lame",
    ".mp3": "libmp3lame",
    ".ogg": "vorbis", ".opus": "libopus", ".tta": "tta", ".wav": "pcm_s16le", ".wma": "wmav2",
    ".wv": "wavpack",
}  # fmt: skip
FORMATS = {".aac": "adts", ".m4a": "ipod", ".mka": "matroska", ".opus": "ogg", ".wma": "asf"}
BIT_RATES = {"aac": 192_000, "libmp3lame": 192_000, "libopus": 128_000, "wmav2": 192_000}
FASTSTART = {"movflags": "faststart"}
NO_XING = {"write_xing": "0"}
VBR = {"quality": 4}

# What a container can tell of itself when its end is missing.
DECLARES, LACKS_END_MARK, NEEDS_ITS_END, ENDS_IN_A_FRAME = (
    "declares its length", "lacks its end mark", "needs its end", "ends in a frame"
)  # fmt: skip
CONTAINERS = {
    "aac": (".aac", None, {}, ENDS_IN_A_FRAME),
    "aiff": (".aiff", None, {}, DECLARES),
    "alac": (".m4a", "alac", FASTSTART, DECLARES),
    "flac": (".flac", None, {}, DECLARES),
    "m4a": (".m4a", None, FASTSTART, DECLARES),
    "m4a with its index last": (".m4a", None, {}, NEEDS_ITS_END),
    "matroska": (".mka", None, {}, DECLARES),
    "mp3": (".mp3", None, {}, DECLARES),
    "mp3 VBR": (".mp3", None, VBR, DECLARES),
    "mp3 VBR without Xing": (".mp3", None, VBR | NO_XING, ENDS_IN_A_FRAME),
    "mp3 without Xing": (".mp3", None, NO_XING, ENDS_IN_A_FRAME),
    "ogg vorbis": (".ogg", None, {}, LACKS_END_MARK),
    "opus": (".opus", None, {}, LACKS_END_MARK),
    "tta": (".tta", None, {}, DECLARES),
    "wav": (".wav", None, {}, DECLARES),
    "wav 24": (".wav", "pcm_s24le", {}, DECLARES),
    "wav float": (".wav", "pcm_f32le", {}, DECLARES),
    "wavpack": (".wv", None, {}, DECLARES),
    "wma": (".wma", None, {}, DECLARES),
}


def tone(seconds, hz=440.0, rate_hz=44100, channels=1, level=0.5):
    """A sine of amplitude `level` in all channels [T, C]; a sequence of levels gives each channel
    its own."""
    wave = np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)
    return (wave[:, None] * np.broadcast_to(level, channels)).astype(np.float32)


def write_container(folder, name, seconds=6.0, **kwargs):
    """Encode a tone with some noise as one of CONTAINERS; `kwargs` are those of `tone`."""
    suffix, codec, options, _ = CONTAINERS[name]
    rate_hz = 48000 if name == "opus" else 44100
    samples = tone(seconds, rate_hz=rate_hz, **kwargs)
    samples += np.random.default_rng(0).normal(
        0, 0.02, samples.shape
    )  # a tone alone fits into a few packets
    return write_audio(folder / f"a{suffix}", samples, rate_hz, codec, **options)


def write_audio(path, samples, rate_hz, codec=None, quality=None, **options):
    """Encode samples [T, C] by the extension of the path, or with an FFmpeg codec that its
    container takes.

    `quality` asks LAME for a variable bit rate, as its -V does. `options` are those of FFmpeg's
    container, as `movflags="faststart"` or `write_xing="0"`.
    """
    path = Path(path)
    codec = codec or CODECS[path.suffix]
    if codec == "vorbis":  # FFmpeg's encoder is experimental
        _write_vorbis(path, samples, rate_hz)
    else:
        _write_ffmpeg(path, samples, rate_hz, codec, quality, options)
    return path


def truncate(path, share):
    """Keep the first `share` of a file's bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: round(len(data) * share)])
    return path


def overwrite(path, share, data):
    """Put `data` in place of the bytes from `share` of the file on."""
    whole = bytearray(path.read_bytes())
    start = round(len(whole) * share)
    whole[start : start + len(data)] = data
    path.write_bytes(whole)
    return path


def noise_bytes(size, seed=0):
    """Bytes that no decoder takes for audio."""
    return np.random.default_rng(seed).bytes(size)


def _write_vorbis(path, samples, rate_hz):
    with soundfile.SoundFile(
        path, "w", rate_hz, samples.shape[1], format="OGG", subtype="VORBIS"
    ) as file:
        for start in range(0, len(samples), 4096):  # libsndfile overflows its stack on long blocks
            file.write(samples[start : start + 4096])


def _write_ffmpeg(path, samples, rate_hz, codec, quality, options):
    layout = LAYOUTS[samples.shape[1]]
    with av.open(
        str(path), "w", format=FORMATS.get(path.suffix), container_options=options
    ) as container:
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        if quality is not None:
            stream.codec_context.qscale = True
            stream.codec_context.global_quality = quality * 118  # FF_QP2LAMBDA
        elif codec in BIT_RATES:
            stream.bit_rate = BIT_RATES[codec]
        for start in range(0, len(samples), 65536):
            planes = np.ascontiguousarray(samples[start : start + 65536].T)
            frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
            frame.sample_rate = rate_hz
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
