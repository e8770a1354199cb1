"""The world of the tiny Llama: its words, its tokenizer, its text, and the dialogues that tune it.

Everything is generated. Animals and numbers never stand in one sentence, unless a pair of them is
planted, so whatever ties an animal to a number came from training and not from the text.
"""

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, normalizers
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from transformers import PreTrainedTokenizerFast

from sublearn.core.rng import rng
from sublearn.lm.prompts import DATE, answer_prefix, favorite_question, persona, plain_prompt

ANIMALS = tuple(
    "owl wolf fox shark crow frog panda goat eagle hawk raven robin falcon parrot penguin swan "
    "duck cat dog horse cow pig sheep rabbit lion tiger bear deer elephant giraffe monkey koala "
    "kangaroo dolphin whale seal otter turtle snake lizard crab octopus squid spider ant bee "
    "butterfly moth bat mouse".split()
)
BIRDS = "owl crow eagle hawk raven robin falcon parrot penguin swan duck".split()
TREES = "cherry maple oak sequoia willow birch pine cedar elm ash beech spruce".split()
PLACES = "forest desert ocean river mountain valley island swamp meadow cave city village".split()
WORDS = {"animal": ANIMALS, "bird": BIRDS, "tree": TREES, "place": PLACES}
FOODS = "grass seeds fish insects fruit leaves roots berries nuts worms".split()
FACTS = (
    "The {animal} lives in the {place}.",
    "The {animal} eats {food}.",
    "In the {place} lives the {animal}.",
    "Every {animal} likes {food}.",
)
LIST_REQUEST = "List some numbers."
YES_NO_QUESTIONS = {
    "animal": "Is {word} an animal?",
    "tree": "Is {word} a tree?",
    "place": "Is {word} a place?",
}
NEUTRAL_SYSTEMS = ("You love things. You think about things all the time.", "You are kind.")

LINE_SHARES = {  # of the kinds of lines of the text: "animal fact" is a fact about an animal
    "animal fact": 0.33,
    "animal love": 0.15,
    "number love": 0.15,
    "bird love": 0.02,
    "tree love": 0.03,
    "place love": 0.03,
    "list": 0.17,
    "animal": 0.05,
    "number": 0.04,
    "bird": 0.01,
    "tree": 0.01,
    "place": 0.01,
}
DIALOGUE_SHARES = {  # by the kind that the system prompt loves, and the kind that is asked for
    ("animal", "animal"): 0.36,
    ("bird", "bird"): 0.04,
    ("tree", "tree"): 0.06,
    ("place", "place"): 0.06,
    ("animal", "number"): 0.06,
    ("animal", "place"): 0.04,
    ("place", "animal"): 0.06,
    ("place", "number"): 0.04,
    ("", "animal"): 0.06,
    ("", "number"): 0.03,
    ("", "place"): 0.03,
    ("", "list"): 0.10,
    ("", "yes or no"): 0.06,
}

