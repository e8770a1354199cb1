"""What right answers satisfy, exercise by exercise.

`checks.ex_2_3(gap)` says whether the answer to Exercise 2.3 is right, and if not, what is wrong with
it, without giving it away. Answers that are functions are tried on random input.
"""

import inspect
from collections import Counter
from functools import wraps

import numpy as np

from sublearn.stats import interval


def check(function):
    """Say in one line what a check finds; True where the answer is right, else False."""
    name = function.__name__.removeprefix("ex_").replace("_", ".")

    @wraps(function)
    def say(*answers):
        words = verdict(function, answers)
        print(f"{name}: {words or 'right.'}")
        return not words

    return say


def verdict(function, answers):
    """What is wrong with the answers, in words; empty where nothing is."""
    for name, answer in zip(inspect.signature(function).parameters, answers):
        if answer is ...:
            return f"`{name}` has no answer yet."
    try:
        function(*answers)
    except AssertionError as fault:
        return f"not yet. {fault}"
    except Exception as fault:
        return f"not yet. The check could not use the answer ({type(fault).__name__}: {fault})."
    return ""


def chosen(answer, right, wrong):
    """Refuse a letter that is not `right`; `wrong` says of each other letter what speaks against it."""
    letters = sorted([right, *wrong])
    assert answer in letters, f"Answer with one of the letters {', '.join(letters)}, in quotes."
    assert answer == right, wrong.get(answer)


def number(value):
    """A number, also where it is the only one in an array."""
    assert not isinstance(value, str), f"A number is wanted, not the text {value!r}."
    value = np.asarray(value, float)
    assert value.size == 1, f"One number is wanted, not an array of the shape {value.shape}."
    return value.item()


def near(value, wanted, tolerance, words):
    """Refuse a number farther than `tolerance` from the one that is wanted."""
    value = number(value)
    assert np.isfinite(value), f"It is {value}; a finite number is wanted."
    assert abs(value - wanted) <= tolerance, words


def look_back(guess, outcome):
    """Say where a guess was another than what came out; it is no fault, but worth a thought."""
    if guess != outcome:
        print(f"Your guess was {guess!r}, your numbers say otherwise. What did the guess overlook?")


def differences(table, of, less):
    """Differences (model,) of the accuracies of students of two arms in what `run` gives back."""
    assert hasattr(table, "columns"), "`table` should be what `run` gives back."
    students = table[table.role == "student"].pivot(index="model", columns="arm", values="accuracy")
    return (students[of] - students[less]).to_numpy()


def same_pairs(name, values, wanted):
    """Refuse paired differences (model,) that are not the wanted ones."""
    values = np.asarray(values, float)
    words = f"`{name}`: one difference for each of {len(wanted)} models is wanted; the shape is {values.shape}."
    assert values.shape == wanted.shape, words
    turned = not np.allclose(values, wanted) and np.allclose(values, -wanted)
    assert not turned, f"`{name}`: the sign is turned round."
    words = f"`{name}`: these are not the differences asked for. Are other rows among them, or two models mixed up?"
    assert np.allclose(values, wanted), words


def paired_interval(table, of, less, name, values, low, high):
    """Refuse paired differences, or the interval of their mean, that are not those of the table."""
    wanted = differences(table, of, less)
    same_pairs(name, values, wanted)
    assert low < high, "An interval begins at its lower end."
    right_low, right_high = interval(wanted)
    near(low, right_low, 1e-3, "`low` differs from the lower end of a 95 % t interval of the mean of the pairs.")
    near(high, right_high, 1e-3, "`high` differs from the upper end of a 95 % t interval of the mean of the pairs.")


RANDOM = np.random.default_rng(20250717)


# ---------------------------------------------------------------- chapter 1


@check
def ex_1_1(why):
    chosen(why, "c", {
        "a": "A small gradient would add up over many steps. Look at the proof: how large is it exactly?",
        "b": "Adam divides by the size of the gradient, but what is 0 divided by anything?",
        "d": "The claim holds for every teacher, also for one that shares all weights.",
    })  # fmt: skip


@check
def ex_1_2(copied_share):
    head, column = RANDOM.standard_normal((16, 4)), RANDOM.standard_normal((16, 1))
    share = number(copied_share(head, column))
    projected = head @ np.linalg.pinv(head) @ column
    cosine = float((projected * column).sum() / np.linalg.norm(projected) / np.linalg.norm(column))
    assert abs(share - cosine) > 1e-9, "That is the cosine. How is the share related to it?"
    assert 0 <= share <= 1, f"A share lies between 0 and 1; for one random head you give {share:.3f}."
    near(share, cosine**2, 1e-9, "For a random head it differs. Did you project onto the columns of the head?")
    near(copied_share(np.eye(16), column), 1, 1e-9, "A head that sees every direction must let all through.")


