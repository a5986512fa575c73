"""Rollouts: as transformers' generate, media once per prompt, no token that would break the next forward."""

import pytest
import torch

from rlcomm.omni.encode import merge_media
from rlcomm.omni.policy import suppressed_tokens
from rlcomm.omni.rollout import generate, generate_ids
from tests.conftest import make_prompt


def reference(policy, prompt, tokens):
    """transformers' own greedy generate on the prompt alone."""
    out = policy.model.generate(
        input_ids=prompt.ids[None], attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False, use_audio_in_video=True, video_second_per_grid=torch.tensor([1.0]),
        max_new_tokens=tokens, suppress_tokens=suppressed_tokens(policy.processor.tokenizer),
        **merge_media([prompt], torch.device("cpu"), torch.float32),
    )  # fmt: skip
    return out[0, len(prompt) :].tolist()


def test_greedy_groups_equal_generate_on_each_prompt_alone(policy):
    prompts = [make_prompt(policy, 0), make_prompt(policy, 1, 4.0), make_prompt(policy, 2, question="Drum?")]
    groups = generate_ids(policy.model, policy.processor, prompts, num_generations=3, max_new_tokens=24)
    for prompt, group in zip(prompts, groups, strict=True):
        expected = reference(policy, prompt, 24)
        assert group == [expected] * 3


def test_media_are_encoded_once_per_prompt(policy):
    heard: list[int] = []
    model = policy.model.model
    model.audio_tower.register_forward_pre_hook(
        lambda m, args, kwargs: heard.append(len(kwargs["feature_lens"])), with_kwargs=True
    )
    seen = []
    model.visual.register_forward_pre_hook(
        lambda m, args, kwargs: seen.append(args[0].shape[0]), with_kwargs=True
    )
    prompts = [make_prompt(policy, i) for i in range(3)]
    generate_ids(
        policy.model, policy.processor, prompts, num_generations=8, max_new_tokens=6, temperature=1.0, seed=0
    )
    assert heard == [3]  # one call, and in it the sounds of three clips
    assert seen == [3 * 24]  # and their patches, not those of twenty-four


def test_finished_sequences_stop_and_the_rest_go_on(policy):
    """Ends are forced at unlike steps by a head that favours the end of turn for some rows."""
    prompts = [make_prompt(policy, i) for i in range(4)]
    groups = generate_ids(policy.model, policy.processor, prompts, 8, 40, temperature=1.5, seed=1)
    eos = policy.processor.tokenizer.eos_token_id
    lengths = {len(c) for g in groups for c in g}
    assert len(lengths) > 1
    assert all(eos not in c[:-1] for g in groups for c in g)


def test_special_tokens_are_never_sampled(policy):
    groups = generate_ids(
        policy.model, policy.processor, [make_prompt(policy, 0)], 32, 24, temperature=8.0, seed=5
    )
    forbidden = set(suppressed_tokens(policy.processor.tokenizer))
    assert policy.config.audio_token_id in forbidden
    assert policy.config.vision_start_token_id in forbidden
    assert not forbidden & {t for c in groups[0] for t in c}


@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_a_seed_repeats_and_sampling_follows_the_distribution(policy, temperature):
    """Chi-square of 4,000 first tokens against the model's own next-token probabilities."""
    prompt = make_prompt(policy, 0)
    draws = generate_ids(policy.model, policy.processor, [prompt], 4000, 1, temperature, seed=7)[0]
    again = generate_ids(policy.model, policy.processor, [prompt], 4000, 1, temperature, seed=7)[0]
    assert draws == again
    logits = policy.model(
        input_ids=prompt.ids[None], position_ids=prompt.positions[:, None],
        **merge_media([prompt], torch.device("cpu"), torch.float32),
    ).logits[0, -1]  # fmt: skip
    logits[suppressed_tokens(policy.processor.tokenizer)] = -torch.inf
    expected = (logits / temperature).softmax(-1) * 4000
    counts = torch.bincount(torch.tensor([d[0] for d in draws]), minlength=len(expected))
    likely = expected >= 5
    observed = torch.cat([counts[likely], counts[~likely].sum()[None]])
    wanted = torch.cat([expected[likely], expected[~likely].sum()[None]])
    statistic = ((observed - wanted) ** 2 / wanted.clamp(min=1e-9)).sum().item()
    freedom = len(wanted) - 1
    assert statistic < freedom + 4 * (2 * freedom) ** 0.5  # about four standard deviations


def test_generate_decodes_without_special_tokens(policy):
    texts = generate(policy.model, policy.processor, [make_prompt(policy, 0)], max_new_tokens=5)
    assert "<|" not in texts[0][0]
