"""From an audio file to mono float32 samples, a block at a time.

PyAV decodes; libsndfile gets what FFmpeg refuses (it reads some Vorbis files that FFmpeg does not).
A catalog has files that are cut, damaged or no audio at all, so beside the samples there is an
`AudioInfo`: what the container declares and what came out of it. Whoever calls compares the two;
nothing here decides whether a track is good enough.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, BinaryIO, Final, cast

import av
import numpy as np
import soundfile
import soxr
from numpy.typing import DTypeLike, NDArray

from sssl.audio.containers.declared import FRAMES, TRAILED, extent, length
from sssl.audio.containers.frames import tag_bytes
from sssl.audio.containers.matroska import tagged_s
from sssl.audio.containers.reading import Stream, peek
from sssl.audio.info import AudioInfo
from sssl.errors import AudioError
from sssl.runtime.reading import READING

Samples = NDArray[np.float32]  # [n], mono
_Block = tuple[Samples, int]  # samples and their rate in Hz

# FFmpeg copies a frame (about 1,000 samples) cheaply; what costs is a call from Python for each. So
# many at once, but not more than the cache holds between FIFO, downmix and resampler.
_BLOCK_SAMPLES: Final = 32768
_HEAD_BYTES: Final = 65536

# Only containers of music: FFmpeg's others take text for subtitles and playlists, and follow the
# paths in those.
_CONTAINERS: Final = (
    "aac,ac3,aiff,ape,asf,au,caf,dsf,eac3,flac,matroska,webm,mov,mp4,m4a,mp3,ogg,tta,w64,wav,wv"
)

# Containers of music and video that are not read: they say nothing of their length, or hardly
# anybody has them. These names are for a reason that says so.
_UNREAD: Final = (
    "3dostr,aa,aax,act,adx,aea,alp,amr,amrnb,amrwb,apm,aptx,aptx_hd,argo_asf,avi,avr,bfstm,boa,brstm,c93,dss,dts,dtshd,"
    "flv,g722,gsm,gxf,hca,iff,ilbc,ircam,live_flv,loas,lxf,mlp,mmf,mpc,mpc8,mpeg,mpegts,mpegtsraw,msf,mtaf,musx,mxf,"
    "nistsphere,nsv,nut,oma,osq,paf,pvf,qcp,rl2,rm,rso,sbc,sds,sdx,shn,sln,smjpeg,sol,sox,spdif,svag,svs,swf,tak,truehd,"
    "ty,vag,vivo,voc,vpk,vqf,wady,wc3movie,wsaud,wsd,wsvqa,wtv,wve,xa,xmv,xvag,xwma,yop"
)

# A file that starts like this was audio once, even if no decoder can open the rest of it.
_AUDIO_HEAD: Final = re.compile(
    rb"ID3|OggS|fLaC|wvpk|TTA1|caff|\.snd|DSD |\x1a\x45\xdf\xa3"
    rb"|(?:RIF[FX]|RF64|BW64)....WAVE|riff\x2e\x91\xcf\x11"
    rb"|FORM....AIF[FC]|....ftyp|\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    re.DOTALL,
)
# Not mp3: libsndfile fills what is missing of an mp3 with silence, and writes warnings to stderr.
_SNDFILE_HEAD: Final = re.compile(rb"OggS|fLaC|RIF[FX]|RF64|FORM|caff|riff|\.snd")

# One sample of a channel, by FFmpeg's name of a codec or libsndfile's of a subtype.
_PCM: Final = re.compile(
    r"pcm_[us]?(?P<bits>\d+)|(?P<law>pcm_[a-z]*law|[au]law)|(?P<float>float|pcm_f32)|double|pcm_f64"
)

# Damage rarely stops a demuxer twice; an ogg chain whose layout changes stops it at every page.
_MAX_DEMUXER_FAILURES: Final = 16

_PICTURE: Final = av.stream.Disposition.attached_pic

# Encoders' delay and padding, which a header counts and a decoder may leave out.
_DELAY_S: Final = 0.1

_FULL_SCALE: Final = (
    1.0 - 2.0**-13
)  # the loudest value of 16 bits, or 24 reduced to them, is a little below 1.0

# FFmpeg's sample format, planar or packed: dtype, full scale, zero.
_SAMPLE_FORMATS: Final[dict[str, tuple[DTypeLike, float, float]]] = {
    "u8": (np.uint8, 2.0**7, 2.0**7),
    "s16": (np.int16, 2.0**15, 0.0),
    "s32": (np.int32, 2.0**31, 0.0),
    "s64": (np.int64, 2.0**63, 0.0),
    "flt": (np.float32, 1.0, 0.0),
    "dbl": (np.float64, 1.0, 0.0),
}


class Decoder:
    """Decodes one file to mono at `rate_hz`.

    `source` is a path, or a binary file that can seek and that the caller closes. At most `max_s`
    seconds are decoded.

    The first block is decoded here: raises AudioError if there is none. What reading raises
    (OSError) passes through.
    """

    info: AudioInfo

    def __init__(
        self, source: str | os.PathLike[str] | BinaryIO, rate_hz: int, max_s: float | None = None
    ) -> None:
        self._rate_hz = rate_hz
        self._max_s = max_s
        self._samples = 0
        self._clipped = 0
        self._sum = 0.0
        with contextlib.ExitStack() as resources:
            if isinstance(source, (str, os.PathLike)):
                source = resources.enter_context(open(source, "rb"))
            self.info, self._source_blocks = _open(source, resources)
            self._resources = resources.pop_all()

    def blocks(self) -> Iterator[Samples]:
        """Yield float32 blocks [n] of at most a few seconds, once; the mean of all channels, LFE
        included.

        A track of n samples at f Hz gives round(n * rate_hz / f). NaN and infinite samples come
        through; resampling spreads each over some 0.1 s to either side (soxr filters in blocks).
        Damaged packets leave no gap: what follows them moves forward.
        """
        with self._resources:
            for source_hz, group in itertools.groupby(self._counted(), key=itemgetter(1)):
                yield from filter(
                    len, _resample(map(itemgetter(0), group), source_hz, self._rate_hz)
                )

    def _counted(self) -> Iterator[_Block]:
        for mono, rate_hz in self._source_blocks:
            if self._max_s is not None:
                room = max(0, round((self._max_s - self.info.decoded_s) * rate_hz))
                self.info.limited = len(mono) > room
                mono = mono[:room]
            self.info.decoded_s += len(mono) / rate_hz
            self._measure(mono)
            yield mono, rate_hz
            if self.info.limited:
                return

    def _measure(self, mono: Samples) -> None:
        """Bring the shares that `AudioInfo` tells up to date; a sample that is not finite spoils
        only the mean."""
        self._samples += len(mono)
        # Extremes cost a tenth of a comparison of all samples, and most blocks have none at full
        # scale.
        if (
            np.fmax.reduce(mono, initial=0) >= _FULL_SCALE
            or np.fmin.reduce(mono, initial=0) <= -_FULL_SCALE
        ):
            self._clipped += int(np.count_nonzero(np.abs(mono) >= _FULL_SCALE))
        with np.errstate(invalid="ignore", over="ignore"):
            self._sum += float(mono.sum())
        count = max(1, self._samples)
        self.info.clipped_share = self._clipped / count
        self.info.dc_offset = self._sum / count


def _open(file: BinaryIO, resources: contextlib.ExitStack) -> tuple[AudioInfo, Iterator[_Block]]:
    """The first decoder that gives audio, with its first block decoded."""
    if not peek(file, 0, 1):
        raise AudioError("empty-file", "0 bytes")
    file = cast(BinaryIO, _Confined(file, *extent(file)))
    head = peek(file, 0, _HEAD_BYTES)
    refusals = []
    for reader in (_FFmpeg, _Sndfile):
        try:
            opened = reader(file, head, resources)
            blocks = opened.blocks()
            first = next(blocks, None)
            if first is not None:
                return opened.info, itertools.chain([first], blocks)
            refusals.append(
                AudioError("corrupt", f"{opened.info.codec} stream without a packet that decodes")
            )
        except AudioError as refusal:
            refusals.append(refusal)
    raise refusals[0]


class _Confined:
    """A file as decoders get it.

    It has no name: FFmpeg would believe a wrong extension. Seeks end within it: damaged headers
    point anywhere, and what Python raises there would pass for a failure of the storage. It begins
    at `start` and ends at `stop`.
    """

    def __init__(self, file: BinaryIO, start: int, stop: int) -> None:
        self._file = file
        self._start = start
        self._size = stop - start
        self.seek(0)

    def tell(self) -> int:
        return self._file.tell() - self._start

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self.tell())
        wanted = left if size < 0 else min(size, left)
        return READING.of(self._file.read, wanted, size=len)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self._size}[whence]
        at = min(max(0, origin + offset), self._size)
        return self._file.seek(self._start + at) - self._start


class _FFmpeg:
    """Reads a file with PyAV; ignores all but one audio stream (cover art is a video stream)."""

    def __init__(self, file: BinaryIO, head: bytes, resources: contextlib.ExitStack) -> None:
        options = {"format_whitelist": _CONTAINERS}
        try:
            file.seek(0)
            container = av.open(file, "r", metadata_errors="replace", container_options=options)
        except av.error.FFmpegError as error:
            raise _refusal(file, head, error) from error
        self._container = resources.enter_context(container)
        self._stream = _audio_stream(container)
        codec = self._stream.codec_context
        codec.thread_count = 1
        self.info = AudioInfo(
            f"pyav {av.__version__}",
            codec.codec.canonical_name,
            codec.sample_rate,
            codec.channels,
            *length(file, head, _known(container, self._stream)),
        )
        self._trailed = container.format.name in TRAILED
        self._framed = container.format.name in FRAMES

    def blocks(self) -> Iterator[_Block]:
        """Yield (mono [n], rate in Hz): a new block where the rate, the channels or the sample
        format change."""
        for (rate_hz, _, _), frames in itertools.groupby(self._frames(), key=_frame_kind):
            for frame in _joined(frames):
                yield _mono(frame), rate_hz

    def _frames(self) -> Iterator[av.AudioFrame]:
        """Decode packet by packet: damage costs the packets it hits, not the rest of the track.

        A tag between frames is no damage, nor is what trails the last frame of a file that has all
        it promises. So a failure counts when a frame follows, or at the end if audio is missing.
        """
        failures = 0
        uncounted = 0
        decoded_s = 0.0
        tag_stop = 0
        while failures < _MAX_DEMUXER_FAILURES:
            try:
                for packet in self._container.demux(self._stream):
                    try:
                        frames = packet.decode()
                    except av.error.FFmpegError:
                        tag_stop = max(tag_stop, _tag_stop(packet))
                        uncounted += packet.pos is None or packet.pos >= tag_stop
                        continue
                    for frame in frames:
                        self.info.damaged_packets = self.info.damaged_packets + uncounted
                        uncounted = 0
                        decoded_s += frame.samples / frame.rate
                        yield frame
                break
            except av.error.FFmpegError:  # from the demuxer, which may go on after the damage
                uncounted += 1
                failures += 1
        if not self._is_complete(decoded_s):
            self.info.damaged_packets += uncounted

    def _is_complete(self, decoded_s: float) -> bool:
        """Whether nothing that was still to come was audio."""
        if self._framed and self.info.ended:
            return True
        declared_s = self.info.declared_s
        return self._trailed and declared_s is not None and decoded_s >= declared_s - _DELAY_S


class _Sndfile:
    """Reads a file with libsndfile."""

    def __init__(self, file: BinaryIO, head: bytes, resources: contextlib.ExitStack) -> None:
        if not _SNDFILE_HEAD.match(head):
            raise AudioError("not-audio", "not a format left to libsndfile")
        try:
            file.seek(0)
            self._sound = resources.enter_context(soundfile.SoundFile(file))
        except soundfile.LibsndfileError as error:
            raise AudioError("corrupt", str(error)) from error
        sound = self._sound
        self.info = AudioInfo(
            f"soundfile {soundfile.__version__} {soundfile.__libsndfile_version__}",
            sound.subtype.lower(),
            sound.samplerate,
            sound.channels,
            *length(file, head, self._known()),
        )

    def _known(self) -> Stream:
        sound = self._sound
        frame_bytes = _frame_bytes(sound.subtype.lower(), sound.channels)
        return Stream(
            sound.format.lower(), sound.samplerate, frame_bytes, sound.frames / sound.samplerate
        )

    def blocks(self) -> Iterator[_Block]:
        """Yield (mono [n], rate in Hz) up to the end or the first damage."""
        try:
            while len(block := self._sound.read(_BLOCK_SAMPLES, dtype="float32", always_2d=True)):
                yield _downmix(block.T), self._sound.samplerate
        except soundfile.LibsndfileError:
            self.info.damaged_packets += 1


def _audio_stream(container: av.container.InputContainer) -> av.AudioStream:
    stream = container.streams.best("audio")
    if not isinstance(stream, av.AudioStream):
        raise AudioError("not-audio", f"{container.format.name}: no audio stream")
    if stream.codec_context is None:
        raise AudioError(
            "corrupt", f"{container.format.name}: no decoder for its audio stream (encrypted?)"
        )
    return stream


def _refusal(file: BinaryIO, head: bytes, error: av.error.FFmpegError) -> AudioError:
    """Say why FFmpeg refused a file: a container that is left out on purpose is no broken file, and
    is named."""
    if isinstance(
        error, av.error.ArgumentError
    ):  # the container is known, and is not among _CONTAINERS
        try:
            file.seek(0)
            with av.open(
                file,
                "r",
                metadata_errors="replace",
                container_options={"format_whitelist": _UNREAD},
            ) as other:
                if other.streams.audio:
                    return AudioError(
                        "unread-container", f"{other.format.name} ({other.format.long_name})"
                    )
        except av.error.FFmpegError:
            pass
    return AudioError(
        "corrupt" if _AUDIO_HEAD.match(head) else "not-audio", f"FFmpeg: {error.strerror}"
    )


def _known(container: av.container.InputContainer, stream: av.AudioStream) -> Stream:
    codec = stream.codec_context
    base = float(stream.time_base or 0)
    alone = all(other is stream or other.disposition & _PICTURE for other in container.streams)
    # FFmpeg gives the container's length to streams of which it does not know where they begin.
    own_s = (stream.duration or 0) * base if alone or stream.start_time is not None else 0.0
    return Stream(
        container.format.name,
        codec.sample_rate,
        _frame_bytes(codec.codec.canonical_name, codec.channels),
        own_s or None,
        tagged_s(stream.metadata),
        container.duration / 1e6 if container.duration else None,
        max(0.0, (stream.start_time or 0) * base),
        alone,
    )


def _frame_bytes(codec: str, channels: int) -> int | None:
    """Size of one sample of all channels; None if it is not PCM."""
    found = _PCM.match(codec)
    if not found:
        return None
    bits = int(found["bits"] or (8 if found["law"] else 32 if found["float"] else 64))
    return channels * (bits // 8)


def _tag_stop(packet: av.Packet[Any]) -> int:
    """Return where in the file the tag ends that a packet begins with; 0 if it begins with none."""
    size = tag_bytes(bytes(packet))
    if size and packet.pos is not None:
        return packet.pos + size
    return 0


def _frame_kind(frame: av.AudioFrame) -> tuple[int, int, str]:
    return frame.rate, frame.layout.nb_channels, frame.format.name


def _joined(frames: Iterable[av.AudioFrame]) -> Iterator[av.AudioFrame]:
    """Join frames of one kind (the FIFO does not check channels, and crashes) to frames of
    _BLOCK_SAMPLES."""
    fifo = av.AudioFifo()
    for frame in frames:
        frame.pts = None  # the FIFO refuses gaps
        fifo.write(frame)
        if fifo.samples >= _BLOCK_SAMPLES:
            yield from fifo.read_many(_BLOCK_SAMPLES)
    yield from fifo.read_many(_BLOCK_SAMPLES, partial=True)


def _mono(frame: av.AudioFrame) -> Samples:
    dtype, full_scale, zero = _SAMPLE_FORMATS[frame.format.name.removesuffix("p")]
    count = frame.layout.nb_channels
    # PyAV lists planes that are not there if there are eight channels or more.
    planes = [np.frombuffer(memoryview(plane), dtype) for plane in frame.planes[:count]]
    if frame.format.is_planar:
        return _downmix([plane[: frame.samples] for plane in planes], full_scale, zero)
    return _downmix(planes[0][: frame.samples * count].reshape(-1, count).T, full_scale, zero)


def _downmix(
    channels: Sequence[NDArray[Any]] | NDArray[Any], full_scale: float = 1.0, zero: float = 0.0
) -> Samples:
    """The mean of channels [C][n], as float32 with 1.0 at full scale.

    FFmpeg's own downmix is not the mean: its stereo comes out 3 dB louder. Here the LFE counts like
    any channel, as in the tools that made most data sets. Adding whole channels is faster than
    `np.mean` over their short axis.
    """
    with np.errstate(
        invalid="ignore", over="ignore"
    ):  # what is not finite is the caller's business
        mono = channels[0].astype(np.float32)
        for channel in channels[1:]:
            mono += channel.astype(np.float32, copy=False)
        if zero:
            mono -= zero * len(channels)
        mono *= 1 / (full_scale * len(channels))
    return mono


def _resample(blocks: Iterable[Samples], from_hz: int, to_hz: int) -> Iterator[Samples]:
    if from_hz == to_hz:
        yield from blocks
        return
    stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)
