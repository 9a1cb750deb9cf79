"""What can be known of the images without building them."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, version
from pathlib import Path

import locks
import pytest
import yaml
from packaging.requirements import Requirement

from pipelines.templates import TEMPLATES

REPOSITORY = Path(__file__).parents[2]
DOCKERFILES = sorted((REPOSITORY / "infra/docker").glob("*.Dockerfile"))
ROLES = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)


def instructions(dockerfile):
    """List (instruction, arguments) of a Dockerfile."""
    text = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", dockerfile.read_text()))
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line]


def of(dockerfile, name):
    return [arguments for instruction, arguments in instructions(dockerfile) if instruction == name]


def test_there_is_an_image_a_role():
    assert [path.stem for path in DOCKERFILES] == ["cpu-worker", "gpu-worker", "launcher"]


@ROLES
def test_hadolint_finds_nothing(dockerfile):
    hadolint = Path(sys.executable).parent / "hadolint"
    found = subprocess.run([hadolint, dockerfile], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


@ROLES
def test_bases_are_pinned(dockerfile):
    for base in of(dockerfile, "FROM"):
        _, tag = base.split()[0].split(":")
        assert re.search(r"\d+\.\d+\.\d+|\d{8}", tag), base


@ROLES
def test_every_file_that_an_image_installs_has_a_hash_and_a_version_that_the_tests_run_with(
    dockerfile,
):
    install = install_of(dockerfile)
    assert f"infra/docker/locked/{dockerfile.stem}.txt locked.txt" in of(dockerfile, "COPY")
    assert re.search(r"pip install --no-deps --require-hashes --requirement \w+.txt", install)
    lines = locked(dockerfile)
    assert all(re.fullmatch(r"[a-z0-9-]+==\S+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    tested = {normal(line) for line in locks.constraints(dockerfile.stem)}
    assert {line.split()[0] for line in lines} <= tested, "make image-locks"
    beams = [base for base in of(dockerfile, "FROM") if base.startswith("apache/beam")]
    assert all(
        base.startswith(f"apache/beam_python3.11_sdk:{version('apache-beam')} ") for base in beams
    )
    assert of(dockerfile, "FROM")[-1].startswith("python:3.11.")


@ROLES
def test_what_is_locked_is_whatever_the_role_needs(dockerfile):
    """As they are installed one by one, with `--no-deps`, nothing else would bring the rest."""
    names = {name_of(line) for line in locked(dockerfile)}
    waiting = [Requirement(line) for line in locks.requirements(dockerfile.stem)]
    seen = set()
    while waiting:
        needed = waiting.pop()
        if str(needed) in seen or locks.CUDA.match(f"{name_of(needed.name)}=="):
            continue  # of torch there is another version than here
        seen.add(str(needed))
        assert name_of(needed.name) in names, f"{needed}: make image-locks"
        for line in distribution(needed.name).requires or []:
            inner = Requirement(line)
            extras = needed.extras or {""}
            if inner.marker is None or any(inner.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(inner)
    assert len(seen) > 100


def test_what_may_have_a_gpu_has_a_cuda_that_runs_on_the_promised_driver():
    pins = (REPOSITORY / "infra/docker/cuda-12.txt").read_text().splitlines()
    pinned = {line for line in pins if not line.startswith("#")}
    assert all(
        line.startswith(("cuda-bindings==12.", "cuda-pathfinder", "torch", "triton"))
        or "-cu12==" in line
        for line in pinned
    )
    for dockerfile in DOCKERFILES:
        # Scoring on Dataflow, and training on Vertex AI, in the launcher's image.
        if dockerfile.stem not in locks.WITHOUT_GPU:
            cuda = {line.split()[0] for line in locked(dockerfile) if locks.CUDA.match(line)}
            assert {"torch==2.10.0", "torchaudio==2.10.0"} <= cuda <= pinned
            assert "torch.version.cuda.startswith('12.')" in install_of(dockerfile)


def test_an_image_without_a_gpu_has_torch_without_cuda():
    dockerfile = REPOSITORY / "infra/docker/cpu-worker.Dockerfile"
    install = install_of(dockerfile)
    assert '--index-url "$CPU_WHEELS" --requirement torch.txt' in install
    (pattern,) = re.findall(r"sed -nE '([^']+)' locked.txt > torch.txt", install)
    listed = subprocess.run(
        ["sed", "-nE", pattern], input="\n".join(locked(dockerfile)), capture_output=True, text=True
    )
    assert listed.stdout.split() == ["torch==2.11.0", "torchaudio==2.11.0"]
    (pattern,) = re.findall(r"grep -vE '([^']+)' locked.txt > others.txt", install)
    others = [line for line in locked(dockerfile) if not re.search(pattern, line)]
    assert not [line for line in others if line.startswith(("cuda", "nvidia", "torch", "triton"))]
    build = yaml.safe_load((REPOSITORY / "infra/docker/cloudbuild.yaml").read_text())
    assert of(dockerfile, "ARG") == [f"CPU_WHEELS={build['substitutions']['_CPU_WHEELS']}"]


def install_of(dockerfile):
    (install,) = (run for run in of(dockerfile, "RUN") if "--requirement" in run)
    return install


def locked(dockerfile):
    return (locks.LOCKED / f"{dockerfile.stem}.txt").read_text().splitlines()


def normal(line):
    """Return a pinned version with its package's name as an index spells it."""
    name, _, pinned = line.partition("==")
    return f"{name_of(name)}=={pinned}"


