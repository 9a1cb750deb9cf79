"""What a GPU does, measured in the order of what it is needed for."""

import sys
import tempfile

from gpu_material import random_model
from gpu_numbers import measure_full_cards, measure_numbers, score_some
from gpu_results import BARS, Results
from gpu_scoring import measure_on_card, measure_scoring
from gpu_training import cpu_epoch_s, measure_quality, measure_training, measure_variants

from sssl.model.ensemble import dump
from sssl.model.settings import TrainConfig
from sssl.runtime.device import describe


def run(args):
    with tempfile.TemporaryDirectory(prefix="sssl-gpu-", dir=args.folder) as root:
        results = Results(args.results)
        if args.score_some:
            score_some(*args.score_some)
        elif args.cpu_epoch:
            sys.stdout.write(f"{cpu_epoch_s(root)}\n")
        elif args.quality_cpu:
            measure_quality(results, root, "cpu", range(args.quality_cpu), 2)
        else:
            measure(results, root, args.only, args.parts, args.model)


def measure(results, root, only, parts, kept):
    results.tell("device", describe())
    data, beside = dump(random_model()), None
    if kept and kept.exists():
        data = kept.read_bytes()
    if "train" in only:
        with results.trying("train"):
            data, beside = measure_training(results, root)
            if kept:
                kept.write_bytes(data)
    if "variants" in only:
        with results.trying("variants"):
            measure_variants(results, root)
    if "card" in only:
        with results.trying("on the card"):
            measure_on_card(results, data)
    expected = None
    if "numbers" in only:
        with results.trying("numbers"):
            expected = measure_numbers(results, data)
    if "full" in only and expected is not None:
        measure_full_cards(results, root, data, expected)
    if "score" in only:
        measure_scoring(results, root, data, parts)
    if beside is not None:
        with results.trying("two cores"):
            an_epoch_s = float(beside.communicate()[0])
            gpu_s = results.of("train 20,000 segments, 12 epochs, 4 members, on the GPU, s")
            cpu_s = an_epoch_s * TrainConfig().epochs_of(0)
            results.tell("train 20,000 segments on two cores, s, from one epoch", cpu_s)
            results.tell("bar train", {"times": round(cpu_s / gpu_s, 1), "bar": BARS["train"]})