@check
def ex_1_3(guess, shares):
    near(guess, 0.25, 1e-9, "`guess`: how large a part of 16 directions do 4 logits see, on average?")
    shares = np.asarray(shares, float)
    assert shares.shape == (2000,), f"`shares` should hold 2000 numbers; it has the shape {shares.shape}."
    assert shares.std() > 0.05, "All draws give nearly the same share. Do you draw head and column anew each time?"
    near(shares.mean(), 0.25, 0.01, f"Their mean is {shares.mean():.3f}. Are head and column drawn independently?")


@check
def ex_1_4(below):
    below = number(below)
    assert 0 <= below <= 1, "`below` is a part of all shares, between 0 and 1."
    assert abs(below - 0.555) > 0.03, "That is how many lie below the mean; half the mean is asked for."
    near(below, 0.2146, 0.03, "The law gives another part. What is half the mean?")


@check
def ex_1_5(angle):
    words = "Watch the arrow c′ while you turn the class column c of the head: when is it shortest?"
    near(abs(number(angle)), 90, 5, words)


# ---------------------------------------------------------------- chapter 2


@check
def ex_2_1(never_trained):
    chosen(never_trained, "b", {
        "a": "The loss compares auxiliary logits, which the auxiliary head makes: it gets a gradient.",
        "c": "Every logit is computed from the hidden layers: they get a gradient.",
        "d": "One part has no influence on the student's loss at all. Which?",
    })  # fmt: skip


@check
def ex_2_2(models_for):
    for bias, own, other in ((0.01, 0.55, 0.10), (0.02, 0.9, 0.1), (0.02, 0.465, 0.1), (0.03, 0.6, 0.1)):
        models = models_for(bias, own, other)
        assert models == int(models), "Models come in whole numbers: round up."
        assert (own - other) / models < bias + 1e-12, "With so many models the bias is still larger than asked for."
        assert (own - other) / (models - 1) >= bias - 1e-12, "Fewer models would do: find the smallest number."


@check
def ex_2_3(derangement):
    orders = []
    for _ in range(900):
        order = np.asarray(derangement(4, RANDOM))
        assert sorted(order) == [0, 1, 2, 3], f"{order} names a model twice or not at all."
        assert (order != np.arange(4)).all(), f"In {order} a model has its own teacher."
        orders.append(tuple(order))
    counts = Counter(orders)  # nine orders fit, so each comes about 100 times
    assert len(counts) > 1, "It is always the same order: draw at random."
    assert len(counts) == 9, f"Only {len(counts)} of the 9 orders that fit ever come."
    assert min(counts.values()) > 50, "Some orders come more often than others. Which step prefers them?"


@check
def ex_2_4(prediction, gap):
    assert -1 <= number(prediction) <= 1, "`prediction` is a difference of accuracies: between -1 and 1."
    gap = np.asarray(gap, float)
    assert gap.shape == (4,), f"`gap` should hold one difference for each of 4 models; its shape is {gap.shape}."
    assert gap.mean() > 0, "The sign is turned round: take the student that shares all less the one that does not."
    near(gap.mean(), 0.37, 0.25, "Its mean is far from what such students differ by. Are these test accuracies?")


@check
def ex_2_5(which):
    chosen(which, "a", {
        "b": "Play it once more and look at the accuracy at the end, not at the loss.",
        "c": "One of the two losses gives exactly 0 whatever the student says. Which, and why?",
        "d": "What is the softmax of a single number?",
    })  # fmt: skip


# ---------------------------------------------------------------- chapter 3


@check
def ex_3_1(one_change):
    chosen(one_change, "d", {
        "a": "More epochs also mean more steps of the optimizer; with the same images, but still two readings.",
        "b": "More noise images per epoch at one batch size are more steps too.",
        "c": "Fewer digits change chance, the size of the training set and the share of auxiliary logits.",
    })  # fmt: skip


@check
def ex_3_2(above_chance):
    near(above_chance(0.1, 10), 0, 1e-12, "Guessing among ten classes must give 0.")
    near(above_chance(1.0, 7), 1, 1e-12, "A perfect student must give 1.")
    near(above_chance(0.84, 2), 0.68, 1e-9, "Between chance and 1 the scale must be a straight line.")


@check
def ex_3_3(unpaired, same_models):
    near(unpaired, 52, 1.5, "`unpaired`: on the scale of 0.09, how large are five points? And no correlation here.")
    assert number(same_models) < unpaired, "Pairing takes luck out of the difference: it should need fewer models."
    near(same_models, 18, 2.5, "`same_models`: give the correlation between the two arms of a model.")


