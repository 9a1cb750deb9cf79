import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import FAST

from pipelines.cli import COMMANDS, main, module_of
from pipelines.launch import flags_of
from sssl.store.folder import Store
from sssl.version import __version__

ROW = "track_id,uri,label\n{id},{uri},{label}\n"


def run(args):
    try:
        return main(args)
    except SystemExit as stop:
        return stop.code


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_flag(command, capsys):
    assert run([command, "--help"]) == 0
    text = capsys.readouterr().out
    flags = [line for line in text.splitlines() if line.lstrip("│ ").startswith("--")]
    assert flags
    assert module_of(command).Config.__doc__.split(".")[0].split()[0] in text


@pytest.mark.parametrize(
    "command", ["run", "segment", "relabel", "train", "score", "judge", "songs"]
)
def test_help_says_the_default_and_meaning_of_each_flag(command, capsys):
    """A flag without a doc would show as its bare name and default."""
    run([command, "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    flags = list(flags_of(module_of(command).Config))
    assert flags
    for flag in flags:
        name = flag.name.replace("_", "-")
        assert flag.doc
        assert f"--{name}" in text or f"--no-{name}" in text


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert (end.value.code, capsys.readouterr().out) == (0, f"sssl {__version__}\n")


def test_a_misspelt_flag_is_refused(tmp_path, capsys):
    assert run(["run", "--catalog", "c.csv", "--output", str(tmp_path / "o"), "--ruonds", "3"]) == 2
    assert "ruonds" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_misspelt_beam_flag_is_refused(tmp_path, capsys):
    assert (
        run(
            [
                "run",
                "--catalog",
                "c.csv",
                "--output",
                str(tmp_path / "o"),
                "--",
                "--runer=FlinkRunner",
            ]
        )
        == 2
    )
    assert "--runer" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_an_abbreviated_beam_flag_is_refused(tmp_path, capsys):
    assert (
        run(["segment", "--catalog", "c.csv", "--output", str(tmp_path / "o"), "--", "--projec=x"])
        == 2
    )


def test_an_unknown_command_is_refused(capsys):
    assert run(["labl"]) == 2


def test_an_unknown_preset_is_refused(capsys):
    assert run(["train", "--output", "o", "--round", "0", "--preset", "bold"]) == 2
    assert "guarded" in capsys.readouterr().err


def test_a_preset_sets_the_defaults(capsys):
    run(["train", "--help", "--preset", "paper"])
    paper = capsys.readouterr().out
    run(["train", "--help"])
    assert paper != capsys.readouterr().out


@pytest.mark.parametrize(
    ("csv", "message"),
    [
        ("track_id,label\na,Q1\n", "column uri is missing"),
        ("track_id,uri\na,/x\na,/y\n", "track_id 'a' appears more than once"),
        ("track_id,uri,label\na,/x,joy\n", "has label 'joy', expected one of Q1, Q2, Q3, Q4"),
        ("track_id,uri,label\n", "no tracks"),
    ],
)
def test_a_bad_catalog_ends_with_its_reason(csv, message, tmp_path, capsys):
    (tmp_path / "c.csv").write_text(csv)
    assert run(["run", "--catalog", str(tmp_path / "c.csv"), "--output", str(tmp_path / "o")]) == 1
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_catalog_without_any_label_can_be_segmented_but_not_run(catalog, tmp_path, capsys):
    rows = [line.rsplit(",", 1)[0] for line in Path(catalog).read_text().splitlines()]
    (tmp_path / "c.csv").write_text("\n".join(rows[:4]))
    output = str(tmp_path / "o")
    assert run(["run", "--catalog", str(tmp_path / "c.csv"), "--output", output]) == 1
    assert "no track has a label" in capsys.readouterr().err
    assert run(["segment", "--catalog", str(tmp_path / "c.csv"), "--output", output]) == 0
    capsys.readouterr()
    assert (
        run(["sql", "--output", output, "select count(*) as n from ledger", "--format", "json"])
        == 0
    )
    assert json.loads(capsys.readouterr().out) == [{"n": 3}]


def test_a_class_with_a_single_track_is_named(catalog, tmp_path, capsys):
    lines = Path(catalog).read_text().splitlines()
    kept = [line for line in lines if not line.startswith(("Q3_1", "Q3_2", "Q3_3", "Q3_4"))]
    (tmp_path / "c.csv").write_text("\n".join(kept))
    assert run(["run", "--catalog", str(tmp_path / "c.csv"), "--output", str(tmp_path / "o")]) == 1
    assert "class Q3 has a single usable track to train on" in " ".join(
        capsys.readouterr().err.split()
    )


def test_too_many_failures_fail_the_run_after_the_ledger_is_committed(tmp_path, capsys):
    (tmp_path / "c.csv").write_text("track_id,uri\na,/nowhere/a.mp3\nb,/nowhere/b.mp3\n")
    output = str(tmp_path / "o")
    assert run(["segment", "--catalog", str(tmp_path / "c.csv"), "--output", output]) == 3
    assert "100% of 2 tracks failed" in " ".join(capsys.readouterr().err.split())
    assert (
        run(["sql", "--output", output, "select distinct reason from ledger", "--format", "json"])
        == 0
    )
    assert json.loads(capsys.readouterr().out) == [{"reason": "missing"}]


def test_an_output_of_another_schema_version_is_left_alone(finished, catalog, tmp_path, capsys):
    (tmp_path / "sssl.json").write_text('{"schema_version": 0}')
    assert run(["run", "--catalog", catalog, "--output", str(tmp_path)]) == 1
    assert "has schema version 0" in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["sssl.json"]


def test_a_stage_out_of_order_says_what_is_missing(catalog, tmp_path, capsys):
    output = str(tmp_path / "o")
    assert run(["segment", "--catalog", catalog, "--output", output]) == 0
    assert run(["score", "--output", output, "--round", "0"]) == 1
    assert "table models of round 0 is not committed yet" in " ".join(
        capsys.readouterr().err.split()
    )


def test_too_many_failures_of_a_later_delivery_leave_what_is_published(
    finished, catalog, tmp_path, capsys
):
    output = str(shutil.copytree(finished.root, tmp_path / "o"))
    lines = Path(catalog).read_text().replace("/audio/", "/unmounted/")
    (tmp_path / "c.csv").write_text(lines)
    assert run(["run", "--catalog", str(tmp_path / "c.csv"), "--output", output, *FAST]) == 3
    assert "missing 24" in " ".join(capsys.readouterr().err.split())
    assert Store.open(output).latest() == finished.latest()


def test_a_stage_says_which_tables_it_takes_from_readers(finished, tmp_path, capsys):
    output = str(shutil.copytree(finished.root, tmp_path / "o"))
    assert run(["score", "--output", output, "--round", "2", "--views", "2"]) == 0
    assert "no longer published, made from what has just changed: rounds 2" in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "bold"], "--model bold: expected one of cnn"),
        (["--batch-size", "1"], "--batch-size 1: expected 2 or more"),
        (["--rounds", "-1"], "--rounds -1: expected 0 or more"),
        (["--folds", "1"], "--folds 1: expected 2 or more"),
        (["--hop-s", "0"], "--hop-s 0.0: expected more than 0 s"),
        (["--retry", "all"], "--retry all: expected failed, retryable or reason=CODE"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_at_once(flags, message, tmp_path, capsys):
    assert run(["run", "--catalog", "c.csv", "--output", str(tmp_path / "o"), *flags]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "o").exists()


def test_a_truth_that_cannot_be_read_is_refused_before_the_work(catalog, tmp_path, capsys):
    (tmp_path / "t.csv").write_text("track_id,label\na,Q1\n")
    for truth, message in (("t.csv", "column end_s is missing"), ("none.csv", "cannot read")):
        flags = ["--truth", str(tmp_path / truth), "--output", str(tmp_path / "o")]
        assert run(["run", "--catalog", catalog, *flags]) == 1
        assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "o" / "segments").exists()


