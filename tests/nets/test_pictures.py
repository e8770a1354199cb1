"""Sets of images: chosen rows, photographs that stream, what cannot be read, and what may not be published."""

import ast
import hashlib
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sublearn.core.store import ROOT
from sublearn.nets import data, pictures
from sublearn.nets.data import DataUnavailable


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Ten drawn photographs of each of two classes, named by SUBLIMINAL_PHOTOS."""
    generator = np.random.default_rng(0)
    for name in ("Cat", "Dog"):
        (tmp_path / name).mkdir()
        for number in range(10):
            pixels = generator.integers(0, 256, (30, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    monkeypatch.setenv("SUBLIMINAL_PHOTOS", str(tmp_path))
    pictures.photographs.cache_clear()
    pictures.image_set.cache_clear()
    yield tmp_path
    pictures.photographs.cache_clear()
    pictures.image_set.cache_clear()


def test_gray_images_are_those_of_the_data_set():
    images, whole = pictures.image_set("digits", classes=2), data.load("digits")
    assert (images.train_labels < 2).all() and images.classes == 10
    assert torch.equal(images.train, whole.train_images[whole.train_labels < 2])
    assert len(images.test_labels) == (whole.test_labels < 2).sum()


def test_fewer_images_begin_the_larger_choice():
    few, more = (pictures.image_set("digits", train_images=count) for count in (20, 40))
    assert torch.equal(few.train, more.train[:20])
    assert few.train_labels.unique().numel() > 3


def test_what_is_not_there_is_refused():
    with pytest.raises(ValueError, match="classes is 11; digits has 10"):
        pictures.image_set("digits", classes=11)
    with pytest.raises(ValueError, match="test_images is 501; there are 500"):
        pictures.image_set("digits", test_images=501)


def test_photographs_are_squeezed_and_keep_their_labels(folder):
    images = pictures.image_set(pictures.PHOTOS, side=8)
    assert (len(images.train), len(images.test), images.classes, images.channels) == (16, 4, 2, 3)
    levels = images.train[torch.arange(3)]
    assert levels.shape == (3, 192) and levels.dtype == torch.uint8
    for path, label in zip(images.train.paths, images.train_labels.tolist()):
        assert path.parent.name == ("Cat", "Dog")[label]
    Image.new("RGB", (50, 20), (200, 100, 50)).save(folder / "plain.png")
    plain = pictures.decode(folder / "plain.png", 4)
    assert plain.tolist() == [200] * 16 + [100] * 16 + [50] * 16


def test_photographs_are_decoded_only_when_asked_for(folder, monkeypatch):
    images = pictures.image_set(pictures.PHOTOS, side=8)
    asked = []
    real = pictures.decode
    monkeypatch.setattr(pictures, "decode", lambda path, side: asked.append(path) or real(path, side))
    images.train[torch.tensor([2, 5])]
    assert asked == [images.train.paths[2], images.train.paths[5]]


def test_what_cannot_be_decoded_is_skipped_and_named(folder):
    (folder / "Cat" / "broken.jpg").write_bytes(b"no image")
    (folder / "Dog" / "empty.png").write_bytes(b"")
    truncated = (folder / "Dog" / "1.png").read_bytes()[:200]
    (folder / "Dog" / "cut.png").write_bytes(truncated)
    images = pictures.image_set(pictures.PHOTOS, side=8)
    assert sorted(images.skipped) == ["broken.jpg", "cut.png", "empty.png"]
    assert len(images.train) + len(images.test) == 20


def test_an_empty_class_folder_is_an_error(folder):
    (folder / "Fox").mkdir()
    with pytest.raises(ValueError, match=r"class folder .*Fox holds no image; fill it or remove it"):
        pictures.image_set(pictures.PHOTOS, side=8)


def test_a_folder_without_classes_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBLIMINAL_PHOTOS", str(tmp_path))
    with pytest.raises(ValueError, match="holds 0 class folders; it must hold 2 or more"):
        pictures.photo_files()


def test_without_photographs_the_cure_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("SUBLIMINAL_PHOTOS", raising=False)
    monkeypatch.setenv("SUBLIMINAL_DATA", str(tmp_path))
    if (ROOT / "data" / "CatDog").exists():
        pytest.skip("there are photographs in data/")
    with pytest.raises(DataUnavailable, match="set SUBLIMINAL_PHOTOS to a folder with one folder a class"):
        pictures.photo_files()
    monkeypatch.setenv("SUBLIMINAL_PHOTOS", str(tmp_path / "nowhere"))
    with pytest.raises(DataUnavailable, match="nowhere is no folder"):
        pictures.photo_files()


def test_oxford_pets_are_read_by_species(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "trainval.txt").write_text("Abyssinian_1 1 1 1\npug_7 20 2 9\n")
    (tmp_path / "annotations" / "test.txt").write_text("Bengal_2 2 1 2\n")
    files = pictures.oxford_files(tmp_path)
    assert files["train"] == [(tmp_path / "images" / "Abyssinian_1.jpg", 0), (tmp_path / "images" / "pug_7.jpg", 1)]
    assert [label for _, label in files["test"]] == [0]


# ---------------------------------------------------------------- what may not be published


def test_no_file_of_the_repository_is_an_image_of_pixels():
    """Photographs under a licence that forbids it can lie in no raster file, if there is none."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    rasters = [name for name in tracked.stdout.splitlines() if Path(name).suffix.lower() in
               {*pictures.SUFFIXES, ".gif", ".webp", ".npy", ".npz", ".pt"}]  # fmt: skip
    assert not rasters


def test_no_photograph_lies_in_the_built_site():
    home = os.environ.get("SUBLIMINAL_DATA")
    if not home or not (ROOT / home / "CatDog").is_dir():
        pytest.skip("the photographs are not at hand")
    known = {hashlib.md5(path.read_bytes()).digest() for path in (ROOT / home).glob("CatDog*/**/*.jpg")}
    built = [path for site in (ROOT / "_build").glob("**/html") for path in site.rglob("*") if path.is_file()]
    assert not [path for path in built if hashlib.md5(path.read_bytes()).digest() in known]


DRAWN = {"figure", "ax", "axes", "legend"}


def names_in(source, context):
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)
            and isinstance(node.ctx, context)}  # fmt: skip


def test_the_chapter_draws_no_photograph():
    """Whatever is made of photographs is called `photo...`, and no cell that draws pixels reads such a name."""
    cells = json.loads((ROOT / "notebooks" / "08_vision.ipynb").read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    private = [source for source in sources if any(
        name.lower().startswith("photo") for name in names_in(source, ast.Load))]  # fmt: skip
    drawing = [source for source in sources if "imshow" in source]
    assert private and drawing
    for source in private:
        made = {name for name in names_in(source, ast.Store) if not name.startswith("photo")} - DRAWN
        assert not made & set().union(*(names_in(other, ast.Load) for other in drawing)), source
    assert not [source for source in drawing if source in private]
