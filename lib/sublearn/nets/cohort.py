"""Training what is not on disk yet: each teacher once, and students that share teacher and inputs side by side."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from sublearn.core.machine import device, parallel_map, progress
from sublearn.core.rng import rng
from sublearn.nets import ensemble, results, training
from sublearn.nets.ensemble import Weights
from sublearn.nets.inputs import batch_sizes, images_of, input_batches, sample
from sublearn.nets.measures import MEASURES, Trained, own, trained
from sublearn.nets.results import Cell, Plan
from sublearn.nets.settings import Setting

SAMPLE = 1_000  # inputs by which a student's first step is judged
MEMORABLE = 64  # auxiliary logits up to which a teacher's answers to a fixed set of inputs are kept in memory
TOGETHER = 8  # settings in a job: more would share little more, and an interruption would lose more


def _network(setting: Setting) -> ensemble.MLP:
    images = images_of(setting)
    return ensemble.network(setting, images.train_images.shape[1], images.classes)


def _initial(setting: Setting, seed: int, models: Sequence[int], owner: str = "init") -> Weights:
    return ensemble.initial(_network(setting), setting, seed, models, owner)


def _starts(setting: Setting, seed: int, models: Sequence[int], teacher: Weights) -> Weights:
    """Initial weights of the students: those of the same model's teacher, but for what is unshared or perturbed."""
    shared, own = (_initial(setting, seed, models, owner) for owner in ("init", "own start"))
    start = ensemble.transplant(own, source=shared, parts=setting.shared)
    noise = ensemble.perturbation(start, setting, seed, models)
    if noise and setting.perturbation_kind == "orthogonal":
        student = _student(replace(setting, frozen=()), start, seed, models)
        seen = {"teacher": teacher, "inputs": sample(setting, seed, models, SAMPLE)}
        gradient = training.first_gradient(_network(setting), student=student, **seen)
        noise = ensemble.without(noise, gradient=gradient)
    return start | {name: start[name] + tensor for name, tensor in noise.items()}


def _student(setting: Setting, start: Weights, seed: int, models: Sequence[int]) -> training.Student:
    count = setting.epochs * len(batch_sizes(setting.inputs_per_epoch, setting.batch_size))
    steps = count if setting.schedule == "cosine" else 0
    rule = training.Rule(setting.lr, setting.optimizer, setting.weight_decay, steps, setting.frozen)
    loss = training.matching_loss(setting, [rng(seed, "logit noise", model) for model in models])
    return training.Student(_network(setting), training.learner(start, rule), loss)


def _teachers(setting: Setting, seed: int, models: Sequence[int]) -> Weights:
    """Trained teachers (model, ...) with the auxiliary heads they started with."""
    found = [results.teacher(setting, seed, model) for model in models]
    trained = {name: torch.from_numpy(np.stack([weights[name] for weights in found])) for name in found[0]}
    return {name: trained.get(name, tensor) for name, tensor in _initial(setting, seed, models).items()}


def _teach(models: list[int], *, settings: list[Setting], seed: int, tick: training.Tick) -> None:
    """Train teachers that differ in nothing but how long, and keep each where its training ends."""
    setting, net, images = settings[0], _network(settings[0]), images_of(settings[0])
    rule = training.Rule(setting.teacher_lr, setting.teacher_optimizer, frozen=setting.teacher_frozen)
    pupil = training.learner(_initial(setting, seed, models), rule)
    source = (images.train_images, images.train_labels, images.top)
    for epoch in range(max(setting.teacher_epochs for setting in settings) + 1):
        for finished in (setting for setting in settings if setting.teacher_epochs == epoch):
            for row, model in enumerate(models):
                weights = {name: tensor[row] for name, tensor in pupil.weights.items()}
                results.keep_teacher(finished, seed, model, weights)
        if epoch < max(setting.teacher_epochs for setting in settings):
            training.teach_epoch(net, pupil, training.digit_batches(setting, seed, models, epoch, source), tick)


def _lessons(
    settings: Iterable[Setting], plan: Plan, models: Iterable[int]
) -> Iterator[tuple[list[Setting], list[int]]]:
    """What is still to be taught: settings whose teachers differ only in their epochs, with models that lack them."""
    alike = defaultdict(dict)
    for setting in settings:
        alike[results.same_teacher(replace(setting, teacher_epochs=0))][setting.teacher_epochs] = setting
    for group in alike.values():
        lacking = defaultdict(list)
        for model in models:
            lacking[tuple(s for s in group.values() if results.teacher(s, plan.seed, model) is None)].append(model)
        for wanted, missing in lacking.items():
            for chunk in ensemble.chunks(_network(wanted[0]), missing) if wanted else ():
                yield list(wanted), chunk


def train_teachers(settings: Iterable[Setting], plan: Plan, models: Iterable[int]) -> None:
    """Train the teachers that are not on disk, those that differ only in their epochs in one go."""
    lessons = list(_lessons(settings, plan, models))
    with progress(sum(_lesson_steps(wanted) for wanted, _ in lessons), "teachers") as bar:
        parallel_map(lambda item, _: _teach(item[1], settings=item[0], seed=plan.seed, tick=bar.update), lessons)


def _lesson_steps(settings: list[Setting]) -> int:
    count = len(images_of(settings[0]).train_images)
    return max(s.teacher_epochs for s in settings) * len(batch_sizes(count, settings[0].teacher_batch_size))


def _measured(network: Trained, measures: Iterable[str] = ()) -> list[dict[str, float]]:
    """One row of numbers per model."""
    found = own(network)
    for name in measures:
        found |= MEASURES[name](network)
    return [{name: float(values[row]) for name, values in found.items()} for row in range(len(found["accuracy"]))]


