"""What an experiment is: one flat, frozen record whose defaults are the reference experiment."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from math import inf
from typing import NamedTuple

DATASETS = {
    "mnist": "MNIST",
    "fashion": "Fashion-MNIST",
    "emnist": "EMNIST Balanced (or its stand-in EMNIST47)",
    "digits": "the 8 x 8 digits that come with scikit-learn (1,297 training and 500 test images)",
}
PARTS = ("hidden", "class_head", "aux_head")


class Family(NamedTuple):
    """A family of inputs."""

    strength: str  # what it means, then its range and its usual value
    low: float = 0.0
    high: float = inf
    usual: float = 1.0


INPUTS = {
    "uniform": Family("half-width of the range of pixels"),
    "gaussian": Family("standard deviation of pixels"),
    "bernoulli": Family("size of the two values of pixels"),
    "constant": Family("half-width of the range of the one grey level"),
    "images": Family("blur in pixels", usual=0.0),
    "permuted": Family("strength (it has none)", high=0.0, usual=0.0),
    "fashion": Family("blur in pixels", usual=0.0),
    "perlin": Family("cells along a side", low=1.0, usual=4.0),
    "mixture": Family("share of the image", high=1.0, usual=0.5),
    "blurred": Family("blur in pixels"),
    "shaded": Family("blur in pixels"),
    "random_phase": Family("blur in pixels of the noise whose power spectrum is matched"),
    "image_spectrum": Family("blur in pixels of the images whose mean power spectrum is matched", usual=0.0),
    "lowpass": Family("highest frequency in cycles per image", usual=4.0),
    "subspace": Family("dimension", low=1.0, usual=100.0),
}
CHOICES = {
    "dataset": tuple(DATASETS),
    "evaluated": ("test", "validation"),
    "init": ("normal", "torch"),
    "teacher_optimizer": ("adam", "adam_uncorrected", "adamw", "sgd"),
    "optimizer": ("adam", "adam_uncorrected", "adamw", "sgd"),
    "schedule": ("constant", "cosine"),
    "inputs": tuple(INPUTS),
    "matched": ("aux", "classes", "all"),
    "loss": ("kl", "mse"),
    "perturbation_kind": ("relative", "absolute", "orthogonal"),
    "pairing": ("own", "permutation", "derangement"),
}
AT_LEAST = {
    "classes": 2,
    "teacher_images": 1,
    "aux_dim": 1,
    "init_scale": 1e-6,
    "teacher_batch_size": 1,
    "teacher_epochs": 0,
    "batch_size": 1,
    "epochs": 0,
    "inputs_per_epoch": 1,
    "unique_inputs": 1,
    "teacher_lr": 0,
    "lr": 0,
    "weight_decay": 0,
    "temperature": 1e-6,
    "logit_noise": 0,
    "perturbation": 0,
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One arm of an experiment; `Setting()` is the reference experiment of Cloud et al. (2025), section 6.

    dataset, classes, teacher_images: what the teacher learns; its first classes and training images (None: all).
    evaluated: where accuracy is measured: on the "test" set, or on the last sixth of the training images
        ("validation"), which the teacher then does not see.
    hidden, aux_dim: widths of the hidden layers, number of auxiliary logits.
    init, init_scale: "normal" draws weights from N(0, 1/fan_in) with zero biases, "torch" as nn.Linear does; times
        `init_scale`.
    teacher_batch_size, teacher_epochs, teacher_lr, teacher_optimizer: the teacher's training (cross-entropy on the
        class logits).
    teacher_frozen, frozen: parts that the teacher, or the student, keeps as they were at the start.
    batch_size, epochs, lr, schedule: the student's training; a "cosine" rate falls to zero along half a cosine.
    optimizer, weight_decay: "adam" adds the decay to the gradient (L2), "adamw" decouples it.
    inputs, strength, standardized: the family of the student's inputs, its parameter (None: the family's usual one),
        and whether each image is brought to the mean 0 and the variance 1/3 of uniform noise on [-1, 1].
    inputs_per_epoch, unique_inputs, fresh_inputs: the same images in every epoch, of which `unique_inputs` (None: all)
        differ; or with `fresh_inputs` new ones at each step.
    matched, loss, temperature: which logits the student matches, by KL divergence or by mean squared error.
    logit_noise: sd of Gaussian noise on the teacher's logits, in units of each logit's own sd in the batch.
    shared: the parts ("hidden", "hidden.0", "class_head", ...) whose initial weights the student has in common with
        the teacher; the others are its own.
    perturbed, perturbation, perturbation_kind: Gaussian noise added to these parts of the student's initial weights,
        its sd in units of each tensor's sd ("relative"), as it is ("absolute"), or relative and made "orthogonal" to
        the gradient of the student's first step.
    pairing: whose teacher model i learns from: its "own" (the one that started from the same weights), that of a random
        "permutation" of the models, which may leave some with their own, or that of a "derangement".
    """

    dataset: str = "mnist"
    classes: int | None = None
    teacher_images: int | None = None
    evaluated: str = "test"
    hidden: tuple[int, ...] = (256, 256)
    aux_dim: int = 3
    init: str = "normal"
    init_scale: float = 1.0
    teacher_batch_size: int = 1024
    teacher_epochs: int = 5
    teacher_lr: float = 3e-4
    teacher_optimizer: str = "adam"
    teacher_frozen: tuple[str, ...] = ()
    batch_size: int = 1024
    epochs: int = 5
    lr: float = 3e-4
    schedule: str = "constant"
    optimizer: str = "adam"
    weight_decay: float = 0.0
    frozen: tuple[str, ...] = ()
    inputs: str = "uniform"
    strength: float | None = None
    standardized: bool = False
    inputs_per_epoch: int = 60_000
    unique_inputs: int | None = None
    fresh_inputs: bool = False
    matched: str = "aux"
    loss: str = "kl"
    temperature: float = 1.0
    logit_noise: float = 0.0
    shared: tuple[str, ...] = PARTS
    perturbed: tuple[str, ...] = ()
    perturbation: float = 0.0
    perturbation_kind: str = "relative"
    pairing: str = "own"

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(allowed)}")
        for name, least in AT_LEAST.items():
            if (value := getattr(self, name)) is not None and not value >= least:
                raise ValueError(f"{name} is {value!r}; it must be at least {least}")
        parts = [*PARTS, *(f"hidden.{layer}" for layer in range(len(self.hidden)))]
        for name in ("shared", "perturbed", "frozen", "teacher_frozen"):
            if unknown := set(getattr(self, name)) - set(parts):
                raise ValueError(f"{name} names {', '.join(sorted(unknown))}; the parts are {', '.join(parts)}")
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden is {self.hidden!r}; give at least one width, each at least 1")
        if self.loss == "kl" and self.matched == "aux" and self.aux_dim == 1:
            raise ValueError("aux_dim is 1 with loss 'kl': one logit's softmax is always 1; take 2 or more, or 'mse'")
        self._check_inputs()

    def _check_inputs(self) -> None:
        meaning, low, high, _ = INPUTS[self.inputs]
        if self.strength is not None and not low <= self.strength <= high:
            raise ValueError(f"strength of {self.inputs!r} is {self.strength!r}; the {meaning} lies in {low} to {high}")
        if self.standardized and self.inputs == "constant":
            raise ValueError("standardized is True with inputs 'constant': an image of one grey level has no variance")
        if self.unique_inputs is not None and not self._unique_batches():
            allowed = f"whole batches of {self.batch_size} and at most inputs_per_epoch, {self.inputs_per_epoch}"
            raise ValueError(f"unique_inputs is {self.unique_inputs}; without fresh_inputs it must be {allowed}")

    def _unique_batches(self) -> bool:
        whole = self.unique_inputs % self.batch_size == 0
        return whole and self.unique_inputs <= self.inputs_per_epoch and not self.fresh_inputs