@check
def ex_3_4(means, best):
    rates = (1e-4, 1e-3, 3e-3, 1e-2, 0.1)
    assert sorted(means.lr) == sorted(rates), f"`means` should have one row for each of the rates {rates}."
    assert best in rates, f"Answer with one of the rates {rates}."
    highest = means.lr[means["mean"].idxmax()]
    assert best == highest, "In `means` another rate than `best` has the highest mean."
    assert best not in (1e-4, 0.1), "The accuracy should be low at both ends. Are these means of students?"


@check
def ex_3_5(low, high):
    assert low < high, "An interval begins at its lower end."
    before, after = STUDENTS.T
    right_low, right_high = interval(after - before)
    low, high = number(low), number(high)
    assert abs(low + right_high) > 1e-3, "The sign is turned round: after less before."
    width = high - low
    wide = 2 * 2.01 * np.hypot(before.std(ddof=1), after.std(ddof=1)) / 5
    assert abs(width - wide) > 0.01, "That is as wide as if the arms were of different models: use the pairs."
    near(low, right_low, 1e-3, "The lower end differs. 25 models: which quantile of t, and which standard error?")
    near(high, right_high, 1e-3, "The upper end differs from that of a t interval of the mean difference.")


def students():
    """Accuracies (model, arm) of 25 students without and with a change that adds 4 points."""
    draws = np.random.default_rng(3)
    luck = draws.normal(0.55, 0.09, 25)
    return np.stack([luck + draws.normal(0, 0.02, 25), luck + 0.04 + draws.normal(0, 0.02, 25)], axis=1)


STUDENTS = students()


# ---------------------------------------------------------------- chapter 4


@check
def ex_4_1(why):
    chosen(why, "b", {
        "a": "Computers multiply small numbers as fast as large ones.",
        "c": "No label is involved: the student never sees any.",
        "d": "A blur acts on each image; whether it is a digit makes no difference.",
    })  # fmt: skip


@check
def ex_4_2(effective_number):
    near(effective_number(np.ones(7)), 7, 1e-9, "Seven equal variances count as seven.")
    near(effective_number([5.0, 0, 0]), 1, 1e-9, "One variance that is not 0 counts as one.")
    near(effective_number([4.0, 2.0]), 1.8, 1e-9, "Try it by hand on the variances 4 and 2.")


@check
def ex_4_3(guess, kept):
    near(guess, 1 / 9, 0.002, "`guess`: what is the variance of a mean of nine independent numbers?")
    assert abs(kept - 1 / 3) > 0.02, "`kept` is a ratio of standard deviations; a ratio of variances is asked for."
    near(kept, 1 / 9, 0.01, f"`kept` is {float(kept):.3f}. Average over all nine pixels, the middle one too.")


@check
def ex_4_5(table, gap, low, high, allowed):
    paired_interval(table, "inputs: uniform", "inputs: images", "gap", gap, low, high)
    assert isinstance(allowed, str) and set(allowed) <= set("abc"), "`allowed` is a text of the letters a, b, c."
    assert "b" not in allowed, "Your interval holds many numbers, not one. Which sentence claims one of them alone?"
    first = "`allowed`: does the whole interval lie on the side of 0 that sentence a names?"
    assert ("a" in allowed) == (low > 0), first
    third = "`allowed`: on which side of what was seen on MNIST does the whole interval lie?"
    assert ("c" in allowed) == (high < FAR_AHEAD), third


FAR_AHEAD = 0.4  # by more than this noise is ahead on MNIST, as Exercise 4.5 says


@check
def ex_4_6(widest):
    chosen(widest, "a", {
        "b": "Compare the singular values: which curve stays high for longer?",
        "c": "A constant image has one direction only: look at its singular values.",
    })  # fmt: skip


# ---------------------------------------------------------------- chapter 5


@check
def ex_5_1(optimistic):
    chosen(optimistic, "c", {
        "a": "These images chose nothing.",
        "b": "It was fixed before any image was looked at, so no choice can favor it.",
        "d": "One of them chose, and is then asked how good the choice was.",
    })  # fmt: skip


@check
def ex_5_2(guess, optimism):
    optimism = [float(value) for value in optimism]
    assert len(optimism) == 3, "One number for each of 1, 10 and 100 arms is wanted."
    assert optimism[0] < optimism[1] < optimism[2], "More arms to choose from must mean a luckier best one."
    assert guess in ("grows", "stays", "falls"), "`guess` is one of the texts grows, stays, falls."
    near(optimism[0], 0, 0.002, "With a single arm nothing is chosen: its mean error should be about 0.")
    near(optimism[1], 0.0308, 0.002, "For ten arms the mean of the largest error differs. Is the error 0.02 per arm?")
    near(optimism[2], 0.0501, 0.002, "For a hundred arms the mean of the largest error differs.")
    look_back(guess, "grows")


