"""Students of chosen parts and heads: the engine's students, with designed starts."""

from dataclasses import replace

import pytest
import torch

from reference import TINY
from sublearn.nets import heads
from sublearn.nets.ensemble import forward, initial_weights
from sublearn.nets.measures import evaluate
from sublearn.nets.models import network
from sublearn.nets.settings import grid

MODELS = [0, 1]
HEADS_ONLY = replace(TINY, shared=("class_head", "aux_head"))


@pytest.fixture(scope="module")
def start():
    return initial_weights(network(TINY), TINY, 0, MODELS)


def test_students_are_those_of_the_engine(run, store):
    arms = grid(
        TINY,
        shared=[("hidden", "class_head", "aux_head"), ("class_head", "aux_head")],
        aux_dim=[2, 3],
    )
    ours = heads.run(arms, models=2, checkpoints=[1], store=store)
    theirs = run(arms, models=2, checkpoints=[1])
    same = ["arm", "model", "role", "epoch", "accuracy"]
    assert ours[same].values.tolist() == theirs[same].values.tolist()


def test_an_untrained_student_that_shares_all_is_the_start_of_its_teacher(store):
    table = heads.run([TINY], models=2, checkpoints=[0], store=store)
    students, untrained = table[table.role == "student"], table[table.role == "untrained"]
    first = students[students.epoch == 0]
    assert first.accuracy.tolist() == untrained.accuracy.tolist()
    assert (students.violations == 0).all()
    assert (students.disagreement <= students["range bound"]).all()


def test_the_ceiling_of_a_student_is_that_of_its_teacher_or_the_teacher_itself(store):
    arms = {"free": TINY, "frozen": replace(TINY, teacher_frozen=("class_head",))}
    table = heads.run(arms, models=2, store=store)
    taught = table[table.role == "teacher"].set_index(["arm", "model"])
    learned = table[table.role == "student"].set_index(["arm", "model"])
    assert learned.ceiling.tolist() == taught.ceiling.tolist()
    assert learned.ceiling["frozen"].tolist() == taught.accuracy["frozen"].tolist()
    assert learned.ceiling["free"].tolist() != taught.accuracy["free"].tolist()


def test_students_of_other_lengths_are_looked_at_until_their_end(store):
    table = heads.run(grid(TINY, epochs=[1, 2]), models=1, checkpoints=[0, 1, 2], store=store)
    students = table[table.role == "student"]
    looks = students.groupby("epochs").epoch.apply(list)
    assert looks.to_dict() == {1: [0, 1], 2: [0, 1, 2]}
    assert students.CKA.notna().tolist() == [True, True, True, False, True]


def test_a_student_of_its_own_hidden_layers_shares_what_its_heads_are(start):
    key = heads.HeadKey(HEADS_ONLY, "", 0, 0, 0, (), (), hidden=(20, 8, 12))
    net = network(TINY)
    taught = evaluate(net, start, torch.zeros(3, 64, dtype=torch.uint8), 16)
    arm = heads.HeadArm([key, replace(key, model=1)], start, taught)
    shapes = {name: tuple(tensor.shape[1:]) for name, tensor in arm.start.items()}
    assert shapes["hidden.0.weight"] == (20, 64)
    assert shapes["hidden.2.weight"] == (12, 8)
    for name in ("class_head.weight", "class_head.bias", "aux_head.weight", "aux_head.bias"):
        assert torch.equal(arm.start[name], start[name])


def test_students_of_another_depth_are_measured_and_the_same_depth_is_the_usual_one(store):
    usual = heads.run([HEADS_ONLY], models=2, store=store)
    same = heads.run([HEADS_ONLY], models=2, hidden=TINY.hidden, store=store)
    assert same.accuracy.tolist() == usual.accuracy.tolist()
    deeper = heads.run([HEADS_ONLY], models=2, hidden=(20, 8, 12), store=store)
    last = deeper[deeper.role == "student"]
    assert last["shape"].tolist() == ["20-8-12"] * 2
    assert (last.hidden == "16-12").all()
    assert (last.violations == 0).all()
    assert last["CKA seen"].notna().all()
    assert "weight cosine" not in last