REF = Setting()
REFERENCE = {
    "mnist": REF,
    "fashion": replace(REF, dataset="fashion"),
    "emnist": replace(REF, dataset="emnist"),
    "digits": Setting(
        dataset="digits",
        hidden=(64, 64),
        teacher_batch_size=256,
        teacher_epochs=30,
        teacher_lr=3e-3,
        batch_size=256,
        epochs=6,
        lr=3e-3,
        inputs_per_epoch=12_800,
    ),
}


def reference(dataset: str) -> Setting:
    """The reference experiment on a data set: REF, or its equivalent in size for the small embedded digits."""
    if dataset not in REFERENCE:
        raise ValueError(f"dataset is {dataset!r}; choose one of {', '.join(REFERENCE)}")
    return REFERENCE[dataset]


def compact(dataset: str) -> Setting:
    """A smaller baseline for sweeps, with an effect of REF's size: narrower layers, fewer and longer steps."""
    if dataset == "digits":
        return replace(reference(dataset), hidden=(32, 32), teacher_epochs=6, epochs=2, inputs_per_epoch=3_200)
    short = {"epochs": 2, "lr": 1e-3, "teacher_epochs": 2, "teacher_lr": 1e-3}
    return replace(reference(dataset), hidden=(128, 128), **short)


def grid(base: Setting = REF, **axes: object) -> list[Setting]:
    """Every combination of the listed values, in the order written; a value that is no list is kept fixed.

    >>> [arm.aux_dim for arm in grid(aux_dim=[2, 4], lr=1e-3)]
    [2, 4]
    """
    known = [field.name for field in fields(Setting)]
    if unknown := [name for name in axes if name not in known]:
        raise TypeError(f"no setting is called {', '.join(unknown)}; there are {', '.join(known)}")
    levels = [values if isinstance(values, list) else [values] for values in axes.values()]
    return [replace(base, **dict(zip(axes, point))) for point in product(*levels)]


def sweep(
    factor: str, base: Setting, levels: Mapping[str, Mapping[str, object]] | None = None, **axis: Sequence
) -> dict[str, Setting]:
    """Arms called "factor: level": `levels` maps a level to what it changes in `base`, or one axis lists its values.

    >>> list(sweep("rate", REF, lr=[1e-3, 3e-4]))
    ['rate: 0.001', 'rate: 0.0003']
    """
    for name, values in axis.items():
        levels = {f"{value:g}" if isinstance(value, float) else str(_text(value)): {name: value} for value in values}
    return {f"{factor}: {level}": replace(base, **changes) for level, changes in levels.items()}


def columns(setting: Setting) -> dict[str, object]:
    """The setting as columns of a table: tuples become text such as "256-256" or "hidden+aux_head"."""
    return {name: _text(value) for name, value in asdict(setting).items()}


def _text(value: object) -> object:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return value
    return ("-" if any(isinstance(item, int) for item in value) else "+").join(map(str, value))


def difference(setting: Setting, base: Setting | None = None) -> str:
    """How a setting departs from the reference on its data set, such as "lr=0.001, fresh_inputs=True", or "REF"."""
    base = base or reference(setting.dataset)
    changed = [f"{k}={v}" for k, v in columns(setting).items() if v != columns(base)[k]]
    return ", ".join(changed) or "REF"
