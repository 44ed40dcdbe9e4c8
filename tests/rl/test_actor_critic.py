"""Policy, reference and critic in one network: what is computed, what learns, and what is left untouched."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor
from transformers import AutoModelForCausalLM

from refine_af.config import LoraSettings
from refine_af.errors import UsageError
from refine_af.rl.actor_critic import ActorCritic
from refine_af.rl.responses import Trajectory

LORA = LoraSettings(rank=4, alpha=8, targets=("q_proj", "v_proj", "down_proj"))
TEMPERATURE = 0.8
MakeActor = Callable[..., ActorCritic]


@pytest.fixture
def network(tiny_model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model).eval().requires_grad_(False)


def actor_on(network: Any, *, seed: int = 0, lora: LoraSettings = LORA, **options: bool) -> ActorCritic:
    return ActorCritic(network, lora, temperature=TEMPERATURE, label="tiny", seed=seed, **options)


def disturb(actor: ActorCritic, seed: int = 1) -> ActorCritic:
    """Adapter and head as after some training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in [*actor.adapter_parameters(), *actor.value_head.parameters()]:
            parameter.normal_(0.0, 0.3, generator=generator)
    return actor


def trajectories(seed: int = 0, count: int = 9, vocabulary: int = 400) -> list[Trajectory]:
    """Mixed prefixes (also none) in mixed order, with prompts and responses of different lengths."""
    rng = random.Random(seed)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(5, vocabulary) for _ in range(rng.randint(low, high)))

    prefixes = [(), ids(4, 4), ids(7, 7)]
    return [Trajectory(rng.choice(prefixes), ids(1, 6), ids(1, 8)) for _ in range(count)]


