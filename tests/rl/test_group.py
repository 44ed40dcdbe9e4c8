"""GRPO and RLOO through TRL: they learn a reward that can be read off the tokens, can be interrupted, and give the
network back as it was."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from refine_af.config import LoraSettings, PolicyConfig
from refine_af.errors import UsageError
from refine_af.models import LocatedModel, load_tokenizer
from refine_af.rl import group
from refine_af.rl.group import Learned, train_in_groups
from refine_af.rl.responses import Trajectory

VOCABULARY, LENGTH, TOKEN, END = 12, 8, 3, 1
LORA = LoraSettings(rank=8, alpha=16, targets=("q_proj", "v_proj", "o_proj", "up_proj", "down_proj"))
ALGORITHMS = ("grpo", "rloo")


def settings(algorithm: str, **changes: Any) -> PolicyConfig:
    values: dict[str, Any] = {
        "algorithm": algorithm, "iterations": 4, "rollouts": 32, "group_size": 8, "epochs": 2, "minibatch": 16,
        "micro_batch": 8, "learning_rate": 1e-2, "kl_coefficient": 0.01, "lora": LORA,
    }  # fmt: skip
    return PolicyConfig(**(values | changes))


def toy_network() -> Any:
    torch.manual_seed(11)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=64, initializer_range=0.2, bos_token_id=0, eos_token_id=1, tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval().requires_grad_(False)


class Bench:
    """One training on a toy network: what was sampled, and what each iteration left."""

    copies = 1  # of each response, in an iteration

    def __init__(self, folder: Path, tokenizer: Any, config: PolicyConfig, seed: int = 0) -> None:
        self.folder, self.tokenizer, self.config, self.seed = folder, tokenizer, config, seed
        self.network = toy_network()
        self.figures: list[dict[str, float]] = []
        self.means: list[float] = []

    def place(self, iteration: int) -> Path:
        return self.folder / f"iteration-{iteration}"

    def train(self, *, done: int = 0, stop_in: int = 0) -> None:
        def sample(iteration: int) -> list[tuple[Trajectory, float]]:
            if iteration == stop_in:
                raise InterruptedError
            made = list(self.sampled(iteration)) * self.copies
            self.means.append(sum(score for _, score in made) / len(made))
            return made

        def learned(iteration: int, left: Learned) -> None:
            self.place(iteration).mkdir(parents=True)
            left.save(self.place(iteration))
            self.figures.append(left.figures)

        train_in_groups(
            self.network, self.tokenizer, self.config, sample, learned,
            responses=self.copies * self.config.rollouts, end=END, temperature=1.0, label="toy", seed=self.seed,
            work=self.folder / "work", resume=self.place(done) if done else None,
        )  # fmt: skip

    @torch.no_grad()
    def sampled(self, iteration: int) -> list[tuple[Trajectory, float]]:
        """The policy's responses to prompts of one random token behind a shared one, a group to each."""
        generator = torch.Generator().manual_seed(1000 * self.seed + iteration)
        groups = self.config.rollouts // self.config.group_size
        own = torch.randint(2, 9, (groups, 1), generator=generator).repeat_interleave(self.config.group_size, 0)
        ids = torch.cat([torch.zeros_like(own), own], 1)
        for _ in range(LENGTH):
            probs = torch.softmax(self.network(input_ids=ids).logits[:, -1], -1)
            ids = torch.cat([ids, torch.multinomial(probs, 1, generator=generator)], 1)
        made = [Trajectory((0,), (row[1],), tuple(row[2:])) for row in ids.tolist()]
        return [(one, one.response_ids.count(TOKEN) / LENGTH) for one in made]

    def weights(self, iteration: int) -> dict[str, torch.Tensor]:
        from safetensors.torch import load_file

        return load_file(self.place(iteration) / "adapter_model.safetensors")


@pytest.fixture(scope="session")
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(LocatedModel("tiny", tiny_model))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_toy_reward_rises_from_chance_to_near_its_optimum(
    algorithm: str, seed: int, tokenizer: Any, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, tokenizer, settings(algorithm, iterations=15), seed)
    bench.train()
    assert bench.means[0] < 0.3
    assert sum(bench.means[-2:]) / 2 > 0.9


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_stopped_training_goes_on_to_the_same_weights_and_figures(
    algorithm: str, tokenizer: Any, tmp_path: Path
) -> None:
    whole = Bench(tmp_path / "whole", tokenizer, settings(algorithm))
    whole.train()
    first, second = (Bench(tmp_path / "stopped", tokenizer, settings(algorithm)) for _ in range(2))
    with pytest.raises(InterruptedError):
        first.train(stop_in=3)
    torch.rand(7)  # another process has drawn other numbers by then
    second.train(done=2)
    assert first.figures + second.figures == whole.figures
    assert first.means + second.means == whole.means
    for name, expected in whole.weights(4).items():
        assert torch.equal(second.weights(4)[name], expected), name


