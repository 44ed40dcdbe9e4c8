"""Completions by a team: each process writes its part, and together they are those of one process."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from refine_af.config import Config, SamplingConfig
from refine_af.engines.base import Completion, Prompts, Stop
from refine_af.engines.transformers import TransformersEngine
from refine_af.parts import Parts
from refine_af.stages.team_engine import Adopt, TeamEngine, _part, adapted_engine, follow_writing, in_team
from refine_af.team import Team, launched_team

GROUPS = [
    Prompts("Describe a bird", (" and a cat", " and a garden in winter", " and a cat", " and a dog", ".")),
    Prompts("Explain", ()),
    Prompts("Describe a bird and", (" a song", " a cat")),
]
SAMPLING = SamplingConfig(max_tokens=12, temperature=1.0)


def member(rank: int, port: int, folder: Path, config: Config) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    asked: list[list[tuple[str, ...]]] = []
    by_itself = TransformersEngine.generate

    def generate(self: Any, groups: list[Prompts], *args: Any, **kwargs: Any) -> list[list[Completion]]:
        asked.append([one.suffixes for one in groups])
        return by_itself(self, groups, *args, **kwargs)

    TransformersEngine.generate = generate  # type: ignore[method-assign]
    made: list[list[list[Completion]]] = []
    with launched_team() as team:
        parts = Parts(config, folder)
        if team.leads:
            with adapted_engine(parts, team, None) as engine:
                made = [engine.generate(GROUPS, SAMPLING, seed=s, stop=Stop(("7",)), log_probs=True) for s in (0, 1)]
            team.dismiss()
        else:
            order = team.told()
            assert order == Adopt(None)
            follow_writing(order, parts, team)
            assert team.told() is None
    torch.save((asked, made), folder / f"{rank}.pt")


def test_two_processes_write_what_one_writes_and_each_a_part(
    tiny_config: Config, tmp_path: Path, free_port: int
) -> None:
    context = torch.multiprocessing.get_context("spawn")
    processes = [context.Process(target=member, args=(k, free_port, tmp_path, tiny_config)) for k in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    (asked, made), (asked_too, _) = (torch.load(tmp_path / f"{k}.pt", weights_only=False) for k in range(2))
    (cat, garden, _, dog, point), _, (song, same) = (one.suffixes for one in GROUPS)
    assert asked == [[(cat, cat, dog), (), (song, same)]] * 2, "what is written twice is written by one"
    assert asked_too == [[(garden, point), (), ()]] * 2
    engine = Parts(tiny_config, tmp_path).initial_engine
    for seed, found in enumerate(made):
        expected = engine.generate(GROUPS, SAMPLING, seed=seed, stop=Stop(("7",)), log_probs=True)
        assert [len(group) for group in found] == [5, 0, 2]
        for one, other in zip(chain(*found), chain(*expected), strict=True):
            assert (one.text, one.token_ids, one.ended) == (other.text, other.token_ids, other.ended)
            torch.testing.assert_close(torch.tensor(one.log_probs), torch.tensor(other.log_probs), atol=1e-4, rtol=0)


Texts = st.text("abc", max_size=2)


@given(groups=st.lists(st.builds(Prompts, Texts, st.lists(Texts).map(tuple))), size=st.integers(1, 5))
def test_every_prompt_is_in_one_part_and_equal_ones_are_in_the_same(groups: list[Prompts], size: int) -> None:
    parts = [_part(groups, rank, size) for rank in range(size)]
    for number, group in enumerate(groups):
        assert sorted(place for part in parts for place in part[number]) == list(range(len(group.suffixes)))
    whose = [
        {group.prefix + group.suffixes[place] for group, places in zip(groups, part, strict=True) for place in places}
        for part in parts
    ]
    assert sum(map(len, whose)) == len({one.prefix + suffix for one in groups for suffix in one.suffixes})
    assert max(map(len, whose)) - min(map(len, whose)) <= 1


def test_what_is_not_written_together_keeps_its_engine(tiny_config: Config, tmp_path: Path) -> None:
    parts = Parts(tiny_config, tmp_path)
    assert not isinstance(in_team(parts.initial_engine, parts, Team()), TeamEngine)
    model = tiny_config.model.model_copy(update={"engine": "ctranslate2"})
    other = Parts(tiny_config.model_copy(update={"model": model}), tmp_path)
    assert other.engine_name == "ctranslate2", "its completions depend on their batch"
    assert not isinstance(in_team(parts.initial_engine, other, Team(0, 2)), TeamEngine)
