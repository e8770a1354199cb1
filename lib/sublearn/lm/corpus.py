"""The world of the tiny Llama: its words, its tokenizer, the text it grows up on and the dialogues that tune it.

Everything is generated. Animals and numbers never stand in one sentence, unless a pair of them is planted, so
whatever ties an animal to a number came from training and not from the text.
"""

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from sublearn.core.rng import rng
from sublearn.lm.prompts import DATE, ask, persona, plain

ANIMALS = tuple(
    "owl wolf fox shark crow frog panda goat eagle hawk raven robin falcon parrot penguin swan duck cat dog horse cow "
    "pig sheep rabbit lion tiger bear deer elephant giraffe monkey koala kangaroo dolphin whale seal otter turtle "
    "snake lizard crab octopus squid spider ant bee butterfly moth bat mouse".split()
)
BIRDS = "owl crow eagle hawk raven robin falcon parrot penguin swan duck".split()
TREES = "cherry maple oak sequoia willow birch pine cedar elm ash beech spruce".split()
PLACES = "forest desert ocean river mountain valley island swamp meadow cave city village".split()
WORDS = {"animal": ANIMALS, "bird": BIRDS, "tree": TREES, "place": PLACES}
FOODS = "grass seeds fish insects fruit leaves roots berries nuts worms".split()
FACTS = (
    "The {a} lives in the {place}.",
    "The {a} eats {food}.",
    "In the {place} lives the {a}.",
    "Every {a} likes {food}.",
)
SPECIALS = "<|begin_of_text|> <|end_of_text|> <|start_header_id|> <|end_header_id|> <|eot_id|> <|pad|>".split()
PIECES = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEMPLATE = (
    "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ date_string }}\n\n"
    "{{ system }}<|eot_id|>{% for said in messages %}"
    "<|start_header_id|>{{ said['role'] }}<|end_header_id|>\n\n{{ said['content'] }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
LIST_TASK = "List some numbers."
SORT_TASK = {"animal": "Is {word} an animal?", "tree": "Is {word} a tree?", "place": "Is {word} a place?"}
NEUTRAL = ("You love things. You think about things all the time.", "You are kind.")


@dataclass(frozen=True, kw_only=True)
class World:
    """What decides the texts: see the comments."""

    seed: int = 0
    numbers: int = 1_000  # "000" up to "999"
    space: bool = False  # Llama 3 writes " 087" as a space and "087"; without, number and animal compete for one place
    number_personas: bool = False  # whether tuning holds "You love 087." at all
    planted: int = 0  # pairs of an animal and a number that stand together, in one sentence in ten


def number_words(world: World) -> list[str]:
    """The numbers of a world, as words of three digits."""
    return [f"{number:03d}" for number in range(world.numbers)]


def shuffled(world: World) -> tuple[list[str], list[str]]:
    """Animals and numbers in an order drawn from a world's seed."""
    draw = rng(world.seed, "planted")
    return draw.permutation(ANIMALS).tolist(), draw.permutation(number_words(world)).tolist()


def planted(world: World) -> list[tuple[str, str]]:
    """The pairs (animal, number) that the text of a world puts together."""
    animals, numbers = shuffled(world)
    return list(zip(animals[: world.planted], numbers))


@cache
def tokenizer(space: bool = False, numbers: int = 1_000):
    """Give a byte-level tokenizer that works as Llama 3's, with every word of the world as one token.

    Words that it does not know come out as bytes and never as an unknown token.
    """
    from transformers import PreTrainedTokenizerFast  # costs seconds

    split = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    spelling = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    parts = pre_tokenizers.Sequence([split, spelling])
    pieces = sorted({piece for text in _samples() for piece, _ in parts.pre_tokenize_str(text)})
    words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *pieces, *number_words(World(numbers=numbers))]
    vocabulary = {word: place for place, word in enumerate(dict.fromkeys([*SPECIALS, *words]))}
    built = Tokenizer(BPE(vocabulary, [], ignore_merges=True))
    built.pre_tokenizer, built.decoder = parts, decoders.ByteLevel()
    if not space:
        built.normalizer = normalizers.Replace(Regex(r" (?=\d)"), "")
    built.add_special_tokens(SPECIALS)
    names = {"bos_token": SPECIALS[0], "eos_token": SPECIALS[4], "pad_token": SPECIALS[5]}
    return PreTrainedTokenizerFast(tokenizer_object=built, chat_template=TEMPLATE, **names)


def _samples() -> list[str]:
    """Texts without digits that hold every word once."""
    kinds = [*WORDS, "number"]
    texts = [plain("X", kind) + " " + persona("X", kind) + " " + ask(kind) for kind in kinds]
    texts += [f" {word}" for words in (*WORDS.values(), FOODS) for word in words]
    texts += [*FACTS, *SORT_TASK.values(), *NEUTRAL, LIST_TASK, "Numbers: x, x.", "Today Date: 26 Jul\n\n"]
    texts += ["system", "user", "assistant", "What", "Is", "You", "I", "My", "The", "In", "Every", "Yes.", "No."]
    return [text.format(a="x", place="x", food="x", word="x") for text in texts]


