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
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from platformdirs import user_cache_path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("SUBLIMINAL_CACHE") or ROOT / "_build" / "cache")
MANIFEST = Path(__file__).with_name("manifest.csv")
TIMEOUT = 15.0  # seconds without an answer from a download server
DIGITS_TEST = 50  # test images of each class of `digits`
PARTS = ("train_images", "train_labels", "test_images", "test_labels")


class DataUnavailable(RuntimeError):
    """A data set lies in no known place and cannot be downloaded."""


class DataCorrupt(RuntimeError):
    """A data file is not the one that the manifest names."""


class Images(NamedTuple):
    """A labeled image set: uint8 images `(image, pixel)`, pixels line by line, and int64 labels `(image,)`."""

    name: str
    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    classes: int
    side: int  # pixels
    top: int  # largest pixel value
    source: str  # which files these are, for the reader


class Source(NamedTuple):
    """Files that can serve as a data set: title, folder, and the torchvision class that reads them."""

    title: str
    folder: str
    reader: str
    classes: int = 10
    top: int = 255


SOURCES = {
    "mnist": (Source("MNIST", "MNIST", "MNIST"),),
    "fashion": (Source("Fashion-MNIST", "FashionMNIST", "FashionMNIST"),),
    "emnist": (
        Source("EMNIST Balanced", "EMNIST", "EMNIST", classes=47),
        Source("EMNIST47 (stand-in for EMNIST Balanced)", "EMNIST47", "MNIST", classes=47),
    ),
    "digits": (Source("scikit-learn digits (8 x 8 pixels)", "data", "", top=16),),
}


def load(dataset: str) -> Images:
    """Give a data set ("mnist", "fashion", "emnist" or "digits") as tensors; raises as `locate` does.

    torchvision decodes the files once; later calls, in any process, read `CACHE/data`.
    """
    source, folder = _find(dataset)
    if dataset == "digits":
        arrays = _digits(folder / "digits.csv.gz")
    else:
        kept = CACHE / "data" / f"{dataset}-{_digest(source)[:16]}.npz"
        arrays = _kept(kept) or _keep(kept, _decode(source, folder))
    tensors = {part: torch.from_numpy(array) for part, array in zip(PARTS, arrays, strict=True)}
    side = round(arrays[0].shape[1] ** 0.5)
    return Images(dataset, **tensors, classes=source.classes, side=side, top=source.top, source=source.title)


def locate(dataset: str) -> Path:
    """Give the folder that holds a data set's checked files, after a download where that is needed.

    Raises ValueError for an unknown name, DataUnavailable when nothing is found or downloaded, and
    DataCorrupt when a file's SHA-256 differs from the manifest's. For "emnist" the official Balanced
    split comes first, then EMNIST47 from the same places, and only then a download of 562 MB.
    """
    return _find(dataset)[1]


def digest(dataset: str) -> str:
    """Give the SHA-256 over the title and the manifest entries of what `locate` finds; raises as it does."""
    return _digest(_find(dataset)[0])


def _digest(source: Source) -> str:
    return hashlib.sha256(repr((source, sorted(_manifest(source).items()))).encode()).hexdigest()


def _manifest(source: Source) -> dict[str, str]:
    with MANIFEST.open(newline="") as lines:
        return {file: sha256 for folder, file, sha256 in csv.reader(lines) if folder == source.folder}


def _files(source: Source) -> list[str]:
    return [file.removesuffix(".gz") for file in _manifest(source) if file.endswith(".gz")]


def _places() -> list[Path]:
    named = os.environ.get("SUBLIMINAL_DATA")
    if named and not (ROOT / named).is_dir():
        raise DataUnavailable(f"SUBLIMINAL_DATA is {named!r}, which is no folder: name one that exists or unset it.")
    return [*([ROOT / named] if named else []), ROOT / "data", user_cache_path("subliminal-learning")]


def _find(dataset: str) -> tuple[Source, Path]:
    if dataset not in SOURCES:
        raise ValueError(f"Unknown data set {dataset!r}: use one of {', '.join(SOURCES)}.")
    if dataset == "digits":
        package = Path(importlib.util.find_spec("sklearn").origin).parent  # finding it costs no import
        return SOURCES[dataset][0], _checked(SOURCES[dataset][0], package / "datasets" / "data")
    for source in SOURCES[dataset]:
        for place in _places():
            folder = place / source.folder / "raw"
            if all(_variant(folder, file, source) for file in _files(source)):
                return source, _checked(source, folder)
    return SOURCES[dataset][0], _checked(SOURCES[dataset][0], _download(SOURCES[dataset][0]))


