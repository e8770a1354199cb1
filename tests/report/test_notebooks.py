"""The notebooks as they lie in git: clean, small-celled, parametrized, and every figure with authored words."""

import ast
import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "notebooks" / "template" / "chapter.ipynb"  # what new chapters start from: it obeys the same rules
NOTEBOOKS = [*sorted((ROOT / "notebooks").glob("*.ipynb")), TEMPLATE]
EACH = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind="code"):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


def folded(cell):
    return any(tag.startswith(("hide-", "remove-")) for tag in cell["metadata"].get("tags", []))


def calls(path, function):
    """Every call of a function in a notebook: its keyword arguments as syntax trees."""
    trees = [
        node
        for cell in cells(path)
        for node in ast.walk(ast.parse(source(cell)))
        if isinstance(node, ast.Call)
    ]
    named = [tree for tree in trees if isinstance(tree.func, ast.Name) and tree.func.id == function]
    return [{keyword.arg: keyword.value for keyword in tree.keywords} for tree in named]


def literal_text(node):
    """The characters of a string that were typed: all of a plain string, the fixed parts of an f-string."""
    parts = [
        part
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]
    return "".join(part.value for part in parts)


def test_there_are_notebooks():
    assert NOTEBOOKS, "notebooks/ holds no notebook"


@EACH
def test_holds_no_outputs(path):
    notebook = json.loads(path.read_text())
    assert not {"papermill", "widgets", "press"} & set(notebook["metadata"])
    for number, cell in enumerate(notebook["cells"], start=1):
        assert not cell.get("outputs"), (
            f"cell {number} holds outputs; run nbstripout on {path.name}"
        )
        assert cell.get("execution_count") is None, f"cell {number} holds an execution count"


@EACH
def test_cells_have_unique_ids(path):
    ids = [cell["id"] for cell in json.loads(path.read_text())["cells"]]
    assert len(set(ids)) == len(ids)


@EACH
def test_begins_with_a_title(path):
    first = json.loads(path.read_text())["cells"][0]
    assert first["cell_type"] == "markdown"
    assert source(first).startswith("# ")


@EACH
def test_first_code_cell_is_the_parameters_cell(path):
    tagged = [cell for cell in cells(path) if "parameters" in cell["metadata"].get("tags", [])]
    assert tagged == cells(path)[:1]
    for line in ast.parse(source(tagged[0])).body:
        assert isinstance(line, ast.Assign), f"{ast.unparse(line)!r} is no assignment"
        ast.literal_eval(line.value)


@EACH
def test_parameters_are_those_of_the_laptop_profile(path):
    laptop = yaml.safe_load((ROOT / "profiles.yml").read_text())["laptop"]
    wanted = laptop.get("defaults", {}) | laptop.get("notebooks", {}).get(path.stem, {})
    body = ast.parse(source(cells(path)[0])).body
    own = {line.targets[0].id: ast.literal_eval(line.value) for line in body}
    assert own == own | {key: value for key, value in wanted.items() if key in own}


@EACH
def test_cells_are_small(path):
    lengths = [
        len([line for line in source(cell).splitlines() if line.strip()]) for cell in cells(path)
    ]
    long = {number: length for number, length in enumerate(lengths, start=1) if length > 20}
    assert not long, f"code cells with their lines, at most 20 allowed: {long}"
    shown = [length for cell, length in zip(cells(path), lengths) if not folded(cell)]
    assert statistics.median(shown) <= 4, (
        "half of the code cells that a page shows have at most 4 lines"
    )


@EACH
def test_functions_are_small(path):
    for cell in cells(path):
        for node in ast.walk(ast.parse(source(cell))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno - node.lineno < 8, (
                    f"{node.name} has more than 8 lines; move it into sublearn"
                )


@EACH
def test_every_figure_has_a_name_a_caption_and_an_alternative_text(path):
    for keywords in calls(path, "show"):
        assert {"name", "caption", "alt"} <= keywords.keys()
        assert literal_text(keywords["name"]).startswith("fig:")
        alt = literal_text(keywords["alt"]).strip()
        assert len(alt.split()) >= 6, f"the alternative text {alt!r} says too little"
        assert not alt.lower().endswith((".png", ".svg"))
        assert alt not in literal_text(keywords["caption"]), (
            "the alternative text repeats the caption"
        )


@EACH
def test_every_table_has_a_name_and_a_caption(path):
    for keywords in calls(path, "tabulate"):
        assert {"name", "caption"} <= keywords.keys()
        assert literal_text(keywords["caption"]).strip()


@EACH
def test_one_figure_per_cell(path):
    for cell in cells(path):
        shown = [
            node
            for node in ast.walk(ast.parse(source(cell)))
            if isinstance(node, ast.Name) and node.id == "show"
        ]
        assert len(shown) <= 1


def test_names_of_figures_and_tables_are_unique():
    names = [literal_text(found["name"]) for path in NOTEBOOKS for what in ("show", "tabulate")
             for found in calls(path, what)]  # fmt: skip
    assert len(set(names)) == len(names)


def test_notebooks_are_lint_free():
    command = [sys.executable, "-m", "ruff", "check", "notebooks"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@EACH
def test_a_figure_and_a_table_are_kept_under_different_names(path):
    """Both are files of one folder, called by what stands behind the colon."""
    names = []
    for function in ("show", "tabulate", "show_claims"):
        names += [ast.literal_eval(call["name"]) for call in calls(path, function)]
    stems = [name.split(":")[-1] for name in names]
    assert len(stems) == len(set(stems)), sorted(stem for stem in set(stems) if stems.count(stem) > 1)