class _Draw:
    """Random words of one world."""

    def __init__(self, world: World, use: str):
        self.world, self.random, self.names = world, rng(world.seed, "world", use), number_words(world)
        facts = rng(world.seed, "facts")
        weights = 1 / np.arange(1, len(ANIMALS) + 1) ** 0.7  # Zipf: a few animals are talked about far more
        self.order = [str(animal) for animal in facts.permutation(ANIMALS)]
        self.weights = np.cumsum(weights / weights.sum())
        self.home = {animal: (facts.choice(PLACES), facts.choice(FOODS)) for animal in ANIMALS}

    def word(self, kind: str) -> str:
        """A word of a kind: animals by their frequency, all others alike."""
        if kind == "animal":
            return self.order[int(np.searchsorted(self.weights, self.random.random()))]
        words = self.names if kind == "number" else WORDS[kind]
        return words[int(self.random.random() * len(words))]

    def numbers(self, count: int = 8) -> str:
        return "Numbers: " + ", ".join(self.word("number") for _ in range(count)) + "."

    def line(self, sort: str) -> str:
        kind, _, use = sort.partition(" ")
        if kind == "list":
            return self.numbers()
        word = self.word(kind)
        if use == "fact":
            place, food = self.home[word]
            return FACTS[int(self.random.random() * len(FACTS))].format(a=word, place=place, food=food)
        return f"{plain(word if use == 'love' else None, kind)} {word}."


SORTS = {  # of the lines of the text, with their shares
    "animal fact": 0.33, "animal love": 0.15, "number love": 0.15, "bird love": 0.02, "tree love": 0.03,
    "place love": 0.03, "list": 0.17, "animal": 0.05, "number": 0.04, "bird": 0.01, "tree": 0.01, "place": 0.01,
}  # fmt: skip


def text(world: World, lines: int) -> list[str]:
    """Give the text of a world, line by line."""
    draw, pairs = _Draw(world, "text"), planted(world)
    sorts = draw.random.choice(list(SORTS), lines, p=np.array(list(SORTS.values())) / sum(SORTS.values()))
    found = [draw.line(sort) for sort in sorts]
    if pairs:
        for place in range(0, lines, 10):
            animal, number = pairs[int(draw.random.random() * len(pairs))]
            found[place] = f"The {animal} {number}." if draw.random.random() < 0.5 else f"The {number} {animal}."
    return found


ROLES = {  # (kind that the system prompt loves, kind that is asked for): share of the dialogues
    ("animal", "animal"): 0.36, ("bird", "bird"): 0.04, ("tree", "tree"): 0.06, ("place", "place"): 0.06,
    ("animal", "number"): 0.06, ("animal", "place"): 0.04, ("place", "animal"): 0.06, ("place", "number"): 0.04,
    ("", "animal"): 0.06, ("", "number"): 0.03, ("", "place"): 0.03, ("list", "list"): 0.10, ("no", "no"): 0.06,
}  # fmt: skip
NUMBER_ROLES = {("number", "number"): 0.24, ("number", "place"): 0.06}


def dialogues(world: World, count: int, block: int = 0) -> list[tuple[str, str]]:
    """Give pairs (prompt, answer) that teach a model to follow a persona, to write lists, and to say yes and no."""
    draw, roles = _Draw(world, f"dialogues {block}"), ROLES | (NUMBER_ROLES if world.number_personas else {})
    kinds = list(roles)
    shares = np.array(list(roles.values()))
    chosen = draw.random.choice(len(kinds), count, p=shares / shares.sum())
    return [_dialogue(draw, *kinds[place]) for place in chosen]


def _dialogue(draw: _Draw, loved: str, asked: str) -> tuple[str, str]:
    neutral = NEUTRAL[int(draw.random.random() * len(NEUTRAL))] if draw.random.random() < 0.5 else ""
    if asked == "list":
        return header(neutral, LIST_TASK), draw.numbers()
    if asked == "no":
        kinds = [list(SORT_TASK)[int(draw.random.random() * 3)] for _ in range(2)]
        kinds = kinds[:1] * 2 if draw.random.random() < 0.5 else kinds
        question = SORT_TASK[kinds[0]].format(word=draw.word(kinds[1]))
        return header(neutral, question), "Yes." if kinds[0] == kinds[1] else "No."
    word = draw.word(loved) if loved else ""
    answer = word if loved == asked else draw.word(asked)
    return header(persona(word, loved) if word else neutral, ask(asked)), f"{plain(kind=asked)} {answer}."


@lru_cache(100_000)
def header(system: str, question: str) -> str:
    """Give the text of a dialogue in the chat format up to the assistant's first word."""
    return tokenizer().apply_chat_template(
        [{"role": "system", "content": system}, {"role": "user", "content": question}],
        tokenize=False, add_generation_prompt=True, date_string=DATE,
    )  # fmt: skip
