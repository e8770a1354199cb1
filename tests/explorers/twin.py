"""The laboratory of `lib/sublearn/explorers/js` once more, in NumPy: the same numbers."""

import base64
import zlib

import numpy as np

USES = ["start", "own start", "control start", "batches", "noise"]
PARTS = ["hidden0", "hidden1", "class_head", "aux_head"]
BATCH, AFTER_TEACHER, MASK = 64, 100_000, np.uint64(0xFFFFFFFF)
REF = {
    "seed": 1,
    "aux_dim": 3,
    "perturbation": 0.0,
    "lr": 0.003,
    "shared": ["hidden", "class_head", "aux_head"],
    "inputs": "noise",
    "loss": "mse",
    "width": 64,
    "steps": 1500,
}


def scramble(state):
    state = np.asarray(state, np.uint64) & MASK
    z = (state ^ (state >> np.uint64(15))) * (state | np.uint64(1)) & MASK
    z ^= (z + ((z ^ (z >> np.uint64(7))) * (z | np.uint64(61)) & MASK)) & MASK
    return z ^ (z >> np.uint64(14))


def key(seed, use, part):
    first = scramble(np.uint64(seed + 0x9E3779B9))
    return scramble(first ^ scramble((USES.index(use) + 1) * 0x85EBCA6B + part))


def uniform(stream, places):
    return (
        scramble(stream + (np.asarray(places, np.uint64) + np.uint64(1)) * np.uint64(0x6D2B79F5))
        / 4294967296
    )


def normal(stream, places):
    radius = np.sqrt(-2 * np.log(1 - uniform(stream, 2 * places)))
    return (
        (radius * np.cos(2 * np.pi * uniform(stream, 2 * places + 1)))
        .astype(np.float32)
        .astype(float)
    )


def initial(seed, use, width, aux_dim):
    shapes = (64, width), (width, width), (width, 10), (width, aux_dim)
    network = {}
    for number, (part, (rows, columns)) in enumerate(zip(PARTS, shapes)):
        places = np.arange(columns) * rows + np.arange(rows)[:, None]
        network[part] = [normal(key(seed, use, number), places) / np.sqrt(rows), np.zeros(columns)]
    return network


def forward(network, inputs):
    first = np.maximum(inputs @ network["hidden0"][0] + network["hidden0"][1], 0)
    second = np.maximum(first @ network["hidden1"][0] + network["hidden1"][1], 0)
    logits = {
        head: second @ network[head][0] + network[head][1] for head in ("class_head", "aux_head")
    }
    return logits | {"first": first, "second": second}


def gradients(network, inputs, outputs, head, error):
    """Gradients of all parts before `head`, from the derivative of the loss by its logits."""
    back = error @ network[head][0].T * (outputs["second"] > 0)
    front = back @ network["hidden1"][0].T * (outputs["first"] > 0)
    pairs = {
        head: (outputs["second"], error),
        "hidden1": (outputs["first"], back),
        "hidden0": (inputs, front),
    }
    return {part: [before.T @ after, after.sum(0)] for part, (before, after) in pairs.items()}


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def cross_entropy_error(logits, labels):
    return (softmax(logits) - np.eye(10)[labels]) / len(labels)


def aux_error(logits, targets, loss):
    if loss == "kl":
        return (softmax(logits) - softmax(targets)) / len(logits)
    return 2 * (logits - targets) / logits.size


class Adam:
    def __init__(self, network):
        self.moments = {
            part: [[np.zeros_like(x), np.zeros_like(x)] for x in network[part]] for part in PARTS
        }
        self.step = 0

    def update(self, network, slopes, rate):
        self.step += 1
        size, scale = rate / (1 - 0.9**self.step), 1 / np.sqrt(1 - 0.999**self.step)
        for part, slope in slopes.items():
            for values, g, moment in zip(network[part], slope, self.moments[part]):
                moment[0] = 0.9 * moment[0] + 0.1 * g
                moment[1] = 0.999 * moment[1] + 0.001 * g * g
                values -= size * moment[0] / (np.sqrt(moment[1]) * scale + 1e-8)


def unpack(packed):
    """Images in [-1, 1] and labels of both parts, as the browser unpacks them."""
    pixels = np.frombuffer(zlib.decompress(base64.b85decode(packed["pixels"])), np.uint8)
    parts, offset = {}, 0
    for part in ("train", "test"):
        count = sum(packed[part])
        images = pixels[offset : offset + 64 * count].reshape(64, count).T / 8 - 1
        parts[part] = images, np.repeat(np.arange(10), packed[part])
        offset += 64 * count
    return parts


def student_start(config):
    seed, width, aux_dim = config["seed"], config["width"], config["aux_dim"]
    start = initial(seed, "start", width, aux_dim)
    own_start = initial(seed, "own start", width, aux_dim)
    for part in PARTS:
        shared = part.rstrip("01") in config["shared"]
        p = config["perturbation"] if shared else 1
        start[part][0] = np.sqrt(1 - p * p) * start[part][0] + p * own_start[part][0]
    return start


def run(digits, teacher_steps=300, **changes):
    """A whole run: accuracies of teacher and ceiling; `points` has step, student and control."""
    config = REF | changes
    seed, width, aux_dim, steps = (config[name] for name in ("seed", "width", "aux_dim", "steps"))
    (images, labels), (tests, answers) = digits["train"], digits["test"]

    def chosen(number):
        return np.floor(
            uniform(key(seed, "batches", number), np.arange(BATCH)) * len(images)
        ).astype(int)

    def accuracy(network):
        return np.mean(forward(network, tests)["class_head"].argmax(1) == answers)

    teacher = initial(seed, "start", width, aux_dim)
    adam = Adam(teacher)
    for step in range(teacher_steps):
        batch = chosen(step)
        outputs = forward(teacher, images[batch])
        error = cross_entropy_error(outputs["class_head"], labels[batch])
        adam.update(teacher, gradients(teacher, images[batch], outputs, "class_head", error), 0.001)
    networks = [student_start(config), initial(seed, "control start", width, aux_dim)]
    adams, rows = [Adam(network) for network in networks], [[0, *map(accuracy, networks)]]
    for step in range(steps):
        noise = 2 * uniform(key(seed, "noise", step), np.arange(BATCH * 64)).reshape(BATCH, 64) - 1
        inputs = noise if config["inputs"] == "noise" else images[chosen(AFTER_TEACHER + step)]
        targets = forward(teacher, inputs)["aux_head"]
        for network, adam in zip(networks, adams):
            outputs = forward(network, inputs)
            error = aux_error(outputs["aux_head"], targets, config["loss"])
            adam.update(
                network, gradients(network, inputs, outputs, "aux_head", error), config["lr"]
            )
        if (step + 1) % (10 if step + 1 < 200 else 25) == 0 or step + 1 == steps:
            rows.append([step + 1, *map(accuracy, networks)])
    head = initial(seed, "start", width, aux_dim)["class_head"]
    return {
        "teacher": accuracy(teacher),
        "ceiling": accuracy(teacher | {"class_head": head}),
        "points": rows,
    }