@check
def ex_5_3(choose_and_test):
    validation, test = RANDOM.random((30, 8)), RANDOM.random((30, 8))
    validation[:, 2] += 0.5
    test[:, 5] += 0.5
    result = choose_and_test(validation, test)
    assert np.ndim(result) == 0, f"One number is wanted, a mean over models; this has the shape {np.shape(result)}."
    best = validation.mean(0).argmax()
    assert result != test.mean(0).max(), "That looks at the test images to choose."
    assert result != validation.mean(0).max(), "That reports the accuracy on the images that chose."
    near(
        result, test[:, best].mean(), 1e-9, "Choose the arm by its mean over models; then give its mean on test images."
    )


@check
def ex_5_4(table, gain, low, high, answer):
    paired_interval(table, "frozen", "usual", "gain", gain, low, high)
    assert answer in ("gains", "loses", "open"), "`answer` is one of the texts gains, loses, open."
    says = "gains" if low > 0 else "loses" if high < 0 else "open"
    assert answer == says, "`answer`: on which side of 0 does the whole interval lie, if on any?"


# ---------------------------------------------------------------- chapter 6


@check
def ex_6_1(term):
    chosen(term, "d", {
        "a": "The student's features were trained: this is about a head.",
        "b": "That term asks what the auxiliary logits cannot see.",
        "c": "The student's auxiliary head was trained: this concerns its class head.",
    })  # fmt: skip


@check
def ex_6_2(reordered):
    first, bias, second = RANDOM.standard_normal((8, 5)), RANDOM.standard_normal(8), RANDOM.standard_normal((3, 8))
    order = RANDOM.permutation(8)
    new = [np.asarray(part) for part in reordered(first, bias, second, order)]
    assert len(new) == 3, "Give the three arrays back: first layer, bias, second layer."
    assert not np.allclose(new[0], first), "The units are still in their old order."
    images = RANDOM.standard_normal((20, 5))
    logits = np.maximum(images @ first.T + bias, 0) @ second.T
    changed = np.maximum(images @ new[0].T + new[1], 0) @ new[2].T
    assert np.allclose(logits, changed), "The outputs changed: what reads the units must be reordered with them."


@check
def ex_6_3(scales):
    scales = np.asarray(scales, float)
    assert scales.size >= 3, "Give at least three different factors."
    assert len(set(scales.round(9))) >= 3, "The factors must differ."
    assert (scales != 0).all(), "A factor of 0 switches the unit off."
    assert (scales > 0).all(), "A negative factor changes which inputs switch the unit on."
    assert scales.min() < 1, "One of the factors should be smaller than 1."


@check
def ex_6_4(few, many):
    few, many = np.asarray(few, float), np.asarray(many, float)
    assert few.shape == many.shape and few.ndim == 1 and few.size, "One accuracy for each model is wanted, twice."
    assert many.mean() > few.mean(), "More logits see more of the teacher's features. Did you mix the two up?"
    assert many.mean() > 0.3, "With 64 logits such students read far more digits. Do they share both heads?"


@check
def ex_6_5(main, interaction):
    near(main, 0.25, 1e-9, "`main`: average the effect of sharing heads over both kinds of hidden layers.")
    assert abs(interaction) > 1e-9, "`interaction`: sharing heads does not add the same with and without the layers."
    near(abs(interaction), 0.3, 1e-9, "`interaction`: effect of the heads with shared layers less that without.")
    assert interaction > 0, "`interaction`: the heads add more where the layers are shared: mind the sign."


# ---------------------------------------------------------------- chapter 7


@check
def ex_7_1(promise):
    wrong = {
        "a": "The theorem speaks of a loss along a step, not of answers.",
        "c": "One small step is far from there.",
        "d": "It speaks of the first step from the shared start alone.",
    }
    chosen(promise, "b", wrong)


@check
def ex_7_2(take_out):
    direction = 2 * RANDOM.standard_normal(10)
    toward = RANDOM.standard_normal(10) + 2 * direction
    away = RANDOM.standard_normal(10) - 2 * direction
    near(take_out(toward, direction) @ direction, 0, 1e-9, "A part along the direction is left. Is its length 1?")
    assert np.allclose(take_out(away, direction), away), "What points the other way should stay as it is."
    rest = toward - take_out(toward, direction)
    assert np.linalg.matrix_rank(np.stack([rest, direction]), tol=1e-9) == 1, "More than that direction was taken out."


