"""Rows that share their prompt are the rows that each have a copy of it, and cost less."""

import pytest
import torch

from rlcomm.omni import rollout, shared
from rlcomm.omni.encode import merge_media, reword
from rlcomm.omni.policy import load_policy
from rlcomm.omni.rollout import generate_ids
from rlcomm.omni.rows import read
from rlcomm.omni.shared import SharedRows
from tests.conftest import make_prompt

CPU = torch.device("cpu")


@pytest.mark.parametrize("lengths", [(1.0, 1.0), (1.0, 4.0), (4.0, 3.5)])
@torch.no_grad()
def test_shared_rows_read_what_copies_read(policy, monkeypatch, lengths):
    """Traps: a place in the table that another sequence had, a prompt that left too early, filler that is
    attended to, own keys lost when their room grows."""
    monkeypatch.setattr(shared, "ROOM", 2)
    prompts = [make_prompt(policy, i, seconds) for i, seconds in enumerate((*lengths, 1.0))]
    ours = SharedRows(policy.model, prompts, 0, 3)
    plain = read(policy.model, prompts, 0)
    plain.repeat(3)
    draw = torch.Generator().manual_seed(0)
    everyone = list(range(9))
    leaving = {2: [4], 3: [0, 8], 5: [3, 5], 6: [1, 6], 7: [7]}  # prompt 1, then prompt 2 end before prompt 0
    for step in range(10):
        assert torch.allclose(ours.logits(), plain.logits(), atol=1e-4)
        if gone := leaving.get(step):
            keep = torch.tensor([row for row, name in enumerate(everyone) if name not in gone])
            everyone = [name for name in everyone if name not in gone]
            ours.select(keep)
            plain.select(keep)
        tokens = torch.randint(20, 300, (len(everyone),), generator=draw)
        ours.feed(tokens)
        plain.feed(tokens)
    assert everyone == [2]
    assert ours.layers[0].prompt_keys.shape[0] == 1
    swapped = SharedRows(policy.model, [make_prompt(policy, 9, lengths[0]), *prompts[1:]], 0, 3)
    assert not torch.allclose(
        swapped.logits()[:3], SharedRows(policy.model, prompts, 0, 3).logits()[:3], atol=1e-2
    )


@torch.no_grad()
def test_a_prompt_is_kept_once_whatever_the_number_of_its_sequences(policy):
    rows = SharedRows(policy.model, [make_prompt(policy, 0)], 0, 64)
    layer = rows.layers[0]
    assert layer.prompt_keys.shape[0] == 1
    assert layer.keys.shape[0] == 64