def naive(
    network: Any, head: Any, items: Sequence[Trajectory], temperature: float = TEMPERATURE
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities, entropies and values by one full forward pass for each trajectory, without any sharing."""
    log_probs, entropies, values = [], [], []
    for one in items:
        ids = torch.tensor([one.prefix_ids + one.prompt_ids + one.response_ids])
        output = network(input_ids=ids, output_hidden_states=True)
        first = len(one.prefix_ids) + len(one.prompt_ids) - 1
        rows = torch.log_softmax(output.logits[0, first:-1] / temperature, -1)  # (T, V)
        log_probs += [row[token] for row, token in zip(rows, one.response_ids, strict=True)]
        entropies += [-(row.exp() * row).sum() for row in rows]
        values += list(head(output.hidden_states[-1][0, first:-1].to(head.weight.dtype)).squeeze(-1))
    return torch.stack(log_probs), torch.stack(entropies), torch.stack(values)


@pytest.mark.parametrize("seed", range(4))
def test_log_probabilities_entropies_and_values_are_those_of_a_plain_forward_pass(network: Any, seed: int) -> None:
    items, actor = trajectories(seed), disturb(actor_on(network))
    with torch.no_grad():
        made = actor.evaluate(items, watch=True)
        log_probs, entropies, values = naive(actor.policy, actor.value_head, items)
        plain, _, _ = naive(actor.policy, actor.value_head, items, temperature=1.0)
    assert made.log_probs.shape == made.values.shape == (sum(len(t.response_ids) for t in items),)
    torch.testing.assert_close(made.log_probs, log_probs, atol=1e-4, rtol=0)
    torch.testing.assert_close(made.entropy, entropies, atol=1e-4, rtol=0)
    torch.testing.assert_close(made.plain_log_probs, plain, atol=1e-4, rtol=0)
    torch.testing.assert_close(made.values, values, atol=1e-4, rtol=0)


def test_the_result_follows_the_order_of_the_trajectories(network: Any) -> None:
    items, actor = trajectories(3), disturb(actor_on(network))
    with torch.no_grad():
        forwards, backwards = actor.evaluate(items), actor.evaluate(items[::-1])
    sizes = [len(t.response_ids) for t in items]
    turned = torch.cat(forwards.log_probs.split(sizes)[::-1])
    torch.testing.assert_close(backwards.log_probs, turned, atol=1e-5, rtol=0)


def test_what_is_only_looked_at_is_left_out_unless_asked_for(network: Any) -> None:
    made = actor_on(network).evaluate(trajectories())
    assert made.entropy.numel() == made.plain_log_probs.numel() == 0


def test_slices_of_the_logits_change_neither_figures_nor_gradients(
    network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, actor = trajectories(), disturb(actor_on(network))
    results = []
    for at_once in (1, 2**10, 2**23):
        monkeypatch.setattr("refine_af.rl.log_probs._LOGITS_AT_ONCE", at_once)
        made = actor.evaluate(items, watch=True)
        weights = torch.arange(1.0, len(made.log_probs) + 1)
        gradients = torch.autograd.grad((weights * made.log_probs).sum(), actor.adapter_parameters())
        results.append([made.log_probs.detach(), made.entropy, made.plain_log_probs, *gradients])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-4)


def test_padding_and_company_change_nothing(network: Any) -> None:
    items, actor = trajectories(5), disturb(actor_on(network))
    with torch.no_grad():
        together = actor.evaluate(items)
        alone = [actor.evaluate([one]) for one in items]
    torch.testing.assert_close(together.log_probs, torch.cat([a.log_probs for a in alone]), atol=1e-5, rtol=0)
    torch.testing.assert_close(together.values, torch.cat([a.values for a in alone]), atol=1e-5, rtol=0)


def test_a_fresh_adapter_changes_nothing_and_a_fresh_critic_says_zero(network: Any) -> None:
    items = trajectories()
    with torch.no_grad():
        expected, _, _ = naive(network, torch.nn.Linear(32, 1), items)
        actor = actor_on(network)
        made = actor.evaluate(items)
        with actor.reference():
            reference = actor.evaluate(items)
    torch.testing.assert_close(made.log_probs, expected, atol=1e-4, rtol=0)
    assert torch.equal(made.log_probs, reference.log_probs)
    assert not made.values.any()


def test_the_reference_is_the_untouched_network_whatever_the_adapter_is(network: Any) -> None:
    items, actor = trajectories(), actor_on(network)
    with torch.no_grad():
        untouched = actor.evaluate(items).log_probs
        disturb(actor)
        with actor.reference():
            reference = actor.evaluate(items).log_probs
        assert torch.equal(reference, untouched)
        assert not torch.allclose(actor.evaluate(items).log_probs, untouched, atol=1e-2), "and the adapter is on again"


def test_release_restores_the_network_bit_for_bit(network: Any) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    items, actor = trajectories(), disturb(actor_on(network))
    actor.evaluate(items).log_probs.sum().backward()
    actor.release()
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not any(isinstance(module, BaseTunerLayer) for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_second_adapter_after_release_is_as_the_first_and_brings_no_warning(network: Any) -> None:
    items, first = trajectories(), actor_on(network, seed=4)
    expected = [p.detach().clone() for p in first.adapter_parameters()]
    first.release()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        second = actor_on(network, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(expected, second.adapter_parameters(), strict=True))
    with torch.no_grad(), second.reference():
        second.evaluate(items)


def test_the_seed_decides_the_adapters_first_weights(tiny_model: Path) -> None:
    def first_weights(seed: int) -> Tensor:
        torch.rand(seed + 1)
        actor = actor_on(AutoModelForCausalLM.from_pretrained(tiny_model), seed=seed)
        return torch.cat([p.detach().flatten() for p in actor.adapter_parameters()])

    assert torch.equal(first_weights(0), first_weights(0))
    assert not torch.equal(first_weights(0), first_weights(1))


def test_gradients_reach_the_adapter_and_never_the_base(network: Any) -> None:
    actor = disturb(actor_on(network))
    adapter = actor.adapter_parameters()
    assert adapter
    actor.evaluate(trajectories()).log_probs.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in adapter)
    own = {id(p) for p in adapter}
    base = [p for p in actor.policy.parameters() if id(p) not in own]
    assert base
    assert all(p.grad is None and not p.requires_grad for p in base)
    assert all(p.grad is None for p in actor.value_head.parameters())


def test_the_critics_loss_sends_no_gradient_to_the_adapter(network: Any) -> None:
    actor = disturb(actor_on(network))
    (actor.evaluate(trajectories()).values ** 2).sum().backward()
    assert all(p.grad is None for p in actor.adapter_parameters())
    assert all(p.grad is not None and p.grad.any() for p in actor.value_head.parameters())


def in_double_precision(network: Any) -> Any:
    """Llama's own norm computes in float32 whatever it is given; torch's does not."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__ == "LlamaRMSNorm":
                norm = torch.nn.RMSNorm(child.weight.shape, child.variance_epsilon)
                norm.weight.data.copy_(child.weight)
                setattr(parent, name, norm)
    return network.double().requires_grad_(False)


def disturb_critic(actor: ActorCritic) -> None:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in actor.critic_adapter().values():
            parameter.normal_(0.0, 0.3, generator=generator)


def test_a_critics_own_adapter_moves_values_alone(network: Any) -> None:
    items, actor = trajectories(), disturb(actor_on(network, critic="adapter"))
    before = actor.evaluate(items, watch=True)
    disturb_critic(actor)
    after = actor.evaluate(items, watch=True)
    for name in ("log_probs", "entropy", "plain_log_probs"):
        assert torch.equal(getattr(before, name), getattr(after, name)), name
    assert not torch.allclose(before.values, after.values, atol=1e-2)
    with torch.no_grad(), actor.reference():
        reference = actor.evaluate(items).log_probs
    actor.release()
    with torch.no_grad():
        plain = naive(network, actor.value_head, items)[0]
    torch.testing.assert_close(reference, plain, rtol=1e-4, atol=1e-4)


def test_policy_and_critic_with_an_adapter_each_learn_from_their_own_loss(network: Any) -> None:
    """Also where the reference is asked between a forward pass and its backward pass, as the first minibatch's is."""
    items, actor = trajectories(), disturb(actor_on(network, critic="adapter"))
    disturb_critic(actor)
    policy, critic = actor.adapter_parameters(), list(actor.critic_adapter().values())
    assert len(policy) == len(critic) > 0
    for of_policy in (True, False):
        for parameter in (*policy, *critic, *actor.value_head.parameters()):
            parameter.grad = None
        now = actor.evaluate(items)
        with torch.no_grad(), actor.reference():
            actor.evaluate(items)
        (now.log_probs if of_policy else now.values).sum().backward()
        learns, rests = (policy, critic) if of_policy else (critic, policy)
        assert all(p.grad is not None and bool(p.grad.any()) for p in learns)
        assert all(p.grad is None or not p.grad.any() for p in rests)


def test_a_critics_own_adapter_is_not_among_the_policys_files(network: Any, tmp_path: Path) -> None:
    actor_on(network, critic="adapter").save_adapter(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir() if file.suffix != ".md") == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


@pytest.mark.parametrize("layer", ["layers.0.self_attn.v_proj", "layers.0.mlp.down_proj", "layers.1.self_attn.q_proj"])
def test_gradients_are_the_slopes_of_the_log_probabilities_also_through_the_shared_prefix(
    network: Any, layer: str
) -> None:
    """Against finite differences of the plain forward pass, in double precision."""
    items, actor = trajectories(2), disturb(actor_on(in_double_precision(network)))
    name, parameter = next((n, p) for n, p in actor.policy.named_parameters() if f"{layer}.lora_B" in n)
    assert parameter.dtype == torch.float64, name
    actor.evaluate(items).log_probs.sum().backward()
    assert parameter.grad is not None
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)

    @torch.no_grad()
    def at(step: float) -> float:
        parameter.add_(direction, alpha=step)
        total = float(naive(actor.policy, actor.value_head, items)[0].sum())
        parameter.add_(direction, alpha=-step)
        return total

    slope = (at(1e-5) - at(-1e-5)) / 2e-5
    assert float((parameter.grad * direction).sum()) == pytest.approx(slope, rel=1e-4, abs=1e-4)


