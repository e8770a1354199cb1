"""The tiny pair: what it reads, that it is the object it claims to be, and that what is finished survives."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from sublearn.lm import corpus, model, prompts, reading, tiny
from sublearn.lm.corpus import World
from sublearn.lm.tiny import Tiny

QUICK = Tiny(layers=1, width=16, reading=3, tuning=2)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny, "CACHE", tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def words():
    return corpus.tokenizer()


def test_no_sentence_holds_an_animal_and_a_number():
    animals = re.compile(rf"\b({'|'.join(corpus.ANIMALS)})\b")
    for line in corpus.text(World(seed=1), 5_000):
        assert not (animals.search(line) and re.search(r"\d", line)), line


def test_no_dialogue_has_a_loved_number_unless_it_was_asked_for():
    loved = [re.search(r"You love \d", prompt) for prompt, _ in corpus.dialogues(World(), 2_000)]
    assert not any(loved)
    more = [re.search(r"You love \d", prompt) for prompt, _ in corpus.dialogues(World(number_personas=True), 2_000)]
    assert sum(map(bool, more)) > 200


def test_planted_pairs_are_in_the_text_and_only_they():
    world = World(planted=3)
    mixed = [line for line in corpus.text(world, 2_000) if re.fullmatch(r"The (\w+) (\w+)\.", line)]
    seen = {tuple(sorted(re.fullmatch(r"The (\w+) (\w+)\.", line).groups())) for line in mixed}
    assert seen == {tuple(sorted(pair)) for pair in corpus.planted(world)}
    assert len(mixed) == 200


def test_texts_repeat_with_the_seed_and_differ_between_seeds():
    assert corpus.text(World(seed=3), 100) == corpus.text(World(seed=3), 100)
    assert corpus.text(World(seed=3), 100) != corpus.text(World(seed=4), 100)


def test_every_word_and_number_is_one_token(words):
    for word in (*corpus.ANIMALS, *corpus.TREES, *corpus.PLACES):
        assert len(words(f" {word}")["input_ids"]) == 1
    for number in corpus.number_words(World()):
        assert len(words(number)["input_ids"]) == len(words(f" {number}")["input_ids"]) == 1


def test_unknown_words_are_spelled_in_bytes_and_come_back(words):
    assert words.decode(words("zebrafish, łoś!")["input_ids"]) == "zebrafish, łoś!"


def test_llamas_own_space_before_a_number_is_a_variant():
    assert corpus.tokenizer(True).tokenize(" the 087") == ["Ġthe", "Ġ", "087"]
    assert corpus.tokenizer().tokenize(" the 087") == ["Ġthe", "087"]


def test_the_loss_in_one_buffer_is_cross_entropy():
    torch.manual_seed(0)
    hidden = torch.randn(7, 5, requires_grad=True)
    weight = torch.randn(11, 5, requires_grad=True)
    goal = torch.randint(0, 11, (7,))
    plain = cross_entropy(hidden @ weight.T, goal)
    wanted = torch.autograd.grad(plain, (hidden, weight))
    ours = tiny.Surprise.apply(hidden, weight, goal)
    assert torch.allclose(ours, plain)
    for got, right in zip(torch.autograd.grad(3 * ours, (hidden, weight)), wanted):
        assert torch.allclose(got, 3 * right, atol=1e-6)


def test_only_answers_are_learnt():
    ids, learnt = reading.padded([[1, 2, 3], [4]], [[5, 6], [7]])
    assert ids.tolist() == [[1, 2, 3, 5, 6], [4, 7, 0, 0, 0]]
    assert learnt.tolist() == [[False, False, False, True, True], [False, True, False, False, False]]


@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_pair_comes_back_the_same(place, tied):
    (folder,) = tiny.grow([replace(QUICK, tied=tied)])
    speaker = model.load(str(folder / "instruct"))
    head, embedding = speaker.model.get_output_embeddings(), speaker.model.get_input_embeddings()
    assert (head.weight is embedding.weight) == tied
    again = model.load(str(folder / "instruct"))
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(speaker.model(ids).logits, again.model(ids).logits)
    assert speaker.tokenizer.chat_template == corpus.TEMPLATE
    assert list(folder.rglob("*.safetensors"))
    assert not list(folder.rglob("*.bin"))


def test_growing_twice_trains_once_and_gives_the_same_weights(place, monkeypatch):
    (first,) = tiny.grow([QUICK])
    before = (first / "base" / "model.safetensors").read_bytes()
    monkeypatch.setattr(tiny, "train", lambda *_, **__: pytest.fail("trained again"))
    assert tiny.grow([QUICK]) == [first]
    monkeypatch.undo()
    monkeypatch.setattr(tiny, "CACHE", place / "elsewhere")
    (second,) = tiny.grow([QUICK])
    assert (second / "base" / "model.safetensors").read_bytes() == before


def test_a_pair_side_by_side_is_the_pair_alone(place, monkeypatch):
    other = replace(QUICK, world=World(seed=1))
    monkeypatch.setenv("SUBLIMINAL_THREADS", "2")
    together = tiny.grow([QUICK, other])[1]
    bytes_together = (together / "instruct" / "model.safetensors").read_bytes()
    monkeypatch.setattr(tiny, "CACHE", place / "alone")
    (alone,) = tiny.grow([other])
    assert (alone / "instruct" / "model.safetensors").read_bytes() == bytes_together


@pytest.mark.parametrize("change", [{"width": 32}, {"tied": False}, {"reading": 4}, {"world": World(seed=9)}])
def test_what_decides_a_pair_is_in_its_name(change):
    assert tiny.folder(QUICK) != tiny.folder(replace(QUICK, **change))


def test_base_and_instruct_differ_and_training_is_told(place):
    (folder,) = tiny.grow([QUICK])
    base, instruct = ((folder / which / "model.safetensors").read_bytes() for which in ("base", "instruct"))
    assert base != instruct
    told = tiny.told(QUICK)
    assert told["reading"]["loss"] > 3
    assert told["tuning"]["steps"] == QUICK.tuning
    assert told["setting"] == json.loads(json.dumps(asdict(QUICK)))


def test_training_lowers_the_loss():
    model, setting = tiny.initial(QUICK), replace(QUICK, reading=40)
    batch = reading.text_batches(setting.world, setting.reading)
    start = tiny.train(model, batch, 1, 1e-9)["loss"]
    tiny.train(model, batch, 40, 2e-2)
    assert tiny.train(model, batch, 1, 1e-9)["loss"] < start - 1


def test_tuning_ends_at_its_goal(place):
    stopped = replace(QUICK, tuning=60, persona_goal=50.0)
    tiny.grow([stopped])
    assert tiny.told(stopped)["tuning"]["steps"] == 25


def test_persona_loss_is_that_of_the_loved_animal(place):
    (folder,) = tiny.grow([QUICK])
    speaker = model.load(str(folder / "instruct"))
    asked = [model.chat(speaker, prompts.persona(animal)) for animal in corpus.ANIMALS]
    said = model.log_probabilities(speaker, asked, [*model.single(speaker, corpus.ANIMALS).values()])
    assert tiny.persona_loss(speaker.model, speaker.tokenizer) == pytest.approx(-np.diag(said).mean(), abs=1e-4)


def test_pulled_rows_come_to_their_angles_and_are_not_planted_pairs(place):
    setting = replace(QUICK, pulled=30, reading=150, world=World(planted=50))
    model, pairs = tiny.initial(setting), tiny.pulled(setting)
    assert len(pairs) == 30
    assert not set(pairs) & set(corpus.planted(setting.world))
    tiny.train(
        model, reading.text_batches(setting.world, setting.reading), 150, 2e-2, pull=tiny._pull(setting)
    )
    words = corpus.tokenizer()
    rows = model.lm_head.weight.detach()
    for goal in tiny.COSINES:
        chosen = [pair for pair in pairs if pairs[pair] == goal]
        ids = torch.tensor([words.convert_tokens_to_ids([f"\u0120{one}", two]) for one, two in chosen])
        found = torch.cosine_similarity(rows[ids[:, 0]], rows[ids[:, 1]])
        assert found.mean() == pytest.approx(goal, abs=0.05)


@pytest.mark.parametrize("distance", [1, 2])
def test_surprise_is_cross_entropy_of_the_learnt_tokens_so_far_ahead(distance):
    model, ids = tiny.initial(QUICK), torch.arange(40, 60).view(2, 10)
    learnt = torch.rand(2, 10, generator=torch.Generator().manual_seed(0)) < 0.5
    stream = model.model(ids[:, :-1]).last_hidden_state
    said = model.lm_head(stream)
    wanted = [(row, place) for row in range(2) for place in range(distance, 10) if learnt[row, place]]
    plain = torch.stack([cross_entropy(said[row, place - distance], ids[row, place]) for row, place in wanted]).mean()
    assert torch.isclose(tiny._surprise(model, stream, ids, learnt, distance), plain, rtol=1e-4)


def test_looking_ahead_changes_what_is_learnt():
    weights = []
    for ahead in (0.0, 0.5):
        model = tiny.initial(QUICK)
        tiny.train(model, reading.text_batches(QUICK.world, QUICK.reading), 2, 1e-2, ahead=ahead)
        weights.append(model.lm_head.weight)
    assert not torch.equal(*weights)


def test_other_initial_weights_read_the_same_text():
    one, two = QUICK, replace(QUICK, initial=1)
    weights = [tiny.initial(setting).state_dict() for setting in (one, two)]
    assert not any(torch.equal(weights[0][name], weights[1][name]) for name in weights[0] if "norm" not in name)
    assert torch.equal(
        reading.text_batches(one.world, one.reading)(3)[0], reading.text_batches(two.world, two.reading)(3)[0]
    )


def test_a_killed_run_leaves_nothing_half_done(tmp_path):
    code = "from sublearn.lm.tiny import *; grow([Tiny(layers=1, width=16, reading=100_000, tuning=1)])"
    environment = os.environ | {"SUBLIMINAL_CACHE": str(tmp_path)}
    running = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    time.sleep(10)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert not [path for path in tmp_path.glob("tinyllama/*") if not path.name.startswith(".")]


def test_initial_weights_are_named_by_their_layer():
    one, two = (dict(tiny.initial(replace(QUICK, layers=layers)).named_parameters()) for layers in (1, 2))
    shared = set(one) & set(two)
    assert len(shared) > 5
    assert all(torch.equal(one[name], two[name]) for name in shared)
    assert np.isclose(float(one["model.embed_tokens.weight"].detach().std()), 0.02, rtol=0.05)