def test_a_smaller_micro_batch_after_a_stop_changes_rounding_alone(tokenizer: Any, tmp_path: Path) -> None:
    whole = Bench(tmp_path / "whole", tokenizer, settings("grpo", iterations=2))
    whole.train()
    first = Bench(tmp_path / "stopped", tokenizer, settings("grpo", iterations=2))
    with pytest.raises(InterruptedError):
        first.train(stop_in=2)
    second = Bench(tmp_path / "stopped", tokenizer, settings("grpo", iterations=2, micro_batch=4))
    second.train(done=1)
    for name, expected in whole.weights(2).items():
        assert torch.allclose(second.weights(2)[name], expected, atol=1e-4), name


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_figures_have_the_names_of_ppos(algorithm: str, tokenizer: Any, tmp_path: Path) -> None:
    bench = Bench(tmp_path, tokenizer, settings(algorithm))
    bench.train()
    for figures in bench.figures:
        assert set(figures) == {"policy_loss", "entropy", "clip_share", "gradient_norm", "kl"}
        assert 0 < figures["entropy"] <= math.log(VOCABULARY)
        assert 0 <= figures["clip_share"] <= 1
        assert all(map(math.isfinite, figures.values()))
    assert abs(bench.figures[-1]["kl"]) > abs(bench.figures[0]["kl"])


def test_the_kl_is_that_of_a_response(tokenizer: Any, tmp_path: Path) -> None:
    bench = Bench(tmp_path, tokenizer, settings("rloo", iterations=2))
    bench.train()
    assert bench.figures[0]["kl"] == pytest.approx(0, abs=1e-5), "the first responses are the initial policy's"
    from peft import PeftModel

    sampled: list[Trajectory] = []
    again = Bench(tmp_path, tokenizer, bench.config)
    tuned = PeftModel.from_pretrained(again.network, str(bench.place(1))).eval()
    sampled = [one for one, _ in again.sampled(2)]
    ids = torch.tensor([[*t.prefix_ids, *t.prompt_ids, *t.response_ids] for t in sampled])

    def log_probs() -> torch.Tensor:
        logits = tuned(input_ids=ids).logits[:, 1:-1].log_softmax(-1)
        return logits.gather(-1, ids[:, 2:, None]).squeeze(-1)

    with torch.no_grad():
        new = log_probs()
        with tuned.disable_adapter():
            old = log_probs()
    assert bench.figures[1]["kl"] == pytest.approx(float((new - old).sum(1).mean()), rel=1e-3)


def test_without_weight_the_kl_is_not_measured(tokenizer: Any, tmp_path: Path) -> None:
    bench = Bench(tmp_path, tokenizer, settings("grpo", iterations=1, kl_coefficient=0.0))
    bench.train()
    assert "kl" not in bench.figures[0]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_network_is_given_back_as_it_was(algorithm: str, tokenizer: Any, tmp_path: Path) -> None:
    bench = Bench(tmp_path, tokenizer, settings(algorithm, iterations=2))
    names = [name for name, _ in bench.network.named_parameters()]
    ids = torch.arange(10)[None]
    before = bench.network(input_ids=ids).logits
    bench.train()
    assert [name for name, _ in bench.network.named_parameters()] == names
    assert torch.equal(bench.network(input_ids=ids).logits, before)
    assert "forward" not in vars(bench.network)
    assert not bench.network.training
    assert not any(p.requires_grad for p in bench.network.parameters())
    assert not (tmp_path / "work").exists()


class Twice(Bench):
    """As where pairs are written in two turns, each of which is a response of its own."""

    copies = 2


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_several_responses_of_a_rollout_are_learned_from_in_one_iteration(
    algorithm: str, tokenizer: Any, tmp_path: Path
) -> None:
    bench = Twice(tmp_path / "twice", tokenizer, settings(algorithm, iterations=12, learning_rate=5e-3))
    bench.train()
    assert len(bench.figures) == 12
    assert bench.means[0] < 0.3
    assert sum(bench.means[-3:]) / 3 > 0.6
    state = json.loads((bench.place(12) / "trainer_state.json").read_text())
    assert state["global_step"] == 12 * 2 * 2 * 32 // 16, "epochs, copies, rollouts and a minibatch"


def test_as_many_responses_as_were_told_must_come(tokenizer: Any, tmp_path: Path) -> None:
    class Short(Bench):
        def sampled(self, iteration: int) -> list[tuple[Trajectory, float]]:
            return super().sampled(iteration)[:-1]

    with pytest.raises(ValueError, match="31 responses for 32 prompts"):
        Short(tmp_path, tokenizer, settings("grpo")).train()


def test_an_empty_response_is_an_end(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answered: list[list[int]] = []
    responses = group._Grpo._responses

    def noted(self: Any, prompts: list[str]) -> Any:
        found = responses(self, prompts)
        answered.extend(found[1])
        return found

    monkeypatch.setattr(group._Grpo, "_responses", noted)

    class Mute(Bench):
        def sampled(self, iteration: int) -> list[tuple[Trajectory, float]]:
            made = super().sampled(iteration)
            return [(Trajectory((0,), (2,), ()), -1.0), *made[1:]]

    bench = Mute(tmp_path, tokenizer, settings("grpo", iterations=1))
    bench.train()
    assert answered[0] == [END]
    assert math.isfinite(bench.figures[0]["policy_loss"])


def test_unknown_layers_are_named(tokenizer: Any, tmp_path: Path) -> None:
    lora = LoraSettings(targets=("nothing",))
    with pytest.raises(UsageError, match=r"lora.targets nothing: no such layers.*there are:.*q_proj"):
        Bench(tmp_path, tokenizer, settings("grpo", lora=lora)).train()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rollouts": 30}, r"rollouts \(30\) in multiples of group_size \(8\)"),
        ({"minibatch": 24}, r"rollouts \(32\) in multiples of minibatch \(24\)"),
        ({"micro_batch": 5}, r"minibatch \(16\) in multiples of micro_batch \(5\)"),
    ],
)
def test_sizes_that_leave_a_rest_are_told(changes: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        settings("grpo", **changes)
    settings("ppo", **changes)
