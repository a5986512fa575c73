"""GRPO on clips: the loss hears and sees what the sampler did, has the right sign, and a silent run is spoken
about."""

import dataclasses
import logging
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import RepeatSampler

from rlcomm.data.media import MediaSettings
from rlcomm.data.sample import Sample
from rlcomm.omni.encode import merge_media
from rlcomm.omni.policy import Policy, load_policy, set_trainable
from rlcomm.omni.prompts import Prompts
from rlcomm.trainers import grpo
from rlcomm.trainers.grpo import OmniGRPOTrainer
from rlcomm.trainers.order import OrderOfEpoch
from tests.trainers.plain import CPU, gradients, plain, weights

TEMPERATURE = 0.9
GROUP = 4
PROMPTS = 4  # of a generation of two optimiser steps, scored in two parts


def graded(completions, **columns):
    """A reward that tells completions apart without knowing what they say."""
    return [float(sum(map(ord, c[0]["content"])) % 7) for c in completions]


def config(tmp_path, **settings) -> GRPOConfig:
    options = dict(
        per_device_train_batch_size=8, num_generations=GROUP, max_completion_length=8,
        temperature=TEMPERATURE, loss_type="grpo", bf16=False, gradient_checkpointing=False,
        remove_unused_columns=False, use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True,
        output_dir=str(tmp_path),
    )  # fmt: skip
    return GRPOConfig(**{**options, **settings})


def dataset(samples: list[Sample]) -> Dataset:
    rows = [{"prompt": [{"role": "user", "content": s.question}], "row": i} for i, s in enumerate(samples)]
    return Dataset.from_list(rows)


def make(policy: Policy, samples: list[Sample], tmp_path, cls=OmniGRPOTrainer, rewards=graded, **settings):
    """The trainer as `stages.step_rr` builds it."""
    set_trainable(policy.model, freeze_encoders=True)
    return cls(
        model=policy.model, args=config(tmp_path, **settings), reward_funcs=rewards,
        train_dataset=dataset(samples), processing_class=policy.processor, samples=samples,
        prompts=Prompts(policy, MediaSettings(), "steps"),
    )  # fmt: skip


def stock(policy: Policy, samples: list[Sample], tmp_path, **settings) -> GRPOTrainer:
    """TRL's own trainer, given every help: our prompt ids and, as multimodal fields, all media of the
    batch."""
    set_trainable(policy.model, freeze_encoders=True)
    trainer = GRPOTrainer(
        model=policy.model, args=config(tmp_path, **settings), reward_funcs=graded,
        train_dataset=dataset(samples), processing_class=policy.processor,
    )  # fmt: skip
    prompts = Prompts(policy, MediaSettings(), "steps")

    def tokenize(messages):
        asked = [prompts(samples[i]) for i in rows_of(PROMPTS)]
        return [p.ids.tolist() for p in asked], None, merge_media(asked, CPU, torch.float32)

    trainer._tokenize_prompts = tokenize
    return trainer


def rows_of(prompts: int) -> list[int]:
    """Indices as TRL's sampler gives them: each prompt G times in a row."""
    return [row for row in range(prompts) for _ in range(GROUP)]


def batch(trainer, prompts: int = 2) -> list[dict]:
    return [dict(trainer.train_dataset[row]) for row in rows_of(prompts)]


def replay(trainer, completions: list[list[int]]) -> None:
    """The sampler returns `completions`, whatever the policy thinks."""
    trainer._generate_single_turn = lambda *args, **kwargs: ([list(c) for c in completions], None)


def recorded(policy: Policy, rows: int = 8) -> list[list[int]]:
    """Completions of unlike lengths and words."""
    words = ["yes", "no drum", "a harp", "I hear a flute", "violin", "yes yes", "see", "no harp no"]
    tokenizer = policy.processor.tokenizer
    return [tokenizer(words[i % 8])["input_ids"] + [tokenizer.eos_token_id] for i in range(rows)]


def with_other(samples: list[Sample], sense: str) -> list[Sample]:
    """Every row with the sound (or the picture) of another row's clip."""
    return [
        dataclasses.replace(s, **{sense: getattr(o, sense)})
        for s, o in zip(samples, samples[3:] + samples[:3], strict=True)
    ]


