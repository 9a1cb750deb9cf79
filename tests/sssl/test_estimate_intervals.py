from dataclasses import asdict

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from sssl.errors import ConfigError
from sssl.estimate import (
    Estimate,
    Interval,
    Outlook,
    Prices,
    StageTime,
    Traffic,
    Trials,
    Wanted,
    Work,
    read_prices,
)

RUN, PART, UNIT = COSTS = (2.0, 0.1, 0.005)
DESIGN = [
    Work(1, 1, 200),
    Work(1, 1, 220),
    Work(1, 1, 180),
    Work(1, 1, 210),
    Work(1, 1, 400),
    Work(1, 12, 800),
]
PRICES = """
currency = "EUR"
as_of = 2026-11-21
vcpu_hour = 0.05
gpu_hour = 0.5
storage_gib_month = 0.02
"""


def cost(work):
    return work.runs * RUN + work.parts * PART + work.units * UNIT


def trials(noise=0.0, seed=0):
    errors = np.random.default_rng(seed).normal(1, noise, len(DESIGN))
    return Trials.of(
        [(work, cost(work) * error) for work, error in zip(DESIGN, errors, strict=True)]
    )


def outlook(spread=0.0, seed=0):
    sample = np.random.default_rng(seed).normal(80, spread, 96)
    return Outlook(tracks=1000, parts=32, sample={"segments": sample})


def write(path, text):
    path.write_text(text)
    return str(path)


def test_costs_of_a_run_a_part_and_a_unit_are_told_apart():
    np.testing.assert_allclose(trials().fit(), COSTS, rtol=1e-6)


def test_no_cost_is_below_zero():
    falling = Trials.of([(Work(1, 1, 100), 5.0), (Work(1, 1, 200), 4.0), (Work(1, 12, 400), 3.0)])
    assert (falling.fit() >= 0).all()


def test_without_noise_the_prediction_is_the_sum_and_the_interval_a_few_per_cent():
    draws = outlook().predict({"score": trials()}, {"score": Wanted(2, "segments", 2)})["score"]
    expected = 2 * (RUN + 32 * PART) + 2 * 1000 * 80 * UNIT
    found = Interval.of(draws)
    assert found.value == pytest.approx(expected)
    assert 0.94 * expected < found.low < expected < found.high < 1.06 * expected


def test_a_stage_that_does_not_run_costs_nothing():
    draws = outlook().predict({"score": trials()}, {"score": Wanted(0, "segments", 0)})["score"]
    assert not draws.any()


def test_tracks_of_unequal_length_widen_the_interval():
    wanted = {"segment": Wanted(1, "segments", 1)}
    equal, unequal = (
        Interval.of(outlook(spread).predict({"segment": trials()}, wanted)["segment"])
        for spread in (1, 60)
    )
    assert unequal.high - unequal.low > 2 * (equal.high - equal.low)


def test_draws_of_the_same_tracks_add_up():
    """A draw with long tracks has them wherever it counts what tracks have."""
    of_tracks, wanted = outlook(60), Wanted(1, "segments", 1)
    took = of_tracks.predict({"score": trials()}, {"score": wanted})["score"]
    assert np.corrcoef(took[1:], of_tracks.units(wanted)[1:])[0, 1] > 0.9


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    wanted, hits = {"score": Wanted(1, "segments", 1)}, 0
    for seed in range(60):
        rng = np.random.default_rng(1000 + seed)
        found = Interval.of(
            outlook(20, seed).predict({"score": trials(0.05, seed)}, wanted)["score"]
        )
        actual = (RUN + 32 * PART + rng.normal(80, 20, 1000).sum() * UNIT) * rng.normal(1, 0.05)
        hits += found.low <= actual <= found.high
    assert hits >= 55


def test_errors_of_a_few_trials_are_widened_by_student_s_t():
    tried = trials(0.1)
    costs = tried.fit()
    errors = tried.took / (tried.work @ costs) - 1
    free = len(DESIGN) - np.count_nonzero(costs)
    assert 0 < free < len(DESIGN)
    wider = np.sqrt(len(DESIGN) / free) * student.ppf(0.975, free) / norm.ppf(0.975)
    np.testing.assert_allclose(tried.relative_errors(), wider * errors, rtol=1e-12)


def test_stages_that_err_alike_do_not_even_out():
    same = {name: trials(0.1) for name in ("score", "songs")}
    draws = outlook().predict(same, {name: Wanted(1, "segments", 1) for name in same})
    np.testing.assert_allclose(draws["score"], draws["songs"])


def hours(wall_h, **machine):
    return StageTime(wall_s=np.array([wall_h] * 3) * 3600, cpu_s=np.array([1.0] * 3), **machine)


def test_money_is_hours_times_price():
    prices = read_prices(None)
    stages = {"segment": hours(10, cores=2), "score": hours(3, cores=2, gpus=1)}
    stored, none = {"segments": np.full(3, 5.0 * (1 << 30))}, np.zeros(3)
    money = Estimate(stages, stored, Traffic(none, none, none)).money(prices)
    assert money["vCPUs"][0] == pytest.approx(26 * prices.vcpu_hour)
    assert money["GPUs"][0] == pytest.approx(3 * prices.gpu_hour)
    assert money["storage a month"][0] == pytest.approx(5 * prices.storage_gib_month)


def test_more_workers_shorten_the_wait_and_not_the_bill():
    one, four = hours(8, cores=2), hours(8, cores=2, workers=4)
    assert four.wall_h[0] == one.wall_h[0] / 4
    assert four.vcpu_h[0] == one.vcpu_h[0]


def test_prices_are_read_from_a_file(tmp_path):
    assert asdict(read_prices(write(tmp_path / "p.toml", PRICES)))["vcpu_hour"] == 0.05
    assert isinstance(read_prices(None), Prices)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PRICES + "tpu_hour = 1", "tpu_hour"),
        (
            PRICES.replace("gpu_hour = 0.5\n", ""),
            "expected exactly as_of, currency, gpu_hour.*see gpu_hour",
        ),
        (
            PRICES.replace("= 0.05", '= "cheap"'),
            "expected vcpu_hour as a number, 0 or more, not 'cheap'",
        ),
        (PRICES.replace("= 0.05", "= -1"), "expected vcpu_hour as a number, 0 or more, not -1"),
        (PRICES.replace("= 0.05", "= nan"), "expected vcpu_hour as a number"),
        (PRICES.replace("2026-11-21", '"soon"'), "expected as_of as a date"),
        (PRICES.replace('"EUR"', "7"), "expected currency as text"),
        ("vcpu_hour: 1", "expected a TOML file like sssl/prices.toml"),
    ],
)
def test_a_wrong_price_file_is_refused_with_what_was_expected(text, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        read_prices(write(tmp_path / "p.toml", text))


def test_a_price_file_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"No such file.*expected a TOML file"):
        read_prices("/nowhere/prices.toml")
