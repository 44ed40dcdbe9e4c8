"""The formulas of the trainer against the same formulas written out in plain Python, on ragged responses."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from refine_af.rl.estimators import (
    explained_variance,
    generalized_advantages,
    importance_weights,
    leave_one_out,
    low_variance_kl,
    masked_mean,
    masked_variance,
    next_kl_coefficient,
    policy_loss,
    standardised_in_groups,
    token_rewards,
    value_loss,
    whitened,
)

SEEDS = range(25)
Rows = list[list[float]]


@dataclass
class Ragged:
    """Random responses of different lengths, as lists and as padded tensors with rubbish in the padding."""

    lengths: list[int]
    rng: random.Random
    more: int = 0  # columns of padding behind the longest

    @property
    def mask(self) -> Tensor:
        width = max(self.lengths) + self.more
        return torch.tensor([[1.0] * n + [0.0] * (width - n) for n in self.lengths])

    def draw(self, low: float = -2.0, high: float = 2.0) -> Rows:
        return [[self.rng.uniform(low, high) for _ in range(n)] for n in self.lengths]

    def padded(self, rows: Rows, filler: float = 0.0) -> Tensor:
        width = max(self.lengths) + self.more
        return torch.tensor([row + [filler] * (width - len(row)) for row in rows])


def ragged(seed: int, more: int = 0) -> Ragged:
    rng = random.Random(seed)
    return Ragged([rng.randint(1, 9) for _ in range(rng.randint(2, 6))], rng, more)


def flat(rows: Rows) -> list[float]:
    return [value for row in rows for value in row]


def assert_rows(tensor: Tensor, rows: Rows) -> None:
    """The tensor holds the rows, and zeros behind them."""
    for line, row in zip(tensor.tolist(), rows, strict=True):
        assert line[: len(row)] == pytest.approx(row, abs=1e-5)
        assert line[len(row) :] == [0.0] * (len(line) - len(row))


@pytest.mark.parametrize("seed", SEEDS)
def test_rewards_are_the_kl_penalty_at_each_token_and_the_score_at_the_last(seed: int) -> None:
    case = ragged(seed, more=seed % 3)
    log_probs, reference = case.draw(-5, 0), case.draw(-5, 0)
    scores = [case.rng.uniform(-3, 3) for _ in case.lengths]
    rewards = token_rewards(
        torch.tensor(scores), case.padded(log_probs, 9.0), case.padded(reference, -7.0), case.mask, 0.3
    )
    expected = [[-0.3 * (a - b) for a, b in zip(x, y, strict=True)] for x, y in zip(log_probs, reference, strict=True)]
    for row, score in zip(expected, scores, strict=True):
        row[-1] += score
    assert_rows(rewards, expected)


def test_rewards_leave_their_inputs_alone() -> None:
    log_probs, reference, mask = torch.rand(2, 3), torch.rand(2, 3), torch.ones(2, 3)
    before = [t.clone() for t in (log_probs, reference, mask)]
    token_rewards(torch.ones(2), log_probs, reference, mask, 0.1)
    assert all(torch.equal(a, b) for a, b in zip(before, (log_probs, reference, mask), strict=True))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (0.97, 0.0)])
def test_advantages_are_the_discounted_sum_of_later_errors(seed: int, gamma: float, lam: float) -> None:
    case = ragged(seed)
    rewards, values = case.draw(), case.draw()
    expected, returns = [], []
    for r, v in zip(rewards, values, strict=True):
        ends = [*v, 0.0]  # after the last token nothing follows
        errors = [r[t] + gamma * ends[t + 1] - v[t] for t in range(len(r))]
        row = [sum((gamma * lam) ** (k - t) * errors[k] for k in range(t, len(r))) for t in range(len(r))]
        expected.append(row)
        returns.append([a + b for a, b in zip(row, v, strict=True)])
    made = generalized_advantages(case.padded(rewards), case.padded(values), case.mask, gamma, lam)
    assert_rows(made[0], expected)
    assert_rows(made[1], returns)


@pytest.mark.parametrize("seed", SEEDS)
def test_with_lambda_1_the_returns_are_the_discounted_rewards_whatever_the_values(seed: int) -> None:
    case = ragged(seed)
    rewards = case.draw()
    _, returns = generalized_advantages(case.padded(rewards), case.padded(case.draw()), case.mask, 0.9, 1.0)
    assert_rows(
        returns, [[sum(0.9 ** (k - t) * r[k] for k in range(t, len(r))) for t in range(len(r))] for r in rewards]
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_padding_and_what_stands_in_it_change_nothing(seed: int) -> None:
    narrow, wide = ragged(seed), ragged(seed, more=4)
    columns = [narrow.draw() for _ in range(4)]
    scores = torch.rand(len(narrow.lengths))
    results = []
    for case, filler in ((narrow, 0.0), (wide, 50.0)):
        log_probs, reference, values, returns = (case.padded(c, filler) for c in columns)
        rewards = token_rewards(scores, log_probs, reference, case.mask, 0.2)
        advantages, made = generalized_advantages(rewards, values, case.mask, 0.99, 0.9)
        white = whitened(advantages, case.mask)
        width = max(case.lengths)
        assert not rewards[:, width:].any()
        assert not advantages[:, width:].any()
        assert not white[:, width:].any()
        numbers = [masked_mean(values, case.mask), masked_variance(values, case.mask)]
        numbers.append(torch.tensor(explained_variance(values, returns, case.mask)))
        results.append([rewards[:, :width], advantages[:, :width], made[:, :width], white[:, :width], *numbers])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_mean_and_variance_are_those_of_the_real_entries(seed: int) -> None:
    case = ragged(seed)
    rows = case.draw()
    every = flat(rows)
    mean = sum(every) / len(every)
    assert float(masked_mean(case.padded(rows, 30.0), case.mask)) == pytest.approx(mean, abs=1e-5)
    variance = sum((x - mean) ** 2 for x in every) / len(every)
    assert float(masked_variance(case.padded(rows, 30.0), case.mask)) == pytest.approx(variance, abs=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_whitened_entries_have_mean_0_and_variance_1_and_keep_their_order(seed: int) -> None:
    case = ragged(seed)
    rows = case.draw()
    white = whitened(case.padded(rows, 30.0), case.mask)
    real = white[case.mask.bool()].tolist()
    assert sum(real) / len(real) == pytest.approx(0, abs=1e-5)
    assert sum(x * x for x in real) / len(real) == pytest.approx(1, abs=1e-3)
    assert sorted(range(len(real)), key=real.__getitem__) == sorted(range(len(real)), key=flat(rows).__getitem__)
    assert not white[~case.mask.bool()].any()


def test_whitening_equal_values_gives_zeros() -> None:
    assert whitened(torch.full((2, 3), 4.0), torch.ones(2, 3)).abs().max() < 1e-3


@pytest.mark.parametrize("seed", SEEDS)
def test_the_policy_loss_is_the_clipped_surrogate(seed: int) -> None:
    rng = random.Random(seed)
    new, old, advantages = ([rng.uniform(-1, 1) for _ in range(30)] for _ in range(3))
    weights = [rng.uniform(0, 2) for _ in range(30)]
    expected, clipped = 0.0, 0
    for n, o, a, w in zip(new, old, advantages, weights, strict=True):
        ratio = math.exp(n - o)
        bounded = min(max(ratio, 0.8), 1.2)
        expected -= w * min(ratio * a, bounded * a)
        clipped += bounded * a < ratio * a
    loss, count = policy_loss(
        torch.tensor(new), torch.tensor(old), torch.tensor(advantages), 0.2, torch.tensor(weights)
    )
    assert float(loss) == pytest.approx(expected, abs=1e-4)
    assert int(count) == clipped


@pytest.mark.parametrize(
    ("change", "advantage", "moves"),
    [(0.0, 1.0, True), (0.5, 1.0, False), (-0.5, -1.0, False), (0.5, -1.0, True), (-0.5, 1.0, True)],
)
def test_the_surrogate_stops_pulling_once_a_good_change_left_the_clip(
    change: float, advantage: float, moves: bool
) -> None:
    new = torch.tensor([change], requires_grad=True)
    loss, _ = policy_loss(new, torch.zeros(1), torch.tensor([advantage]), 0.2, torch.ones(1))
    loss.backward()
    assert new.grad is not None
    slope = float(new.grad)
    assert (slope != 0) == moves
    assert slope * advantage <= 0, "descending raises what was good and lowers what was bad"


@pytest.mark.parametrize("seed", SEEDS)
def test_the_value_loss_is_half_the_squared_error(seed: int) -> None:
    case = ragged(seed)
    new, returns = flat(case.draw()), flat(case.draw())
    expected = sum(0.5 * (v - r) ** 2 for v, r in zip(new, returns, strict=True))
    assert float(value_loss(*map(torch.tensor, (new, returns)))) == pytest.approx(expected, abs=1e-4)


@given(st.lists(st.lists(st.floats(-9, 9, width=32), min_size=2, max_size=5), min_size=1, max_size=5))
def test_a_rollout_is_compared_with_the_others_of_its_group(groups: list[list[float]]) -> None:
    scores, sizes = torch.tensor(flat(groups)), [len(one) for one in groups]
    one_out, standard = (made(scores, sizes).tolist() for made in (leave_one_out, standardised_in_groups))
    for group in groups:
        for place, value in enumerate(group):
            others = [v for i, v in enumerate(group) if i != place]
            assert one_out.pop(0) == pytest.approx(value - statistics.fmean(others), abs=1e-4)
            expected = (value - statistics.fmean(group)) / (statistics.stdev(group) + 1e-4)
            assert standard.pop(0) == pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize("seed", SEEDS)
def test_explained_variance_is_one_less_the_share_that_is_left(seed: int) -> None:
    case = ragged(seed)
    values, returns = case.draw(), case.draw()
    left = [r - v for r, v in zip(flat(returns), flat(values), strict=True)]

    def variance(xs: list[float]) -> float:
        mean = sum(xs) / len(xs)
        return sum((x - mean) ** 2 for x in xs) / len(xs)

    expected = 1 - variance(left) / variance(flat(returns))
    made = explained_variance(case.padded(values, 9.0), case.padded(returns, -9.0), case.mask)
    assert made == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_explained_variance_is_1_for_exact_values_and_0_for_a_constant_or_without_anything_to_explain() -> None:
    returns, mask = torch.tensor([[1.0, 2.0, 4.0]]), torch.ones(1, 3)
    assert explained_variance(returns.clone(), returns, mask) == pytest.approx(1)
    assert explained_variance(torch.full((1, 3), 0.7), returns, mask) == pytest.approx(0, abs=1e-6)
    assert explained_variance(returns, torch.ones(1, 3), mask) == 0.0


@pytest.mark.parametrize("seed", SEEDS)
def test_importance_weights_are_ratios_of_probabilities_up_to_the_cap(seed: int) -> None:
    rng = random.Random(seed)
    trainer, engine = ([rng.uniform(0.01, 1) for _ in range(20)] for _ in range(2))
    log_ratio = torch.tensor([math.log(p) - math.log(q) for p, q in zip(trainer, engine, strict=True)])
    expected = [min(p / q, 2.0) for p, q in zip(trainer, engine, strict=True)]
    assert importance_weights(log_ratio, 2.0).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_both_estimates_of_the_kl_have_its_mean_and_k3_is_never_negative_and_spreads_less(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    p_logits = torch.randn(6, generator=generator)
    q_logits = p_logits + 0.3 * torch.randn(6, generator=generator)
    p, q = torch.softmax(p_logits, 0), torch.softmax(q_logits, 0)
    exact = float((p * (p / q).log()).sum())
    k1, k3 = (p / q).log(), low_variance_kl((q / p).log())
    for estimate in (k1, k3):
        assert float((p * estimate).sum()) == pytest.approx(exact, abs=1e-6)
    assert float(k3.min()) >= 0
    assert float((p * (k3 - exact) ** 2).sum()) < float((p * (k1 - exact) ** 2).sum())


positive = st.floats(1e-3, 1e3)


@given(coefficient=positive, kl=st.floats(-1e4, 1e4), target=positive)
def test_the_kl_weight_moves_at_most_two_per_cent_towards_the_target(
    coefficient: float, kl: float, target: float
) -> None:
    following = next_kl_coefficient(coefficient, kl, target)
    assert 0.98 * coefficient * (1 - 1e-12) <= following <= 1.02 * coefficient * (1 + 1e-12)
    assert (following >= coefficient) if kl >= target else (following <= coefficient)


@given(coefficient=positive, target=positive)
def test_the_kl_weight_rests_at_the_target_and_answers_small_errors_in_proportion(
    coefficient: float, target: float
) -> None:
    assert next_kl_coefficient(coefficient, target, target) == pytest.approx(coefficient)
    assert next_kl_coefficient(coefficient, 1.1 * target, target) == pytest.approx(1.01 * coefficient)
    assert next_kl_coefficient(coefficient, 5 * target, target) == pytest.approx(1.02 * coefficient)
    assert next_kl_coefficient(coefficient, 0.0, target) == pytest.approx(0.98 * coefficient)


def test_a_kl_weight_of_zero_stays_zero() -> None:
    assert next_kl_coefficient(0.0, 100.0, 6.0) == 0.0
