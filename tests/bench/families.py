"""What the column `sound` costs by family of measures: `python families.py AUDIO`, as JSON, CPU s
an hour of audio.

Each family is measured on the same spectra, in the batches of the segment stage; the log-mel, which
is made in any case, is there to compare with. Of some rounds the least counts.
"""

import json
import sys
import time
from collections import Counter
from itertools import islice

import torch

from sssl.audio.cut import _batches
from sssl.audio.decode import Decoder
from sssl.audio.features import log_mel_and_spectra, long_power
from sssl.audio.mel import MelConfig
from sssl.audio.sound import measured

_ROUNDS, _BATCHES, _WARM_UP = 10, 20, 2


def costs(path):
    """Return the CPU seconds an hour of audio by family."""
    torch.set_num_threads(1)
    config = MelConfig()
    batches = [
        windows.copy()
        for _, windows in islice(_batches(Decoder(path, config.rate_hz).blocks(), config), _BATCHES)
    ]
    for batch in batches[:_WARM_UP]:
        _costs_of(batch, config)
    rounds = [
        sum((_costs_of(batch, config) for batch in batches), Counter()) for _ in range(_ROUNDS)
    ]
    hours = sum(map(len, batches)) * config.segment_s / 3600
    return {name: min(one[name] for one in rounds) / hours for name in rounds[0]}


def _costs_of(batch, config):
    """Return the CPU seconds of a batch by family, and of what they share."""
    spent = Counter()

    def timed(name, take):
        started_s = time.process_time()
        taken = take()
        spent[name] += time.process_time() - started_s
        return taken

    _, spectra = timed("log-mel", lambda: log_mel_and_spectra(batch, config))
    timed("shared", lambda: (spectra.magnitude, spectra.mel_db))
    for family, take in measured(spectra, long_power).items():
        timed(family, take)
    return spent


if __name__ == "__main__":
    json.dump(costs(sys.argv[1]), sys.stdout)
