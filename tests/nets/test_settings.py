"""Settings: what is refused, grids, names, and which stage a field decides."""

from dataclasses import dataclass, replace

import pytest

from reference import TINY
from sublearn.nets.experiment import group_students, student_keys
from sublearn.nets.jobs import teacher_key
from sublearn.nets.settings import (
    PARTS,
    REF,
    Setting,
    compact,
    difference,
    grid,
    keep_stages,
    option,
    reference,
)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dataset": "cifar"}, "dataset is 'cifar'; choose one of mnist, fashion"),
        ({"aux_dim": 0}, "aux_dim is 0; it must be at least 1"),
        ({"aux_dim": 1}, "aux_dim is 1 with loss 'kl'"),
        ({"hidden": ()}, "hidden is"),
        ({"hidden": (8, 0)}, "hidden is"),
        ({"matched": "ghost"}, "matched is 'ghost'; choose one of aux, classes, all"),
        (
            {"shared": ("body",)},
            "shared names body; the parts are hidden, class_head, aux_head, hidden.0, hidden.1",
        ),
        ({"perturbed": ("hidden.2",)}, "perturbed names hidden.2"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"classes": 1}, "classes is 1; it must be at least 2"),
        (
            {"inputs": "mixture", "strength": 1.2},
            "strength of 'mixture' is 1.2; the share of the image lies in 0.0 to",
        ),
        (
            {"inputs": "constant", "standardized": True},
            "an image of one grey level has no variance",
        ),
        (
            {"unique_inputs": 1000},
            "unique_inputs is 1000; without fresh_inputs it must be whole batches of 1024",
        ),
        (
            {"optimizer": "adagrad"},
            "optimizer is 'adagrad'; choose one of adam, adam_uncorrected, adamw, sgd",
        ),
        ({"frozen": ("head",)}, "frozen names head; the parts are"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_trains(wrong, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        Setting(**wrong)


def test_a_misspelt_axis_names_the_right_ones(run):
    with pytest.raises(
        TypeError, match="no setting is called learning_rate; there are dataset, classes"
    ):
        grid(learning_rate=[1e-3])
    with pytest.raises(ValueError, match="no measure is called acuracy"):
        run([TINY], measures=["acuracy"])
    with pytest.raises(ValueError, match="models is 0"):
        run([TINY], models=0)


def test_grid_and_names():
    arms = grid(aux_dim=[2, 4], lr=[1e-3, 3e-4])
    assert [(arm.aux_dim, arm.lr) for arm in arms] == [(2, 1e-3), (2, 3e-4), (4, 1e-3), (4, 3e-4)]
    assert difference(arms[0]) == "aux_dim=2, lr=0.001"
    assert difference(REF) == "REF" == difference(reference("digits"))
    assert grid(hidden=[(8,), (8, 8)])[1].hidden == (8, 8)
    assert set(PARTS) == set(REF.shared)
    assert compact("mnist").hidden == (128, 128) and compact("digits").dataset == "digits"


@dataclass(frozen=True, kw_only=True)
class LongerSetting(Setting):
    """A setting with fields that somebody has just added: without a stage, and with one."""

    forgotten: int = 0
    of_teacher: int = option(0, "teacher")
    of_inputs: int = option(0, "inputs")
    of_student: int = option(0, "student")


BASE = LongerSetting(dataset="digits")


@pytest.mark.parametrize(
    ("change", "teachers", "jobs"),
    [
        ({}, 1, 1),
        ({"of_student": 1}, 1, 1),
        ({"of_inputs": 1}, 1, 2),
        ({"of_teacher": 1}, 2, 2),
        ({"forgotten": 1}, 2, 2),  # costs time, and never a wrong number
        ({"aux_dim": 7}, 1, 1),
        ({"strength": 0.5}, 1, 2),
        ({"teacher_lr": 1e-2}, 2, 2),
    ],
)
def test_a_field_separates_what_its_stage_decides_and_one_without_a_stage_everything(
    change, teachers, jobs
):
    arms = [BASE, replace(BASE, lr=1e-2, **change)]
    assert len({teacher_key(arm, 0, 0) for arm in arms}) == teachers
    keys = [key for arm in arms for key in student_keys(arm, 1, 0, (), ())]
    assert len(set(keys)) == 2
    assert len(group_students(keys)) == jobs


def test_every_field_names_its_stage():
    stages = {
        name: field.metadata.get("stage") for name, field in Setting.__dataclass_fields__.items()
    }
    assert set(stages.values()) == {"teacher", "inputs", "student"}
    assert keep_stages(replace(TINY, aux_dim=9, strength=0.5), "teacher", "inputs") == replace(
        keep_stages(TINY, "teacher", "inputs"), strength=0.5
    )
