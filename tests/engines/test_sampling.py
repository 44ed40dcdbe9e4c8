"""Which tokens may be drawn, and how often."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refine_af.config import SamplingConfig
from refine_af.engines.sampling import next_tokens, penalised

DRAWS = 4000


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
    drawn = next_tokens(logits.expand(DRAWS, -1), sampling, generator)
    shares = torch.bincount(drawn, minlength=40) / DRAWS
    chances = expected(logits, sampling)
    assert not shares[chances == 0].any(), "nothing outside the nucleus"
    spread = (chances * (1 - chances) / DRAWS).sqrt()
    assert ((shares - chances).abs() <= 5 * spread + 4 / DRAWS).all()


def test_a_temperature_of_0_takes_the_likeliest() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, 3.0, 1.0]])
    assert next_tokens(logits, SamplingConfig(temperature=0), torch.Generator()).tolist() == [1, 0]


def test_rows_are_drawn_independently_and_a_seed_repeats_them() -> None:
    logits = torch.zeros(200, 50)
    sampling = SamplingConfig(temperature=1.0, top_p=1.0)
    one, other = (next_tokens(logits, sampling, torch.Generator().manual_seed(3)) for _ in range(2))
    assert one.tolist() == other.tolist()
    assert len(set(one.tolist())) > 40


@pytest.mark.parametrize(("logit", "after"), [(3.0, 1.5), (-3.0, -6.0)])
def test_a_penalty_makes_what_was_seen_less_likely(logit: float, after: float) -> None:
    found = penalised(torch.tensor([[logit, 1.0]]), torch.tensor([[True, False]]), 2.0)
    assert found.tolist() == [[after, 1.0]]
