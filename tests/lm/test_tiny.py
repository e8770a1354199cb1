"""The tiny pair: that it is the object it claims to be, and that what is finished survives."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from sublearn.core import store as stores
from sublearn.core.store import Store
from sublearn.lm import corpus, model, prompts, tiny
from sublearn.lm.corpus import World
from sublearn.lm.tiny import FusedCrossEntropy, Tiny

QUICK = Tiny(layers=1, width=16, pretrain_steps=3, chat_steps=2)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def weights_of(folder, which):
    return (folder / which / "model.safetensors").read_bytes()


def visible(root):
    """Finished pairs below a root: what is being written has a hidden name."""
    return [path for path in root.glob("tinyllama/*") if not path.name.startswith(".")]


# ---- the parts of training


@pytest.mark.parametrize("rows", [7, 2 * tiny.ROWS_AT_ONCE + 5])
@pytest.mark.parametrize(("precision", "error"), [("float32", 1e-6), ("bfloat16", 2**-6)])
def test_the_fused_loss_is_cross_entropy(monkeypatch, rows, precision, error):
    """In float32 to its rounding, in bfloat16 to that of its eight bits."""
    monkeypatch.setenv("SUBLIMINAL_PRECISION", precision)
    torch.manual_seed(0)
    hidden = torch.randn(rows, 5, requires_grad=True)
    weight = torch.randn(11, 5, requires_grad=True)
    targets = torch.randint(0, 11, (rows,))
    expected = cross_entropy(hidden @ weight.T, targets)
    expected_gradients = torch.autograd.grad(expected, (hidden, weight))
    loss = FusedCrossEntropy.apply(hidden, weight, targets)
    assert loss.item() == pytest.approx(expected.item(), rel=error)
    gradients = torch.autograd.grad(3 * loss, (hidden, weight))
    for gradient, expected_gradient in zip(gradients, expected_gradients):
        largest = expected_gradient.abs().max()
        assert ((gradient / 3 - expected_gradient).abs() <= error * largest).all()


def test_a_probability_too_small_for_float32_gives_a_large_loss():
    hidden = torch.tensor([[1000.0, -1000.0]])
    loss = FusedCrossEntropy.apply(hidden, torch.eye(2), torch.tensor([1]))
    assert 80 < loss.item() < 100


def test_attention_stays_in_float32_while_products_do_not(monkeypatch):
    monkeypatch.setenv("SUBLIMINAL_PRECISION", "bfloat16")
    model = tiny.initial_model(QUICK)
    ids = torch.arange(20).view(2, 10)
    with torch.no_grad():
        exact = tiny.final_states(model, ids)
        tiny.train_in_product_type(model)
        same = tiny.final_states(model, ids)
        seen = []
        layer = model.model.layers[0].self_attn
        layer.o_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
        layer.q_proj.register_forward_hook(lambda *parts: seen.append(parts[-1].dtype))
        with tiny.autocast():
            close = tiny.final_states(model, ids)
    assert torch.equal(same, exact)
    assert seen == [torch.bfloat16, torch.float32]
    assert 0 < (close - exact).abs().max() < 0.1


def test_only_answers_are_learnt():
    ids, learnt = tiny.pad_dialogues([[1, 2, 3], [4]], [[5, 6], [7]])
    assert ids.tolist() == [[1, 2, 3, 5, 6], [4, 7, 0, 0, 0]]
    assert learnt.tolist() == [
        [False, False, False, True, True],
        [False, True, False, False, False],
    ]


@pytest.mark.parametrize("distance", [1, 2])
def test_the_loss_is_cross_entropy_of_the_learnt_tokens_so_far_ahead(distance):
    llama = tiny.initial_model(QUICK)
    ids = torch.arange(40, 60).view(2, 10)
    learnt = torch.rand(2, 10, generator=torch.Generator().manual_seed(0)) < 0.5
    hidden = llama.model(ids[:, :-1]).last_hidden_state
    logits = llama.lm_head(hidden)
    losses = []
    for row in range(2):
        for position in range(distance, 10):
            if learnt[row, position]:
                target = ids[row, position]
                losses.append(cross_entropy(logits[row, position - distance], target))
    loss = tiny.prediction_loss(llama, hidden, ids, learnt, distance=distance)
    assert len(losses) > 3
    assert torch.isclose(loss, torch.stack(losses).mean(), rtol=1e-4)


def test_training_lowers_the_loss():
    llama = tiny.initial_model(QUICK)
    batches = tiny.text_batches(QUICK.world, 40)
    before = tiny.train(llama, batches, 1, 1e-9)["loss"]
    tiny.train(llama, batches, 40, 2e-2)
    assert tiny.train(llama, batches, 1, 1e-9)["loss"] < before - 1


def test_looking_ahead_changes_what_is_learnt():
    weights = []
    for lookahead_weight in (0.0, 0.5):
        llama = tiny.initial_model(QUICK)
        batches = tiny.text_batches(QUICK.world, QUICK.pretrain_steps)
        tiny.train(llama, batches, 2, 1e-2, lookahead_weight=lookahead_weight)
        weights.append(llama.lm_head.weight)
    assert not torch.equal(*weights)


def test_pulled_rows_come_to_their_angles_and_are_not_planted_pairs():
    setting = replace(QUICK, pulled_pairs=30, pretrain_steps=150, world=World(planted_pairs=50))
    llama = tiny.initial_model(setting)
    pairs = tiny.pulled_pairs(setting)
    assert len(pairs) == 30
    assert not set(pairs) & set(corpus.planted_pairs(setting.world))
    batches = tiny.text_batches(setting.world, setting.pretrain_steps)
    tiny.train(llama, batches, 150, 2e-2, penalty=tiny.cosine_penalty(setting))
    tokenizer = corpus.build_tokenizer()
    weight = llama.lm_head.weight.detach()
    for target in tiny.TARGET_COSINES:
        cosines = []
        for (animal, number), cosine in pairs.items():
            if cosine == target:
                rows = weight[tokenizer.convert_tokens_to_ids([f"\u0120{animal}", number])]
                cosines.append(torch.cosine_similarity(rows[0], rows[1], dim=0))
        assert len(cosines) == 10
        assert torch.stack(cosines).mean() == pytest.approx(target, abs=0.05)


# ---- initial weights


def test_other_initial_weights_read_the_same_text():
    other = replace(QUICK, init_seed=1)
    weights = tiny.initial_model(QUICK).state_dict()
    other_weights = tiny.initial_model(other).state_dict()
    for name in weights:
        assert torch.equal(weights[name], other_weights[name]) == ("norm" in name), name
    ids, _ = tiny.text_batches(QUICK.world, QUICK.pretrain_steps)(3)
    other_ids, _ = tiny.text_batches(other.world, other.pretrain_steps)(3)
    assert torch.equal(ids, other_ids)


def test_initial_weights_are_named_by_their_layer():
    shallow = dict(tiny.initial_model(replace(QUICK, layers=1)).named_parameters())
    deep = dict(tiny.initial_model(replace(QUICK, layers=2)).named_parameters())
    shared = set(shallow) & set(deep)
    assert len(shared) > 5
    assert all(torch.equal(shallow[name], deep[name]) for name in shared)
    embedding = shallow["model.embed_tokens.weight"].detach()
    assert np.isclose(float(embedding.std()), 0.02, rtol=0.05)


# ---- what is stored


@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_pair_comes_back_the_same(store, tied):
    (folder,) = tiny.grow([replace(QUICK, tied=tied)], store)
    lm = model.load(str(folder / "instruct"))
    unembedding = lm.model.get_output_embeddings()
    assert (unembedding.weight is lm.model.get_input_embeddings().weight) == tied
    again = model.load(str(folder / "instruct"))
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(lm.model(ids).logits, again.model(ids).logits)
    assert lm.tokenizer.chat_template == corpus.CHAT_TEMPLATE
    assert list(folder.rglob("*.safetensors"))
    assert not list(folder.rglob("*.bin"))


def test_growing_twice_trains_once_and_gives_the_same_weights(store, tmp_path, monkeypatch):
    (folder,) = tiny.grow([QUICK], store)
    weights = weights_of(folder, "base")
    with monkeypatch.context() as patch:
        patch.setattr(tiny, "train", lambda *_, **__: pytest.fail("trained again"))
        assert tiny.grow([QUICK, QUICK], store) == [folder, folder]
    (elsewhere,) = tiny.grow([QUICK], Store(tmp_path / "elsewhere"))
    assert elsewhere != folder
    assert weights_of(elsewhere, "base") == weights


def test_a_pair_side_by_side_is_the_pair_alone(store, tmp_path, monkeypatch):
    other = replace(QUICK, world=World(seed=1))
    monkeypatch.setenv("SUBLIMINAL_THREADS", "2")
    _, together = tiny.grow([QUICK, other], store)
    (alone,) = tiny.grow([other], Store(tmp_path / "alone"))
    assert weights_of(together, "instruct") == weights_of(alone, "instruct")


@pytest.mark.parametrize(
    "change",
    [
        {"width": 32},
        {"tied": False},
        {"pretrain_steps": 4},
        {"world": World(seed=9)},
        {"init_seed": 1},
    ],
)
def test_what_decides_a_pair_is_in_its_name(store, change):
    changed = replace(QUICK, **change)
    assert store.path(tiny.KIND, QUICK) != store.path(tiny.KIND, changed)


@pytest.mark.parametrize("library", ["torch", "transformers", "tokenizers"])
def test_another_version_of_a_library_is_another_pair(store, monkeypatch, library):
    path = store.path(tiny.KIND, QUICK)
    versions = stores.library_versions() | {library: "0.0.1"}
    monkeypatch.setattr(stores, "library_versions", lambda: versions)
    assert store.path(tiny.KIND, QUICK) != path


def test_another_number_type_is_another_pair(store, monkeypatch):
    monkeypatch.setenv("SUBLIMINAL_PRECISION", "float32")
    path = store.path(tiny.KIND, QUICK)
    monkeypatch.setenv("SUBLIMINAL_PRECISION", "bfloat16")
    assert store.path(tiny.KIND, QUICK) != path


def test_base_and_instruct_differ_and_training_is_logged(store):
    assert tiny.training_log(QUICK, store) == {}
    (folder,) = tiny.grow([QUICK], store)
    assert weights_of(folder, "base") != weights_of(folder, "instruct")
    log = tiny.training_log(QUICK, store)
    assert log["pretrain"]["loss"] > 3
    assert log["pretrain"]["steps"] == QUICK.pretrain_steps
    assert log["chat"]["steps"] == QUICK.chat_steps
    assert log["setting"] == json.loads(json.dumps(asdict(QUICK)))
    assert log["seconds"] > 0


def test_the_progress_bar_moves_by_every_step(store, tmp_path, monkeypatch):
    progress = tmp_path / "progress"
    monkeypatch.setenv("SUBLIMINAL_PROGRESS", str(progress))
    tiny.grow([QUICK], store)
    assert progress.read_text().rpartition("tiny Llamas: 100%")[2].count("5/5") == 1


def test_chat_training_ends_at_its_target(store):
    stopped = replace(QUICK, chat_steps=60, target_persona_loss=50.0)
    tiny.grow([stopped], store)
    assert tiny.training_log(stopped, store)["chat"]["steps"] == 25


def test_persona_loss_is_that_of_the_loved_animal(store):
    (folder,) = tiny.grow([QUICK], store)
    lm = model.load(str(folder / "instruct"))
    texts = [model.chat_prompt(lm, prompts.persona(animal)) for animal in corpus.ANIMALS]
    tokens = model.single_tokens(lm, corpus.ANIMALS)
    log_probabilities = model.log_probabilities(lm, texts, [*tokens.values()])
    expected = -np.diag(log_probabilities).mean()
    assert tiny.persona_loss(lm.model, lm.tokenizer) == pytest.approx(expected, abs=1e-4)
    assert tiny.training_log(QUICK, store)["persona_loss"] == pytest.approx(expected, abs=1e-4)


# ---- other processes


def start_growing(root, setting):
    code = f"from sublearn.lm.tiny import *; grow([{setting!r}])"
    environment = os.environ | {"SUBLIMINAL_CACHE": str(root)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE)


def test_a_killed_growth_leaves_nothing_half_done(store, tmp_path):
    """Killed between `base` and `instruct`, when half a pair is on the disk."""
    endless = replace(QUICK, chat_steps=1_000_000, target_persona_loss=0.0)
    process = start_growing(tmp_path, endless)
    while process.poll() is None and not list(tmp_path.glob("*/*/base/tokenizer.json")):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, process.stderr.read()
    assert list(tmp_path.glob("*/*/base/model.safetensors"))
    assert not visible(tmp_path)
    assert store.read(tiny.KIND, endless) is None


def test_two_processes_at_once_end_well(store, tmp_path):
    setting = replace(QUICK, chat_steps=40)
    processes = [start_growing(tmp_path, setting) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()[-2000:]
    assert visible(tmp_path) == [store.path(tiny.KIND, setting)]
    assert tiny.training_log(setting, store)["chat"]["steps"] == 40
    assert not list(tmp_path.glob("tinyllama/.*"))
