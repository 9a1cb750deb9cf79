import librosa
import numpy as np
import pytest
import torch
import torchaudio

from sssl.audio.features import level_db, log_mel, log_mel_and_spectra, long_power
from sssl.audio.mel import MelConfig

CONFIG = MelConfig()


def noise(segments=3, seed=0):
    shape = (segments, CONFIG.segment_samples)
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


def test_log_mel_agrees_with_librosa_within_float16():
    wave = noise(1)
    power = librosa.feature.melspectrogram(
        y=wave[0],
        sr=CONFIG.rate_hz,
        n_fft=CONFIG.fft,
        hop_length=CONFIG.frame_hop,
        n_mels=CONFIG.mels,
        pad_mode="constant",
    )
    expected = 10 * np.log10(np.maximum(power, 1e-10))
    assert np.abs(log_mel(wave, CONFIG)[0].astype(np.float32) - expected).max() < 0.04


def test_the_shape_is_the_declared_one():
    for config in (CONFIG, MelConfig(segment_s=5.0, mels=96, frame_hop=256)):
        wave = np.zeros((2, config.segment_samples), np.float32)
        assert log_mel(wave, config).shape == (2, *config.shape)


def test_a_segment_s_mel_does_not_depend_on_its_neighbours():
    waves = noise(5)
    np.testing.assert_array_equal(log_mel(waves, CONFIG)[2], log_mel(waves[2:3], CONFIG)[0])


@pytest.mark.parametrize("config", [CONFIG, MelConfig(fft=1000, frame_hop=333, segment_s=0.05)])
def test_power_spectra_are_torchaudio_s(config):
    """Of an odd number of segments, some of which are transformed together."""
    waves = noise(5)[:, : config.segment_samples]
    _, spectra = log_mel_and_spectra(waves, config)
    for found, fft, hop, bins in (
        (spectra.power, config.fft, config.frame_hop, config.fft // 2 + 1),
        (long_power(spectra), config.long_fft, config.long_hop, config.long_bins),
    ):
        transform = torchaudio.transforms.Spectrogram(fft, hop_length=hop, pad_mode="constant")
        expected = transform(torch.from_numpy(waves)).numpy()[:, :bins].swapaxes(1, 2)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6 * expected.max())


def test_silence_is_finite():
    assert np.isfinite(log_mel(np.zeros((1, CONFIG.segment_samples), np.float32), CONFIG)).all()


def test_level_is_the_rms_level():
    t = np.arange(CONFIG.segment_samples) / CONFIG.rate_hz
    tone = np.sin(2 * np.pi * 440 * t, dtype=np.float32)[None]
    assert level_db(tone)[0] == pytest.approx(-3.01, abs=0.01)
    assert level_db(0 * tone)[0] == -100
