"""The plan of the house: what may import what, and how long things may be."""

import ast
import re
from pathlib import Path

import pytest

LIB = Path(__file__).resolve().parents[1] / "lib"
SCIENCE = {path.stem: path for path in sorted((LIB / "sublearn").glob("*.py")) if path.stem != "__init__"}
MODULES = sorted(LIB.glob("*/*.py"))
READING = ast.get_docstring(ast.parse((LIB / "sublearn" / "__init__.py").read_text(encoding="utf8")))
ORDER = list(dict.fromkeys(re.findall(r"\w+(?= >)|(?<=> )\w+", READING)))


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "sublearn":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sublearn."):
            yield node.module.split(".")[1]


def functions(path):
    tree = ast.parse(path.read_text(encoding="utf8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def test_the_reading_order_names_every_module():
    assert set(ORDER) == set(SCIENCE)


@pytest.mark.parametrize("module", SCIENCE)
def test_a_module_imports_only_names_to_its_left(module):
    wrong = [name for name in imports(SCIENCE[module]) if ORDER.index(name) >= ORDER.index(module)]
    assert not wrong, f"{module} imports {wrong}, which stand to its right in the reading order"


@pytest.mark.parametrize(
    "module", ["stats", "figures", "embed", "explorers", "noisebench", "notebook", "settings", "seeds", "cache"]
)
def test_tables_and_figures_need_no_torch(module):
    waiting, seen = [module], set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        text = SCIENCE[name].read_text(encoding="utf8")
        assert not re.search(r"^(import|from) torch", text, re.MULTILINE), f"{module} reaches torch through {name}"
        waiting += [other for other in imports(SCIENCE[name]) if other not in seen]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_a_module_is_short_and_says_what_it_is(path):
    text = path.read_text(encoding="utf8")
    assert text.count("\n") <= 250
    assert ast.get_docstring(ast.parse(text)).splitlines()[0].endswith((".", ";", ","))
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions(path) if f.end_lineno - f.lineno >= 40}
    assert not long, f"longer than 40 lines with their docstrings: {long}"


@pytest.mark.parametrize("module", SCIENCE)
def test_public_functions_are_documented_and_on_the_road(module):
    readers = [*MODULES, *(LIB.parent / "notebooks").glob("*.ipynb"), *(LIB.parent / "tests").glob("bench.py")]
    everything = "\n".join(reader.read_text(encoding="utf8") for reader in readers)
    for function in functions(SCIENCE[module]):
        if not function.name.startswith("_") and not function.col_offset:
            assert ast.get_docstring(function), f"{function.name} has no docstring"
            uses = len(re.findall(rf"\b{function.name}\b", everything))
            assert uses > 1, f"{function.name} is called by no module and no notebook"
