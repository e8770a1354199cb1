"""The plan of the house: which room may import from which, and how dense its code may be.

Density is what tires a reader, not length: a budget of lines alone is kept by compressing. So what is counted is
what a reader holds in mind at once: tokens a line, syntax nodes a statement, comprehensions.
"""

import ast
import io
import json
import re
import statistics
import tokenize
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
# 47_200; bfloat16 in lm 500; scorecard, reference runs, their page 6_700; chapter 12 5_300, in less memory 200;
# explorers of chapters 10 and 11 700; words linked to the glossary 850; the figure of the experiment 1_300; chapters
# 13 2_700 and 6 4_300; convolutional networks 1_500, photographs 1_600 and chapter 8 3_700; furniture of the pages,
# launch, search, PDF and lints 6_900; chapter 7 7_400; exercises, slides and timings 3_500; chapter 14 2_500
TOKENS = 99_700
NODES = 11
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
    for line in READING.replace(">\n ", ">").splitlines():  # a long one goes on in the next
        if " > " in line:
            room, _, inside = line.rpartition(": ")
            order += [f"{room}.{name}" if room else name for name in inside.split(" > ")]
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
        allowed = (
            order.index(other) < order.index(module)
            if inside
            else other.split(".")[0] in ROOMS[room]
        )
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
        assert not re.search(r"^(import|from) torch", text, re.MULTILINE), (
            f"{module} reaches torch through {name}"
        )
        waiting += [other for other in imports(MODULES[name]) if other not in seen]


@pytest.mark.parametrize(
    "path", sorted(LIB.rglob("*.py")), ids=lambda path: ".".join(path.relative_to(LIB).parts)
)
def test_a_module_says_what_it_is_and_its_functions_are_short(path):
    text = path.read_text(encoding="utf8")
    assert ast.get_docstring(ast.parse(text)).splitlines()[0].endswith((".", ";", ","))
    lines = {each.name: each.end_lineno - each.body[0].end_lineno for each in functions(path)}
    assert not [name for name, count in lines.items() if count > 40], (
        "longer than 40 lines after the docstring"
    )


@pytest.mark.parametrize("module", MODULES)
def test_public_functions_are_documented_and_on_the_road(module):
    readers = [
        *LIB.rglob("*.py"),
        *(LIB.parent / "notebooks").glob("*.ipynb"),
        LIB.parent / "tests" / "bench.py",
    ]
    everything = "\n".join(reader.read_text(encoding="utf8") for reader in readers)
    for function in functions(MODULES[module]):
        if not function.name.startswith("_") and not function.col_offset:
            assert ast.get_docstring(function), f"{function.name} has no docstring"
            uses = len(re.findall(rf"\b{function.name}\b", everything))
            assert uses > 1, f"{function.name} is called by no module and no notebook"


# ---------------------------------------------------------------- density

LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
COMPOUND = (
    ast.FunctionDef,
    ast.ClassDef,
    ast.If,
    ast.For,
    ast.While,
    ast.With,
    ast.Try,
    ast.Import,
    ast.ImportFrom,
)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Density:
    """What a reader of these files meets: tokens, lines of code, nodes a statement, comprehensions."""

    def __init__(self, paths):
        self.tokens = self.comprehensions = self.nested = self.lines = 0
        self.statements, self.functions = [], []
        for path in paths:
            self.count(path.read_text(encoding="utf8"))

    def count(self, source):
        tree = ast.parse(source)
        nodes = list(ast.walk(tree))
        words = set()  # lines of docstrings
        for node in nodes:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                words |= set(range(node.lineno, node.end_lineno + 1))
        code = set()
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type not in LAYOUT and token.start[0] not in words:
                self.tokens += 1
                code |= set(range(token.start[0], token.end[0] + 1))
        self.lines += len(code)
        for node in nodes:
            inside = list(ast.walk(node))
            if isinstance(node, COMPREHENSIONS):
                self.comprehensions += 1
                others = [
                    other
                    for other in inside
                    if other is not node and isinstance(other, COMPREHENSIONS)
                ]
                self.nested += bool(others) or len(node.generators) > 1
            elif isinstance(node, ast.FunctionDef):
                self.functions.append(len(code & set(range(node.lineno, node.end_lineno + 1))))
            elif (
                isinstance(node, ast.stmt)
                and not isinstance(node, COMPOUND)
                and node.lineno not in words
            ):
                self.statements.append(len(inside))


def high(values):
    """The 95th percentile."""
    return statistics.quantiles(values, n=20)[-1]


def test_the_code_is_not_dense():
    lib = Density(LIB.rglob("*.py"))
    assert lib.tokens <= TOKENS
    assert lib.tokens / lib.lines <= 9.5
    assert statistics.median(lib.statements) <= NODES
    assert high(lib.statements) <= 26
    assert statistics.median(lib.functions) <= 8
    assert high(lib.functions) <= 25
    assert lib.comprehensions / lib.lines <= 0.03
    assert lib.nested == 0


@pytest.mark.parametrize(
    "room", sorted({path.parent for path in LIB.rglob("*.py")}), ids=lambda room: room.name
)
def test_no_room_is_dense(room):
    here = Density(room.glob("*.py"))
    assert not here.lines or here.tokens / here.lines <= 10
    assert here.nested == 0
    assert all(
        len(line) <= 100 for path in room.glob("*.py") for line in path.read_text().splitlines()
    )


@pytest.mark.parametrize(
    "path",
    [
        *sorted((LIB.parent / "notebooks").rglob("[0-9][0-9]*.ipynb")),
        *sorted((LIB.parent / "book").rglob("*.md")),
    ],
    ids=lambda path: path.stem,
)
def test_no_line_of_prose_is_lost_as_a_comment(path):
    """A line that begins with a percent sign is a comment to MyST: "95" before it would stand alone."""
    texts = [path.read_text(encoding="utf8")]
    if path.suffix == ".ipynb":
        cells = json.loads(texts[0])["cells"]
        texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    for text in texts:
        assert not re.search(r"^\s*%", text, re.MULTILINE)
