"""Data sets are found in the right order, never trusted unchecked, and decoded once."""

import csv
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from sublearn.nets import data

MNIST_FILES = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
]
EMNIST_FILES = [
    "emnist-balanced-train-images-idx3-ubyte",
    "emnist-balanced-train-labels-idx1-ubyte",
    "emnist-balanced-test-images-idx3-ubyte",
    "emnist-balanced-test-labels-idx1-ubyte",
]
CLOSED = "http://127.0.0.1:9"  # a port that refuses connections


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return head + array.astype(np.uint8).tobytes()


def tiny(files, labels, seed=0):
    """Four small IDX files: 6 training images of these labels and 4 test images, of 5 x 5 pixels."""
    generator = np.random.default_rng(seed)
    train, test = (generator.integers(0, 256, (count, 5, 5)) for count in (6, 4))
    train[0, 0, 0] = 255
    arrays = [train, np.array(labels), test, np.arange(4)]
    content = {file: idx(array) for file, array in zip(files, arrays)}
    return {"arrays": arrays, "content": content}


def archives(content):
    return {f"{file}.gz": gzip.compress(plain, mtime=0) for file, plain in content.items()}


def put(folder, content, *, packed=True):
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in (archives(content) if packed else content).items():
        (folder / file).write_bytes(text)


def listed(folder, content, *, plain=True):
    forms = archives(content) | (content if plain else {})
    return [f"{folder},{file},{hashlib.sha256(text).hexdigest()}" for file, text in forms.items()]


def forget():
    data.load.cache_clear()
    data.digest.cache_clear()


@pytest.fixture(autouse=True)
def new_process():
    """Nothing that another test has loaded is remembered."""
    forget()
    yield
    forget()


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A manifest of tiny files, a named data folder, an empty root and an empty user's cache."""
    sets = {
        "MNIST": tiny(MNIST_FILES, [0, 1, 2, 3, 4, 9]),
        "EMNIST47": tiny(MNIST_FILES, [0, 1, 2, 3, 4, 46], seed=1),
        "EMNIST": tiny(EMNIST_FILES, [0, 1, 2, 3, 4, 46], seed=2),
    }
    lines = ["folder,file,sha256"]
    for name, files in sets.items():
        lines += listed(f"{name}/raw", files["content"], plain=name != "EMNIST")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    (tmp_path / "named").mkdir()
    monkeypatch.setattr(data, "MANIFEST", tmp_path / "manifest.csv")
    monkeypatch.setattr(data, "ROOT", tmp_path / "root")
    monkeypatch.setattr(data, "user_cache_path", lambda name: tmp_path / "user" / name)
    monkeypatch.setenv("SUBLIMINAL_DATA", str(tmp_path / "named"))
    return sets


@pytest.fixture
def offline(monkeypatch):
    from torchvision import datasets

    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"{CLOSED}/"])
    monkeypatch.setattr(datasets.EMNIST, "url", f"{CLOSED}/gzip.zip")
    for variable in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(variable)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    (tmp_path / "served").mkdir()
    handler = partial(Quiet, directory=tmp_path / "served")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}", tmp_path / "served"
        listening.shutdown()


def same(images, arrays, *, transposed=False):
    train, train_labels, test, test_labels = arrays
    if transposed:
        train, test = train.transpose(0, 2, 1), test.transpose(0, 2, 1)
    assert np.array_equal(images.train_images, train.reshape(6, 25))
    assert np.array_equal(images.test_images, test.reshape(4, 25))
    assert images.train_labels.tolist() == train_labels.tolist()
    assert images.test_labels.tolist() == test_labels.tolist()


@pytest.mark.parametrize("packed", [True, False], ids=["gz", "decompressed"])
def test_files_are_read_as_they_lie(small, tmp_path, packed):
    put(tmp_path / "named" / "MNIST" / "raw", small["MNIST"]["content"], packed=packed)
    images = data.load("mnist")
    same(images, small["MNIST"]["arrays"])
    assert images.train_images.dtype == torch.uint8
    assert images.test_labels.dtype == torch.int64
    assert (images.name, images.source) == ("mnist", "MNIST")
    assert (images.classes, images.side, images.top) == (10, 5, 255)


