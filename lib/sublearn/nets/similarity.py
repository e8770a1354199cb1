"""How alike two networks see the same images: all of their features, and what one head reads."""

import numpy as np
import torch
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from torch import Tensor
from torch.linalg import pinv
from torch.nn.functional import cosine_similarity

from sublearn.nets.measures import Numbers, linear_cka

RSA_IMAGES = 500  # images whose pairs are compared: 124,750 pairs


def seen_rows(head: Tensor, *, softmax: bool) -> Tensor:
    """A head's rows (model, logit, D) as its loss sees them, in double precision.

    A softmax sees differences of logits alone, so the mean row is taken off: m rows of rank m - 1.
    """
    rows = head.detach().double()
    return rows - rows.mean(1, keepdim=True) if softmax else rows


def row_space(rows: Tensor) -> Tensor:
    """Orthogonal projector (model, D, D) onto the span of rows (model, logit, D)."""
    inverse = pinv(rows)
    return inverse @ rows


def rsa(left: Tensor, right: Tensor) -> Tensor:
    """Representational similarity (model,) of features (model, image, width).

    Spearman's correlation of the two dissimilarities of all pairs of the first RSA_IMAGES images,
    each one minus Pearson's correlation of two images' features (Kriegeskorte et al., 2008).
    """
    similar = []
    for ours, theirs in zip(left[:, :RSA_IMAGES], right[:, :RSA_IMAGES]):
        our_distances = pdist(_array(ours), "correlation")
        their_distances = pdist(_array(theirs), "correlation")
        similar.append(spearmanr(our_distances, their_distances).statistic)
    return torch.tensor(similar, dtype=torch.float64)


def _array(features: Tensor) -> np.ndarray:
    return features.double().cpu().numpy()


def similarity(features: Tensor, teacher_features: Tensor, rows: Tensor) -> Numbers:
    """How alike a student's features and its teacher's (model, image, D) are, on the same images.

    rows: of the teacher's auxiliary head, from `seen_rows`. `CKA` (linear), `RSA`; `CKA seen` and
    `CKA unseen`, of the features' parts inside and outside the span of these rows;
    `feature cosine`, the mean over images, which, unlike the others, asks for the same units.
    """
    seen = row_space(rows).to(features)
    ours = features @ seen
    theirs = teacher_features @ seen
    same_units = cosine_similarity(features, teacher_features, dim=-1)
    return {
        "CKA": linear_cka(features, teacher_features),
        "RSA": rsa(features, teacher_features),
        "CKA seen": linear_cka(ours, theirs),
        "CKA unseen": linear_cka(features - ours, teacher_features - theirs),
        "feature cosine": same_units.mean(1),
    }
