"""Set-up: ranges, pins and the conda file say the same, and `make` refuses what cannot work in one sentence."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import bench
import press
from press import runner

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINS = (ROOT / "requirements.txt").read_text()
RANGES = (
    PROJECT["project"]["dependencies"]
    + PROJECT["dependency-groups"]["book"]
    + PROJECT["dependency-groups"]["dev"]
)
PINNED = [Requirement(line.rstrip("\\ ")) for line in PINS.splitlines() if re.match(r"\w", line)]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


@pytest.mark.parametrize("text", RANGES)
def test_each_range_holds_its_pins(text):
    wanted = Requirement(text)
    pins = [pin for pin in PINNED if canonicalize_name(pin.name) == canonicalize_name(wanted.name)]
    assert pins, f"requirements.txt lacks {wanted.name}: run `make pins`"
    for pin in pins:
        (exact,) = pin.specifier
        assert exact.operator == "=="
        assert wanted.specifier.contains(exact.version), (
            f"{pin} is outside {wanted}: run `make pins`"
        )


def test_what_is_installed_is_what_is_pinned():
    here = [pin for pin in PINNED if pin.marker is None or pin.marker.evaluate()]
    wrong = {
        pin.name: version(pin.name) for pin in here if not pin.specifier.contains(version(pin.name))
    }
    assert len(here) > 100
    assert not wrong


def test_every_pin_has_digests_and_no_address():
    blocks = re.split(r"\n(?=\w)", PINS)[1:]
    assert len(blocks) == len(PINNED)
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in PINS


def test_the_conda_file_uses_the_same_python_and_pins():
    python, pip, nested = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert python == "python" + PROJECT["project"]["requires-python"]
    assert (pip, nested) == ("pip", {"pip": ["-r requirements.txt"]})


def fake_python(folder, *, minor, venv=True):
    """A `python3` that says it is 3.`minor` and, if asked, that it lacks the module venv."""
    script = folder / "python3"
    lacks = "" if venv else "sys.modules['venv'] = None"
    lines = [
        f"#!{sys.executable}",
        "import sys",
        f"sys.version_info = (3, {minor}, 0)",
        lacks,
        "exec(sys.argv[2])",
    ]
    script.write_text("\n".join(lines))
    script.chmod(0o755)
    return script


@pytest.mark.parametrize(
    ("machine", "sentence"),
    [
        (
            {"minor": 10},
            "is Python 3.10, but this book needs 3.11, 3.12 or 3.13: install one of them and name it",
        ),
        ({"minor": 14}, "is Python 3.14, but this book needs"),
        ({"minor": 12, "venv": False}, "has no venv module: install it"),
    ],
)
@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_refuses_an_unfit_python_in_one_sentence(tmp_path, machine, sentence):
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in ("sh", "test", "echo", "touch", "cksum"):  # a PATH without uv
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    command = [shutil.which("make"), "test", f"PYTHON={fake_python(tmp_path, **machine)}"]
    environment = os.environ | {"PATH": str(tmp_path / "bin")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(said) == 1
    assert sentence in said[0]
    assert not (tmp_path / ".venv").exists()


def test_python_paths_from_outside_do_not_reach_the_press(tmp_path):
    (tmp_path / "yaml.py").write_text("raise RuntimeError")
    command = re.search(r"^PRESS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    arguments = command.replace("$(BIN)/python", sys.executable).split()
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [*arguments, "--help"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "usage: python -m press" in done.stdout


def planned(folder):
    """What `make why` would do in a folder."""
    command = [shutil.which("make"), "--dry-run", "why", "NAME=02"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_sets_up_anew_in_a_copied_or_moved_checkout(tmp_path):
    checkout = tmp_path / "first one"
    checkout.mkdir()
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout)
    first = planned(checkout)
    assert "Setting up" in first
    (checkout / ".venv").mkdir()
    (checkout / re.search(r"touch (\S+)$", first, re.MULTILINE)[1]).touch()
    assert "Setting up" not in planned(checkout)
    copy = shutil.copytree(checkout, tmp_path / "copy")
    assert "Setting up" in planned(copy)
    assert "Setting up" in planned(checkout.rename(tmp_path / "moved"))


def test_the_environment_imports_this_checkout():
    assert Path(press.__file__).parent == ROOT / "lib" / "press"


@pytest.mark.parametrize(
    ("file", "program"), [("Makefile", "jupyterlab"), ("book/how_to_run.md", "papermill")]
)
def test_a_foreign_kernel_does_not_take_the_place_of_the_books(tmp_path, file, program):
    for folder in ("path", "user"):
        spec = tmp_path / folder / "kernels" / "python3" / "kernel.json"
        spec.parent.mkdir(parents=True)
        spec.write_text('{"argv": ["false"], "display_name": "Foreign", "language": "python"}')
    text = (ROOT / file).read_text().replace("\\\n", "")
    own = re.search(r"^OWN_KERNEL := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    command = re.search(
        rf"^\s*(.*)(?:\$\(BIN\)|\.venv/bin)/python -m {program} ", text, re.MULTILINE
    )
    settings = command[1].replace("$(OWN_KERNEL)", own)
    code = "from jupyter_client.kernelspec import get_kernel_spec as get; print(get('python3').argv[0])"
    outside = {"JUPYTER_PATH": str(tmp_path / "path"), "JUPYTER_DATA_DIR": str(tmp_path / "user"),
               "JUPYTER_PREFER_ENV_PATH": "0"}  # fmt: skip
    line = f"{settings} {shlex.join([sys.executable, '-c', code])}"
    done = subprocess.run(
        line, shell=True, env=os.environ | outside, capture_output=True, text=True
    )
    assert done.stdout.startswith("python"), done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
def test_a_clone_that_wants_windows_line_ends_can_run_the_scripts(tmp_path):
    (tmp_path / "here" / ".ci").mkdir(parents=True)
    for name in (".gitattributes", ".ci/run", "Makefile"):
        shutil.copy(ROOT / name, tmp_path / "here" / name)
    git = [shutil.which("git"), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *command], cwd=tmp_path / "here", check=True)
    clone = [*git, "clone", "-q", "-c", "core.autocrlf=true", "here", "there"]
    subprocess.run(clone, cwd=tmp_path, check=True)
    for name in (".ci/run", "Makefile"):
        assert b"\r" not in (tmp_path / "there" / name).read_bytes()


@pytest.mark.parametrize(("system", "unit"), [("darwin", 1), ("linux", 1024)])
def test_peak_memory_knows_the_systems_unit(monkeypatch, system, unit):
    usage = SimpleNamespace(ru_maxrss=3 * 2**30 // unit)
    monkeypatch.setattr(bench.sys, "platform", system)
    monkeypatch.setattr(bench.resource, "getrusage", lambda who: usage)
    assert bench.peak_gib() == 3


def test_profiles_name_only_what_notebooks_know():
    jobs, _ = runner.plan(runner.Project(), parameters={"dataset": "digits"})
    assert [job.name for job in jobs] == [path.stem for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebooks_defaults_are_the_laptop_profile(path):
    notebook = runner.read_notebook(path)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert "parameters" in runner.tags(code[0]), "the first code cell is not tagged `parameters`"
    laptop = yaml.safe_load((ROOT / "profiles.yml").read_text())["laptop"]
    requested = laptop["defaults"] | laptop.get("notebooks", {}).get(path.stem, {})
    defaults = runner.parameter_defaults(path.stem, notebook)
    assert defaults == {key: requested.get(key, value) for key, value in defaults.items()}
