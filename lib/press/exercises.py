"""Exercises: pages of the book whose solutions are the source of what students are handed.

A page `book/exercises/02.md` holds all there is: text, given code, hints, solutions. From it come
the student's notebook, which has no solutions, and the instructor's, which has. A fenced block
`python` is code: outside a solution it is given, inside it is what a student has to find. The first
one holds the page's parameters, which papermill can replace, the second its imports. What
answers must satisfy stands in `notebooks/exercises/checks.py`: `ex_2_3(gap)` checks Exercise 2.3,
whose answer is called `gap`.
"""

import argparse
import ast
import base64
import importlib.util
import inspect
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from html import unescape
from pathlib import Path
from types import ModuleType
from typing import NamedTuple
from urllib.parse import parse_qsl

from docutils import nodes
from docutils.parsers.rst import Directive

from press.runner import PYTHON, PressError, Project, private_environment
from sublearn.core import store

PAGES = "[0-9][0-9].md"
LABEL = re.compile(r"^\(ex-(\d+)-(\d+)\)=\n", re.MULTILINE)
PIECE = re.compile(
    r"^:::\{dropdown\} (?P<kind>Hint|Solution)\n(?P<inside>.*?)^:::$"
    r"|^```python\n(?P<code>.*?)^```$"
    r"|^```\{right-result\} (?P<number>[\d.]+)\n(?P<alt>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
PLAIN = (  # what only the book's pages understand, and what a notebook shows in its place
    (
        re.compile(r"\{doc\}`How these .*?\n\{download\}`.*?`\."),
        "Put your answer in place of `...`; a letter goes in quotes. Save a copy under another\n"
        "name first: the file that was handed out may be written anew.",
    ),
    (re.compile(r"^\([\w-]+\)=\n", re.MULTILINE), ""),
    (re.compile(r"\{\w+\}`([^`<]+?)\s*<[^`]*>`"), r"\1"),
    (re.compile(r"\{(?:term|ref|doc|download)\}`([^`]*)`"), r"\1"),
    (re.compile(r'<a href="[^"]*">([^<]*)</a>'), r"\1"),
)
DETAILS = "<details><summary>{}</summary>\n\n{}\n\n</details>"
PICTURE = "![{}](pictures/{}.svg)"
OPEN_ANSWER = "*Write your answer here.*"
LINK = re.compile(r'<a href="\.\./(?P<page>\w+\.html)#(?P<settings>[^"]*)">(?P<words>[^<]*)</a>')
WIDGETS = {"laboratory": "Laboratory", "plane": "Plane"}  # these need no chapter's results

OTTER = """OK_FORMAT = False
from otter.test_files import test_case

name = "{check}"
points = 1


@test_case()
def grade({answers}):
    import checks

    words = checks.verdict(checks.{check}.__wrapped__, [{answers}])
    assert not words, words
"""


class Piece(NamedTuple):
    """A part of an exercise: `kind` is "text", "code", "hint", "solution" or "result"."""

    kind: str
    text: str
    number: str = ""


class Exercise(NamedTuple):
    """An exercise, such as "2.3", in pieces; the page's beginning is number ""."""

    number: str
    pieces: list[Piece]


def pieces_of(text: str) -> Iterator[Piece]:
    """Text, code, hints, solutions and results, in their order."""
    begin = 0
    for found in PIECE.finditer(text):
        yield Piece("text", text[begin : found.start()].strip())
        begin = found.end()
        if found["kind"]:
            yield Piece(found["kind"].lower(), found["inside"].strip())
        elif found["number"]:
            yield Piece("result", found["alt"].strip(), found["number"])
        else:
            yield Piece("code", found["code"].strip())
    yield Piece("text", text[begin:].strip())


def read_page(path: Path) -> list[Exercise]:
    """The beginning of a page and its exercises."""
    first, *rest = LABEL.split(path.read_text(encoding="utf8"))
    exercises = [Exercise("", [*pieces_of(first)])]
    for chapter, number, text in zip(rest[::3], rest[1::3], rest[2::3]):
        exercises.append(Exercise(f"{chapter}.{number}", [*pieces_of(text)]))
    return exercises


def load_checks(project: Project) -> ModuleType:
    """The module of checks."""
    path = project.root / "notebooks/exercises/checks.py"
    spec = importlib.util.spec_from_file_location("checks", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_of(checks: ModuleType, number: str) -> tuple[str, list[str]]:
    """Name of an exercise's check and the names of the answers it looks at; "" where none is."""
    name = "ex_" + number.replace(".", "_")
    if not hasattr(checks, name):
        return "", []
    return name, [*inspect.signature(getattr(checks, name)).parameters]


# ---------------------------------------------------------------- notebooks


def in_notebook(text: str) -> str:
    """Text as a notebook shows it."""
    for pattern, instead in PLAIN:
        text = pattern.sub(instead, text)
    return text


def template(answers: list[str], solution: str) -> str:
    """Where the answers go: the first line of a function, and `name = ...` for all else."""
    functions = {}
    for node in ast.parse(solution).body:
        if isinstance(node, ast.FunctionDef):
            functions[node.name] = f"def {node.name}({ast.unparse(node.args)}):\n    ..."
    return "\n\n".join(functions.get(name, f"{name} = ...") for name in answers)


def explorers(text: str) -> Iterator[str]:
    """Code that shows the explorers which a text links to, at the settings of the links."""
    for link in LINK.finditer(text):
        settings = dict(parse_qsl(unescape(link["settings"])))
        name = settings.pop("at")
        if name in WIDGETS:
            given = []
            for key, value in settings.items():
                value = value if re.fullmatch(r"-?[\d.]+", value) else f'"{value}"'
                given.append(f"{key.removeprefix(f'{name}.')}={value}")
            call = f"{WIDGETS[name]}({', '.join(given)})"
            yield f"from sublearn.explorers.widgets import {WIDGETS[name]}\n\n{call}"


def named(link: re.Match) -> str:
    """What a notebook has for a link: its words, and the address of what it cannot show."""
    settings = unescape(link["settings"])
    if dict(parse_qsl(settings))["at"] in WIDGETS:
        return link["words"]
    return f"{link['words']} (in the book: `book/{link['page']}#{settings}`)"


def solution_code(exercise: Exercise) -> str:
    """All code of an exercise's solutions."""
    parts = []
    for piece in exercise.pieces:
        if piece.kind == "solution":
            parts += [inner.text for inner in pieces_of(piece.text) if inner.kind == "code"]
    return "\n\n".join(parts)


def cells_of(exercise: Exercise, checks: ModuleType, *, solved: bool) -> Iterator[tuple[str, str]]:
    """Cells (type, source) of an exercise; `solved`: with its solutions."""
    check, answers = check_of(checks, exercise.number)
    for kind, text, number in exercise.pieces:
        if kind == "text" and text:
            yield "markdown", in_notebook(LINK.sub(named, text))
            for shown in explorers(text):
                yield "code", shown
        elif kind == "code":
            yield "code", text
        elif kind == "hint":
            yield "markdown", DETAILS.format("Hint", in_notebook(text))
        elif kind == "result":
            yield "markdown", PICTURE.format(text.replace("\n", " "), number)
        elif kind == "solution" and solved:
            for inner in pieces_of(text):
                if inner.text:
                    yield ("code" if inner.kind == "code" else "markdown"), in_notebook(inner.text)
        elif kind == "solution" and not answers:
            if solution_code(exercise):
                yield "code", "..."
            yield "markdown", OPEN_ANSWER
        elif kind == "solution":
            yield "code", template(answers, solution_code(exercise))
    if check:
        yield "code", f"checks.{check}({', '.join(answers)})"
    if not exercise.number:
        yield "code", "import checks"


def notebook(page: Path, checks: ModuleType, *, solved: bool) -> str:
    """Text of a page's notebook."""
    cells = []
    for exercise in read_page(page):
        for number, (kind, text) in enumerate(cells_of(exercise, checks, solved=solved), start=1):
            label = f"ex-{exercise.number or 'begin'}-{number}".replace(".", "-")
            cell = {"cell_type": kind, "id": label, "metadata": {}}
            if kind == "code":
                cell |= {"execution_count": None, "outputs": []}
            if kind == "code" and not any(each["cell_type"] == "code" for each in cells):
                cell["metadata"] = {"tags": ["parameters"]}
            cells.append(cell | {"source": text.splitlines(keepends=True)})
    metadata = {"kernelspec": PYTHON, "language_info": {"name": "python"}}
    whole = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def write(project: Project, folder: Path, *, solved: bool) -> list[Path]:
    """Write a notebook for every page into `folder`; their paths."""
    checks = load_checks(project)
    written = []
    for page in sorted((project.root / "book/exercises").glob(PAGES)):
        path = folder / f"{page.stem}.ipynb"
        store.write_atomic(path, notebook(page, checks, solved=solved))
        written.append(path)
    return written


def write_otter(project: Project, folder: Path) -> list[Path]:
    """Write what otter-grader needs: for each page a folder of tests, and the checks beside it."""
    checks = load_checks(project)
    source = project.root / "notebooks/exercises/checks.py"
    written = []
    for page in sorted((project.root / "book/exercises").glob(PAGES)):
        store.write_atomic(folder / page.stem / "checks.py", source.read_text(encoding="utf8"))
        for exercise in read_page(page):
            check, answers = check_of(checks, exercise.number)
            if check:
                path = folder / page.stem / "tests" / f"{check}.py"
                store.write_atomic(path, OTTER.format(check=check, answers=", ".join(answers)))
                written.append(path)
    return written


# ---------------------------------------------------------------- solutions at work


def solve(page: Path, checks: ModuleType, pictures: Path | None = None) -> dict[str, bool]:
    """Run a page's code, solutions included; what the checks say, by number.

    pictures: a folder for the figures that are shown as right results.
    """
    import matplotlib.pyplot as plt

    names, said = {"checks": checks}, {}
    for exercise in read_page(page):
        for piece in exercise.pieces:
            if piece.kind == "code":
                exec(piece.text, names)
        exec(solution_code(exercise), names)
        for piece in exercise.pieces:
            if piece.kind == "result" and pictures:
                path = pictures / f"{piece.number}.svg"
                plt.gcf().savefig(path, bbox_inches="tight", metadata={"Date": None})
        plt.close("all")
        check, answers = check_of(checks, exercise.number)
        if check:
            said[exercise.number] = getattr(checks, check)(*[names[name] for name in answers])
    return said


def peak_memory(project: Project) -> float:
    """Most memory, in GB, of a process that solves the exercises of chapter 2."""
    import resource

    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        solve(project.root / "book/exercises/02.md", load_checks(project))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1e9 if sys.platform == "darwin" else 1e6)  # bytes there, else kB


def draw(project: Project, folder: Path) -> None:
    """Draw every figure that a page shows as a right result."""
    folder.mkdir(parents=True, exist_ok=True)
    checks = load_checks(project)
    for page in sorted((project.root / "book/exercises").glob(PAGES)):
        if "```{right-result}" in page.read_text(encoding="utf8"):
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                solve(page, checks, folder)


def drawn(project: Project) -> Path:
    """The folder of the figures, which are drawn in a process of their own where pages changed."""
    pages = sorted((project.root / "book/exercises").glob(PAGES))
    digest = store.digest([page.read_text(encoding="utf8") for page in pages])
    folder = project.root / "_build/exercises" / digest
    stamp = folder / "complete"
    if not stamp.exists():
        command = [sys.executable, "-m", "press.exercises", "draw", folder]
        environment = private_environment(project) | {"MPLBACKEND": "agg"}
        done = subprocess.run(
            command, cwd=project.root, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise PressError(f"the exercises' figures were not drawn:\n{done.stderr.strip()}")
        stamp.touch()
    return folder


class RightResultDirective(Directive):
    """Show what a right solution draws: `{right-result} 3.4`, with a description inside."""

    required_arguments, has_content = 1, True

    def run(self) -> list[nodes.Node]:
        """An image that the page itself holds."""
        environment = self.state.document.settings.env
        try:
            folder = drawn(Project(Path(environment.app.srcdir)))
        except PressError as error:
            raise self.error(str(error)) from None
        data = base64.b64encode((folder / f"{self.arguments[0]}.svg").read_bytes()).decode()
        image = nodes.image(uri=f"data:image/svg+xml;base64,{data}", alt=" ".join(self.content))
        return [image]


def setup(app) -> dict:
    """Register with Sphinx."""
    app.add_directive("right-result", RightResultDirective)
    return {"parallel_read_safe": True}


# ---------------------------------------------------------------- the command line


def main() -> int:
    """Write notebooks, an autograder's tests or figures; or ask what memory a kernel needs."""
    parser = argparse.ArgumentParser("python -m press.exercises", description=main.__doc__)
    parser.add_argument("what", choices=("student", "instructor", "otter", "draw", "memory"))
    parser.add_argument("folder", type=Path, nargs="?", default=Path("_build/exercises"))
    arguments = parser.parse_args()
    project = Project()
    if arguments.what == "memory":
        print(f"{peak_memory(project):.1f} GB for each kernel")
        return 0
    if arguments.what == "draw":
        draw(project, arguments.folder)
        return 0
    if arguments.what == "otter":
        written = write_otter(project, arguments.folder)
    else:
        written = write(project, arguments.folder, solved=arguments.what == "instructor")
    for path in written:
        print(os.path.relpath(path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
