"""What parts a student's class logits from its teacher's: four terms, and a bound on failure."""

import torch
from torch import Tensor
from torch.linalg import pinv

from sublearn.nets.ensemble import Weights
from sublearn.nets.measures import Numbers
from sublearn.nets.models import Outputs
from sublearn.nets.similarity import row_space, seen_rows

TERMS = ("class head", "unseen", "residual", "auxiliary head")


def _linear(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What a head (model, logit, D) with a bias (model, logit) makes of features."""
    return features @ weight.mT + bias.unsqueeze(1)


def deviation(
    student: Outputs, teacher: Outputs, ours: Weights, theirs: Weights, *, softmax: bool
) -> dict[str, Tensor]:
    """Student's minus teacher's class logits, as four terms (model, image, class) that sum to it.

    ours, theirs: weights of student and teacher, both of the student's number of auxiliary logits.
    softmax: whether the student's loss sees only differences of logits (`seen_rows`).
    "class head": the two class heads differ, on the teacher's features. Then the student's class
    head reads the difference of the features: "unseen", its part outside the span of the teacher's
    auxiliary rows; inside it, "residual" is what the auxiliary logits still differ by, and
    "auxiliary head" what the two auxiliary heads differ by.
    """
    student = Outputs(*(tensor.double() for tensor in student))
    teacher = Outputs(*(tensor.double() for tensor in teacher))
    change = {}
    for name in ("class_head.weight", "class_head.bias", "aux_head.weight", "aux_head.bias"):
        change[name] = (ours[name] - theirs[name]).detach().double()
    rows = seen_rows(theirs["aux_head.weight"], softmax=softmax)
    readout = ours["class_head.weight"].detach().double().mT
    to_classes = pinv(rows).mT @ readout
    moved = student.features - teacher.features
    unseen = moved - moved @ row_space(rows)
    residual = student.aux_logits - teacher.aux_logits
    drift = _linear(student.features, change["aux_head.weight"], change["aux_head.bias"])
    if softmax:
        residual = residual - residual.mean(-1, keepdim=True)
        drift = drift - drift.mean(-1, keepdim=True)
    terms = (
        _linear(teacher.features, change["class_head.weight"], change["class_head.bias"]),
        unseen @ readout,
        residual @ to_classes,
        -drift @ to_classes,
    )
    return dict(zip(TERMS, terms))


def seen_readout(features: Tensor, ours: Weights, rows: Tensor, labels: Tensor) -> Numbers:
    """Accuracy of a class head on the part of features (model, image, D) in the span of rows.

    With the auxiliary rows of the student's own start this needs nothing of the teacher.
    """
    seen = features.double() @ row_space(rows)
    weight = ours["class_head.weight"].detach().double()
    logits = _linear(seen, weight, ours["class_head.bias"].detach())
    return {"seen readout": _right(logits, labels)}


def margin(logits: Tensor) -> Tensor:
    """Largest logit less the second largest: (model, image)."""
    best, second = logits.topk(2, dim=-1).values.unbind(-1)
    return best - second


def bound(logits: Tensor, terms: dict[str, Tensor], labels: Tensor) -> Numbers:
    """How often a student fails, what bounds it, and what each term does to it.

    logits: the teacher's class logits (model, image, class). `disagreement`: share of images that
    student and teacher name differently; `bound`: share whose margin is at most twice the largest
    term of the deviation; `range bound`: at most its largest less its smallest entry; `violations`:
    share of images that differ though their margin is larger. `size NAME`: mean largest entry of a
    term by the mean margin. `without NAME`: accuracy if that term were 0; `ceiling`: if all but
    "class head" were.
    """
    logits = logits.double()
    total = sum(terms.values())
    student = logits + total
    gap = margin(logits)
    differs = student.argmax(-1) != logits.argmax(-1)
    largest = 2 * total.abs().amax(-1)
    spread = total.amax(-1) - total.amin(-1)
    violated = differs & (gap > largest * (1 + 1e-9))
    numbers = {
        "disagreement": _share(differs),
        "bound": _share(gap <= largest),
        "range bound": _share(gap <= spread),
        "violations": _share(violated),
        "ceiling": _right(logits + terms["class head"], labels),
    }
    for name, term in terms.items():
        numbers[f"size {name}"] = term.abs().amax(-1).mean(1) / gap.mean(1)
        numbers[f"without {name}"] = _right(student - term, labels)
    return numbers


def _share(mask: Tensor) -> Tensor:
    return mask.to(torch.float64).mean(1)


def _right(logits: Tensor, labels: Tensor) -> Tensor:
    guesses = logits.argmax(-1)
    return _share(guesses == labels.to(logits.device))
