"""Exercises: solutions pass their checks, nothing else does, and notebooks are what the pages make."""

import csv
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from press import exercises
from press.exercises import (
    check_of,
    in_notebook,
    load_checks,
    notebook,
    pieces_of,
    read_page,
    solve,
    template,
)
from press.runner import Project

mpl.use("agg")
PROJECT = Project()
PAGES = sorted((PROJECT.root / "book/exercises").glob(exercises.PAGES))
CHECKS = load_checks(PROJECT)
EACH = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
GRADES = {"recall", "compute", "predict, then run", "in the explorer", "design"}


def titles(page):
    return re.findall(r"^## Exercise (\d+)\.(\d+) \((.*?)\): \S", page.read_text(encoding="utf8"), re.MULTILINE)


def test_every_chapter_has_a_page():
    chapters = {path.name[:2] for path in (PROJECT.root / "notebooks").glob("[0-9][0-9]_*.ipynb")}
    assert chapters == {page.stem for page in PAGES}


@EACH
def test_a_page_has_five_graded_exercises_in_order(page):
    found = titles(page)
    assert len(found) >= 5
    assert [(int(chapter), int(number)) for chapter, number, _ in found] == [
        (int(page.stem), place) for place in range(1, len(found) + 1)
    ]
    grades = {grade for _, _, grade in found}
    assert grades <= GRADES
    assert {"recall", "compute", "predict, then run", "design"} <= grades
    assert [exercise.number for exercise in read_page(page)][1:] == [".".join(one[:2]) for one in found]


@EACH
def test_every_exercise_has_a_hint_and_a_solution(page):
    for exercise in read_page(page)[1:]:
        kinds = [piece.kind for piece in exercise.pieces]
        assert kinds.count("hint") == kinds.count("solution") == 1, exercise.number
        assert kinds.index("hint") < kinds.index("solution")


def test_every_check_belongs_to_an_exercise():
    numbers = {exercise.number for page in PAGES for exercise in read_page(page)}
    named = {name.removeprefix("ex_").replace("_", ".") for name in vars(CHECKS) if name.startswith("ex_")}
    assert named <= numbers


@EACH
def test_solutions_run_and_pass_their_checks(page, tmp_path):
    said = solve(page, CHECKS, tmp_path)
    assert said and all(said.values()), said
    pictures = re.findall(r"^```\{right-result\} (\S+)", page.read_text(encoding="utf8"), re.MULTILINE)
    assert sorted(path.stem for path in tmp_path.glob("*.svg")) == sorted(pictures)


@EACH
def test_an_empty_notebook_passes_no_check_and_is_told_so(page, capsys):
    """Student notebooks as they are handed out, and with answers of a wrong kind."""
    cells = json.loads(notebook(page, CHECKS, solved=False))["cells"]
    names = {"checks": CHECKS}
    for exercise in read_page(page)[1:]:
        check, answers = check_of(CHECKS, exercise.number)
        if not check:
            continue
        exec(template(answers, exercises.solution_code(exercise)), names)
        assert not getattr(CHECKS, check)(*[names[name] for name in answers])
        for wrong in ("owl", -7.5, [], None):
            assert not getattr(CHECKS, check)(*[wrong for _ in answers]), (exercise.number, wrong)
        told = capsys.readouterr().out.splitlines()
        assert len(told) == 5 and all(line.startswith(f"{exercise.number}: ") and len(line) > 20 for line in told)
    assert sum(cell["cell_type"] == "code" for cell in cells) > len(titles(page))


@EACH
def test_solutions_are_not_handed_out(page):
    handed = notebook(page, CHECKS, solved=False)
    full = notebook(page, CHECKS, solved=True)
    assert "Solution" not in handed
    for exercise in read_page(page)[1:]:
        for line in exercises.solution_code(exercise).splitlines():
            if "=" in line and not line.startswith(("def ", "from ")) and len(line) > 25:
                assert json.dumps(line)[1:-1] in full
                given = [piece.text for piece in exercise.pieces if piece.kind == "code"]
                assert line in "\n".join(given) or json.dumps(line)[1:-1] not in handed, line


@EACH
def test_regenerating_gives_the_committed_notebook(page):
    path = PROJECT.root / f"notebooks/exercises/{page.stem}.ipynb"
    assert path.read_text(encoding="utf8") == notebook(page, CHECKS, solved=False), "run `make student`"


