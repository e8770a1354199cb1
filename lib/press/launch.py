"""A notebook that runs alone: its first cell, the book's wheel, and where else it can be opened.

A wheel must hold the tables of `book/reference` beside the library, at the places that the library
knows. So it has two packages: `subliminal_learning_book`, which holds both, and `sublearn`, which
leads there.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from press.edition import KEY, Edition
from press.runner import PressError

INSTALL = """\
# Installs the package of the book where it is missing.
import importlib.util, subprocess, sys
if importlib.util.find_spec("sublearn") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", {wanted}], check=True)
"""
CARRIER = KEY.replace("-", "_")
LEADER = f'''"""Leads to the library, which lies beside the tables that it reads."""

from pathlib import Path

__path__ = [str(Path(__file__).parents[1] / "{CARRIER}" / "lib" / "sublearn")]
'''
PACKAGES = f"""
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[tool.setuptools]
packages = ["sublearn", "{CARRIER}"]

[tool.setuptools.package-data]
{CARRIER} = ["**/*"]
"""
UNBUILT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def first_cell(this: Edition, site: str) -> dict:
    """The code cell that a downloaded notebook begins with; `site` is where the book lies."""
    wanted = [f"{KEY}=={this.release}"]
    if site:
        wanted += ["--find-links", f"{site.rstrip('/')}/downloads/"]
    arguments = ", ".join(map(json.dumps, wanted))
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": "install",
        "metadata": {},
        "outputs": [],
        "source": INSTALL.format(wanted=arguments).rstrip().splitlines(keepends=True),
    }


def alone(text: str, cell: dict) -> str:
    """A notebook's text with `cell` after its title, so that it runs where the book is not."""
    notebook = json.loads(text)
    notebook["cells"].insert(1, cell)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def wheel(root: Path, staging: Path, target: Path) -> Path:
    """Build the wheel of a checkout in the new folder `staging` and put it into `target`."""
    carrier = staging / CARRIER
    shutil.copytree(root / "lib/sublearn", carrier / "lib/sublearn", ignore=UNBUILT)
    shutil.copytree(root / "book/reference", carrier / "book/reference", ignore=UNBUILT)
    (staging / "sublearn").mkdir()
    (staging / "sublearn/__init__.py").write_text(LEADER, encoding="utf8")
    for name in ("README.md", "LICENSE", "LICENSE-text"):
        shutil.copy(root / name, staging)
    settings = (root / "pyproject.toml").read_text(encoding="utf8")
    project, _, _ = settings.partition("\n[dep")
    settings = project + PACKAGES
    (staging / "pyproject.toml").write_text(settings, encoding="utf8")
    target.mkdir(parents=True, exist_ok=True)
    build = f"from setuptools.build_meta import build_wheel; print(build_wheel({str(target)!r}))"
    command = [sys.executable, "-c", build]
    done = subprocess.run(command, cwd=staging, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr[-600:]
        raise PressError(f"the wheel of the book did not build: {reason}")
    name = done.stdout.splitlines()[-1]
    return target / name


def places(repository: str, branch: str, this: Edition, name: str) -> dict[str, str]:
    """Addresses by which a hub opens a chapter; none where the repository is not on GitHub.

    Colab opens the copy with the first cell, which lies where the site is published; Binder builds
    what `.binder` says, at the version of this edition.
    """
    address = repository.rstrip("/")
    _, on_github, path = address.partition("github.com/")
    if not on_github:
        return {}
    notebook = f"notebooks/{name}.ipynb"
    copy = f"{path}/blob/{branch}/_sources/{notebook}"
    tree = f"{path}/v{this.release}?urlpath=lab/tree/{notebook}"
    return {
        "Colab": f"https://colab.research.google.com/github/{copy}",
        "Binder": f"https://mybinder.org/v2/gh/{tree}",
    }
