"""The images a network sees: found, checked against known digests, and decoded once.

A data set is looked for in the folder named by SUBLIMINAL_DATA (a relative path counts from the repository's
root), in `data/` at the root and in the user's cache folder, into which torchvision else downloads it.
Files lie as torchvision keeps them, e.g. `MNIST/raw/train-images-idx3-ubyte`, with or without `.gz`.
"""

import csv
import gzip
import hashlib
import importlib.util
import io
import os
import socket
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from zipfile import BadZipFile, ZipFile

import numpy as np
from platformdirs import user_cache_path

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("SUBLIMINAL_CACHE") or ROOT / "_build" / "cache")
MANIFEST = Path(__file__).with_name("manifest.csv")
TIMEOUT = 15.0  # seconds without an answer from a download server
DIGITS_TEST = 50  # test images of each class of `digits`
SKLEARN = Path(importlib.util.find_spec("sklearn").origin).parent  # finding it costs no import
PARTS = ("train_images", "train_labels", "test_images", "test_labels")


class DataUnavailable(RuntimeError):
    """A data set lies in no known place and cannot be downloaded."""


class DataCorrupt(RuntimeError):
    """A data file is not the one that the manifest names."""


class Images(NamedTuple):
    """A labeled image set: uint8 images `(image, pixel)`, line by line, and int64 labels `(image,)`."""

    name: str
    train_images: "torch.Tensor"
    train_labels: "torch.Tensor"
    test_images: "torch.Tensor"
    test_labels: "torch.Tensor"
    classes: int
    side: int  # pixels
    top: int  # largest pixel value
    source: str  # which files these are, for the reader


class Source(NamedTuple):
    """Files that can serve as a data set: title, folder, and the torchvision class that reads them."""

    title: str
    folder: str  # below a place such as `data/`
    reader: str
    classes: int = 10
    top: int = 255


SOURCES = {
    "mnist": [Source("MNIST", "MNIST/raw", "MNIST")],
    "fashion": [Source("Fashion-MNIST", "FashionMNIST/raw", "FashionMNIST")],
    "emnist": [
        Source("EMNIST Balanced", "EMNIST/raw", "EMNIST", classes=47),
        Source("EMNIST47 (stand-in for EMNIST Balanced)", "EMNIST47/raw", "MNIST", classes=47),
    ],
    "digits": [Source("scikit-learn digits (8 x 8 pixels)", "datasets/data", "", top=16)],
}


def load(dataset: str) -> Images:
    """Give a data set ("mnist", "fashion", "emnist" or "digits") as tensors; raises as `locate` does.

    torchvision decodes the files once; later calls, in any process, read `CACHE/data`.
    """
    source, paths = _find(dataset)
    arrays = _digits(paths[0]) if dataset == "digits" else _decoded(source, paths)
    import torch  # here, so that the press can ask for a digest without waiting seconds for it

    tensors = {part: torch.from_numpy(array) for part, array in zip(PARTS, arrays, strict=True)}
    side = round(arrays[0].shape[1] ** 0.5)
    return Images(dataset, **tensors, classes=source.classes, side=side, top=source.top, source=source.title)


def locate(dataset: str) -> Path:
    """Give the folder that holds a data set's checked files, after a download where that is needed.

    Raises ValueError for an unknown name, DataUnavailable when nothing is found or downloaded, and
    DataCorrupt when a file's SHA-256 differs from the manifest's. For "emnist" the official Balanced
    split comes first, then EMNIST47 from the same places, and only then a download of 562 MB.
    """
    return _find(dataset)[1][0].parent


def digest(dataset: str) -> str:
    """Give the SHA-256 over the title and the manifest entries of what `locate` finds; raises as it does."""
    return _digest(_find(dataset)[0])


def _digest(source: Source) -> str:
    return hashlib.sha256(repr((source, sorted(_manifest(source).items()))).encode()).hexdigest()


def _manifest(source: Source) -> dict[str, str]:
    with MANIFEST.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if source.folder.startswith(row["dataset"] + "/")]
    return {row["file"]: row["sha256"] for row in rows}


def _files(source: Source) -> list[str]:
    return [file.removesuffix(".gz") for file in _manifest(source) if file.endswith(".gz")]


def _places() -> list[Path]:
    named = os.environ.get("SUBLIMINAL_DATA")
    if named and not (ROOT / named).is_dir():
        raise DataUnavailable(f"SUBLIMINAL_DATA is {named!r}, which is no folder: name another or unset it.")
    return [*([ROOT / named] if named else []), ROOT / "data", user_cache_path("subliminal-learning")]


