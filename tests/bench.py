"""How fast the engine is, against the machine, ten lines of plain PyTorch and the published method: `make bench`.

Everything is measured on this machine in one run, each part in a process of its own (for its peak memory), the three
methods in turns. Prints a table and writes `_build/bench.csv` (name, value, unit).
"""

import argparse
import csv
import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from reference import stacked_accuracy, stacked_run, ten_line_run
from sublearn.core.machine import autocast, hardware, parallel_map, precision, product_type, workers
from sublearn.core.store import ROOT, Store
from sublearn.nets import convolution, data, jobs, training
from sublearn.nets.ensemble import initial_weights
from sublearn.nets.experiment import group_students, student_keys
from sublearn.nets.inputs import images_of, input_batches
from sublearn.nets.measures import accuracy, take_snapshot
from sublearn.nets.models import network
from sublearn.nets.noise import scaled
from sublearn.nets.pictures import gray_images
from sublearn.nets.settings import REF, Setting
from sublearn.stats import interval

ONE_EPOCH = replace(REF, teacher_epochs=1, epochs=1)
ARMS = [{"lr": 3e-4}, {"lr": 1e-3}, {"loss": "mse"}, {"matched": "all"}]
TEACHER_FLOP, STUDENT_FLOP = (
    1.22e6,
    1.76e6,
)  # per image and model; the student's with the teacher's forward pass
IMAGES = 60_000
DASK_RATE = 1_000  # tasks a second: its documentation gives about a millisecond of overhead for each


def peak_gib():
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, else KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def matrix_rate(size=3072, repeats=4):
    """Best rate (FLOP/s) of a large square product in the number type that training uses."""
    left, right = (torch.randn(size, size).to(getattr(torch, precision())) for _ in range(2))
    left @ right
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)


def shape_rate(repeats=60, batch=1024):
    """Rate (FLOP/s) of the reference network's own products, forward and backward, alone and on every worker.

    What is left to gain on this machine lies between the training loop and this rate: Adam, activations, batches.
    """
    shapes = [(batch, 784, 256), (batch, 256, 256), (256, batch, 784), (256, batch, 256), (batch, 256, 256)]
    flop = sum(2 * rows * inner * columns for rows, inner, columns in shapes)

    def alone(_, on_step):
        dtype = getattr(torch, precision())
        pairs = [(torch.randn(a, b).to(dtype), torch.randn(c, b).to(dtype)) for a, b, c in shapes]
        start = time.perf_counter()
        for _ in range(repeats):
            for left, right in pairs:
                left @ right.T
        return time.perf_counter() - start

    return max(workers() * repeats * flop / max(parallel_map(alone, range(workers()))) for _ in range(3))


def distill(model, on_step, *, settings, store, seed=0):
    """As jobs.train_students, without evaluation and files: nothing but the training loop."""
    teacher = jobs.load_teachers(store, settings[0], seed, [model])
    students = []
    for setting in settings:
        start = jobs.starting_weights(setting, seed, [model], teacher)
        students.append(jobs.make_student(setting, start, seed, [model]))
    batches = input_batches(settings[0], seed, [model], 0, product_type())
    net = network(settings[0])
    training.distill_epoch(net, teacher=teacher, students=students, batches=batches, on_step=on_step)
    return students[0].state.weights


def ours(models, arms):
    """Seconds of teaching and of distilling, peak memory before evaluation, accuracies of the first arm."""
    images_of(ONE_EPOCH)  # decoded before the clock starts
    settings = [replace(ONE_EPOCH, **change) for change in ARMS[:arms]]
    rate = matrix_rate()
    store = Store()
    first_call = first_call_seconds(store)
    teachers = [jobs.teacher_key(ONE_EPOCH, 0, model) for model in range(models)]
    start = time.perf_counter()
    store.fill(jobs.TEACHERS, teachers, jobs.train_teachers)
    taught = time.perf_counter()
    weights = parallel_map(partial(distill, settings=settings, store=store), range(models))
    done = time.perf_counter()
    rate, peak = max(rate, matrix_rate()), peak_gib()
    own_rate = shape_rate()
    students = {name: torch.cat([one[name].detach() for one in weights]) for name in weights[0]}
    accuracies = {
        "teacher": accuracies_of(jobs.load_teachers(store, ONE_EPOCH, 0, range(models))),
        "student": accuracies_of(students),
    }
    return {
        "first_call_s": first_call,
        "teacher_s": taught - start,
        "student_s": done - taught,
        "peak_gib": peak,
        "rate": rate,
        "own_rate": own_rate,
        **accuracies,
    }