@torch.no_grad()
def test_the_models_own_attention_is_back_after_every_step(policy):
    """Trap: scoring after a rollout would attend to a prompt that is no longer there."""
    config = policy.model.model.language_model.config
    rows = SharedRows(policy.model, [make_prompt(policy, 0)], 0, 2)
    rows.feed(torch.tensor([30, 31]))
    assert config._attn_implementation == "sdpa"
    with pytest.raises(RuntimeError):
        rows.feed(torch.tensor([30, 31, 32]))  # a row too many
    assert config._attn_implementation == "sdpa"


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.no_grad()
def test_prompts_are_read_in_one_row_without_filler_and_a_clip_once(nano_folder, attention):
    """Trap: prompts whose spans of the row are put together in the wrong order, or those of another."""
    policy = load_policy(str(nano_folder), attn_implementation=attention)
    clip = make_prompt(policy, 0)
    asked = reword(policy, clip, "Is there a drum, or is there none?")
    prompts = [clip, make_prompt(policy, 1, 4.0), asked, clip]
    seen, plain = [], read(policy.model, prompts, 0)
    hook = policy.model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    ours = SharedRows(policy.model, prompts, 0)
    hook.remove()
    assert seen[0] < len(prompts[1]) + 1.5 * len(asked)  # of the clip's three prompts words alone were added
    tokens = torch.randint(20, 300, (4,), generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        assert torch.allclose(ours.logits(), plain.logits(), atol=1e-4)
        ours.feed(tokens)
        plain.feed(tokens)


@torch.no_grad()
def test_an_attention_without_groups_reads_plainly(policy, monkeypatch):
    prompts = [make_prompt(policy, 0), make_prompt(policy, 1, 4.0)]
    expected = SharedRows(policy.model, prompts, 0, 2)
    monkeypatch.setattr(shared.grouped, "refusal", lambda config: "it cannot")
    plain = SharedRows(policy.model, prompts, 0, 2)
    for rows in (expected, plain):
        rows.feed(torch.tensor([30, 31, 32, 33]))
    assert torch.allclose(plain.logits(), expected.logits(), atol=1e-4)


def difference(ones: list, others: list) -> tuple[float, float]:
    """Chi-square statistic of two samples of equal size, rare outcomes pooled, and its bound: mean plus four
    standard deviations."""
    outcomes = sorted({tuple(x) for x in ones} | {tuple(x) for x in others})
    counts = torch.tensor([[sum(tuple(x) == o for x in some) for o in outcomes] for some in (ones, others)])
    rare = counts.sum(0) < 10
    cells = torch.cat([counts[:, ~rare], counts[:, rare].sum(1, keepdim=True)], 1).double()
    statistic = ((cells[0] - cells[1]) ** 2 / cells.sum(0).clamp(min=1)).sum().item()
    freedom = cells.shape[1] - 1
    assert freedom >= 5
    return statistic, freedom + 4 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("cache", ["shared", "copies"])
def test_samples_are_distributed_as_those_of_transformers(policy, monkeypatch, cache):
    """Whole completions over three tokens, one of which ends the turn, so that rows leave at every length."""
    tokenizer = policy.processor.tokenizer
    words = [300, 310, tokenizer.eos_token_id]
    forbidden = sorted(set(range(len(tokenizer))) - set(words))
    monkeypatch.setattr(rollout, "suppressed_tokens", lambda tokenizer: forbidden)
    prompt, draws, tokens = make_prompt(policy, 0), 300, 4
    options = dict(max_new_tokens=tokens, temperature=4.0)
    ours = generate_ids(policy.model, policy.processor, [prompt], draws, seed=1, cache=cache, **options)[0]
    torch.manual_seed(2)
    out = policy.model.generate(
        input_ids=prompt.ids[None], attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=True, top_k=0, use_audio_in_video=True, video_second_per_grid=torch.tensor([1.0]),
        suppress_tokens=forbidden, num_return_sequences=draws, **options,
        **merge_media([prompt], CPU, torch.float32),
    )[:, len(prompt) :].tolist()  # fmt: skip
    theirs = [row[: row.index(words[2]) + 1] if words[2] in row else row for row in out]
    assert len({len(row) for row in ours}) == tokens
    statistic, bound = difference(ours, theirs)
    assert statistic < bound
    options["temperature"] = 1.5
    colder = generate_ids(policy.model, policy.processor, [prompt], draws, seed=1, cache=cache, **options)[0]
    statistic, bound = difference(colder, theirs)
    assert statistic > bound  # the test can tell


@pytest.mark.parametrize("options", [{"temperature": 3.0}, {"temperature": 1.0, "top_k": 1}, {}])
def test_no_end_of_turn_before_the_least_number_of_tokens(policy, monkeypatch, options):
    """Trap: top_k that keeps the end of turn alone leaves nothing to draw from."""
    real = SharedRows.logits

    def ending(rows):
        logits = real(rows)
        logits[:, policy.processor.tokenizer.eos_token_id] = 50.0
        return logits

    monkeypatch.setattr(SharedRows, "logits", ending)
    arguments = (policy.model, policy.processor, [make_prompt(policy, 0)], 4, 9)
    free, held = (generate_ids(*arguments, seed=0, min_new_tokens=least, **options)[0] for least in (0, 7))
    assert [len(row) for row in free] == [1] * 4
    assert [len(row) for row in held] == [8] * 4