def test_places_are_tried_in_order(small, tmp_path):
    places = [
        tmp_path / "user" / "subliminal-learning",
        tmp_path / "root" / "data",
        tmp_path / "named",
    ]
    for place in places:  # from the last resort to the first; the wrong files tell where they lie
        put(place / "MNIST" / "raw", small["EMNIST47"]["content"])
        with pytest.raises(data.DataCorrupt, match=str(place / "MNIST" / "raw")):
            data.load("mnist")


def test_a_relative_folder_counts_from_the_root(small, offline, tmp_path, monkeypatch):
    put(tmp_path / "beside" / "MNIST" / "raw", small["MNIST"]["content"])
    (tmp_path / "root").mkdir()
    monkeypatch.setenv("SUBLIMINAL_DATA", "../beside")
    same(data.load("mnist"), small["MNIST"]["arrays"])


def test_a_named_folder_must_exist(small, monkeypatch):
    monkeypatch.setenv("SUBLIMINAL_DATA", "/no/such/folder")
    with pytest.raises(
        data.DataUnavailable, match=r"SUBLIMINAL_DATA is '/no/such/folder'.*unset it"
    ):
        data.load("mnist")


def test_an_unknown_name_lists_the_known_ones():
    for call in (data.load, data.digest):
        with pytest.raises(
            ValueError, match=r"'mnits': use one of mnist, fashion, emnist, digits\."
        ):
            call("mnits")


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "truncated":
        del content[len(content) // 2 :]
    elif how == "empty":
        content.clear()
    else:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("packed", [True, False], ids=["gz", "decompressed"])
@pytest.mark.parametrize("how", ["truncated", "empty", "one bit flipped"])
def test_a_damaged_file_is_named_with_digests_and_cure(small, tmp_path, how, packed):
    folder = tmp_path / "named" / "MNIST" / "raw"
    put(folder, small["MNIST"]["content"], packed=packed)
    same(data.load("mnist"), small["MNIST"]["arrays"])
    forget()
    path = next(folder.glob("t10k-images*"))
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    damage(path, how)
    with pytest.raises(data.DataCorrupt) as caught:
        data.load("mnist")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    for part in (str(path), expected, found, "delete it and run again"):
        assert part in str(caught.value)
    with pytest.raises(data.DataCorrupt):
        data.digest("mnist")


def test_files_of_another_set_are_refused(small, tmp_path):
    put(tmp_path / "named" / "MNIST" / "raw", small["EMNIST47"]["content"])
    with pytest.raises(data.DataCorrupt, match="damaged or another file"):
        data.load("mnist")


def test_an_incomplete_folder_is_passed_by_and_told(small, offline, tmp_path):
    put(tmp_path / "named" / "MNIST" / "raw", small["MNIST"]["content"])
    (tmp_path / "named" / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(data.DataUnavailable, match="t10k-labels-idx1-ubyte") as caught:
        data.load("mnist")
    assert "set SUBLIMINAL_DATA to a folder that holds MNIST/raw" in str(caught.value)
    put(tmp_path / "root" / "data" / "MNIST" / "raw", small["MNIST"]["content"])
    same(data.load("mnist"), small["MNIST"]["arrays"])


@pytest.mark.parametrize("dataset", ["mnist", "emnist"])
def test_no_network_is_one_clear_sentence(small, offline, dataset):
    with pytest.raises(
        data.DataUnavailable, match=r"download failed .*: set SUBLIMINAL_DATA"
    ) as caught:
        data.load(dataset)
    assert "\n" not in str(caught.value)
    assert not list(data.user_cache_path("subliminal-learning").rglob("*.gz"))


def test_a_bare_machine_without_network(tmp_path):
    program = "import pathlib, sys; from sublearn.nets import data; "
    program += "data.ROOT = pathlib.Path(sys.argv[1]); data.load('mnist')"
    dead = {f"{scheme}_proxy": CLOSED for scheme in ("http", "https")}
    world = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    world |= dead | {"SUBLIMINAL_DATA": "", "HOME": str(tmp_path)}
    world["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    command = [sys.executable, "-c", program, tmp_path]
    done = subprocess.run(command, env=world, capture_output=True, text=True)
    assert done.returncode == 1
    assert "DataUnavailable: MNIST is not in" in done.stderr.splitlines()[-1]


def test_a_download_lands_whole_in_the_users_cache(
    small, offline, server, tmp_path, monkeypatch, capsys
):
    from torchvision import datasets

    address, served = server
    put(served, small["MNIST"]["content"])
    names = [f"{file}.gz" for file in MNIST_FILES]
    sums = [hashlib.md5((served / name).read_bytes()).hexdigest() for name in names]
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"{CLOSED}/", f"{address}/"])
    monkeypatch.setattr(datasets.MNIST, "resources", list(zip(names, sums)))
    same(data.load("mnist"), small["MNIST"]["arrays"])
    home = tmp_path / "user" / "subliminal-learning"
    files = [path for path in home.rglob("*") if path.is_file()]
    assert sorted(files) == sorted(home / "MNIST" / "raw" / name for name in names)
    assert capsys.readouterr() == ("", "")  # no progress bar


def test_a_wrong_download_is_not_kept(small, offline, server, tmp_path, monkeypatch):
    from torchvision import datasets

    address, served = server
    put(served, small["EMNIST47"]["content"])
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"{address}/"])
    sums = [(f"{file}.gz", "0" * 32) for file in MNIST_FILES]
    monkeypatch.setattr(datasets.MNIST, "resources", sums)
    with pytest.raises(data.DataUnavailable):
        data.load("mnist")
    assert not list((tmp_path / "user").rglob("*.gz"))