def first_call_seconds(store):
    """What the first step of a process costs, one batch of a teacher: libraries load and choose their kernels."""
    one_batch = replace(ONE_EPOCH, teacher_images=ONE_EPOCH.teacher_batch_size)
    start = time.perf_counter()
    store.fill(jobs.TEACHERS, [jobs.teacher_key(one_batch, 0, 0)], jobs.train_teachers)
    return time.perf_counter() - start


def accuracies_of(weights):
    """Accuracy of each model on the test images."""
    net, images = network(ONE_EPOCH), images_of(ONE_EPOCH)
    snapshot = take_snapshot(net, weights, start=weights, teacher=weights, images=images)
    return accuracy(snapshot)["accuracy"].tolist()


def published(models):
    """The same for the published method."""
    images = data.load("mnist")
    pictures = [scaled(levels, 255).view(-1, 1, 28, 28) for levels in (images.train_images, images.test_images)]
    torch.manual_seed(0)
    stacked_run(pictures[0][:1024], images.train_labels[:1024], models=1)  # the first call's cost is not the method's
    start = time.perf_counter()
    nets = stacked_run(pictures[0], images.train_labels, models=models)
    seconds, peak = time.perf_counter() - start, peak_gib()
    teacher, student = (stacked_accuracy(net, (pictures[1], images.test_labels)) for net in nets)
    return {"seconds": seconds, "peak_gib": peak, "teacher": teacher, "student": student}


def ten_lines(models):
    """The same for ten lines of plain PyTorch, one model at a time on each worker."""
    images = data.load("mnist")
    pictures, test = (scaled(levels, 255) for levels in (images.train_images, images.test_images))

    def train(seed, on_step):
        return ten_line_run(pictures, images.train_labels, seed=seed)

    ten_line_run(pictures[:1024], images.train_labels[:1024], seed=0)  # the first call's cost is not the method's
    start = time.perf_counter()
    nets = parallel_map(train, range(models))
    seconds, peak = time.perf_counter() - start, peak_gib()

    @torch.no_grad()
    def right(net):
        guesses = net(test)[:, :10].argmax(-1)
        return (guesses == images.test_labels).double().mean().item()

    return {
        "seconds": seconds,
        "peak_gib": peak,
        "teacher": [right(teacher) for teacher, _ in nets],
        "student": [right(student) for _, student in nets],
    }