def name_of(requirement):
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=]", requirement)[0]).lower()


PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def test_every_dependency_has_its_version_in_the_constraints():
    pinned = {name_of(line) for line in (REPOSITORY / "constraints.txt").read_text().splitlines()}
    declared = {
        name_of(name) for names in (PROJECT["dependencies"], *EXTRAS.values()) for name in names
    }
    assert declared - {"sssl"} <= pinned


def top_packages():
    found = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"][
        "packages"
    ]["find"]
    return [pattern.removesuffix("*") for pattern in found["include"]]


@ROLES
def test_what_is_copied_is_there_and_is_not_ignored(dockerfile):
    ignore = (REPOSITORY / ".dockerignore").read_text().splitlines()
    for copied in of(dockerfile, "COPY"):
        *sources, _ = copied.split()
        if not sources[0].startswith("--from="):
            for source in sources:
                assert (REPOSITORY / source).exists()
                folder = f"!{source.rpartition('/')[0]}/"
                assert {f"!{source}", f"!{source}/", folder} & set(ignore), source


def test_the_context_is_the_code_and_nothing_that_a_checkout_gathers():
    kept = [
        line[1:].rstrip("/")
        for line in (REPOSITORY / ".dockerignore").read_text().splitlines()
        if line[:1] == "!"
    ]
    assert sorted(kept) == sorted(
        [
            "pyproject.toml",
            "infra/docker/as-user",
            "infra/docker/locked",
            "README.md",
            "LICENSE",
            *top_packages(),
        ]
    )


@ROLES
def test_the_code_is_inside(dockerfile):
    assert {f"{package} {package}" for package in top_packages()} <= set(of(dockerfile, "COPY"))


@ROLES
def test_whatever_python_an_image_runs_is_not_root(dockerfile):
    assert "infra/docker/as-user /opt/sssl/bin/" in of(dockerfile, "COPY")
    assert "useradd --create-home --uid 1000 sssl" in of(dockerfile, "RUN")
    assert "ln -s as-user bin/python && ln -s as-user bin/python3" in of(dockerfile, "RUN")
    assert "PATH=/opt/sssl/bin:$PATH" in of(dockerfile, "ENV")


def test_who_is_root_becomes_another_user_and_can_gain_nothing_back():
    status = subprocess.run(
        [REPOSITORY / "infra/docker/as-user", "cat", "/proc/self/status"],
        capture_output=True,
        text=True,
        check=True,
    )
    said = dict(line.split(":\t", 1) for line in status.stdout.splitlines() if ":\t" in line)
    is_root = os.getuid() == 0
    assert said["Uid"].split()[0] == ("1000" if is_root else str(os.getuid()))
    assert not is_root or (said["Groups"].strip(), said["NoNewPrivs"]) == ("", "1")


def test_the_launcher_starts_a_script_that_the_package_installs():
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
    environment = " ".join(of(REPOSITORY / "infra/docker/launcher.Dockerfile", "ENV"))
    assert (
        re.search(r"FLEX_TEMPLATE_PYTHON_PY_FILE=/usr/local/bin/(\S+)", environment)[1] in scripts
    )


def test_cloud_build_makes_and_pushes_every_image_and_a_launcher_a_template():
    build = yaml.safe_load((REPOSITORY / "infra/docker/cloudbuild.yaml").read_text())
    wanted = [path.stem for path in DOCKERFILES] + [f"launcher-{stage}" for stage in TEMPLATES]
    assert sorted(build["images"]) == sorted(f"$_REGISTRY/{name}:$_TAG" for name in wanted)
    script = build["steps"][-1]["args"][-1]
    assert f"for stage in {' '.join(TEMPLATES)}; do" in script
