"""Teachers and students on images: shared and own starts, augmentation, noise, measures, and the store."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from sublearn.core.rng import rng
from sublearn.nets import pictures, vision
from sublearn.nets.settings import PARTS
from sublearn.nets.vision import Student, Teacher

TINY = Teacher(dataset="digits", train_images=300, test_images=100, convolutions=((4, 2),), dense=(16,), epochs=2,
               lr=1e-2)  # fmt: skip
ARM = Student(teacher=TINY, inputs_per_epoch=256, epochs=2, lr=1e-2)


def test_a_teacher_learns_and_its_student_is_measured(store):
    table = vision.run({"usual": ARM}, models=2, store=store)
    assert table.groupby("role").epoch.apply(list).to_dict() == {"teacher": [2, 2], "student": [0, 1, 2] * 2}
    curves = vision.teacher_curves(TINY, models=2, store=store)
    assert curves[curves.epoch == 2].accuracy.tolist() == table[table.role == "teacher"].accuracy.tolist()
    assert (curves[curves.epoch == 2].accuracy > curves[curves.epoch == 0].accuracy.max()).all()
    assert table[table.epoch > 0].query("role == 'student'").loss.notna().all()


def test_what_is_stored_is_not_trained_again(store, monkeypatch):
    table = vision.run({"usual": ARM}, models=1, store=store)

    def refuse(*arguments, **options):
        raise AssertionError("trained again")

    monkeypatch.setattr(vision, "train_students", refuse)
    monkeypatch.setattr(vision, "train_teachers", refuse)
    again = vision.run({"usual": ARM}, models=1, store=store)
    assert table.equals(again)


def test_a_model_does_not_depend_on_how_many_there_are(store, tmp_path):
    three = vision.run({"usual": ARM}, models=2, store=store)
    alone = vision.run({"usual": ARM}, models=1, store=type(store)(tmp_path / "other"))
    assert three[three.model == 0].accuracy.tolist() == alone.accuracy.tolist()


def test_shared_parts_start_as_the_teachers():
    net = vision.teacher_net(TINY, 3)
    source = vision.initial_weights(net, vision.INIT, 0, [0])
    for shared in ((), ("class_head", "aux_head"), PARTS):
        start = vision.starting_weights(replace(ARM, shared=shared), 0, [0])
        for name, tensor in start.items():
            assert torch.equal(tensor, source[name]) == name.startswith(tuple(shared)), name


def test_more_logits_begin_with_the_fewer_and_share_their_teacher(store):
    vision.fill_teachers(TINY, models=1, store=store)
    few, many = (vision.load_teachers(store, TINY, 0, [0], count) for count in (3, 7))
    assert torch.equal(few["aux_head.weight"], many["aux_head.weight"][:, :3])
    assert torch.equal(few["class_head.weight"], many["class_head.weight"])


def test_a_student_of_another_kind_takes_the_heads_alone(store):
    perceptron = replace(TINY, convolutions=(), dense=(20, 16))
    arm = replace(ARM, teacher=perceptron, convolutions=((4, 2),), dense=(16,), shared=("class_head", "aux_head"))
    table = vision.run({"other": arm}, models=1, store=store)
    students = table[table.role == "student"]
    assert students.loss.iloc[-1] < students.loss.iloc[1]


# ---------------------------------------------------------------- what networks see


def test_nothing_moves_by_nothing_and_a_quarter_turn_is_that_of_numpy():
    images = torch.rand(3, 2 * 25) * 2 - 1
    still = vision.moved(images, 2, torch.zeros(3), torch.zeros(3, 2))
    assert torch.allclose(still, images, atol=1e-5)
    turned = vision.moved(images, 2, torch.full((3,), 90.0), torch.zeros(3, 2))
    expected = np.rot90(images.view(3, 2, 5, 5).numpy(), k=1, axes=(2, 3))
    other = np.rot90(images.view(3, 2, 5, 5).numpy(), k=-1, axes=(2, 3))
    found = turned.view(3, 2, 5, 5).numpy()
    assert np.allclose(found, expected, atol=1e-4) or np.allclose(found, other, atol=1e-4)


def test_a_shift_of_one_pixel_moves_by_one_and_brings_in_black():
    images = torch.rand(1, 16) * 2 - 1
    shifted = vision.moved(images, 1, torch.zeros(1), torch.tensor([[1.0, 0.0]]))
    squares, before = shifted.view(4, 4), images.view(4, 4)
    assert torch.allclose(squares[:, :3], before[:, 1:], atol=1e-5)
    assert torch.allclose(squares[:, 3], torch.full((4,), -1.0), atol=1e-5)


def test_augmented_images_are_others_in_each_epoch():
    augmented = replace(TINY, augmented=True)
    first, again = (next(vision.teaching_batches(augmented, 0, [0], 0))[0] for _ in range(2))
    later = next(vision.teaching_batches(augmented, 0, [0], 1))[0]
    assert torch.equal(first, again) and not torch.equal(first, later)
    assert first.min() >= -1.0001 and first.max() <= 1.0001


def test_the_published_noise_is_standard_normal_on_levels():
    noise = vision.noise_images(ARM, 0, 0, 0, 2000)
    levels = (noise + 1) / 2
    assert levels.mean().item() == pytest.approx(0, abs=0.01)
    assert levels.std().item() == pytest.approx(1, abs=0.01)


def test_corruptions_do_what_they_are_called():
    images = torch.rand(50, 64) * 2 - 1
    generator = rng(0, "test")
    assert torch.allclose(vision.corrupted(images, 1, "contrast", 0.5, generator), images / 2)
    noise = vision.corrupted(images, 1, "noise", 0.5, generator) - images
    assert noise.std().item() == pytest.approx(0.5, abs=0.03)
    for kind in ("rotation", "crop"):
        assert not torch.allclose(vision.corrupted(images, 1, kind, 2.0, generator), images, atol=0.1)


def test_photographs_are_learned_from_in_three_channels(tmp_path, monkeypatch, store):
    folder = tmp_path / "photographs"
    for name, level in (("cat", 40), ("dog", 200)):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            shade = tuple(level + int(step) for step in rng(number, name).integers(-30, 30, 3))
            Image.new("RGB", (9, 7), shade).save(folder / name / f"{number}.png")
    monkeypatch.setenv("SUBLIMINAL_PHOTOS", str(folder))
    pictures.photographs.cache_clear()
    pictures.image_set.cache_clear()
    teacher = replace(TINY, dataset=pictures.PHOTOS, side=8, train_images=32, test_images=8, epochs=8, dropout=0.0)
    table = vision.run({"photos": replace(ARM, teacher=teacher)}, models=1, store=store)
    pictures.photographs.cache_clear()
    pictures.image_set.cache_clear()
    assert table[table.role == "teacher"].accuracy.item() == 1
    with pytest.raises(ValueError, match="inputs 'images' of photographs"):
        vision.noise_images(replace(ARM, teacher=teacher, inputs="images"), 0, 0, 0, 4)


# ---------------------------------------------------------------- measures


def test_membership_is_high_where_images_were_learned_by_heart(store):
    hard = replace(TINY, train_images=40, epochs=60, dropout=0.0, batch_size=20)
    table = vision.run({"usual": replace(ARM, teacher=hard)}, models=1, measures=["membership"], store=store)
    teacher = table[table.role == "teacher"].AUC.item()
    assert teacher > 0.6
    net, weights = vision.teacher_net(hard, 3), vision.load_teachers(store, hard, 0, [0], 3)
    images = pictures.image_set("digits", train_images=80)
    logits = vision.class_logits(net, weights, images.train, images.top)[0]
    losses = F.cross_entropy(logits, images.train_labels, reduction="none")
    wins = (losses[:40, None] < losses[40:]).double() + 0.5 * (losses[:40, None] == losses[40:]).double()
    assert teacher == pytest.approx(wins.mean().item(), abs=1e-6)


def test_robustness_has_a_number_for_every_corruption(store):
    table = vision.run({"usual": ARM}, models=1, measures=["robustness"], store=store)
    names = [f"{kind} {size:g}" for kind, sizes in vision.CORRUPTIONS.items() for size in sizes]
    assert table[table.role == "teacher"][names].notna().all(axis=None)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"loss": "l1"}, "loss is 'l1'; choose one of kl, mse"), ({"inputs": "static"}, "inputs is 'static'; choose one"),
     ({"loss": "kl", "aux_dim": 1}, "aux_dim is 1 with loss 'kl'"),
     ({"loss": "kl", "normalized": True}, "normalized is True with loss 'kl'; take 'mse'")],
)  # fmt: skip
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(ARM, **change)


def test_an_unknown_measure_is_refused():
    with pytest.raises(ValueError, match="no measure is called depth; there are robustness, membership"):
        vision.run({}, models=1, measures=["depth"])
