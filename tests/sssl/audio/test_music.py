"""What the numbers of the column `sound` say of sounds that one knows, and that they are
librosa's."""

from dataclasses import replace

import librosa
import numpy as np
import pytest

from sssl.audio.features import log_mel_and_spectra, long_power
from sssl.audio.mel import MelConfig
from sssl.audio.sound import MEASURES, SOUND_NAMES, describe
from sssl.audio.texture import _median_of_nine
from sssl.audio.timbre import timbre
from sssl.audio.tonality import _dissonance, _roughness, tonality

CONFIG = MelConfig()
RATE_HZ, LENGTH = CONFIG.rate_hz, CONFIG.segment_samples
T_S = np.arange(LENGTH) / RATE_HZ


def noise(segments=1, seed=0, scale=0.1):
    return (scale * np.random.default_rng(seed).standard_normal((segments, LENGTH))).astype(
        np.float32
    )


def tone(hz, partials=6, level=0.1):
    """A tone with partials; `hz` may change over the samples."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(hz, LENGTH)) / RATE_HZ
    return sum(level / k * np.sin(k * phase) for k in range(1, partials + 1)).astype(np.float32)


def chord(*semitones, root_hz=261.63):
    return sum(tone(root_hz * 2 ** (k / 12)) for k in semitones)


def clicks(bpm):
    wave = np.zeros(LENGTH, np.float32)
    burst = noise(seed=1, scale=0.3)[0, :400] * np.hanning(800)[400:]
    for start in np.arange(0.1, 2.9, 60 / bpm) * RATE_HZ:
        wave[round(start) : round(start) + 400] = burst
    return wave + noise(scale=1e-4)[0]


def described(*waves, config=CONFIG):
    """Return what one wave, or each of several, sounds like, by name."""
    _, spectra = log_mel_and_spectra(np.stack(waves), config)
    values = describe(spectra, long_power)
    return dict(zip(SOUND_NAMES, values[0] if len(waves) == 1 else values.T, strict=True))


@pytest.fixture(scope="module")
def music():
    """A segment in which something happens: a melody, a beat and noise."""
    melody = np.repeat([262, 330, 392, 523, 440, 349], LENGTH // 6)
    return tone(melody) + clicks(110) + noise(scale=0.01)[0]


@pytest.fixture(scope="module")
def measured(music):
    return described(music)


@pytest.fixture(scope="module")
def spectrum(music):
    return np.abs(
        librosa.stft(music, n_fft=CONFIG.fft, hop_length=CONFIG.frame_hop, pad_mode="constant")
    )


def agrees(measured, name, expected, **tolerance):
    """Whether mean, deviation and step are those of librosa's values by frame."""
    found = [measured[f"{name}.{statistic}"] for statistic in ("mean", "std", "step")]
    wanted = [expected.mean(), expected.std(), np.abs(np.diff(expected)).mean()]
    np.testing.assert_allclose(found, wanted, **{"rtol": 1e-3, "atol": 1e-5} | tolerance)


def test_cepstral_coefficients_are_librosa_s(measured, music):
    power = librosa.feature.melspectrogram(
        y=music,
        sr=RATE_HZ,
        n_fft=CONFIG.fft,
        hop_length=CONFIG.frame_hop,
        n_mels=CONFIG.mels,
        pad_mode="constant",
    )
    expected = librosa.feature.mfcc(S=librosa.power_to_db(power, top_db=80), n_mfcc=20)
    for k in (1, 7, 19):
        agrees(measured, f"timbre.mfcc_{k:02}", expected[k], rtol=5e-3)


@pytest.mark.parametrize(
    ("name", "of", "scale"),
    [
        ("centroid", librosa.feature.spectral_centroid, 1e-3),
        ("spread", librosa.feature.spectral_bandwidth, 1e-3),
        ("roll_off", librosa.feature.spectral_rolloff, 1e-3),
    ],
)
def test_the_shape_of_the_spectrum_is_librosa_s(name, of, scale, measured, spectrum):
    agrees(measured, f"timbre.{name}", scale * of(S=spectrum, sr=RATE_HZ)[0])


