"""Sets of images for networks that see squares: gray ones in memory, photographs read when needed.

Photographs are those of cats and dogs: in a folder of the reader's with one folder a class (the
layout of the Kaggle competition), in `CatDog` beside the other data sets, or Oxford-IIIT Pet.
"""

import os
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from sublearn.core.machine import progress
from sublearn.core.rng import rng
from sublearn.core.store import ROOT, digest
from sublearn.nets import data
from sublearn.nets.data import DataUnavailable

PHOTOS = "photos"  # the name of that set; others are those of `data.load`
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp"}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and sd of its channels
NORMED = 10_000  # training images by which gray ones are normalized
TEST_SHARE = 5  # one photograph in so many is for testing where a folder does not say which
SPECIES = ("cat", "dog")
Levels = "Tensor | Photos"  # rows (row,) pick uint8 levels (row, channel * pixel)


class Photos:
    """Photographs by path, decoded when their rows are asked for, as levels 0 to 255."""

    def __init__(self, paths: Sequence[Path], side: int) -> None:
        self.paths = paths
        self.side = side

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Levels (row, 3 * side * side), channel by channel."""
        return torch.stack([decode(self.paths[row], self.side) for row in rows.tolist()])


class ImageSet(NamedTuple):
    """Labeled images: levels 0 to `top` by row, and what a network needs to know of them."""

    train: Levels
    train_labels: Tensor
    test: Levels
    test_labels: Tensor
    classes: int  # of the whole set; a network has so many class logits
    channels: int
    side: int
    top: int
    mean: tuple[float, ...]  # of the channels, on levels 0 to 1
    sd: tuple[float, ...]
    skipped: tuple[str, ...] = ()  # files that could not be decoded


@lru_cache(maxsize=8)
def image_set(
    name: str,
    *,
    side: int = 64,
    classes: int | None = None,
    train_images: int | None = None,
    test_images: int | None = None,
) -> ImageSet:
    """The images of a set, `PHOTOS` or one of `data.load`.

    side: of photographs. classes: only the first ones. train_images, test_images: only so many, a
    random choice that is the same in every run.
    Errors: ValueError where there are fewer, DataUnavailable where the set is not to be had.
    """
    images = photographs(side) if name == PHOTOS else gray_images(name)
    if classes and classes > images.classes:
        raise ValueError(f"classes is {classes}; {name} has {images.classes}")
    train = _chosen(images.train_labels, classes, train_images, "train_images")
    test = _chosen(images.test_labels, classes, test_images, "test_images")
    return images._replace(
        train=_rows(images.train, train),
        train_labels=images.train_labels[train],
        test=_rows(images.test, test),
        test_labels=images.test_labels[test],
    )


def _chosen(labels: Tensor, classes: int | None, count: int | None, name: str) -> Tensor:
    """Rows (row,) of the first classes, in one random order where only some are wanted."""
    present = torch.arange(len(labels))
    if classes:
        present = present[labels < classes]
    if count is None:
        return present
    if not 1 <= count <= len(present):
        raise ValueError(f"{name} is {count}; there are {len(present)}")
    generator = rng(0, "chosen images", name)
    order = generator.permutation(len(present))
    chosen = torch.from_numpy(order[:count])
    return present[chosen]


def _rows(levels: Levels, rows: Tensor) -> Levels:
    if isinstance(levels, Photos):
        return Photos([levels.paths[row] for row in rows.tolist()], levels.side)
    return levels[rows]


@cache
def gray_images(name: str) -> ImageSet:
    """A gray set of `data.load`, normalized by its own training images."""
    images = data.load(name)
    sample = images.train_images[:NORMED].double()
    sample /= images.top
    mean = sample.mean().item()
    sd = sample.std().item()
    moments = ((mean,), (sd,))
    train = (images.train_images, images.train_labels)
    test = (images.test_images, images.test_labels)
    return ImageSet(*train, *test, images.classes, 1, images.side, images.top, *moments)


@cache
def images_digest(name: str) -> str:
    """Digest of the files of a set."""
    if name != PHOTOS:
        return data.digest(name)
    files = []
    for part in photo_files().values():
        for path, label in part:
            files.append([path.name, path.stat().st_size, label])
    return digest(files)


# ---------------------------------------------------------------- photographs

Files = dict[str, list[tuple[Path, int]]]  # "train" and "test" -> paths with their labels


def photo_files() -> Files:
    """The photographs that are at hand, looked for in the order of the module's docstring.

    SUBLIMINAL_PHOTOS names the reader's folder, SUBLIMINAL_DATA that of the data sets.
    Errors: DataUnavailable with what to do, ValueError for an empty class folder.
    """
    named = os.environ.get("SUBLIMINAL_PHOTOS")
    if named:
        return folder_files(ROOT / named)
    homes = [ROOT / "data"]
    if os.environ.get("SUBLIMINAL_DATA"):
        homes.insert(0, ROOT / os.environ["SUBLIMINAL_DATA"])
    for home in homes:
        if (home / "CatDog").is_dir():
            return folder_files(home / "CatDog")
        if (home / "oxford-iiit-pet").is_dir():
            return oxford_files(home / "oxford-iiit-pet")
    raise DataUnavailable(
        f"There are no photographs in {' or '.join(map(str, homes))}: set SUBLIMINAL_PHOTOS to a "
        "folder with one folder a class (such as Kaggle's Dogs vs. Cats), or fetch Oxford-IIIT Pet "
        "by `sublearn.nets.pictures.download_pets()`."
    )


def download_pets() -> None:
    """Let torchvision fetch Oxford-IIIT Pet (800 MB) into `data/`."""
    from torchvision.datasets import OxfordIIITPet  # takes seconds

    for split in ("trainval", "test"):
        OxfordIIITPet(ROOT / "data", split, target_types="binary-category", download=True)


def folder_files(folder: Path) -> Files:
    """Files of a folder with one folder a class, inside `train` and `test` where it has those."""
    if not folder.is_dir():
        raise DataUnavailable(f"{folder} is no folder: SUBLIMINAL_PHOTOS must name one.")
    if (folder / "train").is_dir():
        return {part: _class_files(folder / part) for part in ("train", "test")}
    files = _class_files(folder)
    order = rng(0, "photo split").permutation(len(files)).tolist()
    shuffled = [files[place] for place in order]
    count = len(files) // TEST_SHARE
    return {"train": shuffled[count:], "test": shuffled[:count]}


def _class_files(folder: Path) -> list[tuple[Path, int]]:
    files = []
    classes = sorted(path for path in folder.glob("[!.]*") if path.is_dir())
    if len(classes) < 2:
        raise ValueError(f"{folder} holds {len(classes)} class folders; it must hold 2 or more")
    for label, place in enumerate(classes):
        paths = sorted(path for path in place.iterdir() if path.suffix.lower() in SUFFIXES)
        if not paths:
            raise ValueError(f"class folder {place} holds no image; fill it or remove it")
        files += [(path, label) for path in paths]
    return files


def oxford_files(folder: Path) -> Files:
    """Files of Oxford-IIIT Pet by species, cat 0 and dog 1."""
    files = {}
    for part, listing in {"train": "trainval.txt", "test": "test.txt"}.items():
        files[part] = []
        for line in (folder / "annotations" / listing).read_text().splitlines():
            name, _, species, _ = line.split()
            path = folder / "images" / f"{name}.jpg"
            files[part].append((path, int(species) - 1))
    return files


def decode(path: Path, side: int) -> Tensor:
    """Levels (3 * side * side,) of a photograph squeezed to a square."""
    with Image.open(path) as photo:
        photo.draft("RGB", (side, side))  # a JPEG may be decoded at a fraction of its size
        square = photo.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    content = bytearray(square.tobytes())
    levels = torch.frombuffer(content, dtype=torch.uint8)
    levels = levels.view(side, side, 3)
    return levels.permute(2, 0, 1).flatten()


@cache
def photographs(side: int) -> ImageSet:
    """The photographs at hand, less those that cannot be decoded, whose names are kept."""
    files = photo_files()
    kept = {}
    skipped = []
    with progress(sum(map(len, files.values())), "photographs") as bar:
        for part, listing in files.items():
            kept[part] = []
            for path, label in listing:
                if _is_decodable(path, side):
                    kept[part].append((path, label))
                else:
                    skipped.append(path.name)
                bar.update()
    parts = []
    for part in ("train", "test"):
        paths, labels = zip(*kept[part])
        photos = Photos(paths, side)
        parts += [photos, torch.tensor(labels)]
    classes = len(parts[1].unique())
    return ImageSet(*parts, classes, 3, side, 255, *IMAGENET, tuple(skipped))


def _is_decodable(path: Path, side: int) -> bool:
    try:
        decode(path, side)
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError):
        return False
    return True