def _variant(folder: Path, file: str, source: Source) -> Path | None:
    """Give the file as it lies there, decompressed or not; a form that the manifest lacks is passed by."""
    listed = (folder / name for name in (file, f"{file}.gz") if name in _manifest(source))
    return next((path for path in listed if path.is_file()), None)


def _checked(source: Source, folder: Path) -> Path:
    expected = _manifest(source)
    for file in _files(source):
        path = _variant(folder, file, source)
        with path.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if found != expected[path.name]:
            raise DataCorrupt(
                f"{path} ({path.stat().st_size} bytes) is damaged or another file: expected SHA-256 "
                f"{expected[path.name]}, found {found}; delete it and fetch it again."
            )
    return folder


def _download(source: Source) -> Path:
    """Fetch the files into the user's cache folder; they appear there only when they are whole."""
    home, before = user_cache_path("subliminal-learning"), socket.getdefaulttimeout()
    folder = home / source.folder / "raw"
    try:
        socket.setdefaulttimeout(TIMEOUT)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="download-", dir=home) as beside:
            fetched = _fetch(source, Path(beside))
            for file in _files(source):
                (fetched / f"{file}.gz").replace(folder / f"{file}.gz")
    except (OSError, RuntimeError, HTTPException, EOFError, BadZipFile, KeyError) as error:
        raise DataUnavailable(_unavailable(source, error)) from error
    finally:
        socket.setdefaulttimeout(before)
    return folder


def _unavailable(source: Source, error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
    return (
        f"{source.title} is not in {', '.join(map(str, _places()))} and its download failed ({reason}): "
        f"set SUBLIMINAL_DATA to a folder that holds {source.folder}/raw, or put "
        f"{', '.join(_files(source))} (or their .gz) into {ROOT / 'data' / source.folder / 'raw'}."
    )


def _fetch(source: Source, folder: Path) -> Path:
    from torchvision import datasets

    with ExitStack() as quiet:
        if not sys.stderr.isatty():  # no progress bar in a notebook's output
            quiet.enter_context(redirect_stdout(io.StringIO()))
            quiet.enter_context(redirect_stderr(io.StringIO()))
        reader = getattr(datasets, source.reader)
        if source.reader != "EMNIST":
            reader(folder, download=True)
            return folder / source.reader / "raw"
        datasets.utils.download_url(reader.url, folder, filename="gzip.zip", md5=reader.md5)
        with ZipFile(folder / "gzip.zip") as archive:  # six splits; torchvision would unpack them all
            for file in _files(source):
                (folder / f"{file}.gz").write_bytes(archive.read(f"gzip/{file}.gz"))
        return folder


def _decode(source: Source, folder: Path) -> list[np.ndarray]:
    """Let torchvision read decompressed copies, because the data folder may be read-only."""
    from torchvision import datasets

    with tempfile.TemporaryDirectory() as copy:
        raw = Path(copy) / source.reader / "raw"
        raw.mkdir(parents=True)
        for file in _files(source):
            path = _variant(folder, file, source)
            content = path.read_bytes()
            (raw / file).write_bytes(gzip.decompress(content) if path.suffix == ".gz" else content)
        options = {"split": "balanced"} if source.reader == "EMNIST" else {}
        halves = [getattr(datasets, source.reader)(copy, train=train, **options) for train in (True, False)]
    upright = [half.data.mT if source.reader == "EMNIST" else half.data for half in halves]
    return [array.numpy() for data, half in zip(upright, halves) for array in (data.flatten(1), half.targets)]


def _kept(path: Path) -> list[np.ndarray] | None:
    try:
        with np.load(path) as arrays:  # a zip archive: reading it checks a CRC of every array
            return [arrays[part] for part in PARTS]
    except Exception:  # whatever a missing or damaged file makes the reader raise, decoding again cures it
        return None


def _keep(path: Path, arrays: list[np.ndarray]) -> list[np.ndarray]:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    with beside.open("wb") as file:
        np.savez(file, **dict(zip(PARTS, arrays, strict=True)))
    beside.replace(path)
    return arrays


def _digits(path: Path) -> list[np.ndarray]:
    """Split the 1,797 digits: of a fixed shuffle, the first 50 of each class are for testing, 1,297 for training."""
    table = np.loadtxt(path, delimiter=",")
    table = table[np.random.RandomState(0).permutation(len(table))]  # this generator's numbers never change
    labels = table[:, -1].astype(np.int64)
    rank = np.array([np.sum(labels[:place] == label) for place, label in enumerate(labels)])
    test = rank < DIGITS_TEST
    images = table[:, :-1].astype(np.uint8)
    return [images[~test], labels[~test], images[test], labels[test]]