def test_ctrl_c_in_a_pipeline_ends_with_130(catalog, tmp_path, capsys, monkeypatch):
    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.stages.segment.merge", interrupt)
    assert run(["segment", "--catalog", catalog, "--output", str(tmp_path / "o")]) == 130
    assert "the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    "args",
    [
        ["export", "--format", "csv", "--to", "gs://bucket/songs.csv"],
        ["explain", "--track-id", "a", "--png", "gs://bucket/a.png"],
        ["tables", "--duckdb", "gs://bucket/tables.duckdb"],
    ],
)
def test_a_url_is_refused_where_only_a_path_can_be_written(args, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run([args[0], "--output", "o", *args[1:]]) == 2
    assert "expected a path on this machine" in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--mels", "15"], "--mels 15: expected 16 or more for model cnn"),
        (
            ["--mels", "8", "--model", "attention"],
            "--mels 8: expected 16 or more for model attention",
        ),
        (
            ["--segment-s", "0.3"],
            "--segment-s 0.3: expected 16 frames or more for model cnn, not 10",
        ),
    ],
)
def test_segments_too_small_for_the_model_are_refused_at_once(flags, message, tmp_path, capsys):
    assert run(["run", "--catalog", "c.csv", "--output", str(tmp_path / "o"), *flags]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "o").exists()