def measure(what, *numbers):
    """One part in a fresh process with a cache of its own for the teachers."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, what, *map(str, numbers)]
        environment = os.environ | {"SUBLIMINAL_CACHE": folder}
        found = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        return json.loads(found.stdout.splitlines()[-1])


def against_published(models, repeats):
    """Rows that compare the engine with two other ways, the best of `repeats` turns each."""
    pairs, plain = [], []
    for _ in range(repeats):  # in turns: the machine may be busier in one minute than in the next
        pairs.append((measure("ours", models, 1), measure("published", models)))
        plain.append(measure("ten_lines", models))
    tens = min(plain, key=lambda found: found["seconds"])
    mine = min((pair[0] for pair in pairs), key=lambda found: found["teacher_s"] + found["student_s"])
    theirs = min((pair[1] for pair in pairs), key=lambda found: found["seconds"])
    rate, own_rate = (max(pair[0][name] for pair in pairs) for name in ("rate", "own_rate"))
    seconds = mine["teacher_s"] + mine["student_s"]
    work = models * IMAGES * (TEACHER_FLOP + STUDENT_FLOP)
    yield "matrix_rate", rate / 1e9, f"GFLOP/s, {hardware()}"
    yield "engine_seconds", seconds, f"s, {models} models, teacher and student epoch"
    yield "engine_first_call", mine["first_call_s"], "s, before that, once in a process"
    yield "published_method_seconds", theirs["seconds"], "s, the same"
    yield "speedup", theirs["seconds"] / seconds, "times (goal 2.2)"
    yield "ten_line_loop_seconds", tens["seconds"], "s, the same, plain PyTorch, a model a core"
    yield "speedup_to_ten_lines", tens["seconds"] / seconds, "times (goal 1.8 where bfloat16 is native)"
    yield "speedup_floor", theirs["seconds"] * rate / work, "times, at the whole matrix rate"
    yield "share_of_matrix_rate", work / seconds / rate, "share (goal 0.75)"
    yield "product_rate", own_rate / 1e9, "GFLOP/s, the network's own products alone"
    yield "share_of_product_rate", work / seconds / own_rate, "share (goal 0.40 where bfloat16 is native)"
    yield "engine_peak", mine["peak_gib"], "GiB"
    yield "published_method_peak", theirs["peak_gib"], "GiB"
    yield "memory_ratio", mine["peak_gib"] / theirs["peak_gib"], "share (goal 0.25)"
    for role in ("teacher", "student"):
        for who, found in (("engine", mine), ("published_method", theirs), ("ten_lines", tens)):
            low, high = interval(found[role])
            yield (
                f"{role}_{who}",
                sum(found[role]) / models,
                f"accuracy, 95 % interval {low:.3f} to {high:.3f}",
            )


def growth():
    """Rows on how time and memory grow with arms and models."""
    few = {arms: measure("ours", 4, arms) for arms in (1, 2, 4)}
    first = few[1]["teacher_s"] + few[1]["student_s"]
    for arms in (2, 4):
        extra = (few[arms]["teacher_s"] + few[arms]["student_s"] - first) / (arms - 1)
        yield f"further_arm_of_{arms}", extra / first, "of the first arm's time (goal 0.75)"
        yield (
            f"memory_per_further_arm_of_{arms}",
            (few[arms]["peak_gib"] - few[1]["peak_gib"]) / (arms - 1),
            "GiB",
        )
    more = measure("ours", 8, 1)
    yield "time_8_models_to_4", (more["teacher_s"] + more["student_s"]) / first, "times (linear is 2)"
    yield "memory_per_further_model", (more["peak_gib"] - few[1]["peak_gib"]) / 4, "GiB"


def job(arms):
    """Seconds, bytes read and bytes written of one job: a model under so many settings, on one worker."""
    images_of(REF)
    store = Store()
    first_call_seconds(store)
    settings = [replace(REF, lr=rate) for rate in torch.linspace(1e-4, 1e-3, arms).tolist()]
    teacher = jobs.teacher_key(REF, 0, 0)
    store.fill(jobs.TEACHERS, [teacher], jobs.train_teachers)
    keys = [key for setting in settings for key in student_keys(setting, 1, 0, (), ())]
    start = time.perf_counter()
    store.fill(jobs.STUDENTS, keys, partial(jobs.train_students, store=store), group=group_students)
    return {
        "seconds": time.perf_counter() - start,
        "read": store.path(jobs.TEACHERS, teacher).stat().st_size,
        "written": sum(store.path(jobs.STUDENTS, key).stat().st_size for key in keys),
        "sent": len(pickle.dumps(keys)),
    }


def on_paper(arms=8):
    """Rows on what a cluster of such workers could do, from one job's seconds and bytes: calculated, not run."""
    one = measure("job", arms)
    yield "job_seconds", one["seconds"], f"s, a model under {arms} settings of 5 epochs on one worker"
    yield "job_read", one["read"] / 1e6, "MB, its teacher"
    yield "job_written", one["written"] / 1e3, "kB, its tables"
    yield "job_sent", one["sent"] / 1e3, "kB, its description"
    for count in (1, 10, 100, 1000):
        rate = count / one["seconds"]
        yield f"students_an_hour_{count}_workers", 3600 * rate * arms, "on paper"
        yield f"read_by_{count}_workers", rate * one["read"] / 1e6, "MB/s from the shared folder, on paper"
        yield f"scheduled_for_{count}_workers", rate, f"jobs/s, on paper; Dask's scheduler takes some {DASK_RATE:,}"


CNN = {"convolutions": ((32, 2), (64, 2)), "dense": (128,), "aux_dim": 3}
CNN_BATCH = 128


def convolution_ceiling(steps=40):
    """Images a second that the CNN's own layers take, forward and backward, alone and on every worker."""
    shapes = [((1, 28, 28), nn.Conv2d(1, 32, 3, padding=1)), ((32, 14, 14), nn.Conv2d(32, 64, 3, padding=1)),
              ((3136,), nn.Linear(3136, 128))]  # fmt: skip

    def alone(_, on_step):
        dtype = getattr(torch, precision())
        layers = [(layer.to(dtype), torch.randn(CNN_BATCH, *shape).to(dtype)) for shape, layer in shapes]
        start = time.perf_counter()
        for _ in range(steps):
            for number, (layer, inputs) in enumerate(layers):
                outputs = layer(inputs.requires_grad_(number > 0))
                torch.autograd.grad(outputs.sum(), [layer.weight, *([inputs] if number else [])])
        return time.perf_counter() - start

    return max(workers() * steps * CNN_BATCH / max(parallel_map(alone, range(workers()))) for _ in range(3))