def trainers_logps(trainer, completions: list[list[int]]) -> list[torch.Tensor]:
    """Log-probabilities (T,) of each replayed completion as the trainer computes them.

    With two optimiser steps a generation TRL scores the rollouts by its own log-prob forward and keeps the
    result.
    """
    replay(trainer, completions)
    trainer.model.train()
    output = trainer._generate_and_score_completions(batch(trainer, PROMPTS))
    return [row[: len(ids)] for row, ids in zip(output["old_per_token_logps"], completions, strict=True)]


def assert_parity(trainer, policy: Policy, samples: list[Sample]) -> None:
    """The check that guards upgrades: the trainer's log-probs are those of a plain forward with the media."""
    completions = recorded(policy, PROMPTS * GROUP)
    found = trainers_logps(trainer, completions)
    prompts = Prompts(policy, MediaSettings(), "steps")
    for row, ids, logps in zip(rows_of(PROMPTS), completions, found, strict=True):
        with torch.no_grad():
            expected, _ = plain(policy, prompts(samples[row]), ids, TEMPERATURE)
        assert torch.allclose(logps, expected, atol=1e-5)


def largest_change(before: list[torch.Tensor], after: list[torch.Tensor]) -> float:
    return max((a - b).abs().max().item() for a, b in zip(before, after, strict=True))


# -- log-probabilities ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scoring", ["auto", "grouped", "rows"])
def test_log_probs_equal_a_plain_forward_with_the_media(policy, clip_rows, tmp_path, scoring):
    trainer = make(policy, clip_rows, tmp_path, steps_per_generation=2)
    trainer.scoring = scoring
    assert_parity(trainer, policy, clip_rows)


@pytest.mark.parametrize("sense", ["audio", "video"])
def test_log_probs_change_with_another_clips_sound_or_picture(policy, clip_rows, tmp_path, sense):
    completions = recorded(policy, PROMPTS * GROUP)
    trainer = make(policy, clip_rows, tmp_path, steps_per_generation=2)
    before = trainers_logps(trainer, completions)
    trainer.samples = with_other(clip_rows, sense)
    assert largest_change(before, trainers_logps(trainer, completions)) > 1e-3


def test_stock_trl_fails_the_parity_test(policy, clip_rows, tmp_path):
    """Why OmniGRPOTrainer exists: TRL's log-prob forward never sees the clip, and nothing says so."""
    trainer = stock(policy, clip_rows, tmp_path, steps_per_generation=2)
    with pytest.raises(AssertionError):
        assert_parity(trainer, policy, clip_rows)
    completions = recorded(policy, PROMPTS * GROUP)
    before = trainers_logps(trainer, completions)
    swapped = stock(policy, with_other(clip_rows, "audio"), tmp_path, steps_per_generation=2)
    assert largest_change(before, trainers_logps(swapped, completions)) == 0.0


def test_gradients_equal_those_of_a_plain_forward(policy, clip_rows, tmp_path):
    """One update per rollout: the gradient is that of -(1/B) sum_i A_i (1/T_i) sum_t log p."""
    trainer = make(policy, clip_rows, tmp_path)
    completions = recorded(policy)
    replay(trainer, completions)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    inputs = trainer._generate_and_score_completions(batch(trainer))
    assert inputs["advantages"].abs().min() > 0.01
    trainer._compute_loss(trainer.model, inputs).backward()
    found = gradients(policy)

    terms = []
    for row, ids, advantage in zip(rows_of(2), completions, inputs["advantages"], strict=True):
        logps, _ = plain(policy, trainer.prompts(clip_rows[row]), ids, TEMPERATURE)
        terms.append(-advantage * logps.mean())
    torch.stack(terms).mean().backward()
    expected = gradients(policy)
    assert expected.norm() > 0.01
    assert (found - expected).norm() / expected.norm() < 1e-5


# -- batches -------------------------------------------------------------------------------------------------