IMPORT_TORCH_SLOWLY = """
import sys, time

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("importing", flush=True)
            time.sleep(60)

sys.meta_path.insert(0, Slow())
from pipelines import cli
sys.exit(cli.main(["train", "--help"]))
"""


def test_ctrl_c_amid_the_imports_ends_quietly_with_130():
    command = [sys.executable, "-c", IMPORT_TORCH_SLOWLY]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said


def test_plan_says_which_classes_have_too_few_labels_and_what_looks_misspelt(tmp_path, capsys):
    (tmp_path / "c.csv").write_text(
        "track_id,uri,label,artists,group\na,a.wav,Q1,x,x\nb,b.wav,Q1,x,x\nc,c.wav,Q2,x,x\n"
    )
    assert run(["plan", "--catalog", str(tmp_path / "c.csv"), "--output", str(tmp_path / "o")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "`sssl run` refuses this: class Q2 has a single usable track to train on" in said
    assert "`sssl run` refuses this: class Q3 has no usable track to train on" in said
    assert "column 'group' is not read; is group_id meant?" in said
    assert "not found: 3 of 3 files looked for (a, b, c)" in said
    assert "if a run finds none of them either, it ends with exit code 3" in said
    assert "decoding takes less than 0.1 min" in said
    assert "`sssl estimate` measures all of it" in said


def test_plan_names_files_that_are_not_there_and_numbers_that_nobody_reads(tmp_path, capsys):
    (tmp_path / "a.wav").touch()
    (tmp_path / "c.csv").write_text(
        f"track_id,uri,valence,Arousal\na,{tmp_path}/a.wav,0.1,0.2\nb,{tmp_path}/b.wav,0.1,0.2\n"
        "c,gs://bucket/c.wav,0.1,0.2\n"
    )
    assert run(["plan", "--catalog", str(tmp_path / "c.csv"), "--output", str(tmp_path / "o")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "not found: 1 of 2 files looked for (b)" in said
    assert "numbers such as valence and Arousal are not read: `--task valence-arousal`" in said


def test_two_labels_of_a_track_are_told_what_to_do(tmp_path, capsys):
    (tmp_path / "c.csv").write_text("track_id,uri,label\na,a.wav,Q1; Q2\n")
    assert run(["plan", "--catalog", str(tmp_path / "c.csv"), "--output", str(tmp_path / "o")]) == 1
    assert "a track has one, that of most of it" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("argv", "is_frozen"), [("None", True), ("['sql', '--help']", False)])
def test_what_a_program_imports_is_never_looked_through_for_garbage(argv, is_frozen):
    program = f"""
import contextlib, gc, sys
from pipelines.cli import main
sys.argv = ["sssl", "sql", "--help"]
with contextlib.suppress(SystemExit):
    main({argv})
print(gc.isenabled(), gc.get_freeze_count() > 0, file=sys.stderr)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stderr == f"True {is_frozen}\n"


@pytest.mark.parametrize(
    ("command", "flag", "value"),
    [
        ("run", "--processes", "0"),
        ("segment", "--processes", "-3"),
        ("embed", "--threads", "0"),
        ("run", "--max-error-ratio", "1.5"),
        ("segment", "--max-error-ratio", "nan"),
        ("embed", "--max-error-ratio", "-1"),
    ],
)
def test_a_number_with_which_nothing_would_end_or_fail_is_misuse(command, flag, value, capsys):
    catalog = [] if command == "embed" else ["--catalog", "c.csv"]
    front_end = ["--front-end", "onnx:x"] if command == "embed" else []
    with pytest.raises(SystemExit, match="2"):
        main([command, *catalog, *front_end, "--output", "o", flag, value])
    assert f"error: {flag} " in capsys.readouterr().err