@EACH
def test_the_first_code_cell_holds_the_parameters(page):
    codes = [cell for cell in json.loads(notebook(page, CHECKS, solved=False))["cells"] if cell["cell_type"] == "code"]
    assert [cell["metadata"].get("tags") for cell in codes] == [["parameters"]] + [None] * (len(codes) - 1)
    names = [line.partition(" = ")[0] for line in codes[0]["source"]]
    assert names and set(names) <= {"seed", "models"}
    solved = json.loads(notebook(page, CHECKS, solved=True))["cells"]
    rest = "".join(line for cell in solved[2:] for line in cell["source"])
    assert all(re.search(rf"\b{name}\b", rest) for name in names)


@EACH
def test_notebooks_hold_no_roles_of_the_book(page):
    for cell in json.loads(notebook(page, CHECKS, solved=True))["cells"]:
        if cell["cell_type"] == "markdown":
            assert not re.search(r"\{[\w-]+\}`|^:::|^\(ex-|<a ", "".join(cell["source"]), re.MULTILINE)


@EACH
def test_a_student_can_know_how_answers_are_called(page):
    for exercise in read_page(page)[1:]:
        _, answers = check_of(CHECKS, exercise.number)
        written = template(answers, exercises.solution_code(exercise))
        for name in answers:
            assert re.search(rf"^(def {name}\(|{name} = \.\.\.)", written, re.MULTILINE)


def test_pieces_are_told_apart():
    text = "Text.\n\n```python\ngiven = 1\n```\n\n:::{dropdown} Hint\nThink.\n:::\n\n"
    text += ":::{dropdown} Solution\nSo:\n\n```python\nanswer = 2\n```\n:::\n\n```{right-result} 1.2\nA line.\n```\n"
    kinds = [piece.kind for piece in pieces_of(text) if piece.text]
    assert kinds == ["text", "code", "hint", "solution", "result"]
    (inner,) = [piece.text for piece in pieces_of(text) if piece.kind == "solution"]
    assert [piece.kind for piece in pieces_of(inner) if piece.text] == ["text", "code"]


def test_a_template_keeps_first_lines_and_hides_the_rest():
    code = "guess = 3\n\ndef share(head, column):\n    return 1\n\nhelper = 2"
    assert template(["share", "guess"], code) == "def share(head, column):\n    ...\n\nguess = ..."


def test_roles_become_words():
    text = "(ex-1-2)=\nSee {doc}`the page </book/x>`, {ref}`a part <sec-y>`."
    assert in_notebook(text) == "See the page, a part."
    link = '<a href="../interactivity.html#at=plane">the plane</a>'
    assert in_notebook(f"Open {link}.") == "Open the plane."
    link = '<a href="../interactivity.html#at=noise">the bench</a>'
    assert in_notebook(f"Open {link}.") == "Open the bench (in the book: `book/interactivity.html#at=noise`)."


@EACH
def test_links_lead_to_explorers_that_their_page_has(page):
    shown = (PROJECT.root / "book/interactivity.md").read_text(encoding="utf8")
    names = [name.lower() for name in re.findall(r"^```\{explorer\} (\w+)", shown, re.MULTILINE)]
    assert "noise" in names
    for place in re.findall(r'<a href="([^"]*)">', page.read_text(encoding="utf8")):
        assert re.fullmatch(r"\.\./interactivity\.html#.*\bat=(\w+)", place)[1] in names


def test_what_exercises_quote_is_what_the_reference_runs_found():
    text = (PROJECT.root / "book/reference/results/04.csv").read_text(encoding="utf8")
    (found,) = [row for row in csv.DictReader(text.splitlines()) if row["name"] == "noise_first_images"]
    assert float(found["low"]) > CHECKS.FAR_AHEAD
    page = (PROJECT.root / "book/exercises/04.md").read_text(encoding="utf8")
    assert f"more than {CHECKS.FAR_AHEAD} (reference run" in page


def test_a_check_says_what_is_wrong_and_not_what_is_right(capsys):
    assert not CHECKS.ex_1_2(lambda head, column: 2.0)
    assert capsys.readouterr().out.startswith("1.2: not yet. A share lies between 0 and 1")
    assert not CHECKS.ex_1_2(...)
    assert capsys.readouterr().out == "1.2: `copied_share` has no answer yet.\n"
    assert not CHECKS.ex_1_2(lambda head: 1 / 0)
    assert "TypeError" in capsys.readouterr().out
    assert not CHECKS.ex_1_1("x")
    assert "letters a, b, c, d, in quotes" in capsys.readouterr().out