def test_official_emnist_is_downloaded_and_stands_upright(
    small, offline, server, tmp_path, monkeypatch
):
    from torchvision import datasets

    address, served = server
    with zipfile.ZipFile(served / "gzip.zip", "w") as splits:
        for file, packed in archives(small["EMNIST"]["content"]).items():
            splits.writestr(f"gzip/{file}", packed)
        splits.writestr("gzip/emnist-letters-train-images-idx3-ubyte.gz", b"another split")
    md5 = hashlib.md5((served / "gzip.zip").read_bytes()).hexdigest()
    monkeypatch.setattr(datasets.EMNIST, "url", f"{address}/gzip.zip")
    monkeypatch.setattr(datasets.EMNIST, "md5", md5)
    images = data.load("emnist")
    same(images, small["EMNIST"]["arrays"], transposed=True)
    assert (images.source, images.classes) == ("EMNIST Balanced", 47)
    files = [path.name for path in (tmp_path / "user").rglob("*") if path.is_file()]
    assert sorted(files) == sorted(f"{file}.gz" for file in EMNIST_FILES)


def test_emnist47_stands_in_under_its_own_name(small, tmp_path):
    put(tmp_path / "named" / "EMNIST47" / "raw", small["EMNIST47"]["content"])
    images, before = data.load("emnist"), data.digest("emnist")
    same(images, small["EMNIST47"]["arrays"])
    assert images.source == "EMNIST47 (stand-in for EMNIST Balanced)"
    put(tmp_path / "root" / "data" / "EMNIST" / "raw", small["EMNIST"]["content"])
    forget()
    assert data.load("emnist").source == "EMNIST Balanced"
    assert data.digest("emnist") != before


def test_the_digest_does_not_depend_on_the_form_of_the_files(small, tmp_path):
    put(tmp_path / "named" / "MNIST" / "raw", small["MNIST"]["content"])
    before = data.digest("mnist")
    shutil.rmtree(tmp_path / "named" / "MNIST")
    put(tmp_path / "named" / "MNIST" / "raw", small["MNIST"]["content"], packed=False)
    forget()
    assert data.digest("mnist") == before


