"""The trainer steps as its formulas say, whatever the algorithm, and can be interrupted."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import CONFIG, LORA, VOCABULARY, actor_of, network, sampled, trainer

from refine_af.config import PolicyConfig
from refine_af.errors import NotFiniteError
from refine_af.rl.actor_critic import ActorCritic
from refine_af.rl.responses import Trajectory
from refine_af.rl.trainer import Trainer

TOKEN = 3


def share(one: Trajectory) -> float:
    return one.response_ids.count(TOKEN) / len(one.response_ids)


def written(seed: int = 0, count: int = 12) -> tuple[list[Trajectory], list[float]]:
    """Responses of different lengths, as if somebody else had written them, and their scores."""
    rng = random.Random(seed)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(VOCABULARY) for _ in range(rng.randint(low, high)))

    items = [Trajectory(rng.choice([(0, 5), (0, 6, 7)]), ids(1, 4), ids(1, 7)) for _ in range(count)]
    return items, [rng.uniform(-1, 2) for _ in items]


def weights(ppo: Trainer) -> list[torch.Tensor]:
    actor = ppo.actor
    learning = [*actor.adapter_parameters(), *actor.critic_adapter().values(), *actor.value_head.parameters()]
    return [p.detach().clone() for p in learning]


def with_settings(**changes: Any) -> PolicyConfig:
    return CONFIG.model_copy(update=changes)


def test_tokens_that_the_engine_drew_too_often_count_less_and_rare_ones_more_up_to_the_cap() -> None:
    """Where all tokens are shifted alike, the gradient is that of the unweighted ones times the weight."""
    items, scores = written(count=6)
    with torch.no_grad():
        plain = trainer().actor.evaluate(items, watch=True).plain_log_probs
    sizes = [len(t.response_ids) for t in items]
    norms, shown = {}, {}
    for shift in (0.0, math.log(2), -math.log(1.5), -math.log(8)):
        told = [tuple((row + shift).tolist()) for row in plain.split(sizes)]
        drawn = [replace(t, engine_log_probs=one) for t, one in zip(items, told, strict=True)]
        ppo = trainer(with_settings(epochs=1, max_grad_norm=1e9))
        shown[shift] = ppo.iterate(1, drawn, scores)
        norms[shift] = shown[shift]["gradient_norm"]
    assert norms[math.log(2)] == pytest.approx(0.5 * norms[0.0], rel=1e-3)
    assert norms[-math.log(1.5)] == pytest.approx(1.5 * norms[0.0], rel=1e-3)
    assert norms[-math.log(8)] == pytest.approx(2.0 * norms[0.0], rel=1e-3), "the cap"
    assert shown[0.0]["mismatch_kl"] == pytest.approx(0.0, abs=1e-6)
    assert shown[math.log(2)]["mismatch_kl"] == pytest.approx(0.5 - 1 + math.log(2), abs=1e-4)
    assert shown[math.log(2)]["importance_weight"] == pytest.approx(0.5, abs=1e-4)


def test_without_a_cap_or_the_engines_word_every_token_counts_one() -> None:
    items, scores = written(count=6)
    drawn = [replace(t, engine_log_probs=(-9.0,) * len(t.response_ids)) for t in items]
    plain = trainer().iterate(1, items, scores)
    unweighted = trainer(with_settings(importance_cap=None)).iterate(1, drawn, scores)
    assert {k: unweighted[k] for k in plain} == plain
    assert set(unweighted) - set(plain) == {"mismatch_kl"}


def test_a_base_in_bfloat16_trains_an_adapter_and_a_critic_in_float32() -> None:
    """The figures are those of a float32 base, up to what rounding the base does to them."""
    items, scores = written()
    exact = trainer().iterate(1, items, scores)
    actor = ActorCritic(network().to(torch.bfloat16), LORA, temperature=1.0, label="toy", seed=0)
    ppo = Trainer(actor, CONFIG, 0)
    rounded = ppo.iterate(1, items, scores)
    assert {p.dtype for p in (*actor.adapter_parameters(), *actor.value_head.parameters())} == {torch.float32}
    for name in ("entropy", "policy_loss", "value_loss", "gradient_norm"):
        assert rounded[name] == pytest.approx(exact[name], rel=0.05, abs=0.02), name


def test_minibatches_hold_every_response_once_and_as_few_prefixes_as_can_be() -> None:
    ppo = trainer(with_settings(minibatch=4))
    items = [Trajectory((k % 3,), (1,), (2,)) for k in range(24)]
    minibatches = ppo._minibatches(items, 1, 0)
    assert sorted(i for m in minibatches for i in m) == list(range(24))
    assert all(len({items[i].prefix_ids for i in m}) == 1 for m in minibatches)
    assert ppo._minibatches(items, 1, 0) == minibatches
    assert len({str(ppo._minibatches(items, 1, epoch)) for epoch in range(5)}) == 5


def test_the_first_pass_that_is_kept_for_the_first_step_changes_nothing() -> None:
    """A micro-batch smaller than the minibatch has it computed again."""
    items, scores = written()
    made = []
    for micro_batch in (4, 3):
        ppo = trainer(with_settings(minibatch=4, micro_batch=micro_batch, epochs=1))
        made.append(ppo.iterate(1, items, scores))
    assert made[0] == pytest.approx(made[1], abs=1e-4)


def test_the_kl_penalty_keeps_the_policy_near_where_it_began() -> None:
    ends = {}
    for coefficient in (0.0, 1.0):
        ppo, generator = trainer(with_settings(kl_coefficient=coefficient, kl_target=0.1)), torch.Generator()
        generator.manual_seed(0)
        for iteration in range(1, 31):
            items = sampled(ppo, generator)
            figures = ppo.iterate(iteration, items, [share(t) for t in items])
        ends[coefficient] = figures["kl"]
    assert ends[1.0] < 0.5 < ends[0.0]


def test_the_critic_learns_to_foretell_the_returns() -> None:
    ppo = trainer(with_settings(learning_rate=1e-9, value_learning_rate=3e-2))
    items, scores = written()
    shares = [ppo.iterate(i, items, scores)["explained_variance"] for i in range(1, 31)]
    assert shares[0] == pytest.approx(0, abs=1e-6)
    assert shares[-1] > 0.5


def test_before_the_first_step_policy_and_reference_are_the_same() -> None:
    items, scores = written()
    figures = trainer().iterate(1, items, scores)
    assert figures["kl"] == 0.0
    assert 0 < figures["entropy"] <= math.log(VOCABULARY)
    assert trainer().iterate(1, items, scores) == figures


def test_kl_grows_with_training_and_its_weight_follows_it() -> None:
    ppo = trainer(with_settings(kl_coefficient=0.1, kl_target=0.001))
    items, scores = written()
    first, second, third = (ppo.iterate(i, items, scores) for i in (1, 2, 3))
    assert second["kl"] != 0
    assert first["kl_coef"] == 0.1
    assert second["kl_coef"] == pytest.approx(0.098), "under the target: at most 2 % less"
    assert third["kl_coef"] == pytest.approx(0.098 * (1.02 if second["kl"] > 0.001 else 0.98))


def test_the_critic_starts_at_the_mean_score_whatever_the_rewards_scale() -> None:
    """A value is in spreads of the first scores, so that rewards a thousand times as large are learnt as fast."""
    items, scores = written()
    shares = []
    for scale in (1.0, 1000.0):
        ppo = trainer(with_settings(learning_rate=1e-9, value_learning_rate=3e-2))
        rewards = [scale * (s + 5) for s in scores]
        shares.append([ppo.iterate(i, items, rewards)["explained_variance"] for i in range(1, 11)])
        level = sum(rewards) / len(rewards)
        assert ppo._units[0] == pytest.approx(level)
    assert shares[0] == pytest.approx(shares[1], abs=1e-3)
    assert shares[0][-1] > shares[0][0]


@pytest.mark.parametrize(
    "settings", [{"critic": "head"}, {"critic": "adapter"}, {"algorithm": "grpo"}, {"algorithm": "rloo"}]
)
def test_training_that_was_saved_and_loaded_ends_with_the_same_bits(settings: dict[str, str], tmp_path: Path) -> None:
    config = with_settings(kl_coefficient=0.1, **settings)
    whole, half = trainer(config), trainer(config)
    batches = [written(seed) for seed in range(4)]
    for iteration, (items, scores) in enumerate(batches, start=1):
        whole.iterate(iteration, items, scores)
    for iteration in (1, 2):
        half.iterate(iteration, *batches[iteration - 1])
    half.save(tmp_path)
    resumed = Trainer(actor_of(config, 99), config, 0)
    resumed.load(tmp_path)
    for iteration in (3, 4):
        resumed.iterate(iteration, *batches[iteration - 1])
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))
    assert resumed.kl_coefficient == whole.kl_coefficient
    assert not all(torch.equal(a, b) for a, b in zip(weights(whole), weights(half), strict=True))


@pytest.mark.parametrize("micro_batch", [1, 5])
def test_the_micro_batch_changes_memory_and_not_the_result(micro_batch: int) -> None:
    """Clipped gradients are scaled alike, so AdamW's first steps differ by rounding alone."""
    items, scores = written()
    # AdamW divides by the gradient's size, so plain differences would magnify rounding: gradients are compared.
    gradients = []
    for size in (micro_batch, 16):
        ppo = trainer(with_settings(micro_batch=size, minibatch=12, epochs=1))
        ppo.iterate(1, items, scores)
        gradients.append([p.grad for p in [*ppo.actor.adapter_parameters(), *ppo.actor.value_head.parameters()]])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_equal_scores_teach_nothing_that_is_not_finite() -> None:
    ppo = trainer(with_settings(kl_coefficient=0.1))
    items, scores = written()
    for iteration in (1, 2):
        figures = ppo.iterate(iteration, items, [1.0] * len(scores))
        assert all(math.isfinite(v) for v in figures.values())
    assert all(p.isfinite().all() for p in weights(ppo))


