"""How much a command says, and what a shell completes."""

import logging
import subprocess
import sys

import pytest

from pipelines.cli import COMMANDS, main

SSSL = [sys.executable, "-m", "pipelines.cli"]


@pytest.fixture
def catalog(tmp_path):
    path = tmp_path / "catalog.csv"
    path.write_text("track_id,uri,label\na,a.wav,Q1\nb,b.wav,Q2\n")
    return path


@pytest.fixture(scope="module")
def bash_script():
    script = subprocess.run(
        [*SSSL, "--print-completion", "bash"], capture_output=True, text=True, check=True
    )
    assert not script.stderr
    return script.stdout


def segment(catalog, *flags):
    output = str(catalog.parent / "out")
    return main(
        ["segment", "--catalog", str(catalog), "--output", output, "--max-error-ratio", "1", *flags]
    )


def test_a_quiet_command_says_nothing_of_what_it_does(catalog, capsys):
    assert segment(catalog, "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert segment(catalog) == 0
    assert "2 tracks" in capsys.readouterr().err


def test_a_quiet_command_still_warns_and_answers(catalog, capsys):
    assert segment(catalog, "--quiet", "--timeout-s", "20") == 0
    assert "warning: --timeout-s is a setting now" in capsys.readouterr().err
    assert main(["--quiet", "tables", "--output", str(catalog.parent / "out")]) == 0
    assert "ledger" in capsys.readouterr().out


@pytest.mark.parametrize(("talk", "level"), [([], "WARNING"), (["--verbose"], "INFO")])
def test_a_verbose_command_logs_what_the_program_does(talk, level):
    """In a process of its own, since pytest sets up the log of this one."""
    program = "import logging; from pipelines.cli import main; main({}); print(logging.root.level)"
    args = [*talk, "tables", "--output", "none"]
    process = subprocess.run(
        [sys.executable, "-c", program.format(args)], capture_output=True, text=True, check=True
    )
    assert int(process.stdout) == logging.getLevelNamesMapping()[level]


def test_quiet_and_verbose_exclude_each_other(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--quiet", "tables", "--verbose"])
    assert ended.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


def completed(script, ask):
    # By standard input: an argument has 128 kB at most.
    return subprocess.run(
        ["bash"], input=f"{script}\n{ask}\n", capture_output=True, text=True, check=True
    )


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["sssl", "ta"], {"tables", "takedown"}),
        (["sssl", "run", "--cat"], {"--catalog"}),
        (["sssl", "export", "--format", "ja"], {"jams"}),
    ],
)
def test_bash_completes_commands_flags_and_choices(typed, offered, bash_script):
    words = " ".join(f"'{word}'" for word in typed)
    ask = f"COMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}; _tyro_sssl; echo ${{COMPREPLY[@]}}"
    answer = completed(bash_script, ask)
    assert offered <= set(answer.stdout.split())


def test_every_command_is_offered(bash_script):
    ask = "COMP_WORDS=(sssl ''); COMP_CWORD=1; _tyro_sssl; echo ${COMPREPLY[@]}"
    answer = completed(bash_script, ask)
    assert set(COMMANDS) <= set(answer.stdout.split())