def test_every_row_keeps_its_own_prompt_through_shuffle_and_split(policy, clip_rows, tmp_path, monkeypatch):
    trainer = make(policy, clip_rows, tmp_path, steps_per_generation=2)
    rows = rows_of(4)
    marks = policy.processor.tokenizer("yes no a I", add_special_tokens=False)["input_ids"]
    assert len(set(marks[:4])) == 4
    replay(trainer, [[marks[row]] for row in rows])  # the completion says which row it answers
    trainer.model.train()
    torch.manual_seed(0)
    trainer._prepare_inputs(batch(trainer, 4))
    assert len(trainer._buffered_inputs) == 2
    seen = []
    for part in trainer._buffered_inputs:
        assert len(part["encoded"]) == 8
        for i, prompt in enumerate(part["encoded"]):
            row = marks.index(part["completion_ids"][i, 0].item())
            assert prompt is trainer.prompts(clip_rows[row])
            assert part["prompt_ids"][i][part["prompt_mask"][i].bool()].tolist() == prompt.ids.tolist()
            seen.append(row)
    assert sorted(seen) == rows
    assert seen != rows  # it was shuffled

    scored, score = [], grpo.score

    def watched(model, prompts, *rest, **options):
        scored.append(prompts)
        return score(model, prompts, *rest, **options)

    monkeypatch.setattr(grpo, "score", watched)
    trainer.current_gradient_accumulation_steps = 1
    for part in trainer._buffered_inputs:
        trainer._compute_loss(trainer.model, part)
        assert list(map(id, scored.pop())) == list(map(id, part["encoded"]))


@pytest.mark.parametrize(("size", "parts", "prompts"), [(8, 2, [2, 2]), (4, 4, [1] * 4), (2, 8, [1] * 8)])
def test_a_micro_batch_reads_no_prompt_that_another_could(policy, clip_rows, tmp_path, size, parts, prompts):
    """Trap: TRL's shuffle gives each of them a completion or two of every prompt, and nothing is shared."""
    trainer = make(
        policy, clip_rows, tmp_path, per_device_train_batch_size=size, steps_per_generation=parts,
        gradient_accumulation_steps=1,
    )  # fmt: skip
    replay(trainer, recorded(policy, 16))
    trainer.model.train()
    trainer._prepare_inputs(batch(trainer, 4))
    held = [len({id(prompt) for prompt in part["encoded"]}) for part in trainer._buffered_inputs]
    assert held == prompts
    assert [len(part["encoded"]) for part in trainer._buffered_inputs] == [size] * parts


def test_groups_are_shuffled_and_those_that_others_share_come_last():
    torch.manual_seed(0)
    rows = [7, 7, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4]  # a rank's share begins and ends within a group
    orders = {tuple(grpo.group_order(rows, 4)) for _ in range(50)}
    assert len(orders) > 6
    for order in orders:
        assert sorted(order) == list(range(15))
        assert {rows[i] for i in order[-3:]} == {7, 4}
        for start in (0, 4, 8):
            assert len({rows[i] for i in order[start : start + 4]}) == 1
    again = grpo.group_order([5] * 8, 4)  # one prompt drawn twice in a row is two groups
    assert again in (list(range(8)), [4, 5, 6, 7, 0, 1, 2, 3])


def test_what_has_rows_is_reordered_with_them():
    batch = {"a": torch.arange(3), "b": ["x", "y", "z"], "c": torch.tensor(5), "d": None}
    found = grpo.reordered(batch, [2, 0, 1])
    assert found["a"].tolist() == [2, 0, 1]
    assert found["b"] == ["z", "x", "y"]
    assert (found["c"].item(), found["d"]) == (5, None)


def test_the_sampler_answers_each_row_with_its_own_group(policy, clip_rows, tmp_path, monkeypatch):
    """Groups go through the sampler once, and their completions come back to the rows that asked."""
    trainer = make(policy, clip_rows, tmp_path)
    calls = []

    def sampler(model, processor, prompts, num_generations, **options):
        calls.append((prompts, num_generations, options["temperature"], options["max_new_tokens"]))
        return [[[10 * i + j] for j in range(num_generations)] for i in range(len(prompts))]

    monkeypatch.setattr(grpo, "generate_ids", sampler)
    asked = [
        clip_rows[row] for row in (0, 0, 0, 0, 1, 1, 2, 2)
    ]  # the last groups are cut by the process's share
    trainer._encoded = [trainer.prompts(sample) for sample in asked]
    completions, _ = trainer._generate_single_turn(None, None, None, GROUP)
    assert [len(prompts) for prompts, *_ in calls] == [2, 1]
    assert [count for _, count, *_ in calls] == [2, 4]
    assert {call[2:] for call in calls} == {(TEMPERATURE, 8)}
    assert completions == [[0], [1], [2], [3], [0], [1], [10], [11]]