def test_gradients_are_no_longer_than_the_limit() -> None:
    ppo = trainer(with_settings(max_grad_norm=0.01, minibatch=12, epochs=1))
    items, scores = written()
    figures = ppo.iterate(1, items, scores)
    clipped = torch.cat([p.grad.flatten() for p in ppo.actor.adapter_parameters() if p.grad is not None])
    assert figures["gradient_norm"] > 0.01, "the figure shows the length before"
    assert float(clipped.norm()) == pytest.approx(0.01, rel=1e-3)


def test_training_leaves_the_base_network_as_it_was() -> None:
    ppo = trainer()
    ppo.iterate(1, *written())
    base = ppo.actor.policy.get_base_model()
    ppo.actor.release()
    untouched = network().state_dict()
    assert all(torch.equal(value, untouched[name]) for name, value in base.state_dict().items())


@pytest.mark.parametrize("algorithm", ["ppo", "grpo", "rloo"])
def test_a_step_that_is_not_finite_is_not_made(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    items, scores = written(count=8)
    ppo = trainer(with_settings(algorithm=algorithm, minibatch=8))
    before = weights(ppo)
    monkeypatch.setattr("refine_af.rl.algorithms.policy_loss", lambda new, *_: (new.sum() * math.nan, torch.zeros(())))
    with pytest.raises(NotFiniteError) as caught:
        ppo.iterate(1, items, scores)
    assert sorted(caught.value.places) == list(range(8))
    assert all(a.equal(b) for a, b in zip(before, weights(ppo), strict=True))