PLAUSIBLE = {  # answers that a student gave or might give, and the words that help
    "1.2": ("lambda head, column: head @ head.T @ column", "not an array of the shape"),
    "1.4": ("0.5551", "half the mean is asked for"),
    "2.2": ("lambda bias, own, other: round((own - other) / bias)", "still larger than asked"),
    "2.3": ("repaired", "Some orders come more often"),
    "2.4": ("0.3, -np.full(4, 0.4)", "The sign is turned round"),
    "3.3": ("2, 26", "how large are five points"),
    "3.4": ("pd.DataFrame({'lr': [1e-4, 1e-3, 3e-3, 1e-2, 0.1], 'mean': [1, 1, 2, 3, 1]}), 1e-3", "another rate"),
    "3.5": ("-0.0447, -0.0200", "The sign is turned round"),
}


def repaired(n, generator):
    """Orders in which none keeps its own, but some come eight times as often as others."""
    order = generator.permutation(n)
    for place in range(n):
        if order[place] == place:
            order[[place, (place + 1) % n]] = order[[(place + 1) % n, place]]
    return order


@pytest.mark.parametrize("number", PLAUSIBLE)
def test_a_plausible_wrong_answer_is_told_what_is_wrong(number, capsys):
    answers, words = PLAUSIBLE[number]
    answers = eval(f"[{answers}]", {"np": np, "pd": pd, "repaired": repaired})
    assert not getattr(CHECKS, check_of(CHECKS, number)[0])(*answers)
    assert words in capsys.readouterr().out


def test_a_share_in_an_array_of_one_is_a_share():
    assert CHECKS.ex_1_2(lambda head, column: column.T @ head @ np.linalg.pinv(head) @ column / (column.T @ column))


def test_a_notebook_shows_the_explorers_that_its_page_links_to():
    link = "laboratory.aux_dim=1&amp;laboratory.loss=kl&amp;at=laboratory"
    text = f'Open <a href="../interactivity.html#{link}">one</a>, '
    text += '<a href="../interactivity.html#at=noise">the noise bench</a>.'
    (code,) = exercises.explorers(text)
    assert code == 'from sublearn.explorers.widgets import Laboratory\n\nLaboratory(aux_dim=1, loss="kl")'
    names = {}
    exec(code.replace("\n\nL", "\n\nshown = L"), names)
    assert (names["shown"].aux_dim, names["shown"].loss) == (1, "kl")
    words = exercises.LINK.sub(exercises.named, text)
    assert words == "Open one, the noise bench (in the book: `book/interactivity.html#at=noise`)."


@EACH
def test_what_is_to_be_computed_has_a_cell_for_code(page):
    for exercise in read_page(page)[1:]:
        if exercises.solution_code(exercise):
            cells = [*exercises.cells_of(exercise, CHECKS, solved=False)]
            assert any(kind == "code" and "..." in text for kind, text in cells), exercise.number


def test_notebooks_are_written_where_one_says(tmp_path):
    written = exercises.write(PROJECT, tmp_path, solved=True)
    assert [path.stem for path in written] == [page.stem for page in PAGES]
    assert "copied_share" in Path(written[0]).read_text(encoding="utf8")


def test_an_autograder_is_given_each_check(tmp_path, monkeypatch):
    """A right answer, a wrong one, and None, which otter-grader gives where a cell crashed."""
    written = exercises.write_otter(PROJECT, tmp_path)
    assert len(written) == sum(name.startswith("ex_") for name in vars(CHECKS))
    otter = ModuleType("otter.test_files")
    otter.test_case = lambda: lambda function: function
    monkeypatch.setitem(sys.modules, "otter", ModuleType("otter"))
    monkeypatch.setitem(sys.modules, "otter.test_files", otter)
    monkeypatch.setitem(sys.modules, "checks", CHECKS)
    names = {}
    exec((tmp_path / "01/tests/ex_1_1.py").read_text(encoding="utf8"), names)
    names["grade"]("c")
    for answer, words in {"a": "not yet. A small gradient", None: "not yet. "}.items():
        with pytest.raises(AssertionError, match=words):
            names["grade"](answer)
    assert (tmp_path / "01/checks.py").read_bytes() == Path(CHECKS.__file__).read_bytes()
