"""Results on disk: keyed by what decides them, written whole or not at all."""

import ast
import hashlib
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from threading import get_ident

ROOT = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("SUBLIMINAL_CACHE") or ROOT / "_build" / "cache")
PACKAGE = Path(__file__).resolve().parents[1]


def digest(*parts: object) -> str:
    """First 32 hexadecimal digits of the SHA-256 of `parts`, which must be JSON (tuples count as lists)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write `content` beside `path`, flush it to the disk, then rename: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.{get_ident()}")
    try:
        with beside.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict | None:
    """The JSON object in `path`, or None where there is none (missing or damaged files count as not there)."""
    try:
        found = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_path(module: str) -> Path:
    """The file of a module named below this package, such as "nets.training"."""
    return PACKAGE / f"{module.replace('.', '/')}.py"


def imported(source: str) -> list[str]:
    """Modules of this package, such as "nets.training", that Python source imports, directly or through each other."""
    reached: set[str] = set()
    waiting = [source]
    while waiting:
        for name in _names(ast.parse(waiting.pop())):
            module = name.removeprefix("sublearn.")
            path = module_path(module)
            if name.startswith("sublearn.") and module not in reached and path.exists():
                reached.add(module)
                waiting.append(path.read_text(encoding="utf8"))
    return sorted(reached)


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            constant = body[0].value
            if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
                node.body = body[1:] or [ast.Pass()]
    return tree


def module_digest(module: str) -> str:
    """Digest of one module's syntax tree: comments, layout and docstrings do not count."""
    tree = ast.parse(module_path(module).read_text(encoding="utf8"))
    return hashlib.sha256(ast.dump(_without_docstrings(tree)).encode()).hexdigest()[:32]


@cache
def code_digest(*modules: str) -> str:
    """Digest of the named modules and of every module of this package that they import."""
    reached = imported("\n".join(f"import sublearn.{module}" for module in modules))
    return digest({module: module_digest(module) for module in reached})