def test_checkpointing_changes_no_figure_and_no_gradient_and_keeps_less(network: Any) -> None:
    items, found = trajectories(), []
    for checkpointing in (False, True):
        actor, kept = disturb(actor_on(network, checkpointing=checkpointing)), 0

        def note(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            now = actor.evaluate(items, watch=True)
            (now.log_probs.sum() + now.values.sum()).backward()
        gradients = [p.grad for p in actor.adapter_parameters()]
        with torch.no_grad(), actor.reference():
            before = actor.evaluate(items).log_probs
        found.append(([now.log_probs, now.values, now.entropy, now.plain_log_probs, before, *gradients], kept))
        actor.release()
    (plain, kept_plain), (again, kept_again) = found
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert kept_again < kept_plain / 2
    assert not any("forward" in vars(module) for module in network.modules())


def test_checkpointing_computes_a_critic_again_with_its_own_adapter(network: Any) -> None:
    items, found = trajectories(), []
    for checkpointing in (False, True):
        actor = disturb(actor_on(network, checkpointing=checkpointing, critic="adapter"))
        disturb_critic(actor)
        now = actor.evaluate(items)
        (now.log_probs.sum() + now.values.square().sum()).backward()
        found.append([p.grad for p in (*actor.adapter_parameters(), *actor.critic_adapter().values())])
        actor.release()
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_checkpointing_asks_for_layers_that_can(network: Any) -> None:
    without = torch.nn.Module()
    without.get_output_embeddings = lambda: None  # type: ignore[assignment]
    without.q_proj = torch.nn.Linear(2, 2)
    with pytest.raises(UsageError, match=r"policy\.gradient_checkpointing: no layer of odd can"):
        ActorCritic(without, LoraSettings(targets=("q_proj",)), temperature=1, label="odd", seed=0, checkpointing=True)  # type: ignore[arg-type]


def test_a_saved_adapter_is_the_same_after_loading(network: Any, tiny_model: Path, tmp_path: Path) -> None:
    items, actor = trajectories(), disturb(actor_on(network))
    actor.save_adapter(tmp_path)
    other = actor_on(AutoModelForCausalLM.from_pretrained(tiny_model), seed=9)
    other.load_adapter(tmp_path)
    pairs = zip(actor.adapter_parameters(), other.adapter_parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert all(p.requires_grad for p in other.adapter_parameters()), "so that training can go on"
    with torch.no_grad():
        assert torch.equal(actor.evaluate(items).log_probs, other.evaluate(items).log_probs)


def test_a_saved_adapter_names_its_model_and_holds_nothing_but_the_adapter(network: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    actor = actor_on(network)
    actor.save_adapter(tmp_path)
    assert '"base_model_name_or_path": "tiny"' in (tmp_path / "adapter_config.json").read_text()
    assert all("lora_" in name for name in load_file(tmp_path / "adapter_model.safetensors"))


@pytest.mark.parametrize("targets", [("query",), ("q_proj", "query")], ids=["none of them", "one of two"])
def test_an_unknown_layer_is_a_wrong_use_that_names_the_known_ones(network: Any, targets: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as error:
        actor_on(network, lora=LoraSettings(rank=4, alpha=8, targets=targets))
    message = str(error.value)
    assert "lora.targets" in message
    assert "query" in message
    assert "tiny" in message
    for name in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"):
        assert name in message