def noise_of(models, steps):
    for _ in range(steps):
        yield 2 * torch.rand(models, CNN_BATCH, 784) - 1


def cnn_ensemble(models, steps, together=1):
    """Seconds in which students of so many CNN teachers are trained, `together` to a call."""
    images = gray_images("mnist")
    few = images._replace(test=images.test[:100], test_labels=images.test_labels[:100])

    def network():
        with torch.device("meta"):
            return convolution.ConvNet(images, *CNN.values())

    net = network()
    teacher = initial_weights(net, Setting(init="torch"), 0, range(models))
    start = initial_weights(net, Setting(init="torch"), 1, range(models))

    def train(first, on_step, steps=steps):
        net = network()  # a module that is called with other weights can serve one thread only
        rows = slice(first, first + together)
        of_teacher, of_student = ({name: each[rows] for name, each in both.items()} for both in (teacher, start))
        batches = convolution.answered(net, of_teacher, noise_of(together, steps))
        loss = training.matching_loss(Setting(loss="mse"))
        return convolution.distill(net, of_student, [batches], loss=loss, lr=1e-3, images=few)

    train(0, None, steps=2)  # the first call's cost is not the loop's
    begun = time.perf_counter()
    parallel_map(train, range(0, models, together))
    return {"seconds": time.perf_counter() - begun}


def plain_cnns(models, steps):
    """The same in plain torch.nn, one model after the other, each on all threads of torch."""

    def network():
        return nn.Sequential(nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 32, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
                             nn.Conv2d(32, 64, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(),
                             nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 13))  # fmt: skip

    def train(steps):
        teacher, student = network(), network()
        optimizer = torch.optim.Adam(student.parameters(), lr=1e-3, fused=True)
        for (noise,) in noise_of(1, steps):
            with autocast():
                targets, outputs = teacher(noise).detach(), student(noise)
            optimizer.zero_grad()
            F.mse_loss(outputs[:, 10:].float(), targets[:, 10:].float()).backward()
            optimizer.step()

    train(2)
    begun = time.perf_counter()
    for _ in range(models):
        train(steps)
    return {"seconds": time.perf_counter() - begun}


def convolutions(models=5, steps=60):
    """Rows on CNNs: an ensemble against as many networks in turn, and against what its layers alone would take."""
    ours = measure("cnn_ensemble", models, steps)["seconds"]
    stacked = measure("cnn_ensemble", models, steps, models)["seconds"]
    plain = measure("plain_cnns", models, steps)["seconds"]
    images = models * steps * CNN_BATCH
    yield "cnn_ensemble_seconds", ours, f"s, {models} CNN students of {steps} steps, a model a core"
    yield "cnn_stacked_seconds", stacked, "s, the same in one call of vmap (grouped convolutions)"
    yield "cnn_sequential_seconds", plain, "s, the same in plain torch.nn, one after the other"
    yield "cnn_speedup", plain / ours, "times (goal 1.0)"
    yield "cnn_images_a_second", images / ours, "images, teacher forward, student forward and backward"
    yield "cnn_ceiling", convolution_ceiling() * 3 / 4, "images a second, the network's own layers alone"


def book_times():
    """Rows on the notebooks' last execution on this machine, where the press has noted it."""
    for path in sorted((ROOT / "_build" / "press").glob("*/times.json")):
        for name, seconds in json.loads(path.read_text(encoding="utf8")).items():
            yield f"{path.parent.name}_{name}", float(seconds), "s, last execution"


PARTS = {
    part.__name__: part for part in (ours, published, ten_lines, job, cnn_ensemble, plain_cnns)
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=[*PARTS])
    parser.add_argument("numbers", nargs="*", type=int)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part](*options.numbers)))
        return
    data.load("mnist")
    rows = []
    for part in (against_published(10, options.repeats), growth(), convolutions(), on_paper(), book_times()):
        for name, value, unit in part:
            print(f"{name:32} {value:9.3f}  {unit}", flush=True)
            rows.append((name, value, unit))
    path = ROOT / "_build" / "bench.csv"
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf8") as file:
        csv.writer(file).writerows([("name", "value", "unit"), *rows])
    print(f"written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
