"""What can be known of the images without building them."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

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
def test_versions_are_those_that_the_tests_run_with(dockerfile):
    (install,) = (run for run in of(dockerfile, "RUN") if "--requirement" in run)
    if "cuda-12.txt" in install:
        assert "--constraint others.txt --constraint cuda-12.txt" in install
    else:
        assert "--constraint constraints.txt" in install
    beams = [base for base in of(dockerfile, "FROM") if base.startswith("apache/beam")]
    assert all(
        base.startswith(f"apache/beam_python3.11_sdk:{version('apache-beam')} ") for base in beams
    )
    assert of(dockerfile, "FROM")[-1].startswith("python:3.11.")


def test_what_may_have_a_gpu_has_a_cuda_that_runs_on_the_promised_driver():
    pins = (REPOSITORY / "infra/docker/cuda-12.txt").read_text().splitlines()
    pinned = {line for line in pins if not line.startswith("#")}
    assert all(
        line.startswith(("cuda-bindings==12.", "torch", "triton")) or "-cu12==" in line
        for line in pinned
    )
    for dockerfile in DOCKERFILES:
        (install,) = (run for run in of(dockerfile, "RUN") if "--requirement" in run)
        # Scoring on Dataflow, and training on Vertex AI, in the launcher's image.
        assert ("--constraint cuda-12.txt" in install) == (dockerfile.stem != "cpu-worker")
        if dockerfile.stem != "cpu-worker":
            assert "torch.version.cuda.startswith('12.')" in install
            (pattern,) = re.findall(r"grep -vE '([^']+)'", install)
            kept = [
                line
                for line in (REPOSITORY / "constraints.txt").read_text().splitlines()
                if not re.search(pattern, line)
            ]
            assert not {name_of(line) for line in kept} & {name_of(line) for line in pinned}
            assert not [line for line in kept if line.startswith(("cuda", "nvidia", "torch"))]


def name_of(requirement):
    return re.split(r"[\[<>=]", requirement)[0].lower().replace("_", "-")


PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def test_every_dependency_has_its_version_in_the_constraints():
    pinned = {name_of(line) for line in (REPOSITORY / "constraints.txt").read_text().splitlines()}
    declared = {
        name_of(name) for names in (PROJECT["dependencies"], *EXTRAS.values()) for name in names
    }
    assert declared - {"sssl"} <= pinned


@ROLES
def test_what_an_image_installs_are_the_dependencies_and_the_extras_of_its_role(dockerfile):
    (install,) = (run for run in of(dockerfile, "RUN") if "--requirement" in run)
    list_requirements = install.split(" > requirements.txt")[0].removeprefix("python ")
    listed = subprocess.run(
        ["bash", "-c", f"{sys.executable} {list_requirements}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert listed.returncode == 0, listed.stderr
    extras = ["run", "gcp", *(["mlflow"] if dockerfile.stem == "launcher" else [])]
    expected = [*PROJECT["dependencies"], *(name for extra in extras for name in EXTRAS[extra])]
    assert listed.stdout.split() == expected


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
                assert {f"!{source}", f"!{source}/"} & set(ignore), source


def test_the_context_is_the_code_and_nothing_that_a_checkout_gathers():
    kept = [
        line[1:].rstrip("/")
        for line in (REPOSITORY / ".dockerignore").read_text().splitlines()
        if line[:1] == "!"
    ]
    assert sorted(kept) == sorted(
        [
            "constraints.txt",
            "pyproject.toml",
            "infra/docker/cuda-12.txt",
            "README.md",
            "LICENSE",
            *top_packages(),
        ]
    )


@ROLES
def test_the_code_is_inside(dockerfile):
    assert {f"{package} {package}" for package in top_packages()} <= set(of(dockerfile, "COPY"))


def test_what_starts_and_trains_is_not_root():
    assert of(REPOSITORY / "infra/docker/launcher.Dockerfile", "USER") == ["1000"]


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
