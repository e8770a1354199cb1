"""Convolutional networks: against plain torch.nn, and students that learn from any teacher."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sublearn.nets import convolution, pictures
from sublearn.nets.ensemble import forward, initial_weights
from sublearn.nets.models import MLP, Outputs
from sublearn.nets.settings import Setting
from sublearn.nets.training import matching_loss

INIT = Setting(init="torch")
MSE = matching_loss(Setting(loss="mse"))
DIGITS = pictures.image_set("digits", test_images=200)


def small_net(dropout=0.0, aux_dim=3):
    with torch.device("meta"):
        return convolution.ConvNet(DIGITS, ((4, 2), (6, 2)), (12,), aux_dim, dropout)


def plain(weights):
    """The same network in plain torch.nn, of one model."""
    net = nn.Sequential(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                        nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                        nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 13))  # fmt: skip
    for place, name in ((1, "hidden.0"), (4, "hidden.1"), (8, "hidden.2")):
        net[place].load_state_dict({end: weights[f"{name}.{end}"][0] for end in ("weight", "bias")})
    heads = [[weights[f"{head}.{end}"][0] for head in ("class_head", "aux_head")] for end in ("weight", "bias")]
    net[10].load_state_dict(dict(zip(("weight", "bias"), map(torch.cat, heads))))
    return net


def normalized(images):
    return ((images + 1) / 2 - DIGITS.mean[0]) / DIGITS.sd[0]


def test_the_network_is_that_of_torch(exact):
    weights = initial_weights(small_net(), INIT, 0, [0, 1])
    images = torch.rand(2, 5, 64) * 2 - 1
    outputs = forward(small_net(), weights, images)
    for model in range(2):
        one = {name: tensor[[model]] for name, tensor in weights.items()}
        expected = plain(one)(normalized(images[model]))
        both = torch.cat([outputs.class_logits[model], outputs.aux_logits[model]], dim=-1)
        assert torch.allclose(both, expected, atol=1e-5)


def test_a_student_learns_as_in_plain_torch(exact):
    start = initial_weights(small_net(), INIT, 0, [0])
    batches = [(torch.rand(1, 32, 64), torch.randn(1, 32, 3)) for _ in range(5)]
    targets = [(inputs, Outputs(logits[..., :0], logits[..., :0], logits)) for inputs, logits in batches]
    ours = convolution.distill(small_net(), start, [targets], loss=MSE, lr=1e-2, images=DIGITS)
    net = plain(start)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for inputs, logits in batches:
        optimizer.zero_grad()
        F.mse_loss(net(normalized(inputs[0]))[:, 10:], logits[0]).backward()
        optimizer.step()
    rows = torch.arange(len(DIGITS.test))
    guesses = net(normalized(DIGITS.test[rows] / 8 - 1))[:, :10].argmax(1)
    assert ours["accuracy"].item() == pytest.approx((guesses == DIGITS.test_labels).double().mean().item())


def test_models_of_an_ensemble_are_trained_as_if_alone(exact):
    start = initial_weights(small_net(), INIT, 0, [0, 1])
    torch.manual_seed(1)
    inputs, logits = torch.rand(2, 32, 64), torch.randn(2, 32, 3)
    targets = Outputs(logits, logits, logits)
    both = convolution.train_state(start, lr=1e-2)
    convolution.distill_epoch(small_net(), both, [(inputs, targets)], MSE, int)
    second = convolution.train_state({name: tensor[[1]] for name, tensor in start.items()}, lr=1e-2)
    one = Outputs(*(part[[1]] for part in targets))
    convolution.distill_epoch(small_net(), second, [(inputs[[1]], one)], MSE, int)
    for name, tensor in second.weights.items():
        assert torch.allclose(both.weights[name][[1]], tensor, atol=1e-6), name


def test_a_perceptron_teaches_a_convolutional_student():
    with torch.device("meta"):
        teacher_net = MLP(64, (16, 12), 10, 3)
    teacher = initial_weights(teacher_net, INIT, 0, [0])
    start = initial_weights(small_net(), INIT, 0, [0])

    def epochs():
        for _ in range(3):
            noise = (torch.rand(1, 64, 64) * 2 - 1 for _ in range(20))
            yield convolution.answered(teacher_net, teacher, noise)

    numbers = convolution.distill(small_net(), start, epochs(), loss=MSE, lr=3e-3, images=DIGITS)
    assert set(numbers) == {"accuracy", "accuracy of all", "one answer"}
    state = convolution.train_state(start, lr=3e-3)
    losses = [convolution.distill_epoch(small_net(), state, batches, MSE, int) for batches in epochs()]
    assert losses[-1] < 0.8 * losses[0]


def test_normalized_errors_are_in_units_of_the_teachers_sd():
    teacher = torch.randn(2, 50, 3) * torch.tensor([1.0, 10.0, 100.0])
    sd = teacher.std(1, correction=0, keepdim=True)
    wrong = Outputs(teacher, teacher, teacher + sd)
    assert convolution.normalized_error(wrong, Outputs(teacher, teacher, teacher)).item() == pytest.approx(2, rel=1e-4)


def test_dropout_follows_its_seed_and_sleeps_in_evaluation():
    net = small_net(dropout=0.5)
    weights = initial_weights(net, INIT, 0, [0])
    images = torch.rand(1, 9, 64)

    def heard(*names):
        convolution.set_training(net, 0, *names)
        return forward(net, weights, images).features

    assert torch.equal(heard("student", 0), heard("student", 0))
    assert not torch.equal(heard("student", 0), heard("student", 1))
    quiet = small_net()
    assert torch.equal(forward(net.eval(), weights, images).features, forward(quiet, weights, images).features)


def test_dropout_keeps_the_mean():
    dropped = convolution.Dropout(0.25)(torch.ones(400, 400))
    assert dropped.mean().item() == pytest.approx(1, abs=0.01)
    assert (dropped == 0).double().mean().item() == pytest.approx(0.25, abs=0.01)


def test_answers_are_read_among_the_classes_present_and_among_all():
    logits = torch.tensor([[[2.0, 1.0, 9.0], [1.0, 2.0, 0.0], [3.0, 1.0, 0.0]]])
    numbers = convolution.answers(logits, torch.tensor([0, 1, 1]), classes=2)
    assert numbers["accuracy"].item() == pytest.approx(2 / 3)
    assert numbers["accuracy of all"].item() == pytest.approx(1 / 3)
    assert numbers["one answer"].item() == pytest.approx(2 / 3)


def test_images_are_normalized_by_their_own_moments():
    pixels = DIGITS.train.double() / DIGITS.top
    assert DIGITS.mean[0] == pytest.approx(pixels.mean().item(), rel=0.01)
    assert DIGITS.sd[0] == pytest.approx(pixels.std().item(), rel=0.01)