def test_a_process_decodes_a_data_set_once(small, tmp_path):
    put(tmp_path / "named" / "MNIST" / "raw", small["MNIST"]["content"])
    images = data.load("mnist")
    shutil.rmtree(tmp_path / "named" / "MNIST")
    assert data.load("mnist") is images


def test_a_digest_needs_no_torch_and_images_no_torchvision(small, tmp_path):
    put(tmp_path / "named" / "MNIST" / "raw", small["MNIST"]["content"])
    program = (
        "import sys, pathlib; from sublearn.nets import data\n"
        "data.MANIFEST = pathlib.Path(sys.argv[1])\n"
        "print(data.digest('mnist'), 'torch' in sys.modules)\n"
        "labels = data.load('mnist').train_labels.tolist()\n"
        "print(labels, 'torchvision' in sys.modules, 'sklearn' in sys.modules)"
    )
    command = [sys.executable, "-c", program, data.MANIFEST]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = [f"{data.digest('mnist')} False", "[0, 1, 2, 3, 4, 9] False False"]
    assert done.stdout.splitlines() == expected


def test_the_data_folder_is_only_read(small, tmp_path):
    folder = tmp_path / "named" / "MNIST" / "raw"
    put(folder, small["MNIST"]["content"])
    before = {path.name: path.stat().st_mtime_ns for path in [folder, *folder.iterdir()]}
    for path in (folder, folder.parent, tmp_path / "named"):
        path.chmod(0o555)
    try:
        same(data.load("mnist"), small["MNIST"]["arrays"])
        assert {
            path.name: path.stat().st_mtime_ns for path in [folder, *folder.iterdir()]
        } == before
    finally:
        for path in (tmp_path / "named", folder.parent, folder):
            path.chmod(0o755)


def test_digits_are_scikit_learns_split_once():
    images, bundled = data.load("digits"), load_digits()
    assert (images.side, images.top, images.classes) == (8, 16, 10)
    assert (len(images.train_labels), len(images.test_labels)) == (1297, 500)
    assert images.test_labels.bincount().tolist() == [50] * 10
    pixels = torch.cat([images.train_images, images.test_images])
    labels = torch.cat([images.train_labels, images.test_labels])
    ours = np.column_stack([pixels, labels])
    theirs = np.column_stack([bundled.data.astype(int), bundled.target])
    assert np.array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])
    content = images.test_images.numpy().tobytes() + images.test_labels.numpy().tobytes()
    split = hashlib.sha256(content)
    assert split.hexdigest()[:16] == "74a48cde13b51eea", "the split of the digits changed"


def test_digits_need_no_data_folder(monkeypatch):
    monkeypatch.setenv("SUBLIMINAL_DATA", "/no/such/folder")
    assert data.load("digits").source == "scikit-learn digits (8 x 8 pixels)"
    assert len(data.digest("digits")) == 32


REAL = {
    "mnist": ([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
              [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
    "fashion": ([6000] * 10, [1000] * 10),
}  # fmt: skip


@pytest.mark.parametrize("dataset", REAL)
def test_real_files_hold_the_known_classes(dataset, offline):
    try:
        images = data.load(dataset)
    except data.DataUnavailable as error:
        pytest.skip(str(error))
    counts = (images.train_labels.bincount().tolist(), images.test_labels.bincount().tolist())
    assert counts == REAL[dataset]
    assert (images.side, images.top, images.classes) == (28, 255, 10)
    assert images.train_images.shape == (60000, 784)
    middle = images.train_images.float().mean(0).view(28, 28)[10:18, 10:18].mean()
    assert middle > images.train_images.float().mean()  # ink in the middle: rows are whole images


@pytest.mark.parametrize("folder", ["MNIST/raw", "FashionMNIST/raw", "EMNIST47/raw"])
def test_the_manifest_lists_both_forms_of_each_file(folder):
    with data.MANIFEST.open() as lines:
        files = [row["file"] for row in csv.DictReader(lines) if row["folder"] == folder]
    assert sorted(files) == sorted([*MNIST_FILES, *(f"{file}.gz" for file in MNIST_FILES)])