def _measure_teacher(models: list[int], *, setting: Setting, plan: Plan) -> None:
    net, images = _network(setting), images_of(setting)
    start, teacher = _initial(setting, plan.seed, models), _teachers(setting, plan.seed, models)
    before, after = (trained(net, now, start=start, teacher=teacher, images=images) for now in (start, teacher))
    for model, *measured in zip(models, _measured(before, plan.measures), _measured(after, plan.measures)):
        rows = [
            {"role": "untrained", "epoch": 0} | measured[0],
            {"role": "teacher", "epoch": setting.teacher_epochs} | measured[1],
        ]
        results.keep_teacher_rows(setting, model, plan, rows)


def measure_teachers(settings: Iterable[Setting], plan: Plan, models: Iterable[int]) -> None:
    """Measure untrained networks and teachers that are not measured yet."""
    for setting in {results.same_teacher(setting): setting for setting in settings}.values():
        missing = [model for model in models if results.teacher_rows(setting, model, plan) is None]
        groups = ensemble.chunks(_network(setting), missing)
        parallel_map(partial(_measure_teacher, setting=setting, plan=plan), groups)


class Job(NamedTuple):
    """Students that see the same inputs and the same teacher: every setting with every (model, partner)."""

    settings: tuple[Setting, ...]
    models: list[int]
    partners: list[int]


SEEN = (
    *(*results.TEACHING, "inputs", "strength", "standardized"),
    *("batch_size", "inputs_per_epoch", "unique_inputs", "fresh_inputs"),
)


def _jobs(cells: Iterable[Cell]) -> list[Job]:
    together = defaultdict(list)
    for cell in cells:
        seen = tuple(getattr(cell.setting, name) for name in SEEN)
        together[seen, cell.model, cell.partner].append(cell.setting)
    pairs = defaultdict(list)
    for (_, model, partner), settings in together.items():
        pairs[tuple(settings)].append((model, partner))
    return [
        Job(settings[first : first + TOGETHER], *map(list, zip(*(found[place] for place in chunk))))
        for settings, found in pairs.items()
        for first in range(0, len(settings), TOGETHER)
        for chunk in ensemble.chunks(_network(settings[0]), range(len(found)))
    ]


def _distill(job: Job, *, plan: Plan, tick: training.Tick) -> None:
    """Train a job's students side by side and write each as soon as it is finished."""
    widest = max(job.settings, key=lambda setting: setting.aux_dim)
    teacher = _teachers(widest, plan.seed, job.partners)
    on_device = {name: tensor.to(device()) for name, tensor in teacher.items()}
    begun = [_begun(setting, widest, job, plan, on_device) for setting in job.settings]
    memory = None if widest.fresh_inputs or widest.aux_dim > MEMORABLE else training.Memory({})
    rows: list[list] = [[] for _ in begun]
    done = 0
    for epoch in range(max(setting.epochs for setting in job.settings) + 1):
        for setting, (student, known), reached in zip(job.settings, begun, rows):
            if epoch == setting.epochs or (epoch in plan.checkpoints and epoch < setting.epochs):
                now = trained(student.net, student.pupil.weights, teacher=teacher, **known)
                reached.append((epoch, _measured(now, plan.measures if epoch == setting.epochs else ())))
            if epoch == setting.epochs:
                _keep(setting, job, plan, reached)
        active = [student for setting, (student, _) in zip(job.settings, begun) if epoch < setting.epochs]
        if active:
            batches = input_batches(widest, plan.seed, job.models, epoch)
            seen = {"teacher": on_device, "batches": batches, "memory": memory, "done": done, "tick": tick}
            done = training.distill_epoch(_network(widest), students=active, **seen)


def _begun(setting: Setting, widest: Setting, job: Job, plan: Plan, teacher: Weights) -> tuple[training.Student, dict]:
    """A student at its start, and what measures want to know of that start."""
    start = _starts(setting, plan.seed, job.models, teacher)
    student = _student(setting, start, plan.seed, job.models)
    known = {"start": start, "images": images_of(setting)}
    if "predictors" in plan.measures:
        known["inputs"] = sample(setting, plan.seed, job.models, SAMPLE)
        seen = {"teacher": teacher, "inputs": known["inputs"].to(device())}
        twin = _student(setting, start, plan.seed, job.models)  # what it draws is not drawn from the student's streams
        known["first"] = training.first_gradient(_network(widest), student=twin, **seen)
    return student, known


def _keep(setting: Setting, job: Job, plan: Plan, reached: list) -> None:
    for place, (model, partner) in enumerate(zip(job.models, job.partners)):
        rows = [{"role": "student", "epoch": epoch} | measured[place] for epoch, measured in reached]
        results.keep_student(Cell(setting, model, partner), plan, rows)


def train_students(cells: Iterable[Cell], plan: Plan) -> None:
    """Train and measure the students that are not on disk."""
    jobs = _jobs(cell for cell in dict.fromkeys(cells) if results.student_rows(cell, plan) is None)
    jobs.sort(key=_job_steps, reverse=True)  # a long one begun last would keep one worker waiting for the other
    with progress(sum(map(_job_steps, jobs)), "students") as bar:
        parallel_map(partial(_distill, plan=plan, tick=bar.update), jobs)


def _job_steps(job: Job) -> int:
    return sum(s.epochs * len(batch_sizes(s.inputs_per_epoch, s.batch_size)) for s in job.settings)
