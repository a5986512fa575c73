"""Log-probabilities: grouped = rows = a plain forward with the media, and the media matter."""

import pytest
import torch

from rlcomm.omni.encode import merge_media, swap_media
from rlcomm.omni.rollout import generate_ids
from rlcomm.omni.score import candidate_scores, pad_completions, score
from tests.conftest import make_prompt

CPU = torch.device("cpu")


@pytest.fixture
def batch(policy):
    """Three prompts of unlike lengths (one 5 s long) with 4, 3 and 1 completions of unlike lengths."""
    prompts = [
        make_prompt(policy, 0),
        make_prompt(policy, 1, 5.0),
        make_prompt(policy, 2, question="Is there a drum?"),
    ]
    groups = generate_ids(policy.model, policy.processor, prompts, 4, 20, temperature=1.0, seed=3)
    rows = [p for p, n in zip(prompts, (4, 3, 1), strict=True) for _ in range(n)]
    texts = [c for g, n in zip(groups, (4, 3, 1), strict=True) for c in g[:n]]
    texts[1], texts[5] = texts[1][:1], texts[5][:7]
    order = [3, 0, 6, 1, 7, 5, 2, 4]  # as after TRL's shuffle: groups are not contiguous
    ids, mask = pad_completions([texts[i] for i in order], 0, CPU)
    return [rows[i] for i in order], ids, mask


def plain(policy, prompt, ids):
    """One row through transformers alone: its own positions, full logits."""
    row = torch.cat([prompt.ids, ids])[None]
    seconds = {"video_second_per_grid": torch.tensor([1.0])} if "video_grid_thw" in prompt.media else {}
    logits = policy.model(
        input_ids=row, attention_mask=torch.ones_like(row), use_audio_in_video=True, **seconds,
        **merge_media([prompt], CPU, torch.float32),
    ).logits[0, len(prompt) - 1 : -1]  # fmt: skip
    logps = logits.log_softmax(-1)
    return logps.gather(1, ids[:, None])[:, 0], -(logps.exp() * logps).sum(-1)


@pytest.mark.parametrize("scoring", ["rows", "grouped", "auto"])
def test_scores_equal_a_plain_forward(policy, batch, scoring):
    prompts, ids, mask = batch
    logps, entropies = score(policy.model, prompts, ids, mask, scoring)
    for i, prompt in enumerate(prompts):
        length = int(mask[i].sum())
        expected, uncertain = plain(policy, prompt, ids[i, :length])
        assert torch.allclose(logps[i, :length], expected, atol=1e-5)
        assert torch.allclose(entropies[i, :length], uncertain, atol=1e-5)
        assert not logps[i, length:].any()


@pytest.mark.parametrize("scoring", ["rows", "grouped"])
def test_the_head_is_computed_at_completions_alone(policy, batch, scoring, monkeypatch):
    from trl.trainer import utils

    seen = []
    real = utils._ChunkedLogProbFunction.apply
    monkeypatch.setattr(
        utils._ChunkedLogProbFunction,
        "apply",
        lambda hidden, *more: seen.append(hidden.shape) or real(hidden, *more),
    )
    prompts, ids, mask = batch
    everything = score(policy.model, prompts, ids, mask, scoring)
    wanted = torch.arange(ids.shape[1]) % 3 == 1
    some = score(policy.model, prompts, ids, mask, scoring, wanted=wanted.expand_as(mask))
    width = policy.model.config.get_text_config().hidden_size
    assert seen == [(int(mask.sum()), width), (int((mask * wanted).sum()), width)]
    for one, other in zip(everything, some, strict=True):
        assert torch.allclose(one * wanted, other, atol=1e-6)


@pytest.mark.parametrize("frozen", [True, False])
def test_gradients_of_every_form_equal_those_of_rows(policy, batch, frozen):
    from rlcomm.omni.policy import set_trainable

    set_trainable(policy.model, frozen)
    prompts, ids, mask = batch
    weight = torch.linspace(-1, 1, len(ids))[:, None]
    grads = {}
    for scoring in ("rows", "grouped"):
        policy.model.zero_grad()
        logps, entropies = score(policy.model, prompts, ids, mask, scoring)
        (weight * logps + 0.1 * entropies).sum().backward()
        grads[scoring] = torch.cat(
            [p.grad.flatten() for p in policy.model.parameters() if p.grad is not None]
        )
    assert grads["rows"].norm() > 1
    assert (grads["rows"] - grads["grouped"]).norm() / grads["rows"].norm() < 1e-4


def test_an_empty_completion_scores_nothing(policy, batch):
    prompts, ids, mask = batch
    mask = mask.clone()
    mask[2] = 0
    for scoring in ("rows", "grouped"):
        logps, _ = score(policy.model, prompts, ids, mask, scoring)
        assert not logps[2].any()
        assert logps[3].any()


@pytest.mark.parametrize("scoring", ["rows", "grouped"])
@pytest.mark.parametrize("keys", [("input_features",), ("pixel_values_videos",)])
def test_another_clips_sound_or_picture_changes_the_score(policy, batch, scoring, keys):
    prompts, ids, mask = batch
    other = make_prompt(policy, 77)
    short = [i for i, p in enumerate(prompts) if len(p.media["feature_attention_mask"][0]) == 100]
    swapped = {id(prompts[i]): swap_media(prompts[i], other, keys) for i in short}
    before, _ = score(policy.model, prompts, ids, mask, scoring)
    after, _ = score(policy.model, [swapped.get(id(p), p) for p in prompts], ids, mask, scoring)
    changes = (before - after).abs().amax(1)
    assert changes[short].max() > 1e-3
    for i, change in enumerate(changes.tolist()):
        assert (change > 1e-5) == (i in short)


def test_candidate_scores_are_sums_over_label_tokens(policy):
    prompt = make_prompt(policy, 0)
    tokenizer = policy.processor.tokenizer
    labels = ["yes", "no", "drum and flute"]
    total = candidate_scores(policy.model, policy.processor, [prompt], [labels], normalise=False)[0]
    mean = candidate_scores(policy.model, policy.processor, [prompt], [labels], normalise=True)[0]
    for label, sum_, mean_ in zip(labels, total, mean, strict=True):
        ids = torch.tensor(tokenizer(label)["input_ids"])
        expected = plain(policy, prompt, ids)[0]
        assert sum_ == pytest.approx(expected.sum().item(), abs=1e-4)
        assert mean_ == pytest.approx(expected.mean().item(), abs=1e-4)
    sum_, mean_ = (
        candidate_scores(policy.model, policy.processor, [prompt], [["yes"]], normalise, prefixes=["I hear"])[
            0
        ][0]
        for normalise in (False, True)
    )
    before, ids = (tokenizer(text)["input_ids"] for text in ("I hear", "yes"))
    expected = plain(policy, prompt, torch.tensor([*before, *ids]))[0][len(before) :]
    assert sum_ == pytest.approx(expected.sum().item(), abs=1e-4)
    assert mean_ == pytest.approx(expected.mean().item(), abs=1e-4)
