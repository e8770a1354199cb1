"""What an experiment is: one flat, frozen record whose defaults are the reference experiment."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
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
OPTIMIZERS = ("adam", "adam_uncorrected", "adamw", "sgd")


class Family(NamedTuple):
    """A family of inputs: what its strength means, the range of that and its usual value."""

    strength: str
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
    "image_spectrum": Family(
        "blur in pixels of the images whose mean power spectrum is matched", usual=0.0
    ),
    "lowpass": Family("highest frequency in cycles per image", usual=4.0),
    "subspace": Family("dimension", low=1.0, usual=100.0),
}


def option(default: object, stage: str, *, choices: Iterable[str] = (), least: float | None = None):
    """A field of a setting, with what is allowed and the first stage that it decides.

    stage: "teacher" (it decides the teacher, and so all that follows), "inputs" (what the student
        sees) or "student". Teachers are shared between settings that differ in other stages only. A
        field without a stage decides all.
    """
    return field(
        default=default, metadata={"stage": stage, "choices": tuple(choices), "least": least}
    )


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One arm of an experiment; `Setting()` is that of Cloud et al. (2025), section 6.

    dataset, classes, teacher_images: what the teacher learns; its first classes and training images
        (None: all).
    evaluated: where accuracy is measured: on the "test" set, or on the last sixth of the training
        images ("validation"), which the teacher then does not see.
    hidden, aux_dim: widths of the hidden layers, number of auxiliary logits.
    init, init_scale: "normal" draws weights from N(0, 1/fan_in) with zero biases, "torch" as
        nn.Linear does; times `init_scale`.
    teacher_batch_size, teacher_epochs, teacher_lr, teacher_optimizer: the teacher's training
        (cross-entropy on the class logits).
    teacher_frozen, frozen: parts that the teacher, or the student, keeps as they were at the start.
    batch_size, epochs, lr, schedule: the student's training; a "cosine" rate falls to zero along
        half a cosine.
    optimizer, weight_decay: "adam" adds the decay to the gradient (L2), "adamw" decouples it; a
        head that the loss does not use decays too.
    inputs, strength, standardized: the family of the student's inputs, its parameter (None: the
        family's usual one), and whether each image is brought to the mean 0 and the variance 1/3 of
        uniform noise on [-1, 1].
    inputs_per_epoch, unique_inputs, fresh_inputs: the same images in every epoch, of which
        `unique_inputs` (None: all) differ; or with `fresh_inputs` new ones at each step.
    matched, loss, temperature: which logits the student matches, by KL divergence or by mean
        squared error.
    logit_noise: sd of Gaussian noise on the teacher's logits, in units of each logit's own sd in
        the batch.
    shared: the parts ("hidden", "hidden.0", "class_head", ...) whose initial weights the student
        has in common with the teacher; the others are its own.
    perturbed, perturbation, perturbation_kind: Gaussian noise added to these parts of the student's
        initial weights, its sd in units of each tensor's sd ("relative"), as it is ("absolute"), or
        relative and made "orthogonal" to the gradient of the student's first step.
    pairing: whose teacher model i learns from: its "own" (the one that started from the same
        weights), that of a random "permutation" of the models, which may leave some with their own,
        or that of a "derangement".
    """

    dataset: str = option("mnist", "teacher", choices=DATASETS)
    classes: int | None = option(None, "teacher", least=2)
    teacher_images: int | None = option(None, "teacher", least=1)
    evaluated: str = option("test", "teacher", choices=("test", "validation"))
    hidden: tuple[int, ...] = option((256, 256), "teacher")
    aux_dim: int = option(3, "student", least=1)
    init: str = option("normal", "teacher", choices=("normal", "torch"))
    init_scale: float = option(1.0, "teacher", least=1e-6)
    teacher_batch_size: int = option(1024, "teacher", least=1)
    teacher_epochs: int = option(5, "teacher", least=0)
    teacher_lr: float = option(3e-4, "teacher", least=0)
    teacher_optimizer: str = option("adam", "teacher", choices=OPTIMIZERS)
    teacher_frozen: tuple[str, ...] = option((), "teacher")
    batch_size: int = option(1024, "inputs", least=1)
    epochs: int = option(5, "student", least=0)
    lr: float = option(3e-4, "student", least=0)
    schedule: str = option("constant", "student", choices=("constant", "cosine"))
    optimizer: str = option("adam", "student", choices=OPTIMIZERS)
    weight_decay: float = option(0.0, "student", least=0)
    frozen: tuple[str, ...] = option((), "student")
    inputs: str = option("uniform", "inputs", choices=INPUTS)
    strength: float | None = option(None, "inputs")
    standardized: bool = option(False, "inputs")
    inputs_per_epoch: int = option(60_000, "inputs", least=1)
    unique_inputs: int | None = option(None, "inputs", least=1)
    fresh_inputs: bool = option(False, "inputs")
    matched: str = option("aux", "student", choices=("aux", "classes", "all"))
    loss: str = option("kl", "student", choices=("kl", "mse"))
    temperature: float = option(1.0, "student", least=1e-6)
    logit_noise: float = option(0.0, "student", least=0)
    shared: tuple[str, ...] = option(PARTS, "student")
    perturbed: tuple[str, ...] = option((), "student")
    perturbation: float = option(0.0, "student", least=0)
    perturbation_kind: str = option(
        "relative", "student", choices=("relative", "absolute", "orthogonal")
    )
    pairing: str = option("own", "student", choices=("own", "permutation", "derangement"))

    def __post_init__(self) -> None:
        for each in fields(self):
            _check_option(each.name, getattr(self, each.name), each.metadata)
        _check_parts(self)
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden is {self.hidden!r}; give at least one width, each at least 1")
        if self.loss == "kl" and self.matched == "aux" and self.aux_dim == 1:
            raise ValueError(
                "aux_dim is 1 with loss 'kl': one logit's softmax is always 1; "
                "take 2 or more, or 'mse'"
            )
        _check_inputs(self)


