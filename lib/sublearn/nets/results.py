"""What is on disk: one file per finished student, one per trained teacher, named by all that decides its numbers."""

import io
import json
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch

from sublearn.core.machine import hardware
from sublearn.core.store import CACHE, code_digest, digest, read_json, write_atomic
from sublearn.nets import data
from sublearn.nets.ensemble import Weights
from sublearn.nets.settings import Setting, columns

CODE = code_digest("nets.training", "nets.measures")  # read when the code is: what runs is what is named
TEACHING = (
    *("dataset", "classes", "teacher_images", "evaluated", "hidden", "init", "init_scale"),
    *("teacher_batch_size", "teacher_epochs", "teacher_lr", "teacher_optimizer", "teacher_frozen"),
)


class Plan(NamedTuple):
    """What all students of one call share."""

    seed: int
    checkpoints: tuple[int, ...]
    measures: tuple[str, ...]


class Cell(NamedTuple):
    """One student: model `model` of a setting (written with pairing "own") that learns from teacher `partner`."""

    setting: Setting
    model: int
    partner: int


data_digest = cache(data.digest)


def _decides(setting: Setting, names: Iterable[str]) -> dict:
    return _described(setting, names) | {"hardware": hardware()}


@cache
def _described(setting: Setting, names: Iterable[str]) -> dict:
    chosen = {name: value for name, value in asdict(setting).items() if name in names}
    return chosen | {"code": CODE, "torch": torch.__version__, "data": data_digest(setting.dataset)}


def same_teacher(setting: Setting) -> str:
    """Digest that two settings have in common if one teacher serves both (the number of auxiliary logits is free)."""
    return digest(_decides(setting, TEACHING))


def _student_path(cell: Cell, plan: Plan) -> Path:
    deciding = _decides(cell.setting, tuple(asdict(cell.setting)))
    return CACHE / "students" / f"{digest(deciding, cell.model, cell.partner, plan)}.json"


def _teacher_path(setting: Setting, seed: int, model: int, *measures: str) -> Path:
    return CACHE / "teachers" / digest(same_teacher(setting), seed, model, measures)


def student_rows(cell: Cell, plan: Plan) -> list[dict] | None:
    """The finished student's rows, or None if it is still to be trained."""
    return (read_json(_student_path(cell, plan)) or {}).get("rows")


def keep_student(cell: Cell, plan: Plan, rows: list[dict]) -> None:
    """Write a finished student's rows, with the setting in words for whoever opens the file."""
    content = {"setting": columns(cell.setting), "model": cell.model, "partner": cell.partner, "rows": rows}
    write_atomic(_student_path(cell, plan), json.dumps(content, indent=1))


def teacher_rows(setting: Setting, model: int, plan: Plan) -> list[dict] | None:
    """The rows of the untrained network and of the teacher, or None if they are still to be measured."""
    path = _teacher_path(setting, plan.seed, model, *plan.measures)
    return (read_json(path.with_suffix(".json")) or {}).get("rows")


def keep_teacher_rows(setting: Setting, model: int, plan: Plan, rows: list[dict]) -> None:
    """Write the rows of the untrained network and of the teacher."""
    path = _teacher_path(setting, plan.seed, model, *plan.measures)
    write_atomic(path.with_suffix(".json"), json.dumps({"rows": rows}, indent=1))


def teacher(setting: Setting, seed: int, model: int) -> dict[str, np.ndarray] | None:
    """One trained teacher's weights without its auxiliary head, or None if it is still to be trained."""
    try:
        with np.load(_teacher_path(setting, seed, model).with_suffix(".npz")) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, BadZipFile):
        return None


def keep_teacher(setting: Setting, seed: int, model: int, weights: Weights) -> None:
    """Write one trained teacher's weights, given without a model axis, less the auxiliary head no training touched."""
    file = io.BytesIO()
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("aux_head")}
    np.savez(file, **{name: tensor.detach().cpu().numpy() for name, tensor in kept.items()})
    write_atomic(_teacher_path(setting, seed, model).with_suffix(".npz"), file.getvalue())
