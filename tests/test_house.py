"""The plan of the house: which room may import from which, and how dense its code may be."""

import ast
import re
from pathlib import Path

import pytest

LIB = Path(__file__).resolve().parents[1] / "lib"
SCIENCE = LIB / "sublearn"
MODULES = {
    ".".join(path.relative_to(SCIENCE).with_suffix("").parts): path
    for path in sorted(SCIENCE.rglob("*.py"))
    if path.stem != "__init__"
}
READING = ast.get_docstring(ast.parse((SCIENCE / "__init__.py").read_text(encoding="utf8")))
ROOMS = {  # room -> the rooms that it may import from
    "core": set(),
    "nets": {"core"},
    "lm": {"core"},
    "theory": set(),
    "stats": set(),
    "report": {"core", "nets", "theory", "stats"},
    "explorers": {"core", "nets", "theory", "stats", "report"},
}


def reading_order():
    """The modules in the order in which the package's docstring names them."""
    order = []
    for line in READING.splitlines()[1:]:
        room, _, inside = line.rpartition(": ")
        order += [f"{room}.{name}" if room else name for name in inside.split(" > ") if name]
    return order


def imports(path):
    """Modules of the science that a file imports at any place in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("sublearn"):
            continue
        for alias in node.names:
            name = f"{node.module}.{alias.name}".removeprefix("sublearn.")
            yield name if name in MODULES else node.module.removeprefix("sublearn.")


def functions(path):
    tree = ast.parse(path.read_text(encoding="utf8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def test_the_reading_order_names_every_module():
    assert sorted(reading_order()) == sorted(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_rooms_and_names_to_its_left(module):
    order, room = reading_order(), module.split(".")[0]
    for other in imports(MODULES[module]):
        inside = other.split(".")[0] == room
        allowed = order.index(other) < order.index(module) if inside else other.split(".")[0] in ROOMS[room]
        assert allowed, f"{module} imports {other}"


@pytest.mark.parametrize(
    "module", ["stats", "report.figures", "report.notebook", "explorers.base", "explorers.widgets", "nets.settings",
               "core.rng", "core.store"]
)  # fmt: skip
def test_tables_and_figures_need_no_torch(module):
    waiting, seen = [module], set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        text = MODULES[name].read_text(encoding="utf8")
        assert not re.search(r"^(import|from) torch", text, re.MULTILINE), f"{module} reaches torch through {name}"
        waiting += [other for other in imports(MODULES[name]) if other not in seen]


@pytest.mark.parametrize("path", sorted(LIB.rglob("*.py")), ids=lambda path: ".".join(path.relative_to(LIB).parts))
def test_a_module_says_what_it_is_and_its_functions_are_short(path):
    text = path.read_text(encoding="utf8")
    assert ast.get_docstring(ast.parse(text)).splitlines()[0].endswith((".", ";", ","))
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions(path) if f.end_lineno - f.lineno >= 40}
    assert not long, f"longer than 40 lines with their docstrings: {long}"


@pytest.mark.parametrize("module", MODULES)
def test_public_functions_are_documented_and_on_the_road(module):
    readers = [*LIB.rglob("*.py"), *(LIB.parent / "notebooks").glob("*.ipynb"), LIB.parent / "tests" / "bench.py"]
    everything = "\n".join(reader.read_text(encoding="utf8") for reader in readers)
    for function in functions(MODULES[module]):
        if not function.name.startswith("_") and not function.col_offset:
            assert ast.get_docstring(function), f"{function.name} has no docstring"
            uses = len(re.findall(rf"\b{function.name}\b", everything))
            assert uses > 1, f"{function.name} is called by no module and no notebook"
