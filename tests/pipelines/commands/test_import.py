import shlex
from pathlib import Path

import pandas as pd
import pytest
import tyro
from audio_files import tone, write_audio
from data_sets import MAKERS, make_4q, make_emomusic, make_pmemo

from pipelines.cli import main
from pipelines.commands.run_settings import Config as RunConfig
from pipelines.terminal.flags import parse
from sssl.catalog.assign import CatalogConfig
from sssl.catalog.committed import rows_of
from sssl.catalog.read import read_catalog
from sssl.evaluate.sections import true_labels
from sssl.store.folder import Store


def with_audio(root):
    """Encode the set's files, in the mixed rates and lengths of 4Q."""
    kinds = [(44_100, 2, 20.0), (16_000, 1, 10.0), (22_050, 1, 20.0)]
    for n, path in enumerate(sorted(root.rglob("*.mp3"))):
        rate_hz, channels, seconds = kinds[n % 3]
        write_audio(
            path, tone(seconds, hz=220 + 55 * n, rate_hz=rate_hz, channels=channels), rate_hz
        )
    return root


def segmented(catalog, output, *flags):
    assert main(["segment", "--catalog", str(catalog), "--output", str(output), *flags]) == 0
    store = Store.open(str(output))
    return store, store.latest()


def printed_command(capsys):
    return shlex.split(capsys.readouterr().out.strip().splitlines()[-1])


@pytest.mark.parametrize("name", MAKERS)
def test_an_imported_set_is_segmented_and_every_track_is_in_the_ledger(name, tmp_path):
    root, catalog = with_audio(MAKERS[name](tmp_path)), tmp_path / "out" / f"{name}.csv"
    assert main(["import", name, str(root), "--catalog", str(catalog)]) == 0
    store, snapshot = segmented(catalog, tmp_path / "o")
    ledger = store.read_table(snapshot.get("ledger")).to_pandas().set_index("track_id")
    rows = pd.read_csv(catalog, dtype=str).set_index("track_id")
    assert set(ledger.index) == set(rows.index)
    there = rows["uri"].map(lambda uri: Path(uri).exists())
    assert set(ledger["status"][there[ledger.index]]) == {"ok"}
    assert set(ledger["reason"][~there[ledger.index]]) <= {"missing"}


def test_a_missing_file_is_missing_in_the_ledger_and_an_unannotated_one_has_segments_and_no_label(
    tmp_path, capsys
):
    root, catalog = with_audio(make_4q(tmp_path)), tmp_path / "4q.csv"
    assert main(["import", "4q", str(root), "--catalog", str(catalog)]) == 0
    told = capsys.readouterr().out
    assert "1 not annotated, 0 at a midpoint" in told
    assert "1 annotated tracks; the run's ledger will list them as missing" in told
    store, snapshot = segmented(catalog, tmp_path / "o")
    ledger = {row["track_id"]: row for row in store.read_table(snapshot.get("ledger")).to_pylist()}
    assert ledger["MT0000000003"]["reason"] == "missing"
    assert ledger["MT0000000005"]["segments"] > 0
    labels = {
        row.track_id: row.label
        for row in rows_of(read_catalog(str(catalog), None, CatalogConfig()))
    }
    assert labels["MT0000000003"] == "Q3"
    assert labels["MT0000000005"] is None


def test_sections_fit_the_segments_they_are_the_truth_of(tmp_path):
    root, catalog = with_audio(make_pmemo(tmp_path)), tmp_path / "pmemo.csv"
    assert main(["import", "pmemo", str(root), "--catalog", str(catalog)]) == 0
    store, snapshot = segmented(catalog, tmp_path / "o", "--segment-s", "1", "--hop-s", "1")
    rows = store.read_table(snapshot.get("segments"), ["track_id", "start_s"]).to_pandas()
    sections = pd.read_csv(tmp_path / "truth-pmemo.csv", dtype={"track_id": str})
    named = rows.assign(true_label=true_labels(rows, sections, 1.0)).dropna()
    assert [tuple(row) for row in named.to_numpy()] == [
        ("1", 14.0, "Q1"),
        ("1", 15.0, "Q2"),
        ("1", 16.0, "Q2"),
    ]


