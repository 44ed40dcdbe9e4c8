"""Which tokens may be drawn, and how often."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refine_af.config import SamplingConfig
from refine_af.engines.sampling import next_tokens, penalised, state, uniform
from refine_af.records import content_id

DRAWS = 4000


def rows(seed: int, count: int = DRAWS) -> torch.Tensor:
    """The states of rows at their first step."""
    return torch.tensor([state(int(content_id(str(seed), str(i)), 16), 0) for i in range(count)])


def expected(logits: torch.Tensor, sampling: SamplingConfig) -> torch.Tensor:
    """Chances (V,) by sorting, as the nucleus is defined (Holtzman et al. 2020, section 3.1)."""
    chances = (logits.double() / sampling.temperature).softmax(-1)
    order = chances.argsort(descending=True, stable=True)
    kept = order[: sampling.top_k or len(order)]
    chances = torch.zeros_like(chances).index_copy(0, kept, chances[kept])
    chances /= chances.sum()
    before = chances[kept].cumsum(0) - chances[kept]
    nucleus = kept[before < sampling.top_p]
    chances = torch.zeros_like(chances).index_copy(0, nucleus, chances[nucleus])
    return chances / chances.sum()


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 1000),
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
    top_k=st.sampled_from([0, 1, 7, 1000]),
)
def test_draws_follow_the_nucleus_of_the_likeliest(seed: int, temperature: float, top_p: float, top_k: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(40, generator=generator)
    sampling = SamplingConfig(temperature=temperature, top_p=top_p, top_k=top_k)
    drawn = next_tokens(logits.expand(DRAWS, -1), sampling, rows(seed))
    shares = torch.bincount(drawn, minlength=40) / DRAWS
    chances = expected(logits, sampling)
    assert not shares[chances == 0].any(), "nothing outside the nucleus"
    spread = (chances * (1 - chances) / DRAWS).sqrt()
    assert ((shares - chances).abs() <= 5 * spread + 4 / DRAWS).all()


def test_a_temperature_of_0_takes_the_likeliest() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, 3.0, 1.0]])
    assert next_tokens(logits, SamplingConfig(temperature=0), rows(0, 2)).tolist() == [1, 0]


def test_what_a_row_draws_depends_on_its_state_alone() -> None:
    logits = torch.randn(200, 50, generator=torch.Generator().manual_seed(1))
    sampling = SamplingConfig(temperature=1.5, top_p=0.6)
    states = rows(3, 200)
    whole = next_tokens(logits, sampling, states)
    assert len(set(whole.tolist())) > 30
    order = torch.randperm(200, generator=torch.Generator().manual_seed(2))[:70]
    assert next_tokens(logits[order], sampling, states[order]).tolist() == whole[order].tolist()


def test_numbers_are_those_of_splitmix64() -> None:
    """The first outputs for 1234567 of the authors' code, of which the highest 24 bits are taken."""
    outputs = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    found = [float(uniform(torch.tensor([1234567]), number)) for number in range(4)]
    assert found == [(output >> 40) / 2**24 for output in outputs]


def test_steps_of_a_row_share_no_numbers() -> None:
    states = torch.tensor([state(2**64 - 5, step) for step in range(2000)])
    numbers = torch.stack([uniform(states, number) for number in range(3)])
    assert 0 <= float(numbers.min()) <= float(numbers.max()) < 1
    assert abs(float(numbers.mean()) - 0.5) < 0.02
    assert abs(float(torch.corrcoef(torch.stack([numbers[0, 1:], numbers[0, :-1]]))[0, 1])) < 0.1
    assert len(numbers.unique()) > 5990


@pytest.mark.parametrize(("logit", "after"), [(3.0, 1.5), (-3.0, -6.0)])
def test_a_penalty_makes_what_was_seen_less_likely(logit: float, after: float) -> None:
    found = penalised(torch.tensor([[logit, 1.0]]), torch.tensor([[True, False]]), 2.0)
    assert found.tolist() == [[after, 1.0]]
