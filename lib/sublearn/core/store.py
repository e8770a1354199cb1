"""Results on disk, each under everything that decides it; what is missing is computed.

What decides a stored thing: its key (settings, seed, digests of data), the code that makes it, the
device with its number type, and the versions of the libraries below. A kind names the code and the
form of the file.
"""

import ast
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from threading import get_ident
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

from sublearn.core import cluster, machine
from sublearn.core.machine import OnStep

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "lib" / "sublearn"
LIBRARIES = ("torch", "transformers", "tokenizers")  # whose versions are in every key


def digest(*parts: object) -> str:
    """First 32 hexadecimal digits of the SHA-256 of `parts`, which must be JSON."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write `content` beside `path`, flush it, then rename: a reader sees the old or the new."""
    if isinstance(content, str):
        content = content.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = _beside(path)
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{get_ident()}")


def read_json(path: Path) -> dict | None:
    """The JSON object in `path`, or None where the file is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


# ---------------------------------------------------------------- the code that decides


def module_path(module: str) -> Path:
    """The file of a module named below this package, such as "nets.training"."""
    return PACKAGE / f"{module.replace('.', '/')}.py"


def _imported_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def imported(source: str) -> list[str]:
    """Modules of this package that Python source imports, directly or through each other."""
    reached: set[str] = set()
    waiting = [source]
    while waiting:
        for name in _imported_names(ast.parse(waiting.pop())):
            module = name.removeprefix("sublearn.")
            path = module_path(module)
            if name.startswith("sublearn.") and module not in reached and path.exists():
                reached.add(module)
                waiting.append(path.read_text(encoding="utf8"))
    return sorted(reached)


def _drop_docstrings(tree: ast.AST) -> None:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list) or not body or not isinstance(body[0], ast.Expr):
            continue
        first = body[0].value
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            node.body = body[1:] or [ast.Pass()]


def module_digest(module: str) -> str:
    """Digest of one module's syntax tree: comments, layout and docstrings do not count."""
    tree = ast.parse(module_path(module).read_text(encoding="utf8"))
    _drop_docstrings(tree)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:32]


@cache
def code_digest(*modules: str) -> str:
    """Digest of the named modules and of every module of this package that they import."""
    source = "\n".join(f"import sublearn.{module}" for module in modules)
    return digest({module: module_digest(module) for module in imported(source)})


@cache
def library_versions() -> dict[str, str]:
    """Versions of the libraries that decide numbers, by name."""
    return {name: version(name) for name in LIBRARIES}


# ---------------------------------------------------------------- forms of files


class Json:
    """A JSON value, with its label beside it for whoever opens the file."""

    suffix = ".json"

    def read(self, path: Path) -> object | None:
        """The value, or None."""
        return (read_json(path) or {}).get("value")

    def write(self, path: Path, value: object, label: dict) -> None:
        """Write label and value."""
        write_atomic(path, json.dumps(label | {"value": value}, indent=1))


class Arrays:
    """Named NumPy arrays in one `.npz` file, whose checksums are checked when it is read."""

    suffix = ".npz"

    def read(self, path: Path) -> dict[str, np.ndarray] | None:
        """The arrays by name, or None."""
        try:
            with np.load(path) as file:
                return dict(file)
        except (OSError, ValueError, EOFError, BadZipFile):
            return None

    def write(self, path: Path, value: dict[str, np.ndarray], label: dict) -> None:
        """Write the arrays."""
        file = io.BytesIO()
        np.savez(file, **value)
        write_atomic(path, file.getvalue())


class Folder:
    """A folder: what is written is a function that fills it, what is read is its path."""

    suffix = ""

    def read(self, path: Path) -> Path | None:
        """The folder, or None."""
        return path if path.is_dir() else None

    def write(self, path: Path, value: Callable[[Path], object], label: dict) -> None:
        """Fill a folder beside `path`, then rename it; that of a faster process is kept."""
        beside = _beside(path)
        shutil.rmtree(beside, ignore_errors=True)  # left by a killed process of the same number
        beside.mkdir(parents=True)
        try:
            value(beside)
            write_atomic(beside / "key.json", json.dumps(label, indent=1))
            beside.rename(path)
        except OSError:
            if not path.is_dir():  # else another process was faster
                raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)


class Kind(NamedTuple):
    """A kind of stored thing: its folder, the digest of the code that makes it, its form."""

    name: str
    code: str
    form: Json | Arrays | Folder


# ---------------------------------------------------------------- the store


def default_root() -> Path:
    """Where results are kept: the folder named by SUBLIMINAL_CACHE, else `_build/cache`."""
    named = os.environ.get("SUBLIMINAL_CACHE")
    return Path(named) if named else ROOT / "_build" / "cache"


Key = Hashable  # a frozen dataclass whose fields are JSON
Save = Callable[[Key, object], None]
Compute = Callable[[list[Key], Save, OnStep], None]


@dataclass(frozen=True)
class Store:
    """What is on disk below `root`; it can be pickled, so that other processes may write."""

    root: Path = field(default_factory=default_root)

    def label(self, kind: Kind, key: Key) -> dict:
        """Everything that decides one stored thing, as JSON."""
        surroundings = {
            "code": kind.code,
            "hardware": machine.hardware(),
            "versions": library_versions(),
        }
        return {"kind": kind.name, "key": asdict(key), "surroundings": surroundings}

    def path(self, kind: Kind, key: Key) -> Path:
        """Where one stored thing lies, or will lie."""
        return self.root / kind.name / f"{digest(self.label(kind, key))}{kind.form.suffix}"

    def read(self, kind: Kind, key: Key) -> object | None:
        """A stored value, or None where there is none or it is damaged."""
        return kind.form.read(self.path(kind, key))

    def write(self, kind: Kind, key: Key, value: object) -> None:
        """Store a value, whole or not at all."""
        kind.form.write(self.path(kind, key), value, self.label(kind, key))

    def fill(
        self,
        kind: Kind,
        keys: Iterable[Key],
        compute: Compute,
        *,
        group: Callable[[list[Key]], Sequence[list[Key]]] | None = None,
        steps: Callable[[list[Key]], int] = len,
        title: str = "",
    ) -> None:
        """Compute what is missing of `keys`, group by group, side by side.

        compute: called with the keys of a group; it calls save(key, value) for each as soon as that
            is finished, and on_step() for every step of the progress bar `title`. A function of a
            module or a partial of one, so that it can be pickled.
        group: splits the missing keys into lists that are computed together (default: each alone).
        steps: how many steps a group takes. The longest begin first, or one would keep the other
            workers waiting.
        """
        missing = [key for key in dict.fromkeys(keys) if self.read(kind, key) is None]
        groups = group(missing) if group else [[key] for key in missing]
        groups = sorted(groups, key=steps, reverse=True)
        job = partial(run_job, compute=compute, store=self, kind=kind)
        total = sum(steps(keys) for keys in groups)
        cluster.parallel_map(job, groups, total=total, title=title)


def run_job(
    keys: list[Key],
    on_step: OnStep,
    *,
    compute: Compute,
    store: Store,
    kind: Kind,
) -> None:
    """Compute a group of keys on a worker, unless one did that meanwhile, or before it died."""
    if any(store.read(kind, key) is None for key in keys):
        compute(keys, partial(store.write, kind), on_step)