def _find(dataset: str) -> tuple[Source, list[Path]]:
    if dataset not in SOURCES:
        raise ValueError(f"Unknown data set {dataset!r}: use one of {', '.join(SOURCES)}.")
    for source in SOURCES[dataset]:
        for place in _places() if dataset != "digits" else [SKLEARN]:
            if all(_lying(source, place / source.folder)):
                return source, _checked(source, place / source.folder)
    source = SOURCES[dataset][0]
    return source, _checked(source, _download(source))


def _lying(source: Source, folder: Path) -> list[Path | None]:
    """Give the files as they lie in a folder, decompressed or not, in a form that the manifest lists."""
    known = _manifest(source)
    forms = ([folder / form for form in (file, f"{file}.gz") if form in known] for file in _files(source))
    return [next(filter(Path.is_file, paths), None) for paths in forms]


def _checked(source: Source, folder: Path) -> list[Path]:
    paths = _lying(source, folder)
    for path in paths:
        expected = _manifest(source)[path.name]
        with path.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if found != expected:
            raise DataCorrupt(
                f"{path} ({path.stat().st_size} bytes) is damaged or another file: expected SHA-256 "
                f"{expected}, found {found}; delete it and run again, or put the right file there."
            )
    return paths


def _download(source: Source) -> Path:
    """Fetch the files into the user's cache folder; they appear there only when they are whole."""
    home, before = user_cache_path("subliminal-learning"), socket.getdefaulttimeout()
    folder = home / source.folder
    try:
        socket.setdefaulttimeout(TIMEOUT)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="download-", dir=home) as beside:
            fetched = _fetch(source, Path(beside))
            for file in _files(source):
                (fetched / f"{file}.gz").replace(folder / f"{file}.gz")
    except (OSError, RuntimeError, HTTPException, EOFError, BadZipFile, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise DataUnavailable(
            f"{source.title} is not in {', '.join(map(str, _places()))} and its download failed ({reason}): "
            f"set SUBLIMINAL_DATA to a folder that holds {source.folder}, or put "
            f"{', '.join(_files(source))} (with or without .gz) into {ROOT / 'data' / source.folder}."
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    return folder


def _fetch(source: Source, folder: Path) -> Path:
    from torchvision import datasets

    reader = getattr(datasets, source.reader)
    screen = sys.stderr if sys.stderr.isatty() else io.StringIO()  # no progress bar in a notebook's output
    with redirect_stdout(screen), redirect_stderr(screen):
        if source.reader != "EMNIST":
            reader(folder, download=True)
            return folder / source.reader / "raw"
        datasets.utils.download_url(reader.url, folder, filename="gzip.zip", md5=reader.md5)
    with ZipFile(folder / "gzip.zip") as archive:  # six splits; torchvision would unpack them all
        for file in _files(source):
            (folder / f"{file}.gz").write_bytes(archive.read(f"gzip/{file}.gz"))
    return folder


def _decoded(source: Source, paths: list[Path]) -> list[np.ndarray]:
    key = hashlib.sha256(_digest(source).encode() + Path(__file__).read_bytes()).hexdigest()[:16]
    kept = CACHE / "data" / f"{paths[0].parents[1].name}-{key}.npz"
    try:
        with np.load(kept) as arrays:  # a zip archive: reading it checks a CRC of every array
            return [arrays[part] for part in PARTS]
    except Exception:  # whatever a missing or damaged file makes the reader raise, decoding again cures it
        arrays = _decode(source, paths)
    kept.parent.mkdir(parents=True, exist_ok=True)
    beside = kept.with_name(f"{kept.name}.{os.getpid()}.part")
    with beside.open("wb") as file:
        np.savez(file, **dict(zip(PARTS, arrays, strict=True)))
    beside.replace(kept)
    return arrays


def _decode(source: Source, paths: list[Path]) -> list[np.ndarray]:
    """Let torchvision read decompressed copies, because the data folder may be read-only."""
    from torchvision.datasets import mnist

    arrays = []
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            plain, content = Path(folder, "idx"), path.read_bytes()
            plain.write_bytes(gzip.decompress(content) if path.suffix == ".gz" else content)
            if "labels" in path.name:
                arrays.append(mnist.read_label_file(plain).numpy())
            else:
                images = mnist.read_image_file(plain)  # official EMNIST images lie transposed
                arrays.append((images.mT if source.reader == "EMNIST" else images).flatten(1).numpy())
    return arrays


def _digits(path: Path) -> list[np.ndarray]:
    """Split the 1,797 digits: of one fixed shuffle, the first 50 of each class are for testing."""
    table = np.loadtxt(path, delimiter=",").astype(np.int64)
    table = table[np.random.RandomState(0).permutation(len(table))]  # this generator's numbers never change
    labels = table[:, -1]
    test = np.array([np.sum(labels[:place] == label) < DIGITS_TEST for place, label in enumerate(labels)])
    images = table[:, :-1].astype(np.uint8)
    return [images[~test], labels[~test], images[test], labels[test]]
