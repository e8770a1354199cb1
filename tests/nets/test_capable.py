"""The two toys nearer to a language model: their starts, their channels, and how they are trained."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sublearn.core.store import Store
from sublearn.nets import capable
from sublearn.nets.capable import Arm, CapableKey, run, turn
from sublearn.nets.models import Outputs
from sublearn.nets.settings import compact

BASE = replace(compact("digits"), hidden=(16, 16))


def key(model=0, pretrain_epochs=3):
    return CapableKey((Arm(),), BASE, pretrain_epochs, "", 0, model)


def test_images_are_turned_by_their_number_of_quarters():
    image = torch.arange(4.0).expand(4, 4)  # 0 1 / 2 3
    turned = turn(image, torch.arange(4))
    wanted = [np.rot90(np.arange(4).reshape(2, 2), quarter).ravel() for quarter in range(4)]
    assert turned.tolist() == np.array(wanted).tolist()


def test_batches_say_how_their_images_were_turned():
    for images, turns in capable.turned_batches(key(), "init", 0):
        assert images.shape[:2] == turns.shape
        assert set(turns.flatten().tolist()) <= set(range(4))
    plain, _ = next(capable.image_batches(BASE, 0, [0], 0))
    images, turns = next(capable.turned_batches(key(), "init", 0))
    back = turn(images[0].float(), (4 - turns[0]) % 4)
    assert torch.allclose(back, plain[0], atol=0.01)


def test_a_pretrained_start_tells_turns_and_has_the_heads_of_the_random_one():
    many = key(pretrain_epochs=30)
    random = capable.random_start(many, "init", 5)
    start = capable.pretrained_start(many, "init", 5)
    for name, tensor in random.items():
        assert torch.equal(tensor, start[name]) == name.startswith(("class_head", "aux_head"))
    assert capable.turns_told(many, start) > capable.turns_told(many, random) + 0.05
    assert capable.turns_told(many, start) > 0.7


def test_a_scrambled_start_has_the_same_numbers_elsewhere():
    start = capable.pretrained_start(key(), "init", 3)
    scrambled = capable.scrambled_start(key(), "init", 3)
    for name, tensor in start.items():
        assert torch.equal(tensor.flatten().sort().values, scrambled[name].flatten().sort().values)
        same = torch.equal(tensor, scrambled[name])
        assert same == (not name.startswith("hidden"))


def outputs(*logits):
    logits = torch.tensor([[logits]], dtype=torch.float32, requires_grad=True)
    return Outputs(logits[..., :0], logits[..., :0], logits)


def loss_of(channel, student, teacher):
    generator = torch.Generator()
    generator.manual_seed(0)
    return capable.CHANNELS[channel](BASE, generator)(student, teacher)


def test_sampled_tokens_are_those_that_the_teacher_is_sure_of():
    teacher, student = outputs(0, 50, 0, 0), outputs(1, 2, 3, 4)
    wanted = -torch.tensor([1.0, 2, 3, 4]).log_softmax(0)[1]
    assert loss_of("tokens", student, teacher).item() == pytest.approx(wanted.item())


def test_tokens_average_to_the_cross_entropy_of_the_probabilities():
    teacher, student = outputs(0, 1, 2), outputs(2, 1, 0)
    many = [each._replace(aux_logits=each.aux_logits.expand(1, 40_000, 3)) for each in (student, teacher)]
    p = torch.tensor([0.0, 1, 2]).softmax(0)
    wanted = -(p * torch.tensor([2.0, 1, 0]).log_softmax(0)).sum()
    assert loss_of("tokens", *many).item() == pytest.approx(wanted.item(), abs=0.02)


def test_a_part_touches_only_the_logits_that_were_drawn():
    logits = torch.zeros(1, 4, 16, requires_grad=True)
    student = Outputs(logits[..., :0], logits[..., :0], logits)
    teacher = outputs(*range(16))
    teacher = teacher._replace(aux_logits=teacher.aux_logits.expand(1, 4, 16))
    loss_of("part", student, teacher).backward()
    assert (logits.grad.abs().sum((0, 1)) > 0).sum() == 2


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    arms = {
        "shared": Arm(),
        "apart": Arm(shared=()),
        "wide": Arm(aux_dim=64),
        "token": Arm(aux_dim=64, channel="tokens"),
        "turned": Arm(start="pretrained"),
    }
    store = Store(tmp_path_factory.mktemp("store"))
    base = replace(compact("digits"), teacher_epochs=20, epochs=6)
    return run(arms, base, models=3, pretrain_epochs=2, store=store)


def test_every_arm_has_the_same_models(table):
    counts = table.groupby("arm").model.nunique()
    assert (counts == 3).all()
    assert set(counts.index) >= {"teacher: random", "untrained: pretrained", "shared", "turned"}
    assert table[table.role == "untrained"].turns.notna().all()


def test_the_effect_is_there_and_a_wide_channel_makes_it_large(table):
    means = table.groupby("arm").accuracy.mean()
    assert means["teacher: random"] > 0.8
    assert means["wide"] > means["shared"] > means["apart"] + 0.03
    assert means["wide"] > 0.4
    assert means["apart"] < 0.2


def test_finished_models_are_found_again(tmp_path, monkeypatch):
    store = Store(tmp_path)
    first = run({"one": Arm()}, BASE, models=1, pretrain_epochs=1, store=store)
    monkeypatch.setattr(capable, "train_from", None)
    again = run({"one": Arm()}, BASE, models=1, pretrain_epochs=1, store=store)
    assert first.equals(again)


def test_what_does_not_exist_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="start is 'clever'; choose one of random, pretrained, scrambled"):
        Arm(start="clever")
    with pytest.raises(ValueError, match="channel is 'smoke'; choose one of logits, part, tokens"):
        Arm(channel="smoke")
    with pytest.raises(ValueError, match="models is 0; train at least 1"):
        run({"one": Arm()}, BASE, models=0, pretrain_epochs=1)
