"""What engines say of a text: its log-probabilities, token by token, and those of what they sample."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from engine_cases import FREE, PREFIX, PROMPTS, SCORED, written

from refine_af.engines.base import NO_STOP, Engine, Stop


def test_log_probs_are_those_of_the_network(engine: Engine, reference: tuple[Any, Any]) -> None:
    network, tokenizer = reference
    for (context, continuation), found in zip(SCORED, engine.log_probs(SCORED), strict=True):
        before = tokenizer.encode(context) or [tokenizer.eos_token_id]
        after = tokenizer.encode(continuation)
        with torch.no_grad():
            logits = network(input_ids=torch.tensor([before + after])).logits[0].double()
        rows = torch.log_softmax(logits, -1)[len(before) - 1 : -1]
        assert found == pytest.approx([float(row[token]) for row, token in zip(rows, after, strict=True)], abs=1e-3)


def test_log_probs_do_not_depend_on_the_company(engine: Engine) -> None:
    for pair, found in zip(SCORED, engine.log_probs(SCORED), strict=True):
        assert found == pytest.approx(engine.log_probs([pair])[0], abs=1e-4)


def test_token_scores_are_those_of_the_network(engine: Engine, reference: tuple[Any, Any]) -> None:
    network, tokenizer = reference
    for (context, continuation), found in zip(SCORED, engine.token_scores(SCORED), strict=True):
        before = tokenizer.encode(context, add_special_tokens=False) or [tokenizer.eos_token_id]
        tokens = tokenizer.encode(continuation, add_special_tokens=False)
        with torch.no_grad():
            logits = network(torch.tensor([before + tokens])).logits[0, len(before) - 1 :].double()
        expected = logits.log_softmax(-1)  # (n + 1, V)
        chosen = [float(expected[i, token]) for i, token in enumerate(tokens)]
        assert found.log_probs == pytest.approx(chosen, abs=1e-3)
        assert found.ends == pytest.approx(expected[:, tokenizer.eos_token_id].numpy(), abs=1e-3)


def test_token_scores_keep_no_logits_in_memory(engine: Engine) -> None:
    """A view of a column would keep all columns: 4 MB for an answer of 20 tokens in 49,152 pieces."""
    for found in engine.token_scores(SCORED):
        for one in (found.log_probs, found.ends):
            assert one.flags.c_contiguous


def test_token_scores_hold_the_log_probs(engine: Engine) -> None:
    for log_probs, found in zip(engine.log_probs(SCORED), engine.token_scores(SCORED), strict=True):
        assert found.log_probs == pytest.approx(log_probs, abs=1e-3)
        assert len(found.ends) == len(found.log_probs) + 1
    assert engine.token_scores([]) == []


@pytest.mark.parametrize("temperature", [0.6, 1.0])
@pytest.mark.parametrize("stop", [NO_STOP, Stop((".", "?"))])
def test_sampled_tokens_come_with_their_log_probabilities_at_temperature_1(
    engine: Engine, reference: tuple[Any, Any], temperature: float, stop: tuple[str, ...]
) -> None:
    network, tokenizer = reference
    sampling = FREE.model_copy(update={"temperature": temperature})
    made = written(engine, PROMPTS, sampling, seed=3, stop=stop, log_probs=True)
    assert len({len(c.token_ids) for c in made}) > 1, "rows must end at different steps, or this proves little"
    for suffix, one in zip(PROMPTS.suffixes, made, strict=True):
        prompt = tokenizer.encode(PREFIX + suffix)
        with torch.no_grad():
            logits = network(torch.tensor([prompt + list(one.token_ids)])).logits[0, len(prompt) - 1 : -1]
        rows = logits.double().log_softmax(-1)
        assert one.log_probs == pytest.approx([float(r[t]) for r, t in zip(rows, one.token_ids, strict=True)], abs=1e-3)


def test_log_probabilities_are_left_out_unless_asked_for(engine: Engine) -> None:
    assert all(c.log_probs is None for c in written(engine, PROMPTS, FREE, seed=0))
