import csv
import json

import numpy as np
import pytest
import soundfile
from conftest import RATE_HZ, music

from pipelines.cli import main
from pipelines.commands.trials import _Meter
from sssl.store.folder import Store

CLASSES = ["--classes", "Q1", "Q2"]
TRACKS = 72
PRICES = """
currency = "EUR"
as_of = 2026-01-31
vcpu_hour = 3.0
gpu_hour = 5.0
storage_gib_month = 7.0
memory_gib_hour = 0.5
million_writes = 11.0
"""


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """Tracks of 3 to 12 s in two codecs, a fifth of them without a label, some broken."""
    folder, rng = tmp_path_factory.mktemp("music"), np.random.default_rng(1)
    rows = []
    for n in range(TRACKS):
        path = folder / f"t{n:03d}.{('wav', 'ogg')[n % 2]}"
        if n % 12:
            soundfile.write(path, music(("Q1", "Q2")[n % 2], rng.uniform(3.2, 12), seed=n), RATE_HZ)
        else:
            path.write_text("not music")
        rows.append((path.stem, path, ("Q1", "Q2")[n % 2] if n % 5 else ""))
    with (folder / "catalog.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("track_id", "uri", "label"), *rows])
    return str(folder / "catalog.csv")


def estimate(catalog, *flags):
    return main(
        [
            "estimate",
            "--catalog",
            catalog,
            "--tracks",
            "36",
            "--rounds",
            "1",
            *CLASSES,
            *map(str, flags),
        ]
    )


@pytest.fixture(scope="module")
def numbers(catalog, tmp_path_factory):
    folder = tmp_path_factory.mktemp("estimate")
    (folder / "prices.toml").write_text(PRICES)
    flags = ["--prices", folder / "prices.toml", "--json", folder / "estimate.json"]
    flags += ["--workers", "4", "--night", "12", "--worker-vcpus", "8", "--start-s", "180"]
    flags += ["--worker-memory-gib", "32", "--worker-disk-gib", "50", "--gpu-scores-per-s", "500"]
    assert estimate(catalog, *flags) == 0
    return json.loads((folder / "estimate.json").read_text())


def test_the_bytes_of_the_tables_lie_in_their_intervals(numbers, catalog, tmp_path):
    output = str(tmp_path / "out")
    assert main(["segment", "--catalog", catalog, "--output", output, *CLASSES]) == 0
    for manifest in Store.open(output).latest().manifests:
        predicted = numbers["table_bytes"][manifest.table]
        assert predicted["low"] <= manifest.bytes <= predicted["high"], manifest.table


def test_money_follows_from_hours_and_prices(numbers):
    cores = numbers["total"]["vcpu_h"]["value"]
    stored = sum(size["value"] for size in numbers["table_bytes"].values()) / (1 << 30)
    assert numbers["money"]["vCPUs"]["value"] == pytest.approx(3 * cores)
    assert numbers["money"]["storage a month"]["value"] == pytest.approx(7 * stored)
    assert (numbers["currency"], numbers["prices_as_of"]) == ("EUR", "2026-01-31")


def test_every_stage_takes_time_and_every_total_is_their_sum(numbers):
    stages = numbers["stages"]
    assert {
        "segment",
        "relabel",
        "train",
        "score",
        "judge",
        "songs",
        "report",
        "start",
    } == stages.keys()
    assert stages["segment"]["cpu_h"]["value"] > 0
    for name, total in numbers["total"].items():
        assert total["value"] == pytest.approx(
            sum(stage[name]["value"] for stage in stages.values())
        )
        assert total["low"] <= total["high"]


def test_workers_share_what_the_engine_runs_and_training_stays_on_one_machine(numbers):
    shared = {
        name: stage["vcpu_h"]["value"] / stage["wall_h"]["value"]
        for name, stage in numbers["stages"].items()
    }
    assert shared["segment"] == pytest.approx(4 * shared["train"])


def test_memory_disks_requests_and_shuffles_are_estimated_and_paid_for_where_they_have_a_price(
    numbers,
):
    total, traffic, money = numbers["total"], numbers["traffic"], numbers["money"]
    assert total["memory_gib_h"]["value"] == pytest.approx(total["vcpu_h"]["value"] * 32 / 8)
    assert total["disk_gib_h"]["value"] == pytest.approx(total["vcpu_h"]["value"] * 50 / 8)
    assert money["memory"]["value"] == pytest.approx(0.5 * total["memory_gib_h"]["value"])
    assert money["writes"]["value"] == pytest.approx(11e-6 * traffic["writes"]["value"])
    assert set(money) == {"vCPUs", "GPUs", "storage a month", "memory", "writes"}
    assert traffic["reads"]["value"] > 2 * TRACKS
    assert traffic["shuffle_bytes"]["value"] > 0


def test_every_job_takes_its_time_to_start(numbers):
    starts_h = {"segment": 180 / 3600, "relabel": 2 * 180 / 3600, "songs": 180 / 3600}
    for stage, least_h in starts_h.items():
        assert numbers["stages"][stage]["wall_h"]["value"] > least_h


def test_a_gpu_is_estimated_on_a_machine_without_one_by_what_it_does_in_a_second(numbers):
    score = numbers["stages"]["score"]
    assert score["gpu_h"]["value"] == pytest.approx(score["vcpu_h"]["value"] / 8)
    assert numbers["money"]["GPUs"]["value"] == pytest.approx(5 * score["gpu_h"]["value"])
    assert numbers["stages"]["segment"]["gpu_h"]["value"] == 0


def test_a_usual_night_costs_less_than_the_first_run_and_trains_nothing(numbers):
    night = numbers["usual_night"]
    assert set(night["stages"]) == set(numbers["stages"]) - {"train"}
    assert night["total"]["cpu_h"]["value"] < numbers["total"]["cpu_h"]["value"]
    for stage in ("segment", "relabel", "songs"):
        one, other = (each["stages"][stage]["cpu_h"]["value"] for each in (night, numbers))
        assert one < other, stage


def test_what_a_stage_writes_reads_and_shuffles_is_metered(catalog, tmp_path):
    store = Store.open(str(tmp_path / "out"), create=True)
    meter = _Meter(store)
    segmented = ["segment", "--catalog", catalog, "--output", store.root, *CLASSES]
    with meter.of("segment"):
        assert main([*segmented, "--tracks-per-part", "12", "--max-error-ratio", "1"]) == 0
    before = {"latest.json", "sssl.json"}
    files = [path for path in store.find("") if path not in before]
    assert meter.writes == {"segment": len(files)}
    parts = store.latest().catalog.parts
    assert meter.reads["segment"] >= parts  # each reads its rows of the catalog
    receipts = [path for path in files if path.startswith("_receipts") and path.endswith(".json")]
    assert len(receipts) == parts
    assert meter.shuffle_bytes["segment"] == 2 * sum(map(len, map(store.read_bytes, receipts)))


def test_a_sample_too_small_to_train_on_is_refused(catalog, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["estimate", "--catalog", catalog, "--tracks", "20", *CLASSES])
    assert "--tracks 20: expected 24 or more with these classes" in capsys.readouterr().err


def test_more_tracks_than_there_are_is_refused(catalog, capsys):
    assert main(["estimate", "--catalog", catalog, "--tracks", "100", *CLASSES]) == 1
    assert "the catalog has 72 tracks, fewer than --tracks 100" in capsys.readouterr().err


def test_a_wrong_price_file_is_misuse_and_nothing_is_tried(catalog, tmp_path, capsys):
    (tmp_path / "prices.toml").write_text("vcpu_hour = 1")
    assert (
        estimate(catalog, "--prices", tmp_path / "prices.toml", "--output", tmp_path / "out") == 2
    )
    assert "expected exactly as_of, currency" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", ["nowhere/estimate.json", "."])
def test_a_result_that_could_not_be_written_is_misuse_and_nothing_is_tried(
    path, catalog, tmp_path, capsys
):
    with pytest.raises(SystemExit, match="2"):
        estimate(catalog, "--json", tmp_path / path)
    assert "expected a file in a folder that exists" in capsys.readouterr().err


def test_trials_of_an_earlier_estimate_are_not_taken_for_new_ones(catalog, tmp_path, capsys):
    (tmp_path / "out" / "0").mkdir(parents=True)
    (tmp_path / "out" / "0" / "sssl.json").write_text("{}")
    assert estimate(catalog, "--output", tmp_path / "out") == 1
    assert "has the trials of an earlier estimate" in capsys.readouterr().err
