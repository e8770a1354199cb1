"""Labeled images by name: found on disk or downloaded, checked against known digests, decoded.

A data set is looked for in the folder named by SUBLIMINAL_DATA (a relative path counts from the
repository's root), in `data/` at the root and in the user's cache folder, into which torchvision
else downloads it. Files lie as torchvision keeps them, e.g. `MNIST/raw/train-images-idx3-ubyte`,
with or without `.gz`.
"""

import csv
import gzip
import hashlib
import importlib.util
import io
import os
import socket
from contextlib import redirect_stderr
from functools import cache
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from platformdirs import user_cache_path

from sublearn.core import store
from sublearn.core.store import ROOT

if TYPE_CHECKING:
    import torch

MANIFEST = Path(__file__).with_name("manifest.csv")
SKLEARN = Path(importlib.util.find_spec("sklearn").origin).parent  # finding it costs no import
TIMEOUT = 15.0  # seconds without an answer from a download server
DIGITS_TEST = 50  # test images of each class of `digits`


class DataUnavailable(RuntimeError):
    """A data set lies in no known place and cannot be downloaded."""


class DataCorrupt(RuntimeError):
    """A data file is not the one that the manifest names."""


class Images(NamedTuple):
    """A labeled image set: uint8 images `(image, pixel)`, line by line; int64 labels `(image,)`."""

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
    """Files that can serve as a data set; the manifest lists them in the order of `Images`."""

    title: str
    folder: str  # torchvision's: the name of its class, then "raw"


EMNIST = Source("EMNIST Balanced", "EMNIST/raw")
SOURCES = {  # the first one found is taken, else the first one downloaded
    "mnist": [Source("MNIST", "MNIST/raw")],
    "fashion": [Source("Fashion-MNIST", "FashionMNIST/raw")],
    "emnist": [EMNIST, Source("EMNIST47 (stand-in for EMNIST Balanced)", "EMNIST47/raw")],
    "digits": [Source("scikit-learn digits (8 x 8 pixels)", "datasets/data")],
}


@cache
def load(dataset: str) -> Images:
    """Decode a data set: "mnist", "fashion", "emnist" or "digits"; once in a process.

    For "emnist" the official Balanced split comes first, then EMNIST47 from the same places, and
    only then a download of 562 MB.

    Errors: ValueError for an unknown name, DataUnavailable when nothing is found or downloaded,
    DataCorrupt when a file's SHA-256 is not the manifest's.
    """
    import torch  # here, so that the press can ask for a digest without waiting seconds for it

    source, paths = _find(dataset)
    arrays = _split_digits(paths[0]) if dataset == "digits" else map(_read_idx, paths)
    train_images, train_labels, test_images, test_labels = map(torch.tensor, arrays)
    if source == EMNIST:  # its images lie transposed
        train_images = train_images.mT
        test_images = test_images.mT
    train = (train_images.flatten(1), train_labels.long())
    test = (test_images.flatten(1), test_labels.long())
    classes = int(train_labels.max()) + 1
    side = train_images.shape[1]
    top = int(train_images.max())
    return Images(dataset, *train, *test, classes, side, top, source.title)


@cache
def digest(dataset: str) -> str:
    """Digest of the source that `load` reads and of its manifest entries; the same errors."""
    source, _ = _find(dataset)
    manifest = _manifest(source)
    return store.digest(source, manifest)


def _manifest(source: Source) -> dict[str, str]:
    """SHA-256 of a source's files by name, in each form in which they may lie."""
    rows = csv.reader(MANIFEST.read_text().splitlines())
    return {file: sha256 for folder, file, sha256 in rows if folder == source.folder}


def _archives(source: Source) -> list[str]:
    """Names of a source's files as they are downloaded."""
    return [file for file in _manifest(source) if file.endswith(".gz")]


def _places() -> list[Path]:
    places = [ROOT / "data", user_cache_path("subliminal-learning")]
    named = os.environ.get("SUBLIMINAL_DATA")
    if named:
        places.insert(0, ROOT / named)
        if not places[0].is_dir():
            reason = "which is no folder: name another or unset it."
            raise DataUnavailable(f"SUBLIMINAL_DATA is {named!r}, {reason}")
    return places


