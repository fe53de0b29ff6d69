"""The probes as functions: neighbours against NumPy, gradients and shapes of the heads."""

import numpy as np
import pytest
import torch
from torch import nn

from videomae.evaluation.probes import AttentiveProbe, LinearProbe, knn_probs


@pytest.mark.parametrize("k", [1, 5, 1000])
def test_knn_is_the_brute_force_vote(k: int) -> None:
    rng = np.random.default_rng(0)
    features, queries = rng.normal(size=(40, 7)), rng.normal(size=(300, 7)) * 5
    labels = rng.integers(3, size=40)
    expected = np.zeros((300, 4))  # no neighbour is of class 3
    for row, query in enumerate(queries):
        norms = np.linalg.norm(features, axis=1) * np.linalg.norm(query)
        similarity = features @ query / norms
        for near in sorted(range(40), key=lambda i: -similarity[i])[:k]:
            expected[row, labels[near]] += np.exp(similarity[near] / 0.1)
    expected /= expected.sum(1, keepdims=True)
    sides = (torch.from_numpy(each).float() for each in (queries, features))
    probs = knn_probs(*sides, torch.from_numpy(labels), classes=4, k=k, temperature=0.1)
    np.testing.assert_allclose(probs.numpy(), expected, atol=1e-5)


def test_knn_of_nothing_is_nothing() -> None:
    probs = knn_probs(torch.zeros(0, 2), torch.ones(3, 2), torch.tensor([0, 1, 0]), classes=2, k=1)
    assert probs.shape == (0, 2)


def test_the_linear_probe_sees_standardised_features() -> None:
    """Neither the scale nor the place of a feature matters, nor one that is always the same."""
    torch.manual_seed(0)
    features = torch.randn(20, 3)
    features[:, 2] = 5.0
    scaled = features * torch.tensor([100.0, 0.1, 1.0]) + torch.tensor([3.0, -7.0, 0.0])
    ours, theirs = LinearProbe(features, 4), LinearProbe(scaled, 4)
    theirs.head = ours.head
    torch.testing.assert_close(ours(features), theirs(scaled), rtol=1e-3, atol=1e-3)
    assert ours(features).isfinite().all()


def test_the_attentive_probe_looks_at_every_token_in_any_order() -> None:
    torch.manual_seed(0)
    probe = AttentiveProbe(dim=8, heads=2, classes=5)
    nn.init.normal_(probe.query)
    tokens = torch.randn(3, 6, 8, requires_grad=True)
    logits = probe(tokens)
    assert logits.shape == (3, 5)
    torch.testing.assert_close(probe(tokens.flip(1)), logits)
    logits[0].square().sum().backward()
    assert tokens.grad is not None
    assert (tokens.grad[0].abs().sum(1) > 0).all()
    assert (tokens.grad[1:] == 0).all()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in probe.parameters())