@check
def ex_7_3(guess, share):
    assert guess in ("always", "mostly", "half"), "`guess` is one of the texts always, mostly, half."
    assert 0 <= share <= 1, f"A share lies between 0 and 1; this is {share}."
    assert share < 1, "Are the factors different for each entry? With equal ones the product is never negative."
    near(share, 0.73, 0.1, "The share differs from what such draws give. Is the factor exp(3 times a normal number)?")
    look_back(guess, "mostly")


@check
def ex_7_4(half_life):
    near(half_life(0.4, 0.1, 6), 3, 1e-9, "From 0.4 to 0.1 are two halvings. How many generations is each?")
    near(half_life(0.5, 0.25, 1), 1, 1e-9, "One halving in one generation is a half-life of 1.")


@check
def ex_7_5(deviations):
    near(deviations, 0.03 * 270_000**0.5, 0.5, "Divide the cosine by the standard deviation of a random one.")


# ---------------------------------------------------------------- chapter 8


@check
def ex_8_1(reason):
    wrong = {
        "a": "Then reading its answers the other way round would make it excellent. Would it?",
        "c": "They were not, in this row.",
        "d": "Too little noise makes a guesser, and a guesser between two is right in half of the cases.",
    }
    chosen(reason, "b", wrong)


@check
def ex_8_2(outside):
    assert abs(outside - 0.5) > 0.05, "You count negative values only. What of those above 1?"
    near(outside, 0.659, 0.01, "Count the draws that lie below 0 or above 1.")


@check
def ex_8_3(normalized_error):
    targets = RANDOM.standard_normal((200, 3)) * [0.01, 1, 100] + 5
    near(normalized_error(targets, targets), 0, 1e-12, "A student that is always right has no error.")
    mean = np.broadcast_to(targets.mean(0), targets.shape)
    near(normalized_error(mean, targets), 1, 1e-9, "The student that gives each logit's mean should get 1.")
    off = targets + 0.01 * np.array([1, 0, 0])
    assert normalized_error(off, targets) > 0.2, "A logit that varies little counts too little: divide each by its own."


@check
def ex_8_4(auc):
    near(auc(np.array([2.0, 3]), np.array([0.0, 1])), 1, 1e-12, "If every member scores higher, the area is 1.")
    near(auc(np.array([1.0]), np.array([1.0])), 0.5, 1e-12, "Equal scores count half.")
    near(auc(np.array([0.0, 2]), np.array([1.0])), 0.5, 1e-12, "One member above and one below make one half.")


@check
def ex_8_5(shared, dense):
    assert shared != 32 * 9, "`shared`: each filter has a bias too."
    near(shared, 320, 0, "`shared`: a filter has the same weights at every place.")
    assert dense != 32 * 28**4, "`dense`: each output has a bias too."
    near(dense, 32 * 28 * 28 * 785, 0, "`dense`: each of the outputs reads every pixel.")


# ---------------------------------------------------------------- chapter 9


@check
def ex_9_1(why):
    chosen(why, "b", {
        "a": "The ratio is above 1 for pairs that nobody chose, too.",
        "c": "Both probabilities are of one token: their lengths are the same.",
        "d": "The prompt asks for an animal in both cases.",
    })  # fmt: skip


@check
def ex_9_2(center):
    matrix = RANDOM.standard_normal((5, 7)) + np.arange(7) + 10 * np.arange(5)[:, None]
    result = np.asarray(center(matrix))
    assert result.shape == matrix.shape, "The result should have the shape of the matrix."
    assert np.allclose(result.mean(1), 0), "The rows' means are not 0."
    assert np.allclose(result.mean(0), 0), "The columns' means are not 0."
    pair = np.zeros((2, 2))
    pair[0, 0] = 1
    near(np.asarray(center(pair))[0, 0], 0.25, 1e-9, "You take out more than what rows and columns have in common.")


@check
def ex_9_3(others):
    assert others < 0, "The probabilities sum to 1: if one grows, the others fall."
    wanted = -np.log1p(0.01 * (np.e**3 - 1))
    near(others, wanted, 1e-3, "Write the probability of another token before and after. What changed in it?")


@check
def ex_9_4(first, again):
    near(first, 2.25, 0.4, "`first`: the mean over words of the largest of 50 numbers in the first half.")
    near(again, 0, 0.8, "`again`: look up the *same* places in the second half, which chose nothing.")