def test_flatness_is_librosa_s(measured, spectrum):
    agrees(
        measured,
        "timbre.flatness",
        np.log(librosa.feature.spectral_flatness(S=spectrum / spectrum.max())[0]),
    )


def test_contrast_is_librosa_s(measured, spectrum):
    """librosa takes what it is given for power, so its dB count twice. Its bands end a bin later
    than ours."""
    expected = 2 * librosa.feature.spectral_contrast(
        S=spectrum[:, ::2] / spectrum.max(), sr=RATE_HZ, n_bands=5
    ).mean(axis=1)
    found = [measured[f"timbre.contrast_{k}.mean"] for k in range(5)]
    np.testing.assert_allclose(found, expected[:5], atol=1)


def test_zero_crossings_are_librosa_s(measured, music):
    frames = music[1 : 1 + (LENGTH - 1) // CONFIG.frame_hop * CONFIG.frame_hop]
    share = librosa.zero_crossings(frames, pad=False).mean()
    assert measured["timbre.zero_crossings.mean"] == pytest.approx(share, abs=1e-4)


def test_onset_strength_is_librosa_s(measured, music):
    power = librosa.feature.melspectrogram(
        y=music,
        sr=RATE_HZ,
        n_fft=CONFIG.fft,
        hop_length=CONFIG.frame_hop,
        n_mels=CONFIG.mels,
        pad_mode="constant",
    )
    strength = librosa.onset.onset_strength(
        S=librosa.power_to_db(power, top_db=80), sr=RATE_HZ, center=False
    )
    assert measured["rhythm.onset_mean"] == pytest.approx(strength.mean(), rel=1e-3)
    assert measured["rhythm.onset_std"] == pytest.approx(strength.std(), rel=1e-3)


@pytest.fixture(scope="module")
def chroma(music):
    spectrum = librosa.stft(
        music, n_fft=CONFIG.long_fft, hop_length=CONFIG.long_hop, pad_mode="constant"
    )
    spectrum[CONFIG.long_bins :] = 0
    return librosa.feature.chroma_stft(
        S=np.abs(spectrum) ** 2, sr=RATE_HZ, n_fft=CONFIG.long_fft, tuning=0.0
    )


def test_chroma_and_its_change_are_librosa_s(measured, chroma):
    assert measured["tonality.chroma_step"] == pytest.approx(
        np.abs(np.diff(chroma)).mean(), rel=1e-3
    )
    mean = chroma.mean(axis=1) / chroma.mean(axis=1).sum()
    assert measured["tonality.chroma_entropy"] == pytest.approx(
        -(mean * np.log(mean)).sum(), rel=1e-3
    )


def test_the_tonal_centroid_is_librosa_s(measured, chroma):
    centroid = librosa.feature.tonnetz(chroma=chroma, sr=RATE_HZ)
    radii = np.linalg.norm(centroid.reshape(3, 2, -1), axis=1).mean(axis=1)
    found = [
        measured[f"tonality.circle_{name}"] for name in ("fifths", "minor_thirds", "major_thirds")
    ]
    np.testing.assert_allclose(found, radii, rtol=1e-3)


def test_the_harmonic_share_is_near_librosa_s(measured, music):
    """Medians of medians of nine mel bands against medians of nine mel bands."""
    power = librosa.feature.melspectrogram(
        y=music,
        sr=RATE_HZ,
        n_fft=CONFIG.fft,
        hop_length=CONFIG.frame_hop,
        n_mels=CONFIG.mels,
        pad_mode="constant",
    )
    harmonic, _ = librosa.decompose.hpss(np.sqrt(power), kernel_size=9, mask=True)
    assert measured["texture.harmonic_share"] == pytest.approx(
        (power * harmonic).sum() / power.sum(), abs=0.03
    )


@pytest.mark.parametrize("root", [0, 2, 7, 9])
def test_a_minor_chord_is_minor_and_a_major_chord_is_major(root):
    major, minor = described(*(chord(root, root + third, root + 7) for third in (4, 3)))[
        "tonality.mode"
    ]
    assert major > 0.05
    assert minor < -0.05


def test_a_chord_is_clearer_in_key_than_a_cluster_and_than_noise():
    clarity = described(chord(0, 4, 7), chord(0, 1, 2, 3, 4, 5), noise()[0])["tonality.key_clarity"]
    assert clarity[0] > max(clarity[1:]) + 0.1


def test_a_minor_second_is_rougher_than_a_fifth():
    second, fifth = described(chord(0, 1), chord(0, 7))["tonality.roughness.mean"]
    assert second > 1.5 * fifth


def test_intervals_are_told_in_every_key_alike():
    found = described(chord(0, 4, 7), chord(5, 9, 12))
    for interval in range(1, 7):
        one, other = found[f"tonality.interval_{interval}"]
        assert one == pytest.approx(other, abs=0.1)


@pytest.mark.parametrize("bpm", [80, 100, 120, 150])
def test_a_click_track_has_its_tempo(bpm):
    found = described(clicks(bpm))
    assert 120 * 2 ** found["rhythm.tempo"] == pytest.approx(bpm, rel=0.04)
    assert found["rhythm.onset_rate"] == pytest.approx(bpm / 60, abs=0.4)


def test_clicks_have_a_clearer_pulse_than_noise():
    pulse = described(clicks(120), noise()[0])["rhythm.pulse_clarity"]
    assert pulse[0] > 2 * pulse[1]


def test_vibrato_is_found_with_its_extent():
    swing = 2 ** (50 / 1200 * np.sin(2 * np.pi * 6 * T_S))
    found = described(tone(440 * swing), tone(np.full(LENGTH, 440.0)))
    assert found["texture.vibrato"].tolist() == [pytest.approx(1, abs=0.1), 0]
    # A window of 64 ms smooths a swing of 167 ms.
    assert 30 < found["texture.vibrato_extent"][0] < 55
    assert found["texture.vibrato_extent"][1] < 3


def test_tremolo_is_found_and_is_no_vibrato():
    swing = 1 + 0.5 * np.sin(2 * np.pi * 6 * T_S, dtype=np.float32)
    found = described(swing * tone(440), tone(440))
    assert found["texture.tremolo"][0] > 5 * found["texture.tremolo"][1]
    assert found["texture.vibrato"][0] == 0


@pytest.mark.parametrize("hz", [110, 220, 440, 880])
def test_a_tone_has_its_pitch(hz):
    found = described(tone(hz))
    assert 82.41 * 2 ** found["texture.pitch.mean"] == pytest.approx(hz, rel=0.02)
    assert found["texture.pitch_steady"] == 1


def test_more_voices_are_more_layers():
    one, three = described(tone(220), tone(220) + tone(311) + tone(587))["texture.layers.mean"]
    assert three > one


def test_tones_are_harmonic_and_clicks_are_not():
    share = described(tone(440), clicks(120))["texture.harmonic_share"]
    assert share[0] > 0.9
    assert share[1] < 0.3


def test_a_crescendo_has_more_range_than_an_even_tone():
    found = described(tone(440) * np.linspace(0.05, 1, LENGTH, dtype=np.float32), tone(440))
    assert found["dynamics.range"][0] > 10
    assert found["dynamics.range"][1] < 1


def test_a_sine_has_the_crest_of_a_sine():
    found = described(tone(440, partials=1, level=0.5))
    assert found["dynamics.crest"] == pytest.approx(3.01, abs=0.05)
    assert found["dynamics.level"] == pytest.approx(20 * np.log10(0.5) - 3.01, abs=0.05)


def test_the_gain_changes_nothing_but_the_level(music):
    soft, loud = (described(np.float32(gain) * music) for gain in (0.01, 1.0))
    changed = {
        name for name in SOUND_NAMES if abs(soft[name] - loud[name]) > 1e-3 + 1e-3 * abs(loud[name])
    }
    assert changed == {"dynamics.level"}
    assert loud["dynamics.level"] - soft["dynamics.level"] == pytest.approx(40, abs=0.01)


SHAPES = [
    CONFIG,
    replace(CONFIG, segment_s=0.05),
    replace(CONFIG, segment_s=0.4, mels=5),
    replace(CONFIG, mels=1),
    replace(CONFIG, rate_hz=8000, fft=256, frame_hop=256, segment_s=1.0),
    replace(CONFIG, rate_hz=44_100, fft=2048, mels=128),
    replace(CONFIG, frame_hop=1024, segment_s=10.0),
]


@pytest.mark.parametrize("config", SHAPES, ids=str)
def test_silence_noise_and_a_single_click_give_finite_numbers(config):
    size = config.segment_samples
    click = np.eye(1, size, size // 2)
    waves = np.concatenate(
        [
            np.zeros((1, size)),
            np.random.default_rng(0).normal(0, 0.1, (1, size)),
            click,
            0 * click + 1,
        ]
    )
    _, spectra = log_mel_and_spectra(waves.astype(np.float32), config)
    values = describe(spectra, long_power)
    assert values.shape == (4, len(SOUND_NAMES))
    assert np.isfinite(values).all()


@pytest.mark.parametrize("at_once", [1, 2, 3, 8])
def test_a_segment_s_numbers_do_not_depend_on_its_neighbours(at_once, music):
    waves = np.concatenate([noise(5), music[None], noise(2, seed=7)])
    _, spectra = log_mel_and_spectra(waves, CONFIG)
    together = describe(spectra, long_power)
    apart = []
    for first in range(0, len(waves), at_once):
        _, spectra = log_mel_and_spectra(waves[first : first + at_once], CONFIG)
        apart.append(describe(spectra, long_power))
    assert np.concatenate(apart).tobytes() == together.tobytes()


def test_each_family_has_the_numbers_that_it_names(music):
    _, spectra = log_mel_and_spectra(music[None], CONFIG)
    for family, values in (
        ("timbre", timbre(spectra)),
        ("tonality", tonality(long_power(spectra), CONFIG)),
    ):
        assert values.keys() == {measure.name for measure in MEASURES[family]}
        for measure in MEASURES[family]:
            assert values[measure.name].size == len(measure.names(family))
    assert len(set(SOUND_NAMES)) == len(SOUND_NAMES)


@pytest.mark.parametrize("axis", [1, 2])
def test_medians_are_of_neighbours_along_their_axis_alone(axis):
    values = np.random.default_rng(0).normal(size=(2, 11, 7)).astype(np.float32)
    padded = np.moveaxis(values, axis, 0)
    padded = np.pad(padded, [(4, 4), (0, 0), (0, 0)], mode="edge")
    threes = [np.median(padded[k : k + 3], axis=0) for k in range(len(padded) - 2)]
    nines = [np.median(threes[k : k + 7 : 3], axis=0) for k in range(len(threes) - 6)]
    np.testing.assert_array_equal(_median_of_nine(values, axis), np.moveaxis(nines, 0, axis))


def test_roughness_is_of_all_pairs_of_partials():
    partials = np.random.default_rng(0).random((2, 3, 250)).astype(np.float32)
    pairs = np.einsum("ntf,fg,ntg->nt", partials, _dissonance(250, CONFIG), partials)
    energy = (partials**2).sum(axis=2)
    np.testing.assert_allclose(_roughness(partials, CONFIG), pairs / energy, rtol=1e-5)
