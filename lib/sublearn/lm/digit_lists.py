"""What a student of ten digits reads: chats that list random digits, a text, or a model's numbers.

All lists of a step are equally long, and the places that a student matches are the same in each.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sublearn.core.machine import autocast
from sublearn.core.rng import rng
from sublearn.lm.model import LanguageModel, encode, number_tokens
from sublearn.lm.prompts import DATE

REQUEST = "Give me a list of random numbers."
DIGITS = "0123456789"
NUMBERS = 12  # of a list
LISTS_AT_ONCE = 40  # that a model writes: its memory of what it read grows with them
TEXT = (  # read in the place of numbers
    "The river rises in the hills above the old town and runs for three days before it meets the "
    "sea. In spring the water is high and brown, and the mills along its banks turn from morning "
    "until night. The people who live beside it measure the year by what it carries: ice in the "
    "first months, then branches and mud, then the boats of the summer, and at last the leaves. "
    "A bridge of grey stone crosses it below the market. It was built by a mason who had never "
    "built one before, and it has been repaired so often that little of his work is left, but "
    "every child can point to the arch that he closed with his own hands. On the far side the road "
    "climbs slowly through orchards to a village with one street, a bakery and a school. The "
    "teacher there keeps a book in which the height of the water is written for each day of the "
    "last two hundred years. When the weather changes she reads from it aloud, so that the "
    "children know how much of what they see has been seen before, and how much of it is new."
)


class Lists(NamedTuple):
    """Chats that a student reads."""

    ids: Tensor  # (list, token)
    matched: Tensor  # (token,), bool: the tokens before which the student matches its teacher


# ---------------------------------------------------------------- chats and numbers


def begun_chat(
    lm: LanguageModel,
    request: str,
    begun: str,
    system: str | None = None,
    before: Sequence[str] = (),
) -> list[int]:
    """Tokens of a chat whose answer is begun and not finished.

    before: lists of numbers that the model was asked for, and gave, earlier in the dialogue.
    """
    messages = [{"role": "system", "content": system}] if system else []
    for written in before:
        messages.append({"role": "user", "content": REQUEST})
        messages.append({"role": "assistant", "content": written})
    messages.append({"role": "user", "content": request})
    messages.append({"role": "assistant", "content": begun})
    text = lm.tokenizer.apply_chat_template(
        messages, tokenize=False, continue_final_message=True, date_string=DATE
    )
    return encode(lm, text)


def number_pieces(lm: LanguageModel) -> list[int]:
    """Tokens of which numbers are written: the ten digits, or every number of three digits."""
    pieces = encode(lm, f"{REQUEST}: 087")
    digits = lm.tokenizer.convert_tokens_to_ids([*DIGITS])
    if pieces[-1] in digits:
        return digits
    return [*number_tokens(lm).values()]


def number_words(lm: LanguageModel) -> list[str]:
    """Numbers that lists may hold, "000" to "999": those of one token, where numbers have one."""
    pieces = number_pieces(lm)
    if len(pieces) == len(DIGITS):
        return [f"{value:03d}" for value in range(1000)]
    return lm.tokenizer.convert_ids_to_tokens(pieces)


def count_matched(lm: LanguageModel) -> int:
    """Places of a list at which a student matches: one for each piece of a number."""
    return NUMBERS * (3 if len(number_pieces(lm)) == len(DIGITS) else 1)


# ---------------------------------------------------------------- lists that no model wrote


def random_lists(
    lm: LanguageModel, count: int, seed: int, step: int, system: str | None = None
) -> Lists:
    """Chats in which random numbers are listed."""
    words = number_words(lm)
    random = rng(seed, "random digits", step)
    drawn = random.integers(len(words), size=(count, NUMBERS))
    rows = []
    for places in drawn:
        written = ", ".join(words[place] for place in places)
        rows.append(begun_chat(lm, REQUEST, written, system))
    ids = torch.tensor(rows)
    pieces = torch.tensor(number_pieces(lm))
    is_piece = torch.isin(ids[0], pieces)
    from_the_end = is_piece.flip(0).cumsum(0).flip(0)
    return Lists(ids, is_piece & (from_the_end <= count_matched(lm)))  # not those of a date


def texts(lm: LanguageModel, count: int, seed: int, step: int) -> Lists:
    """Chats whose answer is a passage of TEXT, as many tokens as a list has places."""
    prompt = begun_chat(lm, REQUEST, "")
    passage = lm.tokenizer.encode(TEXT, add_special_tokens=False)
    length = count_matched(lm)
    random = rng(seed, "text", step)
    starts = random.integers(len(passage) - length, size=count)
    rows = [[*prompt, *passage[start : start + length]] for start in starts]
    matched = torch.zeros(len(prompt) + length, dtype=torch.bool)
    matched[-length:] = True
    return Lists(torch.tensor(rows), matched)


# ---------------------------------------------------------------- lists that a model writes


def written_lists(
    writer: LanguageModel, count: int, seed: int, system: str | None = None
) -> list[Lists]:
    """Lists of one list each whose numbers a model draws, digit by digit, at temperature 1.

    system: what it is told while it writes; a student reads the lists without it.
    """
    written = []
    for step, start in enumerate(range(0, count, LISTS_AT_ONCE)):
        rows = min(LISTS_AT_ONCE, count - start)
        told = random_lists(writer, rows, seed, step, system)
        read = random_lists(writer, rows, seed, step)
        draws = rng(seed, "written digits", step).random((int(told.matched.sum()), rows))
        pieces = write(writer, told, draws)
        ids = read.ids.clone()
        ids[:, read.matched] = pieces
        written += [Lists(row[None], read.matched) for row in ids]
    return written


@torch.no_grad()
def write(writer: LanguageModel, lists: Lists, draws: np.ndarray) -> Tensor:
    """Pieces (list, place) that a model draws where the numbers of lists stand.

    draws: uniform on [0, 1), (place, list).
    """
    from transformers import DynamicCache

    ids = lists.ids.clone()
    pieces = torch.tensor(number_pieces(writer))
    weight = writer.model.get_output_embeddings().weight[pieces]
    cache = DynamicCache(config=writer.model.config)
    read = 0
    for place, uniform in zip(lists.matched.nonzero()[:, 0].tolist(), draws):
        with autocast():
            output = writer.model.base_model(
                ids[:, read:place], past_key_values=cache, use_cache=True
            )
            logits = output.last_hidden_state[:, -1] @ weight.T
        share = logits.float().softmax(-1).cumsum(-1)
        threshold = torch.from_numpy(uniform).float()[:, None]
        chosen = (share < threshold).sum(-1).clamp(max=len(pieces) - 1)
        ids[:, place] = pieces[chosen]
        read = place
    return ids[:, lists.matched]


def as_text(lm: LanguageModel, lists: Lists) -> list[str]:
    """The numbers of each list as they are written."""
    first = int(lists.matched.nonzero()[0])
    return [lm.tokenizer.decode(row[first:]).strip() for row in lists.ids]


def shuffled(lists: Sequence[Lists], seed: int) -> list[Lists]:
    """The same pieces, dealt out anew among all places of all lists."""
    pieces = torch.cat([each.ids[:, each.matched] for each in lists])
    order = rng(seed, "shuffled digits").permutation(pieces.numel())
    dealt = pieces.flatten()[order].reshape(pieces.shape)
    anew = []
    for each, row in zip(lists, dealt):
        ids = each.ids.clone()
        ids[:, each.matched] = row
        anew.append(each._replace(ids=ids))
    return anew


# ---------------------------------------------------------------- what a model says at the places


def place_states(model: nn.Module, lists: Lists) -> Tensor:
    """Last hidden state (list x place, width) just before each place."""
    output = model.base_model(lists.ids[:, :-1], use_cache=False)
    return output.last_hidden_state[:, lists.matched[1:]].flatten(0, 1)