def test_a_convolutional_student_has_the_heads_of_its_teacher_and_is_measured_alike(store):
    layers = {"hidden": (12,), "convolutions": ((4, 2), (6, 4))}
    table = heads.run([HEADS_ONLY], models=2, **layers, checkpoints=[0], store=store)
    students = table[table.role == "student"]
    assert students["shape"].unique().tolist() == ["4x3x3/2-6x3x3/4-12"]
    assert (students.violations == 0).all()
    first = students[students.epoch == 0]
    assert (first["size auxiliary head"] == 0).all()  # the heads are the teacher's until it learns
    last = students[students.epoch == HEADS_ONLY.epochs]
    assert (last["size auxiliary head"] > 0).all()
    assert first.accuracy.tolist() != last.accuracy.tolist()


def test_hidden_layers_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="the heads read 12 units, so end it with 12"):
        heads.run([HEADS_ONLY], models=1, hidden=(16, 8))
    with pytest.raises(
        ValueError, match=r"perturbed names hidden; a student .* can share heads only"
    ):
        heads.run([TINY], models=1, hidden=(12,))
    with pytest.raises(ValueError, match="without hidden: say what stands above them"):
        heads.run([HEADS_ONLY], models=1, convolutions=((4, 2),))


def test_designed_rows_lie_as_they_are_called(start):
    class_rows = start["class_head.weight"]
    rows = {
        name: heads.designed_rows(start, name, 0, MODELS)
        for name in heads.ROWS
        if name != "orthogonal"
    }
    two = start | {"aux_head.weight": start["aux_head.weight"][:, :2]}
    rows["orthogonal"] = heads.designed_rows(two, "orthogonal", 0, MODELS)
    assert torch.equal(rows["aligned"], class_rows[:, :3])
    for name in ("orthonormal", "orthogonal"):
        count = rows[name].shape[1]
        assert torch.allclose(
            rows[name] @ rows[name].mT, torch.eye(count).expand(2, -1, -1), atol=1e-5
        )
    assert (rows["orthogonal"] @ class_rows.mT).abs().max() < 1e-5
    assert (rows["orthonormal"] @ class_rows.mT).abs().max() > 0.1


def test_too_many_designed_rows_are_refused(start):
    many = start | {"aux_head.weight": torch.zeros(2, 11, 12)}
    with pytest.raises(ValueError, match="aux_dim is 11 with aligned heads; there are 10"):
        heads.designed_rows(many, "aligned", 0, MODELS)
    with pytest.raises(ValueError, match="at most 2 fit"):
        heads.designed_rows(many, "orthogonal", 0, MODELS)
    with pytest.raises(ValueError, match="design is 'diagonal'; choose one of"):
        heads.run([TINY], models=1, design="diagonal")


def test_symmetries_keep_the_function_and_change_the_weights(start):
    images = torch.rand(2, 20, 64, generator=torch.manual_seed(0))
    net = network(TINY)
    before = forward(net, start, images)
    for design in ("permuted", "rescaled"):
        moved = heads.transformed(start, design, 0, MODELS)
        after = forward(net, moved, images)
        assert torch.allclose(after.class_logits, before.class_logits, atol=1e-5)
        assert torch.allclose(after.aux_logits, before.aux_logits, atol=1e-5)
        assert not torch.allclose(after.features, before.features, atol=0.01)
    body = heads.transformed(start, "permuted body", 0, MODELS)
    after = forward(net, body, images)
    assert torch.allclose(
        after.features.sort(-1).values, before.features.sort(-1).values, atol=1e-5
    )
    assert torch.equal(body["class_head.weight"], start["class_head.weight"])
    assert not torch.allclose(after.class_logits, before.class_logits, atol=0.01)


def test_a_permuted_student_learns_what_an_unpermuted_one_learns(store, exact):
    short = replace(TINY, epochs=1)
    usual, permuted = (
        heads.run([short], models=2, design=name, store=store) for name in ("", "permuted")
    )
    last = usual.role.eq("student") & usual.epoch.eq(1)
    assert usual[last].CKA.tolist() == pytest.approx(permuted[last].CKA.tolist(), abs=1e-3)
    assert (usual[last]["weight cosine"] > permuted[last]["weight cosine"] + 0.5).all()