@pytest.mark.parametrize(
    ("name", "task"),
    [
        *((name, task) for name in MAKERS for task in ("quadrant", "valence", "arousal")),
        *((name, "valence-arousal") for name in MAKERS if name != "4q"),
    ],
)
def test_the_printed_command_is_one_that_runs(name, task, tmp_path, capsys):
    catalog = tmp_path / "with blank.csv"
    assert (
        main(
            ["import", name, str(MAKERS[name](tmp_path)), "--catalog", str(catalog), "--task", task]
        )
        == 0
    )
    program, command, *flags = printed_command(capsys)
    assert (program, command) == ("sssl", "run")
    config = parse(RunConfig, flags, "run", catalog=tyro.MISSING, output=tyro.MISSING)
    rows = rows_of(read_catalog(config.catalog, config.labels, config.segment.deal))
    assert {row.label for row in rows} - {None} <= set(config.segment.deal.classes)
    has_numbers = any(row.valence is not None for row in rows)
    assert has_numbers == (task == "valence-arousal")
    assert (config.truth is None) == (name == "4q")
    assert config.truth is None or set(pd.read_csv(config.truth)["true_label"]) <= set(
        config.segment.deal.classes
    )


def test_the_split_of_the_set_is_the_split_of_the_run(tmp_path, capsys):
    catalog = tmp_path / "c.csv"
    assert (
        main(["import", "emomusic", str(make_emomusic(tmp_path)), "--catalog", str(catalog)]) == 0
    )
    told = capsys.readouterr().out
    assert "train 3, test 2" in told
    assert "never train on one" in told
    rows = rows_of(read_catalog(str(catalog), None, CatalogConfig()))
    assert {row.track_id: row.split for row in rows} == {
        "2": "train",
        "3": "train",
        "4": "train",
        "5": "test",
        "7": None,
    }


def test_truth_goes_where_it_is_asked_to(tmp_path, capsys):
    root, truth = make_pmemo(tmp_path), tmp_path / "new" / "sections.csv"
    assert (
        main(
            [
                "import",
                "pmemo",
                str(root),
                "--catalog",
                str(tmp_path / "c.csv"),
                "--truth",
                str(truth),
            ]
        )
        == 0
    )
    assert pd.read_csv(truth).columns.tolist() == ["track_id", "start_s", "end_s", "true_label"]
    assert str(truth) in printed_command(capsys)
    assert sorted(path.name for path in tmp_path.glob("*.csv*")) == ["c.csv"]


def test_an_import_repeats_byte_by_byte(tmp_path):
    root, files = MAKERS["deam"](tmp_path), [tmp_path / "c.csv", tmp_path / "truth-c.csv"]
    versions = []
    for _ in range(2):
        assert main(["import", "deam", str(root), "--catalog", str(files[0])]) == 0
        versions.append([file.read_bytes() for file in files])
    assert versions[0] == versions[1]


@pytest.mark.parametrize(
    ("catalog", "source", "message"),
    [
        ("c.parquet", ".", "expected a name that ends in .csv"),
        ("c.csv", "nowhere", "expected chorus in it or below"),
        ("file/c.csv", ".", "cannot write"),
    ],
)
def test_what_cannot_be_imported_ends_with_its_reason(catalog, source, message, tmp_path, capsys):
    make_pmemo(tmp_path)
    (tmp_path / "file").touch()
    assert (
        main(["import", "pmemo", str(tmp_path / source), "--catalog", str(tmp_path / catalog)]) == 1
    )
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / catalog).exists()


def test_an_unknown_set_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["import", "emopia", str(tmp_path), "--catalog", str(tmp_path / "c.csv")])
    assert stop.value.code == 2
    assert "emopia" in capsys.readouterr().err
