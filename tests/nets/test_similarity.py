"""Similarity of representations, each number against another way to compute it."""

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from sublearn.nets.similarity import row_space, rsa, seen_rows, similarity


def drawn(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def gram_cka(left, right):
    """Linear CKA from the two matrices of inner products between images."""
    center = np.eye(len(left)) - 1 / len(left)
    ours, theirs = (center @ x @ x.T @ center for x in (left, right))
    return np.sum(ours * theirs) / np.linalg.norm(ours) / np.linalg.norm(theirs)


def test_the_row_space_projects_orthogonally_onto_the_rows():
    rows = drawn(2, 3, 7)
    projector = row_space(rows)
    for each, mine in zip(projector, rows):
        basis, _ = np.linalg.qr(mine.numpy().T)
        assert np.allclose(each, basis @ basis.T)


def test_a_softmax_sees_one_direction_less():
    rows = drawn(1, 4, 9)
    assert torch.linalg.matrix_rank(seen_rows(rows, softmax=False)) == 4
    assert torch.linalg.matrix_rank(seen_rows(rows, softmax=True)) == 3
    features = drawn(1, 5, 9, seed=1)
    shift = torch.linalg.pinv(rows) @ torch.ones(1, 4, 1, dtype=rows.dtype)
    moved = features + 0.3 * shift.mT
    before, after = ((x @ rows.mT).log_softmax(-1) for x in (features, moved))
    assert torch.allclose(before, after)
    seen = seen_rows(rows, softmax=True)
    assert torch.allclose(features @ seen.mT, moved @ seen.mT)


def test_rsa_is_the_rank_correlation_of_the_dissimilarities():
    left, right = drawn(1, 9, 6), drawn(1, 9, 6, seed=1)
    pairs = np.triu_indices(9, 1)
    ranks = [rankdata(1 - np.corrcoef(x[0].numpy())[pairs]) for x in (left, right)]
    assert rsa(left, right).item() == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert rsa(left, 3 * left + 1).item() == pytest.approx(1)


def test_similarity_inside_and_outside_of_what_a_head_reads():
    ours, theirs, rows = drawn(1, 40, 6), drawn(1, 40, 6, seed=1), drawn(1, 2, 6, seed=2)
    numbers = similarity(ours, theirs, rows)
    basis, _ = np.linalg.qr(rows[0].numpy().T)
    inside = [x[0].numpy() @ basis @ basis.T for x in (ours, theirs)]
    outside = [x[0].numpy() - part for x, part in zip((ours, theirs), inside)]
    assert numbers["CKA"].item() == pytest.approx(gram_cka(ours[0].numpy(), theirs[0].numpy()))
    assert numbers["CKA seen"].item() == pytest.approx(gram_cka(*inside))
    assert numbers["CKA unseen"].item() == pytest.approx(gram_cka(*outside))
    cosines = [
        a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        for a, b in zip(ours[0].numpy(), theirs[0].numpy())
    ]
    assert numbers["feature cosine"].item() == pytest.approx(np.mean(cosines))


def test_other_units_are_alike_for_cka_but_not_for_the_cosine():
    features, rows = drawn(1, 200, 8), drawn(1, 3, 8, seed=2)
    numbers = similarity(
        features[..., torch.randperm(8, generator=torch.manual_seed(1))], features, rows
    )
    assert numbers["CKA"].item() == pytest.approx(1)
    assert abs(numbers["feature cosine"].item()) < 0.5