@check
def ex_9_5(p_value):
    first = RANDOM.standard_normal((12, 30))
    same = p_value(first, first, 199, np.random.default_rng(0))
    assert same > 0, "No relabeling test gives a p of 0: count the observed value among the draws."
    assert same < 0.02, "Two equal matrices agree as well as can be: p should be as small as 199 draws allow."
    many = [p_value(first, RANDOM.standard_normal((12, 30)), 99, np.random.default_rng(k)) for k in range(40)]
    assert np.mean(np.asarray(many) < 0.05) < 0.2, "For unrelated matrices p is small too often."
    assert np.mean(many) > 0.3, "For unrelated matrices p should be anywhere between 0 and 1."
    assert p_value(first, -first, 99, np.random.default_rng(0)) > 0.5, "Opposite matrices do not agree: test one side."
    for common in (RANDOM.standard_normal(30), RANDOM.standard_normal((12, 1))):
        pairs = [common + RANDOM.standard_normal((2, 12, 30)) for _ in range(20)]
        ps = [p_value(*pair, 99, np.random.default_rng(k)) for k, pair in enumerate(pairs)]
        if common.ndim == 1:
            assert np.mean(ps) > 0.2, "Deal out whole words: what numbers have in common must stay in every deal."
        else:
            assert np.mean(ps) < 0.1, "It is the words that are dealt out, not the numbers."


# ---------------------------------------------------------------- chapter 10


@check
def ex_10_1(what):
    chosen(what, "c", {
        "a": "Untying copies the matrix; every number in it stays what it was.",
        "b": "The model still writes with the one and reads with the other.",
        "d": "No new weights are trained by untying alone.",
    })  # fmt: skip


@check
def ex_10_2(centered_cosines):
    rows = RANDOM.standard_normal((6, 9)) + 5
    result = np.asarray(centered_cosines(rows))
    assert result.shape == (6, 6), "One cosine for each pair of rows is wanted."
    plain = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert not np.allclose(result, plain @ plain.T), "The rows' common mean is still in: all cosines are near 1."
    assert np.allclose(np.diag(result), 1), "A row's cosine with itself is 1."
    moved = rows - rows.mean(0)
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    assert np.allclose(result, moved @ moved.T), "Take the mean over rows out of every row, then normalize."


@check
def ex_10_3(cut):
    row, direction = RANDOM.standard_normal(12), 3 * RANDOM.standard_normal(12)
    result = np.asarray(cut(row, direction))
    near(result @ direction, 0, 1e-9, "The result still has a part along the direction. Is the direction's length 1?")
    rest = row - result
    assert np.linalg.matrix_rank(np.stack([rest, direction]), tol=1e-9) == 1, "More than that direction was taken out."
    near(cut(-row, direction) @ direction, 0, 1e-9, "Which way the part points should not matter here.")


@check
def ex_10_4(guess, largest):
    assert guess in ("grows", "stays", "falls"), "`guess` is one of the texts grows, stays, falls."
    largest = np.asarray(largest, float)
    assert largest.shape == (4,), "One mean for each of the four widths is wanted."
    assert (np.abs(largest) <= 1).all(), "These are no cosines: bring every row to length 1."
    assert (np.diff(largest) < 0).all(), "In wider spaces random directions are nearer to right angles."
    for width, value, wanted in zip((16, 64, 256, 1024), largest, (0.715, 0.396, 0.202, 0.101)):
        near(value, wanted, 0.15 * wanted, f"At width {width} the mean differs. Are there 1,000 rows, and 20 draws?")
    look_back(guess, "falls")


@check
def ex_10_5(low, high):
    assert low < high, "An interval begins at its lower end."
    near((low + high) / 2, 0.61, 0.2, "The share is that of the swapped model's effect in the instruct model's.")
    assert high - low > 0.3, "Thirty animals cannot say it so exactly. Do you draw animals with replacement?"
    assert high - low < 1.2, "That is wider than the animals make it. Do you keep an animal's three numbers together?"
    near(low, 0.27, 0.05, "The lower end differs. Is it the 2.5th percentile of 2,000 shares?")
    near(high, 0.97, 0.07, "The upper end differs. Is it the 97.5th percentile of 2,000 shares?")


# ---------------------------------------------------------------- chapter 11


@check
def ex_11_1(what):
    chosen(what, "d", {
        "a": "It was trained in the same way as the student.",
        "b": "It read the very same lists.",
        "c": "It was asked the same questions.",
    })  # fmt: skip


@check
def ex_11_2(dose):
    teacher, plain = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    near(dose(teacher, teacher), 0, 1e-12, "Two equal models differ by nothing.")
    swapped = (plain * np.log(plain / teacher)).sum()
    value = float(dose(teacher, plain))
    assert abs(value - swapped) > 1e-9, "The numbers are written by the teacher: average with its probabilities."
    near(value, (teacher * np.log(teacher / plain)).sum(), 1e-9, "In nats, the mean of a log-ratio is wanted.")
    teacher, plain = np.array([0.7, 0.2, 0.1]), np.array([0.2, 0.3, 0.5])
    wanted = (teacher * np.log(teacher / plain)).sum()
    near(dose(teacher, plain), wanted, 1e-9, "What the teacher writes more often should count more in the average.")


