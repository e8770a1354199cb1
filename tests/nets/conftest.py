"""What the tests of the networks share: a store in a folder of the test, and float32 products."""

from functools import partial

import pytest

from sublearn.core.store import Store
from sublearn.nets import experiment


@pytest.fixture
def store(tmp_path):
    """A store in a folder of the test."""
    return Store(tmp_path / "store")


@pytest.fixture
def run(store):
    """`experiment.run` with that store, unless it is given another."""
    return partial(experiment.run, store=store)


@pytest.fixture
def exact(monkeypatch):
    """Products in float32 whatever the processor: what is compared with plain torch.nn to the last digits."""
    monkeypatch.setenv("SUBLIMINAL_PRECISION", "float32")
