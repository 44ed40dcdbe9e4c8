"""The report promises: it shows the database's numbers, escapes what models wrote, and works at any time of a run."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from example_rows import instance, instruction, rollout

from refine_af.errors import RefineError
from refine_af.records import Instance, Instruction, Prediction, Rejection, Rollout, StageCounts
from refine_af.report import write_report
from refine_af.report.contributions import Contributions
from refine_af.report.data import Interval, collect
from refine_af.report.samples import spread
from refine_af.report.view import _contributions
from refine_af.report.wording import evaluation_conclusion, reward_conclusion, witness_conclusion
from refine_af.store import Store

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\x00\u202e"
SECTIONS = ("funnel", "reward", "training", "instructions", "evaluation", "samples", "settings")


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "run.db") as store:
        yield store


@pytest.fixture
def store(empty: Store) -> Store:
    """A small finished run: 40 instructions, two policies, hostile texts everywhere a model writes."""
    empty.save_run({"seed": 7, "model": {"name": f"tiny {HOSTILE}"}}, {"python": "3.11"})
    for stage in ("instructions", "policy", "instances", "evaluate"):
        empty.start_stage(stage)
    made = [_instruction(f"g{i:02}", f"Write {i} poems. {HOSTILE}", "generated") for i in range(40)]
    seeds = [_instruction(f"s{i}", f"Seed {i} {HOSTILE}", "seed") for i in range(4)]
    empty.add_instructions([*seeds, *made])
    empty.add_rejections(Rejection("instructions", "too_similar", f"near {i} {HOSTILE}", "0.81") for i in range(9))
    empty.add_rejections([Rejection("instructions", HOSTILE, HOSTILE, HOSTILE)])
    empty.finish_stage("instructions", StageCounts(50, 40, 10, 0))
    for policy in ("tuned", "initial"):
        rows = [_instance(policy, i) for i in range(40)]
        empty.add_instances(rows)
        empty.add_scores((row.id, f"scorer {HOSTILE}", 0.5, (row.reward or 0) - 0.25) for row in rows)
        empty.add_rejections([Rejection("instances", "duplicate", "again", f"{policy}: 0.91")] * 3)
    empty.select_instances(f"tuned{i:02}" for i in range(0, 40, 2))
    empty.add_instances(
        instance(f"ref{i}", f"s{i}", input="in", output=f"reference {HOSTILE}", policy="seed") for i in range(4)
    )
    for split in ("before", "after"):
        empty.add_rollouts([_rollout(split, i) for i in range(10)])
    empty.add_metrics(
        "policy",
        0,
        {"held_out_before": 0.1, "held_out_after": 0.3, "held_out_difference": 0.2}
        | {"held_out_difference_low": -0.05, "held_out_difference_high": 0.45},
    )
    for step in (1, 2, 3):
        empty.add_metrics(
            "policy", step, {"reward_mean": step / 10, "reward_std": 0.1, "component/len": step, "own": 1}
        )
        empty.add_metrics("finetune", step, {"loss": 3.0 - step})
        empty.add_metrics("instructions", step, {"read": 10, "kept": 8})
    for model, score in (("base", 20.0), ("tuned", 30.0)):
        empty.add_predictions([Prediction(model, f"s{i}", f"{model} {HOSTILE}", score + i, 0) for i in range(4)])
    empty.add_metrics(
        "evaluate",
        0,
        {"base_rouge_l": 21.5, "tuned_rouge_l": 31.5, "difference": 10, "difference_low": 4, "difference_high": 16}
        | {"base_exact_match": 0, "tuned_exact_match": 25, "wins": 4, "ties": 0, "losses": 0},
    )
    empty.add_event("policy", "warning", f"event {HOSTILE}")
    return empty


def _instruction(key: str, text: str, origin: str) -> Instruction:
    status = "held_out" if origin == "seed" else "kept"
    return instruction(key, text=text, origin=origin, status=status)


def _instance(policy: str, i: int) -> Instance:
    return instance(f"{policy}{i:02}", f"g{i:02}", output=f"out {i} {HOSTILE}", policy=policy, reward=i / 40)


def _rollout(split: str, i: int) -> Rollout:
    reward = i / 10 + (0.2 if split == "after" else 0.0)
    return rollout(i, iteration=0, split=split, instruction_id="g00", reward=reward)


def page_of(store: Store, **options: str) -> str:
    path = store.path.parent / "report.html"
    write_report(store, path, **options)
    return path.read_text(encoding="utf-8")


class _Elements(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def plain(page: str) -> str:
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_what_a_model_wrote_is_never_markup(store: Store) -> None:
    page = page_of(store, title=HOSTILE)
    tags = _Elements(page).tags
    assert not {"script", "img", "iframe", "object", "link"} & {tag for tag, _ in tags}
    assert not [attrs for _, attrs in tags if any(name.startswith("on") for name in attrs)]
    assert "&lt;script&gt;" in page
    assert "\x00" not in page


def test_the_page_needs_nothing_from_outside(store: Store) -> None:
    tags = _Elements(page_of(store)).tags
    links = [value for _, attrs in tags for name, value in attrs.items() if name in ("src", "href", "action")]
    assert links
    assert all(link is not None and link.startswith("#") for link in links)
    assert "url(" not in page_of(store)
    assert "@import" not in page_of(store)


def test_an_empty_database_gives_a_page_that_says_what_is_missing(empty: Store) -> None:
    page = page_of(empty)
    assert page.count("Not there yet") == len(SECTIONS)
    assert all(f'id="{section}"' in page for section in SECTIONS)


@pytest.mark.parametrize(
    "table", ["rollouts", "predictions", "metrics", "rejections", "scores", "events", "runs", "stages"]
)
def test_any_table_may_be_empty(store: Store, table: str) -> None:
    store.query(f"DELETE FROM {table}")
    assert "</html>" in page_of(store)


def test_a_stage_that_runs_is_shown_as_running(store: Store) -> None:
    assert "running" in plain(page_of(store))


def test_the_five_numbers_are_the_databases(store: Store) -> None:
    text = plain(page_of(store))
    for shown in ("Instructions kept 40", "of 50 read", "Selected pairs 20", "Held-out reward +0.200"):
        assert shown in text
    assert "ROUGE-L, base → tuned 21.5 → 31.5" in text
    assert "4 won, 0 tied, 0 lost" in text


def test_the_funnels_add_up_and_keep_the_policies_apart(store: Store) -> None:
    report = collect(store)
    funnels = [report.instructions, *report.instances]
    assert [(f.name, f.read, f.kept, f.selected) for f in funnels if f] == [
        ("instructions", 50, 40, None),
        ("tuned", 43, 40, 20),
        ("initial", 43, 40, 0),
    ]
    assert all(f.read == f.kept + sum(n for _, n in f.drops) for f in funnels if f)


def test_failed_rows_are_part_of_the_funnel(empty: Store) -> None:
    empty.start_stage("instructions")
    empty.add_instructions([_instruction("a", "Write a poem.", "generated")])
    empty.finish_stage("instructions", StageCounts(3, 1, 0, 2))
    funnel = collect(empty).instructions
    assert funnel is not None
    assert (funnel.read, funnel.drops) == (3, [("failed", 2)])


def test_a_rejected_pair_without_a_policy_is_counted_apart(store: Store) -> None:
    store.add_rejections([Rejection("instances", "odd", "x", "")])
    assert collect(store).unattributed == 1
    assert "1 more dropped" in page_of(store)


def test_there_are_20_samples_of_three_kinds_over_the_rewards_range(store: Store) -> None:
    samples = collect(store).samples
    kinds = [s.kind for s in samples]
    assert [kinds.count(k) for k in ("selected", "not selected", "rejected")] == [8, 6, 6]
    rewards = [s.reward for s in samples if s.kind == "selected"]
    assert (rewards[0], rewards[-1]) == (38 / 40, 0.0)
    assert {s.reason for s in samples if s.kind == "rejected"} == {"too_similar", "duplicate", HOSTILE}
    assert page_of(store).count('class="card"') == 20


def test_groups_that_are_short_leave_their_samples_to_the_others(store: Store) -> None:
    store.query("DELETE FROM rejections")
    assert len(collect(store).samples) == 20


def test_held_out_pairs_are_joined_by_position(store: Store) -> None:
    held = collect(store).held_out
    assert held is not None
    assert held.pairs[3] == pytest.approx((0.3, 0.5))
    assert len(held.pairs) == 10


def test_tasks_carry_the_reference_and_both_answers(store: Store) -> None:
    evaluation = collect(store).evaluation
    assert evaluation is not None
    assert [t.difference for t in evaluation.tasks] == [10.0] * 4
    assert evaluation.tasks[0].reference.startswith("reference")
    assert evaluation.tasks[0].tuned is not None


def test_equal_databases_give_equal_pages(store: Store) -> None:
    assert page_of(store) == page_of(store)
    with Store(store.path, read_only=True) as reader:
        assert page_of(reader) == page_of(store)


def test_a_metric_that_no_chart_knows_is_still_drawn(store: Store) -> None:
    assert "Other measurements (1)" in page_of(store)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(-1.0, 2.0, "contains zero"), (0.1, 2.0, "higher"), (-2.0, -0.1, "lower"), (None, None, "nothing")],
)
def test_conclusions_say_what_the_interval_allows(low: float | None, high: float | None, said: str) -> None:
    interval = Interval(1.0, 2.0, 1.0, low, high)
    assert said in reward_conclusion(interval, 10)
    assert said in evaluation_conclusion(interval, 10)


@pytest.mark.parametrize(
    ("low", "high", "said"), [(-0.2, 0.1, "shows no difference"), (0.1, 0.3, "rose"), (-0.3, -0.1, "fell")]
)
def test_what_the_witness_found_stands_beside_the_reward(low: float, high: float, said: str, store: Store) -> None:
    assert "The witness" not in page_of(store)
    values = {"before": 0.5, "after": 0.7, "difference": 0.2, "difference_low": low, "difference_high": high}
    store.add_metrics("policy", 0, {f"held_out_witness_{name}": value for name, value in values.items()})
    assert f"nothing was trained on, {said}: 0.500 before and 0.700 after" in page_of(store)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.1, 0.3, "so answers fit their own tasks better."),
        (-0.1, 0.3, "what the reward gained may be style."),
        (-0.3, -0.1, "so answers fit their own tasks less well."),
    ],
)
def test_what_answers_get_behind_their_own_tasks_alone_stands_beside_the_reward(
    low: float, high: float, said: str, store: Store
) -> None:
    assert "Behind its own task" not in page_of(store)
    values = {"before": 0.5, "after": 0.7, "difference": 0.2, "difference_low": low, "difference_high": high}
    store.add_metrics("policy", 0, {f"held_out_fit_{name}": value for name, value in values.items()})
    page = page_of(store)
    assert "got 0.500 more than behind another one before training and 0.700 more after it" in page
    assert said in page


@pytest.mark.parametrize(
    ("margin", "said"),
    [((0.1, 0.3), "its kind better than"), ((-0.1, 0.3), "no better, as far"), ((-3, -1), "worse than")],
)
def test_how_likely_peoples_answers_are_is_said_where_it_was_measured(
    margin: tuple[float, float], said: str, store: Store
) -> None:
    assert "Content, nats" not in page_of(store)
    figures = {"base_content": -2.5, "tuned_content": -2.25, "base_margin": 1.5, "tuned_margin": 1.75}
    figures |= {"content_difference": 0.25, "content_difference_low": 0.125, "content_difference_high": 0.5}
    figures |= {"margin_difference": 0.25, "margin_difference_low": margin[0], "margin_difference_high": margin[1]}
    store.add_metrics("evaluate", 0, figures)
    page = page_of(store)
    assert "<td>Content, nats a token</td><td>−2.50</td><td>−2.25</td>" in page
    assert "people's answers are likelier (+0.250 nats a token" in html.unescape(page)
    assert said in page


def test_how_much_could_be_read_stands_beside_the_reward(store: Store) -> None:
    assert "were sound pairs before" not in page_of(store)
    store.add_metrics("policy", 0, {"held_out_readable_before": 0.5, "held_out_readable_after": 0.75})
    assert "50% were sound pairs before and 75% after; the reward is that of sound pairs" in page_of(store)
    store.add_metrics("policy", 0, {"held_out_readable_reward_before": -0.1, "held_out_readable_reward_after": 0.2})
    assert "Sound pairs got −0.100 and 0.200 in the mean" in page_of(store)


def test_without_a_witness_nothing_is_said_of_it() -> None:
    assert witness_conclusion(Interval(None, None, None, None, None)) == ""


def test_a_report_that_cannot_be_written_leaves_the_old_one(store: Store, tmp_path: Path) -> None:
    with pytest.raises(RefineError, match="can't be written"):
        write_report(store, tmp_path / "no such folder" / "report.html")
    target = tmp_path / "taken"
    target.mkdir()
    with pytest.raises(RefineError, match="can't be written"):
        write_report(store, target)
    assert not list(tmp_path.glob(".taken*"))


@pytest.mark.parametrize(("size", "count", "expected"), [(10, 3, [0, 4, 9]), (2, 5, [0, 1]), (5, 1, [2]), (0, 3, [])])
def test_spread_keeps_the_ends(size: int, count: int, expected: list[int]) -> None:
    assert spread(range(size), count) == expected


# -- what the reward is made of ------------------------------------------------------------------------


def test_components_add_up_to_the_mean_reward_of_every_group(empty: Store) -> None:
    empty.add_instructions([_instruction("a", "Write a poem.", "generated")])
    for split, share in (("before", 0.25), ("after", 0.5)):
        empty.add_rollouts(rollout(i, iteration=0, split=split, reward=reward) for i, reward in enumerate((1.0, -3.0)))
        empty.add_metrics("policy", 0, {f"held_out_{split}/pmi": share, f"held_out_{split}/likelihood": -0.5})
    for policy, rewards in (("initial", (0.5, 1.5)), ("tuned", (1.0, 3.0))):
        empty.add_instances(instance(f"{policy}{i}", policy=policy, reward=reward) for i, reward in enumerate(rewards))
        empty.add_scores((f"{policy}{i}", "pmi", 7.0, reward - 0.25) for i, reward in enumerate(rewards))
        empty.add_scores((f"{policy}{i}", "likelihood", -1.0, 0.25) for i in range(2))
    empty.select_instances(["tuned1"])
    found = collect(empty).contributions
    assert found is not None
    assert found.groups == [
        ("held-out, before", 2, -1.0),
        ("held-out, after", 2, -1.0),
        ("initial policy", 2, 1.0),
        ("tuned policy", 2, 2.0),
        ("selected", 1, 3.0),
    ]
    assert found.shares == {"likelihood": [-0.5, -0.5, 0.25, 0.25, 0.25], "pmi": [0.25, 0.5, 0.75, 1.75, 2.75]}
    text = plain(page_of(empty))
    assert "Component held-out, before (2) held-out, after (2) initial policy (2) tuned policy (2) selected (1)" in text
    assert "pmi +0.250 +0.500 +0.750 +1.75 +2.75" in text
    assert "offset, gates and floor −0.750 −1 0 0 0" in text
    assert "mean reward −1 −1 +1 +2 +3" in text


def test_a_rest_that_is_but_rounding_is_none() -> None:
    shown = _contributions(
        Contributions([("selected", 1, 0.3), ("tuned", 2, 1.0)], {"a": [0.1, 0.5], "b": [0.2, 0.25]})
    )
    assert shown is not None
    assert shown["rows"][-1] == ("offset, gates and floor", ["0", "+0.250"])


def test_scores_of_an_older_version_have_no_shares_and_no_table(store: Store) -> None:
    assert collect(store).contributions is not None
    store.query("UPDATE scores SET share = NULL")
    assert collect(store).contributions is None
    assert "What each component adds" not in page_of(store)


def test_a_components_curve_says_what_it_adds_at_the_end(store: Store) -> None:
    store.add_metrics("policy", 3, {"share/len": -0.125})
    text = plain(page_of(store))
    assert "Adds −0.125 to the last mean reward." in text
    assert "Other measurements (1)" in text


def test_held_out_checks_are_drawn_with_their_interval_and_what_the_guards_need(store: Store) -> None:
    for step in (2, 4):
        gain = {"gain": 0.2, "gain_low": 0.1, "gain_high": 0.4, "witness": 0.5, "witness_gain": -0.1}
        store.add_metrics("policy", step, {f"check/{name}": value for name, value in gain.items()})
    text = plain(page_of(store))
    assert "Held-out reward gained" in text
    assert "Witness gained" in text
    assert "check/" not in text, "nothing is left over among the other measurements"