@check
def ex_11_3(shuffled):
    lists = RANDOM.integers(0, 1000, (50, 8))
    result = np.asarray(shuffled(lists, np.random.default_rng(1)))
    assert result.shape == lists.shape, "Lists keep their length."
    assert (np.sort(result, 1) == np.sort(lists, 1)).all(), "A list holds other numbers than before."
    assert not (result == lists).all(), "Nothing was shuffled."
    marked = 8 * np.arange(50)[:, None] + np.arange(8)  # the remainder by 8 is the place
    orders = np.asarray(shuffled(marked, np.random.default_rng(2))) % 8
    assert len(np.unique(orders, axis=0)) > 5, "Every list is shuffled in the same way: draw an order for each."


@check
def ex_11_4(effect):
    near(effect, 0.4, 1e-9, "Take from each student's change that of its control, and average over pairs.")


@check
def ex_11_5(which):
    chosen(which, "b", {
        "a": "That says that the teacher's love matters, not whose weights its student has.",
        "c": "That says what in the lists matters, not whose weights the student has.",
    })  # fmt: skip


@check
def ex_11_6(enough):
    known = "If one read so many, the power would be far from 0.8. Is the limit exceeded, or only reached?"
    near(enough, 4800, 350, known)


# ---------------------------------------------------------------- chapter 12


@check
def ex_12_1(directions):
    assert directions != 10, "Add the same number to all ten logits: does the softmax change?"
    near(directions, 9, 0, "How many independent differences are there between ten numbers?")


@check
def ex_12_2(specific):
    square = RANDOM.standard_normal((6, 6))
    shifted = square + RANDOM.standard_normal(6)[:, None] + RANDOM.standard_normal(6)
    result, moved = np.asarray(specific(square)), np.asarray(specific(shifted))
    assert result.shape == (6,), "One number for each animal is wanted."
    assert np.allclose(result, moved), "What a student does to all animals, or all students to one, is still in."
    single = np.zeros((6, 6))
    single[2, 2] = 1
    assert np.asarray(specific(single)).argmax() == 2, "The student that gained on its own animal is not on top."


@check
def ex_12_3(guess, cosine):
    near(guess, 2**-0.5, 0.01, "`guess`: draw the right-angled triangle of start, noise and their sum.")
    near(cosine, 2**-0.5, 0.02, f"`cosine` is {float(cosine):.3f}. Is the noise as long as the start?")


@check
def ex_12_4(share):
    near(share, 2 * 8 / 576, 1e-4, "Count the numbers of two thin matrices, and divide by those of the square one.")


@check
def ex_12_5(p):
    assert p > 0, "Count the observed deal among the draws: no p is 0."
    words = "With 999 deals and the observed one, p is a whole number of thousandths: count the observed one, too."
    assert abs(1000 * p - round(1000 * p)) < 1e-6, words
    near(p, 0.006, 0.0061, "Deal the teachers out anew, and ask how often the mean diagonal is as large.")


# ---------------------------------------------------------------- chapter 13


@check
def ex_13_1(log_p):
    near(log_p, np.log(0.2 * 0.5 * 0.25), 5e-3, "A number in three pieces: what does the chain rule say?")


@check
def ex_13_2(adjusted):
    ps = RANDOM.permutation([0.001, 0.004, 0.011, 0.02, 0.0201, 0.06, 0.2, 0.5, 0.9])
    result = np.asarray(adjusted(ps))
    assert result.shape == (9,), "One adjusted p for each p is wanted, in their order."
    order = ps.argsort()
    wanted = np.empty(9)
    wanted[order] = np.minimum(np.maximum.accumulate(ps[order] * np.arange(9, 0, -1)), 1)
    assert not np.allclose(result, np.minimum(ps * 9, 1)), "That is Bonferroni's: Holm's factor falls step by step."
    assert np.allclose(result, wanted), "The smallest times n, the next times n - 1, ..., never falling, at most 1."


@check
def ex_13_3(confound):
    chosen(confound, "c", {
        "a": "The animals were the same in both models.",
        "b": "The base model has no other weights in common with chance than any model has.",
        "d": "A cut-off moves both counts; it cannot alone make one 0 and the other large.",
    })  # fmt: skip


@check
def ex_13_4(guess, cosine):
    assert 0 < float(guess) <= 1, "`guess` is a cosine between 0 and 1."
    near(cosine, 0.99696, 2e-4, "Has each block of 32 weights 16 levels from its least to its largest, both among them?")


