"""Settings come from flags, a settings file and a preset, in this order."""

import tomllib

import pytest

from pipelines.cli import main
from pipelines.commands.run_settings import Config as RunConfig
from pipelines.launch import flags_of
from pipelines.stages.settings_file import FileSettings, as_toml, former_flags, read_settings
from sssl.errors import ConfigError
from sssl.presets import PAPER


@pytest.fixture
def settings_file(tmp_path):
    def write(text):
        path = tmp_path / "settings.toml"
        path.write_text(text)
        return str(path)

    return write


def printed(capsys, *args, command="run"):
    with pytest.raises(SystemExit, match="0"):
        main([command, *args, "--print-settings"])
    said = capsys.readouterr()
    return tomllib.loads(said.out), " ".join(said.err.split())


def refused(capsys, *args):
    with pytest.raises(SystemExit, match="2"):
        main(["run", "--catalog", "c.csv", "--output", "o", *args])
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("settings", [FileSettings(), FileSettings(method=PAPER)])
def test_a_file_with_all_settings_is_read_as_it_was_written(settings, settings_file):
    assert read_settings(settings_file(as_toml(settings)), FileSettings()) == settings


def test_each_setting_stands_below_what_it_means():
    lines = as_toml(FileSettings()).splitlines()
    names = [
        number for number, line in enumerate(lines) if " = " in line and not line.startswith("#")
    ]
    assert len(names) > 50
    assert all(lines[number - 1].startswith("# ") for number in names)


def test_a_file_names_only_what_it_changes_and_the_preset_has_the_rest(settings_file, capsys):
    path = settings_file("[method.relabel]\ntau = 0.7\nmin_separation = 'none'")
    values, _ = printed(capsys, "--settings", path, "--preset", "paper")
    assert values["method"]["relabel"]["axis"] == PAPER.relabel.axis
    assert values["method"]["relabel"]["tau"] == 0.7
    assert values["method"]["relabel"]["min_separation"] == "none"
    assert values["method"]["rounds"] == PAPER.rounds


def test_all_commands_print_the_same_settings(capsys):
    run, _ = printed(capsys)
    for command in ("segment", "relabel", "train", "score", "judge", "plan", "estimate"):
        assert printed(capsys, command=command)[0] == run


def test_what_was_a_flag_is_taken_with_a_warning_and_wins_over_the_file(settings_file, capsys):
    path = settings_file("[method.relabel]\ntau = 0.7\n[method.train]\ncross_fit = true")
    flags = ["--tau", "0.6", "--no-cross-fit", "--per_class_prior=None", "--on-clipped", "reject"]
    values, said = printed(capsys, "--settings", path, *flags)
    assert values["method"]["relabel"]["tau"] == 0.6
    assert values["method"]["train"]["cross_fit"] is False
    assert values["method"]["relabel"]["per_class_prior"] == "none"
    assert values["gate"]["on_clipped"] == "reject"
    assert (
        "warning: --tau is a setting now: tau in [method.relabel] of a file for --settings" in said
    )
    assert said.count("warning") == 4


def test_a_stage_takes_only_its_own_former_flags(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["relabel", "--output", "o", "--round", "1", "--epochs", "3"])
    assert "--epochs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[method.relabel]\ntua = 1", "method.relabel.tua: no such setting; is tau meant?"),
        ("[method]\nrelabel = 1", "method.relabel: expected a table, [method.relabel]"),
        ("[method.relabel]\ntau = 'x'", "method.relabel.tau = x: expected `float`, got `str`"),
        ("[method.train]\nepochs = 0", "epochs 0: expected 1 or more"),
        ("[method", "cannot be read: "),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_a_sentence(
    text, sentence, settings_file, capsys
):
    path = settings_file(text)
    said = refused(capsys, "--settings", path)
    assert f"error: --settings {path}: {sentence}" in said


def test_a_file_may_begin_with_the_mark_of_its_encoding(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_bytes(b"\xef\xbb\xbf[method]\r\nrounds = 3\r\n")
    assert read_settings(str(path), FileSettings()).method.rounds == 3
    path.write_text("[method]\nrounds = 3\n", encoding="utf-16")
    with pytest.raises(ConfigError, match="save it as UTF-8"):
        read_settings(str(path), FileSettings())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[limits]\ntimeout_s = 0", "timeout-s 0.0: expected above 0, or none"),
        ("[limits]\nmemory_mb = -1", "memory-mb -1: expected above 0, or none"),
        ("[cut]\nrate_hz = 0", "rate-hz 0: expected above 0"),
    ],
)
def test_a_value_that_would_fail_every_track_or_none_is_refused(text, expected, settings_file):
    with pytest.raises(ConfigError, match=expected):
        read_settings(settings_file(text), FileSettings())


def test_a_file_that_is_not_there_is_refused(tmp_path, capsys):
    assert "cannot be read" in refused(capsys, "--settings", str(tmp_path / "nowhere.toml"))


@pytest.mark.parametrize(
    "url",
    ["ftp://name:SECRET1@127.0.0.1:1/settings.toml", "memory://settings.toml?signature=SECRET1"],
)
def test_what_is_secret_in_the_url_of_a_file_is_not_printed(url):
    with pytest.raises(ConfigError, match="cannot be read") as refusal:
        read_settings(url, FileSettings())
    assert "SECRET1" not in str(refusal.value)


def test_either_spelling_prints_the_settings(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["run", "--print_settings"])
    assert tomllib.loads(capsys.readouterr().out)["method"]["rounds"] == 1


def test_help_names_the_flag_that_prints_the_settings(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["run", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert f"{RunConfig.__doc__} With --print-settings it prints all settings" in said


def test_a_setting_is_a_flag_or_in_the_file_and_never_both():
    flags = {"--" + flag.name.replace("_", "-") for flag in flags_of(RunConfig)}
    former = set(former_flags(RunConfig))
    assert not flags & former
    assert len(flags) <= 32
    assert len(former) > 50


def test_defects_to_reject_are_named_in_one_flag(capsys):
    from pipelines.stages.settings import Settings
    from sssl.audio.integrity import GateConfig

    asked = Settings(reject=("clipped", "too-long"))
    assert (
        asked.of_rows()
        == Settings(gate=GateConfig(on_clipped="reject", on_too_long="reject")).of_rows()
    )
    assert asked.of_rows() != Settings().of_rows()
    assert asked.strict_gate.policy("damaged") == "keep"
    assert asked.strict_gate.policy("clipped") == "reject"
    assert "loud" in refused(capsys, "--reject", "loud")
