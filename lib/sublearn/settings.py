"""What an experiment is: one flat, frozen record whose defaults are the reference experiment."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product

DATASETS = {
    "mnist": "MNIST",
    "fashion": "Fashion-MNIST",
    "emnist": "EMNIST Balanced (or its stand-in EMNIST47)",
    "digits": "the 8 x 8 digits that come with scikit-learn (1,297 training and 500 test images)",
}
PARTS = ("hidden", "class_head", "aux_head")
CHOICES = {
    "dataset": tuple(DATASETS),
    "init": ("normal", "torch"),
    "inputs": ("uniform",),
    "matched": ("aux", "classes", "all"),
    "loss": ("kl", "mse"),
    "pairing": ("own", "permutation", "derangement"),
}
AT_LEAST = {
    "aux_dim": 1,
    "batch_size": 1,
    "teacher_epochs": 0,
    "epochs": 0,
    "inputs_per_epoch": 1,
    "teacher_lr": 0,
    "lr": 0,
    "temperature": 1e-6,
    "perturbation": 0,
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One arm of an experiment; `Setting()` is the reference experiment of Cloud et al. (2025), section 6.

    dataset, hidden, aux_dim: what the teacher learns, widths of the hidden layers, number of auxiliary logits.
    init: "normal" draws weights from N(0, 1/fan_in) with zero biases; "torch" is the default of nn.Linear.
    batch_size, teacher_epochs, teacher_lr: the teacher's training (Adam, cross-entropy on the class logits).
    epochs, lr: the student's training (Adam) on `inputs_per_epoch` images of the family `inputs` in each epoch:
        the same images in every epoch, or with `fresh_inputs` new ones at each step.
    matched, loss, temperature: which logits the student matches, by KL divergence or by mean squared error.
    shared: the parts ("hidden", "hidden.0", "class_head", ...) whose initial weights the student has in common with
        the teacher; the others are its own.
    perturbed, perturbation: Gaussian noise added to these parts of the student's initial weights, its sd in units
        of each tensor's own sd.
    pairing: whose teacher model i learns from: its "own" (the one that started from the same weights), that of a random
        "permutation" of the models, which may leave some with their own, or that of a "derangement", which
        leaves none.
    """

    dataset: str = "mnist"
    hidden: tuple[int, ...] = (256, 256)
    aux_dim: int = 3
    init: str = "normal"
    batch_size: int = 1024
    teacher_epochs: int = 5
    teacher_lr: float = 3e-4
    epochs: int = 5
    lr: float = 3e-4
    inputs: str = "uniform"
    inputs_per_epoch: int = 60_000
    fresh_inputs: bool = False
    matched: str = "aux"
    loss: str = "kl"
    temperature: float = 1.0
    shared: tuple[str, ...] = PARTS
    perturbed: tuple[str, ...] = ()
    perturbation: float = 0.0
    pairing: str = "own"

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(allowed)}")
        for name, least in AT_LEAST.items():
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be at least {least}")
        parts = [*PARTS, *(f"hidden.{layer}" for layer in range(len(self.hidden)))]
        for name in ("shared", "perturbed"):
            if unknown := set(getattr(self, name)) - set(parts):
                raise ValueError(f"{name} names {', '.join(sorted(unknown))}; the parts are {', '.join(parts)}")
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden is {self.hidden!r}; give at least one width, each at least 1")
        if self.loss == "kl" and self.matched == "aux" and self.aux_dim == 1:
            raise ValueError("aux_dim is 1 with loss 'kl': one logit's softmax is always 1; take 2 or more, or 'mse'")


REF = Setting()
REFERENCE = {
    "mnist": REF,
    "fashion": replace(REF, dataset="fashion"),
    "emnist": replace(REF, dataset="emnist"),
    "digits": Setting(
        dataset="digits",
        hidden=(64, 64),
        batch_size=256,
        teacher_epochs=30,
        teacher_lr=3e-3,
        epochs=6,
        lr=3e-3,
        inputs_per_epoch=12_800,
    ),
}


def reference(dataset: str) -> Setting:
    """The reference experiment on a data set: REF, or for the small embedded digits its equivalent in their size."""
    if dataset not in REFERENCE:
        raise ValueError(f"dataset is {dataset!r}; choose one of {', '.join(REFERENCE)}")
    return REFERENCE[dataset]


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