def test_rewards_begin_before_the_rollouts_are_scored(policy, clip_rows, tmp_path):
    """With two steps a generation TRL scores the rollouts, which needs no reward: both are done at once."""
    order: list[str] = []

    def reward(completions, **columns):
        order.append("rewarded")
        return graded(completions)

    def begin(completions, samples):
        order.append("begun")
        given.append([(c[0]["content"], sample.id) for c, sample in zip(completions, samples, strict=True)])

    given: list[list] = []
    reward.begin = begin
    trainer = make(policy, clip_rows, tmp_path, rewards=reward, steps_per_generation=2)
    scored = trainer._get_per_token_logps_and_entropies

    def score(*args, **kwargs):
        order.append("scored")
        return scored(*args, **kwargs)

    trainer._get_per_token_logps_and_entropies = score
    completions = recorded(policy, PROMPTS * GROUP)
    replay(trainer, completions)
    trainer.model.train()
    trainer._generate_and_score_completions(batch(trainer, PROMPTS))
    assert order == ["begun", "scored", "rewarded"]
    texts = policy.processor.tokenizer.batch_decode(completions, skip_special_tokens=True)
    asked = [clip_rows[row].id for row in rows_of(PROMPTS)]
    assert given == [list(zip(texts, asked, strict=True))]


# -- prompts ahead -------------------------------------------------------------------------------------------


def with_workers(trainer, workers: int):
    trainer.prompts = Prompts(trainer.prompts.policy, MediaSettings(), "steps", workers=workers)
    return trainer


def test_prompts_made_ahead_change_nothing(nano_folder, clip_rows, tmp_path):
    after = {}
    for workers in (0, 2):
        policy = load_policy(str(nano_folder))
        trainer = with_workers(
            make(
                policy, clip_rows, tmp_path, max_steps=3, learning_rate=0.1, optim="sgd", logging_steps=1,
                lr_scheduler_type="constant", seed=3,
            ),
            workers,
        )  # fmt: skip
        before = weights(policy)
        trainer.train()
        trainer.prompts.close()
        assert (weights(policy) - before).abs().max() > 1e-3
        log = [{k: v for k, v in row.items() if "time" not in k and "per_second" not in k}
               for row in trainer.state.log_history]  # fmt: skip
        after[workers] = (weights(policy), log)
    assert torch.equal(after[0][0], after[2][0])
    assert str(after[0][1]) == str(after[2][1])


def test_the_clips_of_the_next_generation_are_announced_while_this_one_trains(policy, clip_rows, tmp_path):
    """Two steps a generation: TRL fetches its rows twice; they are announced once, one generation ahead."""
    trainer = make(
        policy, clip_rows, tmp_path, max_steps=6, per_device_train_batch_size=4, steps_per_generation=2,
        gradient_accumulation_steps=1,
    )  # fmt: skip
    order, announced, generated = [], [], []
    sampler, loss = trainer._generate_single_turn, trainer._compute_loss

    def expect(samples):
        order.append("announced")
        announced.append([sample.id for sample in samples])

    def generate(*args, **kwargs):
        order.append("generated")
        ids = {id(trainer.prompts(sample)): sample.id for sample in clip_rows}
        generated.append([ids[id(prompt)] for prompt in trainer._encoded[::GROUP]])
        return sampler(*args, **kwargs)

    def step(*args, **kwargs):
        order.append("step")
        return loss(*args, **kwargs)

    trainer.prompts.expect = expect
    trainer._generate_single_turn, trainer._compute_loss = generate, step
    trainer.train()
    assert announced == generated
    assert order == [
        "announced", "generated", "step", "announced", "step", "generated", "step", "announced", "step",
        "generated", "step", "step",
    ]  # fmt: skip


def test_with_one_step_a_generation_the_next_is_announced_before_this_one_is_sampled(
    policy, clip_rows, tmp_path
):
    trainer = make(policy, clip_rows, tmp_path, max_steps=3, dataloader_num_workers=2)
    assert trainer.args.dataloader_num_workers == 0  # of the rows: in a worker nothing could be announced
    order: list[str] = []
    trainer.prompts.expect = lambda samples: order.append("announced")
    sampler = trainer._generate_single_turn

    def sample(*args, **kwargs):
        order.append("sampled")
        return sampler(*args, **kwargs)

    trainer._generate_single_turn = sample
    trainer.train()
    assert order == ["announced", "announced", "sampled", "announced", "sampled", "sampled"]