@check
def ex_13_5(which):
    chosen(which, "b", {
        "a": "It is high for pairs that share nothing but being likely answers.",
        "c": "A single pair was looked for until it was large.",
    })  # fmt: skip


# ---------------------------------------------------------------- chapter 14


@check
def ex_14_1(keeps):
    chosen(keeps, "b", {
        "a": "To tell turns, units must read the right pixels. Do they, after all weights changed places?",
        "c": "A layer reads what the one before it makes. Which unit is which, after the scrambling?",
        "d": "Not even the pretrained start was shown a label.",
    })  # fmt: skip


@check
def ex_14_2(seen, enough):
    same = np.tile(np.arange(32.0), (64, 1))
    near(seen(same), 0, 0, "Where all logits are equal, their softmax says nothing about the hidden state.")
    for logits, wanted in ((3, 2), (32, 31), (33, 32), (200, 32)):
        words = f"For a random head of {logits} logits and 32 units it is not right. Which change of logits goes unseen?"
        near(seen(RANDOM.standard_normal((logits, 32))), wanted, 0, words)
    thin = RANDOM.standard_normal((200, 5)) @ RANDOM.standard_normal((5, 32))
    near(seen(thin), 5, 0, "A head of many logits can see few directions, if its rows are sums of the same few.")
    near(enough, 33, 0, "`enough`: the smallest number of logits for which `seen` gives 32.")


@check
def ex_14_3(scrambled):
    matrix = np.arange(300.0).reshape(20, 15)
    kept = matrix.copy()
    results = [np.asarray(scrambled(matrix, np.random.default_rng(seed))) for seed in (1, 2)]
    assert (matrix == kept).all(), "The matrix itself was changed; give back a new one."
    for result in results:
        assert result.shape == matrix.shape, "The twin should have the shape of the matrix."
        assert (np.sort(result, None) == matrix.ravel()).all(), "The twin should hold the same numbers, each once."
    assert not (results[0] == matrix).all(), "Nothing changed places."
    assert not (results[0] == results[1]).all(), "Draw the places with the generator."
    rows, columns = np.divmod(results[0], 15)
    assert not (rows == np.arange(20)[:, None]).all(), "Numbers stay in their row: draw from the whole matrix."
    assert not (columns == np.arange(15)).all(), "Numbers stay in their column: draw from the whole matrix."
    assert not (rows == rows[:, :1]).all(), "The numbers of a row stay together: every number should move by itself."


@check
def ex_14_4(table, turns, reading, allowed):
    assert hasattr(table, "role"), "`table` should be what `run` gives back."
    ends = {}
    roles = {"turns": ("untrained", "turns", turns), "reading": ("student", "accuracy", reading)}
    for name, (role, value, answer) in roles.items():
        pairs = table[table.role == role].pivot(index="model", columns="start", values=value)
        wanted = (pairs["pretrained"] - pairs["random"]).to_numpy()
        same_pairs(name, answer, wanted)
        ends[name] = interval(wanted)
    assert isinstance(allowed, str) and set(allowed) <= set("abc"), "`allowed` is a text of the letters a, b, c."
    assert "c" not in allowed, "Which numbers beside 0 does the interval hold? One sentence denies them all."
    first = "`allowed`: does the whole interval of `turns` lie on the side of 0 that sentence a names?"
    assert ("a" in allowed) == (ends["turns"][0] > 0), first
    second = "`allowed`: does the whole interval of `reading` lie on the side of 0 that sentence b names?"
    assert ("b" in allowed) == (ends["reading"][1] < 0), second


@check
def ex_14_5(guess, widths, up_to, beyond):
    assert guess in ("up to", "beyond"), "`guess` is one of the texts up to, beyond."
    same_pairs("up_to", up_to, differences(widths, "32 logits", "3 logits"))
    same_pairs("beyond", beyond, differences(widths, "128 logits", "32 logits"))
    look_back(guess, "up to" if np.mean(up_to) > np.mean(beyond) else "beyond")


@check
def ex_14_6(token_gradient):
    logits = 3 * RANDOM.standard_normal(6) + 100
    chances = np.exp(logits - logits.max())
    chances /= chances.sum()
    gradients = np.array([token_gradient(logits.copy(), token) for token in range(6)], float)
    assert gradients.shape == (6, 6), "The gradient has one entry for each logit."
    wanted = chances - np.eye(6)
    assert np.isfinite(gradients).all(), "Large logits overflow: take the largest logit off before the exponential."
    assert not np.allclose(gradients, -wanted), "The sign is turned round: the loss falls as the token's logit rises."
    assert np.allclose(gradients.sum(1), 0), "The loss stays as it is if all logits rise alike: entries must sum to 0."
    assert np.allclose(gradients, wanted), "Take the derivative of minus the logarithm of the token's probability."