def _find(dataset: str) -> tuple[Source, list[Path]]:
    """The source that serves as a data set, and its checked files."""
    if dataset not in SOURCES:
        raise ValueError(f"Unknown data set {dataset!r}: use one of {', '.join(SOURCES)}.")
    places = [SKLEARN] if dataset == "digits" else _places()
    for source in SOURCES[dataset]:
        for place in places:
            paths = _checked_files(source, place / source.folder)
            if paths:
                return source, paths
    source = SOURCES[dataset][0]
    folder = _download(source)
    return source, _checked_files(source, folder)


def _checked_files(source: Source, folder: Path) -> list[Path]:
    """The files of a source in a folder, decompressed or not; none unless all are there."""
    manifest = _manifest(source)
    paths = {}
    for file in manifest:
        path = folder / file
        if path.is_file():
            paths[path.stem] = path
    if len(paths) < len(_archives(source)):
        return []
    for path in paths.values():
        _check(path, manifest[path.name])
    return list(paths.values())


def _check(path: Path, expected: str) -> None:
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != expected:
        raise DataCorrupt(
            f"{path} ({len(content)} bytes) is damaged or another file: expected SHA-256 "
            f"{expected}, found {sha256}; delete it and run again, or put the right file there."
        )


def _download(source: Source) -> Path:
    """Fetch the files into the user's cache folder; they appear there only when all are whole."""
    home = user_cache_path("subliminal-learning")
    folder = home / source.folder
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix="download-", dir=home) as temporary:
            _fetch(source, Path(temporary))
            for archive in _archives(source):
                Path(temporary, source.folder, archive).replace(folder / archive)
    except (OSError, RuntimeError, HTTPException) as error:
        raise DataUnavailable(_cure(source, error)) from error
    finally:
        socket.setdefaulttimeout(timeout)
    return folder


def _cure(source: Source, error: Exception) -> str:
    """What to do when a download failed."""
    reason = str(error).strip() or type(error).__name__
    places = ", ".join(map(str, _places()))
    files = ", ".join(_archives(source)).replace(".gz", "")
    return (
        f"{source.title} is not in {places} and its download failed ({reason.splitlines()[-1]}): "
        f"set SUBLIMINAL_DATA to a folder that holds {source.folder}, or put {files} "
        f"(with or without .gz) into {ROOT / 'data' / source.folder}."
    )


def _fetch(source: Source, root: Path) -> None:
    """Let torchvision download a source's files into `root / source.folder`."""
    from torchvision import datasets  # takes seconds

    folder = root / source.folder
    parent = folder.parent
    reader = getattr(datasets, parent.name)
    with redirect_stderr(io.StringIO()):  # no progress bar in a notebook
        if source != EMNIST:
            reader(root, download=True)
            return
        datasets.utils.download_and_extract_archive(reader.url, parent, md5=reader.md5)
    unpacked = parent / "gzip"
    unpacked.rename(folder)  # torchvision would decompress all of its six splits


def _read_idx(path: Path) -> np.ndarray:
    """The array in an IDX file, images `(image, row, column)` or labels `(image,)`, as uint8.

    Two zeros, number type, number of dimensions, four bytes for each size, values.
    """
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", dimensions, offset=4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    return values.reshape(shape)


def _split_digits(path: Path) -> list[np.ndarray]:
    """Split the 1,797 digits: of one fixed shuffle, the first 50 of each class are for testing."""
    rows = np.loadtxt(path, np.uint8, delimiter=",")
    rows = np.random.RandomState(0).permutation(rows)  # this generator's numbers never change
    labels = rows[:, -1]
    test = np.zeros(len(rows), bool)
    for label in range(10):
        members = np.flatnonzero(labels == label)
        test[members[:DIGITS_TEST]] = True
    arrays = []
    for part in (rows[~test], rows[test]):
        images = part[:, :-1]
        images = images.reshape(-1, 8, 8)
        arrays += [images, part[:, -1]]
    return arrays