# -- learning ------------------------------------------------------------------------------------------------


def preferred(completions, **columns):
    return [1.0 if "yes" in c[0]["content"] else 0.0 for c in completions]


class FlippedSign(OmniGRPOTrainer):
    """The loss of the released research code, which is not negated."""

    def _compute_loss(self, model, inputs):
        return -super()._compute_loss(model, inputs)


def assert_learns_the_better_one(cls, policy, samples, tmp_path):
    tokenizer = policy.processor.tokenizer
    better, worse = ([*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in ("yes", "no"))
    trainer = make(
        policy, samples[:1], tmp_path, cls, preferred, max_steps=1, learning_rate=0.05, optim="sgd",
        lr_scheduler_type="constant", per_device_train_batch_size=GROUP,
    )  # fmt: skip
    replay(trainer, [better, worse, worse, better])
    prompt = trainer.prompts(samples[0])

    def logps():
        with torch.no_grad():
            return [plain(policy, prompt, ids)[0].sum().item() for ids in (better, worse)]

    before = logps()
    trainer.train()
    after = logps()
    assert after[0] > before[0] + 1e-3
    assert after[1] < before[1] - 1e-3


def test_a_step_raises_the_better_completion_and_lowers_the_worse(policy, clip_rows, tmp_path):
    assert_learns_the_better_one(OmniGRPOTrainer, policy, clip_rows, tmp_path)


def test_the_flipped_sign_of_the_released_code_fails(policy, clip_rows, tmp_path):
    with pytest.raises(AssertionError):
        assert_learns_the_better_one(FlippedSign, policy, clip_rows, tmp_path)


def test_accumulation_does_not_change_the_step(nano_folder, clip_rows, tmp_path):
    """Batch 8 x 1 = 4 x 2 (whole groups) = 2 x 4 (cut ones) on the same rollouts."""
    after = {}
    for size, accumulation in ((8, 1), (4, 2), (2, 4)):
        policy = load_policy(str(nano_folder))
        before = weights(policy)
        trainer = make(
            policy, clip_rows, tmp_path, max_steps=1, learning_rate=0.1, max_grad_norm=0.0, optim="sgd",
            lr_scheduler_type="constant", per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
        )  # fmt: skip
        assert trainer.args.generation_batch_size == 8
        replay(trainer, recorded(policy))  # TRL draws the same two prompts by the seed
        trainer.train()
        after[size] = weights(policy)
        assert (after[size] - before).abs().max() > 1e-3
    assert (after[8] - after[4]).abs().max() < 1e-5
    assert (after[8] - after[2]).abs().max() < 1e-5


def test_two_updates_of_one_rollout_are_the_same_by_every_form(nano_folder, clip_rows, tmp_path):
    """The second update is off-policy: its ratios need the first one's log-probabilities."""
    after = {}
    for scoring in ("rows", "grouped"):
        policy = load_policy(str(nano_folder))
        before = weights(policy)
        trainer = make(
            policy, clip_rows, tmp_path, max_steps=2, num_iterations=2, learning_rate=0.05, max_grad_norm=0.0,
            optim="sgd", lr_scheduler_type="constant", logging_steps=1,
        )  # fmt: skip
        trainer.scoring = scoring
        replay(trainer, recorded(policy))
        trainer.train()
        after[scoring] = weights(policy)
        assert (after[scoring] - before).abs().max() > 1e-3
        assert trainer.state.log_history[1]["clip_ratio/region_mean"] > 0  # the policy has moved
    assert (after["rows"] - after["grouped"]).abs().max() < 1e-4


@pytest.mark.parametrize("scoring", ["grouped", "rows"])
def test_every_step_says_where_its_time_went(policy, clip_rows, tmp_path, scoring):
    trainer = make(
        policy, clip_rows, tmp_path, max_steps=2, per_device_train_batch_size=4, steps_per_generation=2,
        gradient_accumulation_steps=1, logging_steps=1,
    )  # fmt: skip
    trainer.scoring = scoring
    replay_ids = recorded(policy)
    sample = trainer._generate_single_turn

    def sampled(*args, **kwargs):
        sample(*args, **kwargs)
        return [list(ids) for ids in replay_ids], None

    trainer._generate_single_turn = sampled
    trainer.train()
    first, second = trainer.state.log_history[:2]
    parts = [f"time/{name}" for name in (*trainer.parts, "backward")]
    for row in (first, second):
        assert row["time/score"] > 0
        assert row["time/backward"] > 0
        assert sum(row[part] for part in parts) <= row["step_time"] * 1.01 + 1e-3
        assert sum(row[part] for part in parts) > 0.5 * row["step_time"]
    assert first["time/rollout"] > 0 < first["time/prompts"]
    assert second["time/rollout"] == second["time/rewards"] == 0  # the generation was the first step's
    if scoring == "grouped":
        assert first["time/padding"] == second["time/padding"] == 0
    else:
        assert 0 < second["time/padding"] < 0.5
    assert first["time/tokens_per_second"] > 0 < second["time/tokens_per_second"]
    # What a prompt costs does not depend on the form, so that the rate compares forms.
    rows = {id(prompt): len(prompt) for part in trainer._buffered_inputs for prompt in part["encoded"]}
    tokens = GROUP * next(iter(rows.values())) + sum(map(len, replay_ids)) / 2
    assert second["time/tokens_per_second"] * second["step_time"] == pytest.approx(tokens, rel=0.2)


# -- speaking up ---------------------------------------------------------------------------------------------


def unformatted(completions, **columns):
    return [0.0] * len(completions)


def formatted(completions, **columns):
    return [1.0] * len(completions)


unformatted.__name__ = formatted.__name__ = "format"  # TRL names a reward's metric after its function


def silent_run(trainer, policy, caplog, batches: int) -> list[str]:
    """What is said during so many generation batches."""
    replay(trainer, recorded(policy))
    trainer.model.train()
    caplog.clear()
    with caplog.at_level(logging.WARNING, "rlcomm"):
        for _ in range(batches):
            trainer._generate_and_score_completions(batch(trainer))
    return [record.getMessage() for record in caplog.records if record.name == "rlcomm"]


@pytest.mark.parametrize(
    ("rewards", "symptom", "cause"),
    [
        ([unformatted, graded], "format", "warm-up"),
        ([formatted], "without variance", "num_generations 4 too small"),
    ],
)
def test_a_run_that_learns_nothing_is_spoken_about_in_time(
    policy, clip_rows, tmp_path, caplog, rewards, symptom, cause
):
    trainer = make(policy, clip_rows, tmp_path, rewards=rewards)
    assert silent_run(trainer, policy, caplog, grpo.PATIENCE - 1) == []
    said = silent_run(trainer, policy, caplog, 1)
    assert len(said) == 1
    assert symptom in said[0]
    assert cause in said[0]
    assert silent_run(trainer, policy, caplog, 5) == []  # once, not at every step


def test_one_good_batch_takes_the_complaint_back(policy, clip_rows, tmp_path, caplog):
    trainer = make(policy, clip_rows, tmp_path, rewards=[formatted])
    assert silent_run(trainer, policy, caplog, grpo.PATIENCE - 1) == []
    trainer.reward_funcs = [lambda completions, **columns: [0.1 * i for i in range(len(completions))]]
    assert silent_run(trainer, policy, caplog, 1) == []
    trainer.reward_funcs = [formatted]
    assert silent_run(trainer, policy, caplog, grpo.PATIENCE - 1) == []


def test_a_run_that_learns_says_nothing(policy, clip_rows, tmp_path, caplog):
    trainer = make(policy, clip_rows, tmp_path, rewards=[formatted, graded])
    assert silent_run(trainer, policy, caplog, grpo.PATIENCE + 1) == []


def test_the_order_of_an_epoch_is_the_same_in_a_resumed_run():
    """TRL's sampler draws one order after the other; that of a new process begins with the first again."""
    whole = RepeatSampler(range(7), mini_repeat_count=2, batch_size=3, repeat_count=2, seed=5)
    orders = [list(whole) for _ in range(3)]
    assert orders[0] != orders[2]
    trainer = SimpleNamespace(state=SimpleNamespace(epoch=None))
    ours = OrderOfEpoch(
        RepeatSampler(range(7), mini_repeat_count=2, batch_size=3, repeat_count=2, seed=5), trainer
    )
    assert len(ours) == len(orders[0])
    for epoch, order in ((None, 0), (0, 0), (1.0, 1), (1.9, 1), (0.9999999, 1), (2.0, 2), (0.0, 0)):
        trainer.state.epoch = epoch
        assert list(ours) == orders[order]