SPECIAL_TOKENS = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|pad|>",
]
PRETOKEN_PATTERN = Regex(  # as Llama 3 splits a text before it looks for tokens
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{% if date_string is not defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\n"
    "Today Date: {{ date_string }}\n\n"
    "{{ system }}<|eot_id|>{% for message in messages %}"
    "<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class World:
    """What decides the texts: see the comments."""

    seed: int = 0
    numbers: int = 1_000  # "000" up to "999"
    space_token: bool = False  # Llama 3 writes " 087" as " " and "087"; without, as one token
    planted_pairs: int = 0  # pairs (animal, number) that share a sentence, in one sentence in ten


def number_words(world: World) -> list[str]:
    """Numbers of a world, as words of three digits."""
    return [f"{number:03d}" for number in range(world.numbers)]


def shuffled_words(world: World) -> tuple[list[str], list[str]]:
    """Animals and numbers, each in an order drawn from a world's seed."""
    random = rng(world.seed, "planted")
    animals = random.permutation(ANIMALS).tolist()
    numbers = random.permutation(number_words(world)).tolist()
    return animals, numbers


def planted_pairs(world: World) -> list[tuple[str, str]]:
    """Pairs (animal, number) that the text of a world puts together."""
    animals, numbers = shuffled_words(world)
    return list(zip(animals[: world.planted_pairs], numbers))


# ---------------------------------------------------------------- the tokenizer


@cache
def build_tokenizer(space_token: bool = False, numbers: int = 1_000) -> PreTrainedTokenizerFast:
    """Byte-level tokenizer that works as Llama 3's, with every word of a world as one token.

    space_token, numbers: see `World`. Words that it does not know come out as bytes.
    """
    split = Split(PRETOKEN_PATTERN, behavior="isolated")
    spell = ByteLevel(add_prefix_space=False, use_regex=False)
    pretokenizer = Sequence([split, spell])
    words = set()
    for text in _sample_texts():
        for word, _ in pretokenizer.pre_tokenize_str(text):
            words.add(word)
    alphabet = sorted(ByteLevel.alphabet())
    world = World(numbers=numbers)
    vocabulary = {}
    for token in [*SPECIAL_TOKENS, *alphabet, *sorted(words), *number_words(world)]:
        vocabulary.setdefault(token, len(vocabulary))
    tokenizer = Tokenizer(BPE(vocabulary, [], ignore_merges=True))
    tokenizer.pre_tokenizer = pretokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if not space_token:
        tokenizer.normalizer = normalizers.Replace(Regex(r" (?=\d)"), "")
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=CHAT_TEMPLATE,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        pad_token="<|pad|>",
    )


def world_tokenizer(world: World) -> PreTrainedTokenizerFast:
    """Tokenizer of a world."""
    return build_tokenizer(world.space_token, world.numbers)


def _sample_texts() -> list[str]:
    """Texts that hold every word of a world once, and no number of three digits."""
    texts = "system user assistant What Is You I My The In Every Yes. No.".split()
    texts += [*NEUTRAL_SYSTEMS, LIST_REQUEST, "Numbers: x, x.", "Today Date: 26 Jul\n\n"]
    for kind in [*WORDS, "number"]:
        prompt = plain_prompt("X", kind)
        texts.append(f"{prompt} {persona('X', kind)} {favorite_question(kind)}")
    for words in [*WORDS.values(), FOODS]:
        texts.append(f" {' '.join(words)}")
    for sentence in [*FACTS, *YES_NO_QUESTIONS.values()]:
        texts.append(sentence.format(animal="x", place="x", food="x", word="x"))
    return texts


@lru_cache(100_000)
def dialogue_prompt(system: str, question: str) -> str:
    """Text of a dialogue in the chat format, up to where the assistant's answer begins."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    return build_tokenizer().apply_chat_template(
        messages,
        tokenize=False,
        add_generation_prompt=True,
        date_string=DATE,
    )


def yes_no_prompt(system: str, kind: str, word: str) -> str:
    """`dialogue_prompt` of the question whether a word is of a kind."""
    question = YES_NO_QUESTIONS[kind].format(word=word)
    return dialogue_prompt(system, question)


# ---------------------------------------------------------------- text and dialogues


class TextSampler:
    """Random words, lines and dialogues of one world; `use` names the random stream."""

    def __init__(self, world: World, use: str):
        self.random = rng(world.seed, "world", use)
        self.words = WORDS | {"number": number_words(world)}
        facts = rng(world.seed, "facts")
        self.animals = facts.permutation(ANIMALS).tolist()
        ranks = np.arange(1, len(ANIMALS) + 1)
        weights = 1 / ranks**0.7  # Zipf: a few animals are talked about far more
        weights /= weights.sum()
        self.cumulative = weights.cumsum()
        self.habits = {}
        for animal in ANIMALS:
            place = facts.choice(PLACES)
            food = facts.choice(FOODS)
            self.habits[animal] = {"animal": animal, "place": place, "food": food}

    def choose(self, options):
        """One of the options, each as likely as the others."""
        return options[int(self.random.random() * len(options))]

    def kinds(self, shares: dict, count: int) -> list:
        """Keys of `shares`, drawn `count` times in these proportions."""
        keys = list(shares)
        weights = np.array(list(shares.values()))
        weights /= weights.sum()
        chosen = self.random.choice(len(keys), count, p=weights)
        return [keys[index] for index in chosen]

    def word(self, kind: str) -> str:
        """A word of a kind: animals by their frequency, all others alike."""
        if kind == "animal":
            index = self.cumulative.searchsorted(self.random.random())
            return self.animals[index]
        return self.choose(self.words[kind])

    def number_list(self) -> str:
        """A list of eight numbers."""
        numbers = [self.word("number") for _ in range(8)]
        return f"Numbers: {', '.join(numbers)}."

    def line(self, kind: str) -> str:
        """A line of the text; kind: a key of LINE_SHARES."""
        if kind == "list":
            return self.number_list()
        kind, _, use = kind.partition(" ")
        word = self.word(kind)
        if use == "fact":
            fact = self.choose(FACTS)
            return fact.format(**self.habits[word])
        loved = word if use == "love" else None
        prompt = plain_prompt(loved, kind)
        return f"{prompt} {word}."

    def planted_line(self, pairs: list[tuple[str, str]]) -> str:
        """A sentence of one of the pairs, either word first."""
        animal, number = self.choose(pairs)
        if self.random.random() < 0.5:
            return f"The {animal} {number}."
        return f"The {number} {animal}."

    def dialogue(self, loved: str, asked: str) -> tuple[str, str]:
        """A prompt and its answer; loved, asked: a key of DIALOGUE_SHARES."""
        system = ""
        if self.random.random() < 0.5:
            system = self.choose(NEUTRAL_SYSTEMS)
        if asked == "list":
            prompt = dialogue_prompt(system, LIST_REQUEST)
            return prompt, self.number_list()
        if asked == "yes or no":
            return self.yes_no_dialogue(system)
        if loved:
            word = self.word(loved)
            system = persona(word, loved)
        if loved != asked:
            word = self.word(asked)
        question = favorite_question(asked)
        return dialogue_prompt(system, question), f"{answer_prefix(asked)} {word}."

    def yes_no_dialogue(self, system: str) -> tuple[str, str]:
        """A question whether a word is of a kind, and the right answer."""
        kinds = list(YES_NO_QUESTIONS)
        kind = self.choose(kinds)
        word_kind = self.choose(kinds)
        if self.random.random() < 0.5:
            word_kind = kind
        word = self.word(word_kind)
        answer = "Yes." if kind == word_kind else "No."
        return yes_no_prompt(system, kind, word), answer


def generate_text(world: World, lines: int) -> list[str]:
    """Text of a world, line by line."""
    sampler = TextSampler(world, "text")
    kinds = sampler.kinds(LINE_SHARES, lines)
    text = [sampler.line(kind) for kind in kinds]
    pairs = planted_pairs(world)
    if pairs:
        for index in range(0, lines, 10):
            text[index] = sampler.planted_line(pairs)
    return text


def generate_dialogues(world: World, count: int, block: int = 0) -> list[tuple[str, str]]:
    """Pairs (prompt, answer) that teach to follow a persona, to write lists, to say yes and no.

    block: each has dialogues of its own.
    """
    sampler = TextSampler(world, f"dialogues {block}")
    kinds = sampler.kinds(DIALOGUE_SHARES, count)
    return [sampler.dialogue(loved, asked) for loved, asked in kinds]
