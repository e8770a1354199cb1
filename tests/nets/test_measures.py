"""Measures of trained networks, each against what it is said to be."""

from dataclasses import replace

import pytest
import torch

from reference import TINY
from sublearn.core.store import Store
from sublearn.nets.ensemble import initial_weights
from sublearn.nets.inputs import images_of
from sublearn.nets.measures import accuracy, take_snapshot
from sublearn.nets.models import network
from sublearn.nets.settings import reference


def net_and_start(setting, models, seed=0):
    net = network(setting)
    return net, initial_weights(net, setting, seed, models)


def test_predictors_are_shares_and_a_student_of_its_own_start_has_coverage(run):
    table = run([reference("digits")], models=2, measures=["predictors"])
    students = table[table.role == "student"]
    names = ["logit correlation", "coverage", "head similarity", "CKA", "weight cosine"]
    assert ((students[names] > 0) & (students[names] <= 1)).all(axis=None)
    assert (students["effective rank"].between(1, 64)).all()
    other = run([replace(reference("digits"), shared=())], models=2, measures=["predictors"])
    assert (other[other.role == "student"]["coverage"].abs() < 0.05).all()
    assert (students["coverage"] > 0.05).all()


def test_measuring_does_not_change_what_is_measured(tmp_path, run):
    noisy = replace(TINY, logit_noise=0.5)
    plain = run([noisy], models=1)
    measured = run([noisy], models=1, measures=["predictors"], store=Store(tmp_path / "measured"))
    assert measured.accuracy.tolist() == plain.accuracy.tolist()


def test_untrained_accuracy_is_near_chance_and_measures_are_shares(run):
    table = run([TINY], models=4, measures=["ceiling", "probe", "spectrum"])
    untrained = table[table.role == "untrained"]
    assert untrained.accuracy.mean() < 0.25
    assert (untrained.ceiling == untrained.accuracy).all()
    for kind in ("weights", "features"):
        shares = table[[f"{kind} {k}" for k in range(1, 13)]]
        assert (shares.sum(axis=1) <= 1 + 1e-9).all() and (
            shares.diff(axis=1).iloc[:, 1:] <= 1e-12
        ).all().all()
        assert table[f"{kind} number"].between(1, 16).all()
    assert (table.probe > table.accuracy - 0.02).all()


def test_accuracy_counts_right_answers():
    images = images_of(TINY)
    net, start = net_and_start(TINY, [0])
    zeros = {name: torch.zeros_like(tensor) for name, tensor in start.items()}
    zeros["class_head.bias"][0, 7] = 1.0
    snapshot = take_snapshot(net, zeros, start=start, teacher=start, images=images)
    expected = (images.test_labels == 7).double().mean().item()
    assert accuracy(snapshot)["accuracy"].item() == pytest.approx(expected)