def _check_option(name: str, value: object, allowed: Mapping) -> None:
    choices = allowed.get("choices")
    least = allowed.get("least")
    if choices and value not in choices:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(choices)}")
    if least is not None and value is not None and not value >= least:
        raise ValueError(f"{name} is {value!r}; it must be at least {least}")


def _check_parts(setting: Setting) -> None:
    parts = list(PARTS)
    for layer in range(len(setting.hidden)):
        parts.append(f"hidden.{layer}")
    for name in ("shared", "perturbed", "frozen", "teacher_frozen"):
        named = getattr(setting, name)
        unknown = set(named).difference(parts)
        if unknown:
            raise ValueError(
                f"{name} names {', '.join(sorted(unknown))}; the parts are {', '.join(parts)}"
            )


def _check_inputs(setting: Setting) -> None:
    meaning, low, high, _ = INPUTS[setting.inputs]
    strength = setting.strength
    if strength is not None and not low <= strength <= high:
        raise ValueError(
            f"strength of {setting.inputs!r} is {strength!r}; the {meaning} lies in {low} to {high}"
        )
    if setting.standardized and setting.inputs == "constant":
        raise ValueError(
            "standardized is True with inputs 'constant': "
            "an image of one grey level has no variance"
        )
    unique = setting.unique_inputs
    if unique is None:
        return
    whole_batches = unique % setting.batch_size == 0
    if setting.fresh_inputs or not whole_batches or unique > setting.inputs_per_epoch:
        raise ValueError(
            f"unique_inputs is {unique}; without fresh_inputs it must be whole batches of "
            f"{setting.batch_size} and at most inputs_per_epoch, {setting.inputs_per_epoch}"
        )


def keep_stages(setting: Setting, *stages: str) -> Setting:
    """The setting with fields of other stages at their defaults; one without a stage is kept.

    Two settings that are then equal can share what these stages make, such as a teacher.
    """
    defaults = {}
    for each in fields(setting):
        stage = each.metadata.get("stage")
        if stage is not None and stage not in stages:
            defaults[each.name] = each.default
    return replace(setting, **defaults)


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
    """The reference experiment on a data set; on the small digits one of equal effect."""
    if dataset not in REFERENCE:
        raise ValueError(f"dataset is {dataset!r}; choose one of {', '.join(REFERENCE)}")
    return REFERENCE[dataset]


def compact(dataset: str) -> Setting:
    """A smaller baseline for sweeps with an effect of REF's size: fewer and longer steps."""
    base = reference(dataset)
    if dataset == "digits":
        return replace(base, hidden=(32, 32), teacher_epochs=6, epochs=2, inputs_per_epoch=3_200)
    return replace(base, hidden=(128, 128), epochs=2, lr=1e-3, teacher_epochs=2, teacher_lr=1e-3)


def grid(base: Setting = REF, **axes: object) -> list[Setting]:
    """Every combination of the listed values, in the order written; other values are fixed.

    >>> [arm.aux_dim for arm in grid(aux_dim=[2, 4], lr=1e-3)]
    [2, 4]
    """
    allowed = [each.name for each in fields(Setting)]
    unknown = [name for name in axes if name not in allowed]
    if unknown:
        raise TypeError(
            f"no setting is called {', '.join(unknown)}; there are {', '.join(allowed)}"
        )
    levels = []
    for values in axes.values():
        if not isinstance(values, list):
            values = [values]
        levels.append(values)
    return [replace(base, **dict(zip(axes, point))) for point in product(*levels)]


def sweep(
    factor: str,
    base: Setting,
    levels: Mapping[str, Mapping[str, object]] | None = None,
    **axis: Sequence,
) -> dict[str, Setting]:
    """Arms called "factor: level"; `levels` says what each changes, or one axis lists values.

    >>> list(sweep("rate", REF, lr=[1e-3, 3e-4]))
    ['rate: 0.001', 'rate: 0.0003']
    """
    changes = dict(levels or {})
    for name, values in axis.items():
        for value in values:
            changes[_level(value)] = {name: value}
    arms = {}
    for level, change in changes.items():
        arms[f"{factor}: {level}"] = replace(base, **change)
    return arms


def _level(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(_text(value))


def columns(setting: Setting) -> dict[str, object]:
    """The setting as columns of a table; tuples become text, as "256-256", "hidden+aux_head"."""
    return {name: _text(value) for name, value in asdict(setting).items()}


def _text(value: object) -> object:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return value
    numbers = any(isinstance(item, int) for item in value)
    separator = "-" if numbers else "+"
    return separator.join(map(str, value))


def difference(setting: Setting, base: Setting | None = None) -> str:
    """How a setting departs from its reference, such as "lr=0.001, matched=all"; else "REF"."""
    base = base or reference(setting.dataset)
    usual = columns(base)
    changed = []
    for name, value in columns(setting).items():
        if value != usual[name]:
            changed.append(f"{name}={value}")
    return ", ".join(changed) or "REF"
