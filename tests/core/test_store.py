"""Results on disk: written whole or not at all, under everything that decides them, computed once."""

import json
import os
import pickle
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

from sublearn.core import store as store_module
from sublearn.core.store import (
    Arrays,
    Folder,
    Json,
    Kind,
    Store,
    code_digest,
    digest,
    imported,
    module_digest,
    read_json,
    run_job,
    write_atomic,
)


@dataclass(frozen=True)
class Key:
    number: int
    names: tuple[str, ...] = ()


SQUARES = Kind("squares", "code", Json())


def square(keys, save, on_step):
    for key in keys:
        save(key, key.number**2)
        on_step()


def fail_at_three(keys, save, on_step):
    for key in keys:
        if key.number == 3:
            raise RuntimeError("three")
        square([key], save, on_step)


def test_what_is_missing_is_computed_once_and_read_again(tmp_path):
    store, computed = Store(tmp_path), []

    def compute(keys, save, on_step):
        computed.extend(keys)
        square(keys, save, on_step)

    for numbers in ([1, 2, 2], [2, 3]):
        store.fill(SQUARES, map(Key, numbers), compute)
    assert sorted(key.number for key in computed) == [1, 2, 3]
    assert [store.read(SQUARES, Key(number)) for number in (1, 2, 3, 4)] == [1, 4, 9, None]


def test_groups_are_computed_together_and_the_longest_first(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBLIMINAL_THREADS", "1")
    order = []

    def compute(keys, save, on_step):
        order.append([key.number for key in keys])
        square(keys, save, on_step)

    def by_parity(keys):
        return [[key for key in keys if key.number % 2 == parity] for parity in (0, 1)]

    Store(tmp_path).fill(SQUARES, map(Key, range(5)), compute, group=by_parity)
    assert order == [[0, 2, 4], [1, 3]]


def test_finished_things_survive_a_failure_of_others(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBLIMINAL_THREADS", "1")
    store = Store(tmp_path)
    with pytest.raises(RuntimeError, match="three"):
        store.fill(SQUARES, [Key(1), Key(2), Key(3)], fail_at_three, group=lambda keys: [keys])
    assert [store.read(SQUARES, Key(number)) for number in (1, 2, 3)] == [1, 4, None]


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setenv("SUBLIMINAL_PRECISION", "bfloat16"),
        lambda patch: patch.setattr(
            store_module, "library_versions", lambda: {"transformers": "another"}
        ),
        lambda patch: patch.setattr(store_module.machine, "hardware", lambda: "cuda float32"),
    ],
    ids=["number type", "version of a library", "device"],
)
def test_what_surrounds_a_computation_is_in_its_key(tmp_path, monkeypatch, change):
    monkeypatch.setenv("SUBLIMINAL_PRECISION", "float32")
    store = Store(tmp_path)
    store.fill(SQUARES, [Key(2)], square)
    change(monkeypatch)
    assert store.read(SQUARES, Key(2)) is None


def test_kind_code_and_every_field_are_in_the_key(tmp_path):
    store = Store(tmp_path)
    kinds = [SQUARES, SQUARES._replace(name="others"), SQUARES._replace(code="other code")]
    paths = {store.path(kind, key) for kind in kinds for key in (Key(1), Key(2), Key(1, ("a",)))}
    assert len(paths) == 9


def test_the_versions_of_torch_transformers_and_tokenizers_are_named():
    versions = store_module.library_versions()
    assert set(versions) == {"torch", "transformers", "tokenizers"}
    assert all(versions.values())


def test_a_stored_value_says_what_it_is(tmp_path):
    store = Store(tmp_path)
    store.fill(SQUARES, [Key(2)], square)
    (path,) = (tmp_path / "squares").iterdir()
    content = json.loads(path.read_text())
    assert content["key"] == {"number": 2, "names": []}
    assert content["surroundings"]["hardware"].split()[1] in ("float32", "bfloat16")


def test_jobs_can_be_pickled(tmp_path):
    job = partial(run_job, compute=square, store=Store(tmp_path), kind=SQUARES)
    job = pickle.loads(pickle.dumps(job))
    job([Key(5)], int)
    assert Store(tmp_path).read(SQUARES, Key(5)) == 25


@pytest.mark.parametrize("form", [Json(), Arrays()])
def test_damaged_files_count_as_missing(tmp_path, form):
    store, kind = Store(tmp_path), Kind("things", "code", form)
    value = {"a": np.arange(1000.0)} if isinstance(form, Arrays) else list(range(1000))
    store.write(kind, Key(1), value)
    path = store.path(kind, Key(1))
    whole = path.read_bytes()
    assert store.read(kind, Key(1)) is not None
    for damaged in (whole[: len(whole) // 2], b"", b"{"):
        path.write_bytes(damaged)
        assert store.read(kind, Key(1)) is None


def test_arrays_come_back_the_same(tmp_path):
    store, kind = Store(tmp_path), Kind("things", "code", Arrays())
    value = {"weight": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)}
    store.write(kind, Key(1), value)
    assert np.array_equal(store.read(kind, Key(1))["weight"], value["weight"])


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    store, kind = Store(tmp_path), Kind("folders", "code", Folder())

    def half(folder):
        (folder / "a").write_text("a")
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        store.write(kind, Key(1), half)
    assert store.read(kind, Key(1)) is None
    assert not list((tmp_path / "folders").iterdir())
    store.write(kind, Key(1), lambda folder: (folder / "a").write_text("first"))
    store.write(
        kind, Key(1), lambda folder: (folder / "a").write_text("second")
    )  # another process was slower
    assert (store.read(kind, Key(1)) / "a").read_text() == "first"
    assert len(list((tmp_path / "folders").iterdir())) == 1


def test_write_atomic_leaves_the_old_file_when_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    write_atomic(path, '{"a": 1}')

    def full(*args):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_atomic(path, '{"a": 2}')
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_code_digest_follows_imports_and_ignores_words(tmp_path, monkeypatch):
    reached = imported("from sublearn.nets.training import train_state")
    assert {"nets.training", "nets.ensemble", "nets.inputs", "core.rng", "nets.settings"} <= set(
        reached
    )
    assert not {"report.figures", "stats", "nets.experiment"} & set(reached)
    assert imported("import numpy") == []
    assert code_digest("nets.training") != code_digest("nets.measures")
    assert digest({"a": (1, 2)}) == digest({"a": [1, 2]})
    monkeypatch.setattr(store_module, "PACKAGE", tmp_path)
    digests = []
    for source in ('"""Words."""\nx = 1\n', "x = 1  # other words\n", "x = 2\n"):
        (tmp_path / "some.py").write_text(source)
        digests.append(module_digest("some"))
    assert digests[0] == digests[1] != digests[2]


def test_results_are_kept_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBLIMINAL_CACHE", str(tmp_path / "here"))
    assert Store().root == tmp_path / "here"
    monkeypatch.delenv("SUBLIMINAL_CACHE")
    assert Store().root == store_module.ROOT / "_build" / "cache"
