"""Experiments: pairing, sharing, ensembles and resuming change no number."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from reference import TINY
from sublearn.core.store import Store
from sublearn.nets import data, ensemble, experiment, jobs, training
from sublearn.nets.jobs import starting_weights
from sublearn.nets.settings import grid, reference


def test_a_model_has_the_same_bits_alone_and_among_others(run):
    arms = grid(TINY, matched=["aux", "all"])
    few = run(arms, models=1)
    many = run(arms, models=4)
    assert many[many.model == 0].reset_index(drop=True).equals(few)


@pytest.mark.parametrize("small", [0, 10**9])  # one by one in threads; together in groups of eight
def test_bits_do_not_depend_on_company(tmp_path, monkeypatch, small, run):
    monkeypatch.setattr(ensemble, "SMALL", small)
    alone = run([TINY], models=3)
    arms = [
        TINY,
        replace(TINY, matched="all"),
        replace(TINY, aux_dim=7),
        replace(TINY, lr=1e-4, epochs=1),
    ]
    among = run(arms, models=10, store=Store(tmp_path / "other"))
    among = among[(among.arm == among.arm.iloc[0]) & (among.model < 3)].reset_index(drop=True)
    assert np.array_equal(alone.accuracy, among.accuracy)


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 100},
        {"inputs_per_epoch": 500},
        {"unique_inputs": 256},
        {"fresh_inputs": True},
        {"inputs": "gaussian"},
        {"strength": 0.5},
        {"teacher_epochs": 1},
        {"teacher_batch_size": 100},
        {"classes": 5},
        {"hidden": (16,)},
    ],
)
def test_an_arm_that_sees_something_else_is_not_trained_with_the_others(tmp_path, change, run):
    other = replace(TINY, **change)
    among = run({"base": TINY, "other": other}, models=1).query("arm == 'other'")
    alone = run({"other": other}, models=1, store=Store(tmp_path / "alone"))
    assert among.accuracy.tolist() == alone.accuracy.tolist()


def test_whole_ensemble_in_one_call_trains_like_model_by_model(tmp_path, monkeypatch, run):
    monkeypatch.setattr(ensemble, "SMALL", 0)
    one_by_one = run([TINY], models=3)
    monkeypatch.setattr(experiment, "split_models", lambda net, models: [list(models)])
    whole = run([TINY], models=3, store=Store(tmp_path / "whole"))
    assert np.allclose(one_by_one.accuracy, whole.accuracy, atol=0.01)


def test_same_start_beats_another_start(run):
    setting = reference("digits")
    table = run({"own": setting, "other": replace(setting, pairing="derangement")}, models=3)
    students = table[table.role == "student"].groupby("arm").accuracy.mean()
    assert students["own"] > 0.4 > 0.2 > students["other"]


@pytest.mark.parametrize("models", [2, 3, 8, 25])
@pytest.mark.parametrize("seed", range(6))
def test_derangement_leaves_nobody_at_home_and_changes_only_fixed_points(models, seed):
    mixed, clean = (
        experiment.partners(kind, seed, models) for kind in ("permutation", "derangement")
    )
    assert sorted(mixed) == sorted(clean) == list(range(models))
    assert all(model != partner for model, partner in enumerate(clean))
    fixed = sum(model == partner for model, partner in enumerate(mixed))
    changed = sum(a != b for a, b in zip(mixed, clean))
    assert changed == (2 if fixed == 1 else fixed)


def test_permutation_and_derangement_share_the_students_they_have_in_common(run, store):
    arms = grid(TINY, pairing=["own", "permutation", "derangement"])
    run(arms, models=4)
    pairs = {
        (model, partner)
        for kind in ("own", "permutation", "derangement")
        for model, partner in enumerate(experiment.partners(kind, 0, 4))
    }
    assert len(list((store.root / "students").glob("*.json"))) == len(pairs)


def test_one_model_has_no_other_teacher(run):
    with pytest.raises(ValueError, match="models is 1 with pairing 'derangement'"):
        run([replace(TINY, pairing="derangement")], models=1)


def test_unshared_parts_come_from_another_stream_and_the_rest_stays():
    shared = starting_weights(TINY, 0, [0, 1], {})
    partly = starting_weights(replace(TINY, shared=("hidden", "aux_head")), 0, [0, 1], {})
    assert torch.equal(shared["hidden.1.weight"], partly["hidden.1.weight"])
    assert not torch.equal(shared["class_head.weight"], partly["class_head.weight"])
    first = starting_weights(replace(TINY, shared=("hidden.0",)), 0, [0, 1], {})
    assert torch.equal(shared["hidden.0.weight"], first["hidden.0.weight"])
    assert not torch.equal(shared["hidden.1.weight"], first["hidden.1.weight"])
    alone = starting_weights(replace(TINY, shared=()), 0, [0, 1], {})
    assert not any(
        torch.equal(shared[name], alone[name]) for name in shared if name.endswith("weight")
    )


def test_orthogonal_perturbation_runs_and_differs_from_the_relative_one(run):
    kinds = grid(
        TINY, perturbed=("hidden",), perturbation=0.3, perturbation_kind=["relative", "orthogonal"]
    )
    students = run(kinds, models=2, measures=["displacement"]).query("role == 'student'")
    assert students["moved hidden.0"].nunique() == 4


def test_a_network_of_few_classes_has_as_many_class_logits(run):
    table = run([replace(TINY, classes=2, teacher_epochs=8)], models=2)
    assert (table[table.role == "teacher"].accuracy > 0.9).all()


def test_teachers_on_the_way_are_the_shorter_teachers(tmp_path, run):
    many = run(grid(TINY, teacher_epochs=[0, 1, 2]), models=2)
    for epochs in (0, 1, 2):
        alone = run(
            [replace(TINY, teacher_epochs=epochs)], models=2, store=Store(tmp_path / "alone")
        )
        assert many[many.teacher_epochs == epochs].accuracy.tolist() == alone.accuracy.tolist()


def test_checkpoints_of_one_run_are_the_shorter_runs(tmp_path, run):
    long = run([replace(TINY, epochs=3)], models=2, checkpoints=[1, 2])
    for epochs in (1, 2):
        short = run([replace(TINY, epochs=epochs)], models=2, store=Store(tmp_path / "short"))
        passed = long.query("role == 'student' and epoch == @epochs")
        assert np.array_equal(short[short.role == "student"].accuracy, passed.accuracy)


def test_a_finished_arm_is_not_trained_again(monkeypatch, run):
    first = run([TINY], models=2)

    def refuse(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(training, "train_teacher_epoch", refuse)
    monkeypatch.setattr(training, "distill_epoch", refuse)
    assert run([TINY], models=2).equals(first)
    with pytest.raises(AssertionError, match="trained again"):
        run([replace(TINY, lr=1e-3)], models=2)


def test_damaged_files_are_trained_again(run, store):
    first = run([TINY], models=2)
    for path in store.root.rglob("*.*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert run([TINY], models=2).equals(first)


def test_a_killed_sweep_goes_on_where_it_stopped(tmp_path):
    script = tmp_path / "sweep.py"
    script.write_text(
        "from dataclasses import replace\n"
        "from sublearn.nets.experiment import run\nfrom sublearn.nets.settings import grid, reference\n"
        "base = replace(reference('digits'), hidden=(16,), teacher_epochs=1, epochs=1)\n"
        "run(grid(base, lr=[1e-3, 2e-3], inputs_per_epoch=[400, 500, 600, 40_000]), models=2)\n"
    )
    environment = os.environ | {
        "SUBLIMINAL_CACHE": str(tmp_path / "cache"),
        "SUBLIMINAL_THREADS": "1",
    }
    students = tmp_path / "cache" / "students"
    process = subprocess.Popen([sys.executable, script], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(students.glob("[!.]*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in students.glob("[!.]*.json")}
    assert 0 < len(finished) < 16
    assert all("value" in json.loads(path.read_text()) for path in finished)
    subprocess.run([sys.executable, script], env=environment, check=True, capture_output=True)
    assert len(list(students.glob("[!.]*.json"))) == 16
    assert all(path.stat().st_mtime_ns == moment for path, moment in finished.items())


def test_students_on_fashion_images_depend_on_those_images_too(monkeypatch):
    digests = {"digits": "d", "fashion": "f"}
    monkeypatch.setattr(data, "digest", digests.__getitem__)
    setting = replace(TINY, inputs="fashion")
    before, control = experiment.student_keys(setting, 1, 0), experiment.student_keys(TINY, 1, 0)
    digests["fashion"] = "another"
    assert experiment.student_keys(setting, 1, 0) != before
    assert experiment.student_keys(TINY, 1, 0) == control
    assert jobs.teacher_key(setting, 0, 0) == jobs.teacher_key(TINY, 0, 0)


def test_an_earlier_number_type_is_not_taken_for_this_one(run, monkeypatch):
    for precision in ("float32", "bfloat16"):
        monkeypatch.setenv("SUBLIMINAL_PRECISION", precision)
        run([TINY], models=1)
    stored = [
        len(list(folder.iterdir())) for folder in sorted(run.keywords["store"].root.iterdir())
    ]
    assert stored == [2, 2, 2]  # students, teacher_rows, teachers


def test_jobs_can_be_pickled(tmp_path):
    keys = experiment.student_keys(TINY, 1, 0, (), ())
    job = partial(jobs.train_students, store=Store(tmp_path))
    assert pickle.loads(pickle.dumps((job, keys)))[1] == keys
