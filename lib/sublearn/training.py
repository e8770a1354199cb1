"""Teachers that learn digits and students that learn only to agree with them, one epoch at a time."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from sublearn.ensemble import Outputs, Weights, apply
from sublearn.inputs import batch_sizes
from sublearn.seeds import stream
from sublearn.settings import Setting

Item = TypeVar("Item")
Result = TypeVar("Result")
Loss = Callable[[Outputs, Outputs], Tensor]


def device() -> torch.device:
    """Where training runs: the first CUDA device, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision() -> torch.dtype:
    """Number type of the matrix products in training: bfloat16 where the processor multiplies it natively, else float32."""
    native = device().type == "cuda" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


def hardware() -> str:
    """Device and number type in words, such as "cpu float32": a label of every result."""
    return f"{device().type} {str(precision()).removeprefix('torch.')}"


def workers() -> int:
    """Threads that train side by side: SUBLIMINAL_THREADS if set, else every core (on a GPU one, for all models)."""
    return 1 if device().type == "cuda" else int(os.environ.get("SUBLIMINAL_THREADS") or os.cpu_count() or 1)


def chunks(models: Sequence[int]) -> list[list[int]]:
    """How an ensemble is split for this device: model by model on a CPU, whole on a GPU."""
    return [list(models)] if device().type == "cuda" else [[model] for model in models]


def side_by_side(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Results of `function` on every item, in order, each item in one single-threaded worker.

    A model never shares a matrix product with another, so its numbers do not depend on how many there are.
    """
    with ThreadPoolExecutor(workers(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def progress(total: int, label: str) -> tqdm:
    """A tqdm bar: in the notebook, or under the press in the file named by SUBLIMINAL_PROGRESS."""
    path = os.environ.get("SUBLIMINAL_PROGRESS")
    if not path:
        return tqdm(total=total, desc=label, unit="step", leave=False)
    return tqdm(total=total, desc=label, unit="step", file=Path(path).open("a", buffering=1), ascii=True, ncols=80)


class Learner(NamedTuple):
    """Stacked weights under training (they change in place) and their optimizer."""

    weights: Weights
    optimizer: torch.optim.Optimizer


def learner(weights: Weights, lr: float) -> Learner:
    """A copy of `weights` on the training device with Adam (betas 0.9 and 0.999, epsilon 1e-8)."""
    own = {name: tensor.detach().to(device(), copy=True).requires_grad_() for name, tensor in weights.items()}
    return Learner(own, torch.optim.Adam(own.values(), lr=lr, fused=True))


def cross_entropy(outputs: Outputs, labels: Tensor) -> Tensor:
    """Cross-entropy of the class logits (model, batch, class) on labels (model, batch): mean over images, sum over models.

    Summed, not averaged, over models: else each model's step would depend on how many there are (Adam's epsilon).
    """
    return F.cross_entropy(outputs.classes.flatten(0, 1).float(), labels.flatten(), reduction="sum") / labels.shape[1]


def _selected(outputs: Outputs, matched: str) -> Tensor:
    if matched == "all":
        return torch.cat([outputs.classes, outputs.aux], dim=-1).float()
    return getattr(outputs, matched).float()


def matching_loss(setting: Setting) -> Loss:
    """The student's loss(student outputs, teacher outputs) on the matched logits: mean over images, sum over models.

    "kl" is KL(teacher || student) of the softmax at `temperature`, times temperature squared (Hinton et al., 2015);
    "mse" is the squared difference averaged over the logits.
    """

    def kl(student: Outputs, teacher: Outputs) -> Tensor:
        scores, goal = (_selected(side, setting.matched) / setting.temperature for side in (student, teacher))
        total = F.kl_div(scores.log_softmax(-1), goal.log_softmax(-1), reduction="sum", log_target=True)
        return total * setting.temperature**2 / scores.shape[1]

    def mse(student: Outputs, teacher: Outputs) -> Tensor:
        scores, goal = (_selected(side, setting.matched) for side in (student, teacher))
        return (scores - goal).square().mean(-1).sum() / scores.shape[1]

    return {"kl": kl, "mse": mse}[setting.loss]


def _descend(net: nn.Module, pupil: Learner, images: Tensor, loss: Callable[[Outputs], Tensor]) -> None:
    with torch.autocast(device().type, precision(), enabled=precision() is torch.bfloat16):
        outputs = apply(net, pupil.weights, images)
    pupil.optimizer.zero_grad()
    loss(outputs).backward()
    pupil.optimizer.step()


def scaled(images: Tensor, top: int) -> Tensor:
    """Grey levels 0..top as float32 on [-1, 1]."""
    return images.to(torch.float32).mul_(2 / top).sub_(1)


def digit_batches(
    setting: Setting, seed: int, models: list[int], epoch: int, data: tuple[Tensor, Tensor, int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of (images (model, batch, pixel), labels (model, batch)), each model in an order of its own.

    `data` is (grey levels (image, pixel), labels (image,), top). The next batch overwrites the images.
    """
    levels, labels, top = data
    count, pixels = levels.shape
    orders = [torch.from_numpy(stream(seed, "order", model, epoch).permutation(count)) for model in models]
    rows = torch.empty(setting.batch_size, pixels, dtype=torch.uint8)
    buffer = torch.empty(len(models), setting.batch_size, pixels)
    start = 0
    for size in batch_sizes(count, setting.batch_size):
        picks = [order[start : start + size] for order in orders]
        for out, pick in zip(buffer, picks):
            out[:size].copy_(torch.index_select(levels, 0, pick, out=rows[:size])).mul_(2 / top).sub_(1)
        yield buffer[:, :size], torch.stack([labels[pick] for pick in picks])
        start += size


def teach_epoch(
    net: nn.Module, teacher: Learner, batches: Iterator[tuple[Tensor, Tensor]], tick: Callable[[], object]
) -> None:
    """One epoch of supervised training of the class logits; the auxiliary head gets no gradient. `tick` follows each step."""
    for images, labels in batches:
        labels = labels.to(device())
        _descend(net, teacher, images.to(device()), lambda outputs, labels=labels: cross_entropy(outputs, labels))
        tick()


class Student(NamedTuple):
    """One arm of a sweep: its network, its learner and the loss by which it is matched to the teacher."""

    net: nn.Module
    pupil: Learner
    loss: Loss


def distill_epoch(
    net: nn.Module, *, teacher: Weights, students: list[Student], batches: Iterator[Tensor], tick: Callable[[], object]
) -> None:
    """One epoch in which all `students` see the same inputs and the same teacher outputs, made once for all of them."""
    for inputs in batches:
        inputs = inputs.to(device())
        with torch.no_grad(), torch.autocast(device().type, precision(), enabled=precision() is torch.bfloat16):
            goal = apply(net, teacher, inputs)
        for student in students:
            aux = goal.aux[..., : student.net.aux_head.out_features]
            target = goal._replace(aux=aux)
            _descend(student.net, student.pupil, inputs, lambda outputs, s=student, t=target: s.loss(outputs, t))
            tick()
