"""Branched decoding equals a plain loop without caches, and at both ends of GACL that of a single branch."""

import dataclasses

import numpy as np
import pytest
import torch

from rlcomm.data.clips import load_clip
from rlcomm.data.media import Clip, MediaSettings
from rlcomm.data.sample import read_jsonl
from rlcomm.decoding.branches import branch_prompts
from rlcomm.decoding.decoders import READS, token_rule
from rlcomm.omni.branching import generate_branched, generate_branched_ids
from rlcomm.omni.encode import merge_media, swap_media
from rlcomm.omni.policy import load_policy, suppressed_tokens
from rlcomm.omni.rollout import generate, generate_ids
from rlcomm.orchestra.build import build
from tests.conftest import make_sample

TEXT = "Description of the audio: I hear a drum, a flute and a harp."
OPEN = "What do you hear and what do you see?"
QUESTIONS = ["Is there a violin sound?", OPEN, "How many instruments are playing?", "What do you hear?"]
TOKENS = 16  # sentences answer the open questions, some longer than this; the others end soon
NAMES = (*dict.fromkeys(name for names in READS.values() for name in names),)


@pytest.fixture(scope="module")
def nano():
    """The shipped miniature, which was trained on such clips."""
    return load_policy("nano_omni")


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Clip]:
    """Four scenes with sound and picture, of one second and of two."""
    folder = tmp_path_factory.mktemp("world")
    build(folder, seed=11, train=4, test=0, progress=False)
    found = []
    for i, row in enumerate(read_jsonl(folder / "train.jsonl")):
        clip = load_clip(row.video, row.audio, MediaSettings())
        times = 1 + i % 2
        found.append(
            Clip(np.concatenate([clip.frames] * times), clip.fps, np.concatenate([clip.audio] * times))
        )
    return found


@pytest.fixture(scope="module", params=["text", "video"])
def prompts(request, nano, clips):
    """Branch -> its prompts; `evidence` lacks the text or the picture."""
    items = []
    for question, clip in zip(QUESTIONS, clips, strict=True):
        sample = make_sample(question=f"{TEXT}\n{question}")
        sample = dataclasses.replace(sample, meta={"without_text": question})
        items.append(branch_prompts(nano, sample, clip, NAMES, arbitrate=request.param))
    return {name: [item[name] for item in items] for name in NAMES}


def greedy(nano, prompts):
    return [group[0] for group in generate_ids(nano.model, nano.processor, prompts, max_new_tokens=TOKENS)]


def branched(nano, prompts, decoder, settings=None):
    branches = [prompts[name] for name in READS[decoder]]
    return generate_branched_ids(nano.model, nano.processor, branches, token_rule(decoder, settings), TOKENS)


def reference(nano, prompts, rule):
    """One item's tokens and the rule's scores at each step: every branch read from its first token on."""
    tokenizer, tokens, kept = nano.processor.tokenizer, [], []
    while len(tokens) < TOKENS and tokens[-1:] != [tokenizer.eos_token_id]:
        logits = []
        for prompt in prompts:
            written = torch.tensor(tokens, dtype=torch.long)
            places = (prompt.next_position + torch.arange(len(tokens))).expand(3, -1)
            with torch.no_grad():
                out = nano.model(
                    input_ids=torch.cat([prompt.ids, written])[None],
                    position_ids=torch.cat([prompt.positions, places], 1)[:, None],
                    use_cache=False,
                    **merge_media([prompt], torch.device("cpu"), torch.float32),
                ).logits[:, -1]
            out[:, suppressed_tokens(tokenizer)] = -torch.inf
            logits.append(out)
        kept.append(rule(logits)[0])
        tokens.append(int(kept[-1].argmax()))
    return tokens, kept


@pytest.mark.parametrize("settings", [{"lam": 0.0}, {"alpha_max": 0.0}])
def test_gacl_that_never_moves_writes_the_joint_answer(nano, prompts, settings):
    found = branched(nano, prompts, "gacl", settings)
    assert found == greedy(nano, prompts["joint"])
    assert len({len(answer) for answer in found}) > 1  # rows leave the batch at different steps


def test_gacl_that_moves_all_the_way_writes_the_evidence_answer(nano, prompts):
    away = {"lam": 1.0, "tau": 0.0}
    assert branched(nano, prompts, "gacl", away) == greedy(nano, prompts["evidence"])
    # against the evidence of another question, where J and A agree on little
    others = prompts["evidence"][1:] + prompts["evidence"][:1]
    found = branched(nano, {**prompts, "evidence": others}, "gacl", away)
    assert found == greedy(nano, others)
    assert found != greedy(nano, prompts["joint"])


@pytest.mark.parametrize("decoder", ["cad", "aad", "vcd"])
def test_a_contrast_of_strength_zero_is_greedy(nano, prompts, decoder):
    assert branched(nano, prompts, decoder, {"a": 0.0}) == greedy(nano, prompts["joint"])


@pytest.mark.parametrize("decoder", ["greedy", "ignore_text"])
def test_a_decoder_of_one_branch_is_greedy_on_it(nano, prompts, decoder):
    own = prompts[READS[decoder][0]]
    assert branched(nano, prompts, decoder) == greedy(nano, own)
    texts = generate_branched(nano.model, nano.processor, [own], token_rule(decoder), TOKENS)
    assert [[text] for text in texts] == generate(nano.model, nano.processor, own, max_new_tokens=TOKENS)


@pytest.mark.parametrize(("decoder", "settings"), [("gacl", {"lam": 1.25}), ("cad", {}), ("avcd", {})])
def test_every_step_equals_the_branches_read_anew(nano, prompts, decoder, settings):
    """Caches, positions, masks and the leaving of rows against none of them."""
    rule, names = token_rule(decoder, settings), READS[decoder]
    lengths = {tuple(len(prompts[name][i]) for name in names) for i in range(len(QUESTIONS))}
    assert all(len(set(one)) > 1 for one in lengths)  # branches of one item differ in length
    assert len(lengths) > 1  # and so do the items
    steps = []

    def recorded(logits):
        assert len(logits) == len(names)
        assert {one.shape for one in logits} == {logits[0].shape}
        assert {one.dtype for one in logits} == {torch.float32}
        steps.append(rule(logits))
        return steps[-1]

    found = generate_branched_ids(
        nano.model, nano.processor, [prompts[name] for name in names], recorded, TOKENS
    )
    assert [len(scores) for scores in steps] == [
        sum(len(answer) > step for answer in found) for step in range(len(steps))
    ]
    rows = [0] * len(steps)  # the next unread row of each step: items keep their order
    for i, answer in enumerate(found):
        tokens, expected = reference(nano, [prompts[name][i] for name in names], rule)
        assert answer == tokens
        for step, scores in enumerate(expected):
            assert torch.allclose(steps[step][rows[step]], scores, atol=1e-4)
            rows[step] += 1


@pytest.mark.parametrize("key", ["input_features", "pixel_values_videos"])
def test_other_media_in_one_branch_reach_that_branch_alone(nano, clips, key):
    """First-step logits of two branches before and after the swap, in every row."""
    sample = make_sample(question=f"{TEXT}\n{OPEN}")
    sample = dataclasses.replace(sample, meta={"without_text": OPEN})
    made = [
        branch_prompts(nano, sample, clip, ("joint", "evidence")) for clip in (clips[0], clips[2])
    ]  # of one length
    joint, evidence = ([item[name] for item in made] for name in ("joint", "evidence"))
    swapped = [swap_media(one, other, (key,)) for one, other in zip(evidence, evidence[::-1], strict=True)]
    seen = []

    def rule(logits):
        seen.append(torch.stack(logits))
        return logits[1]

    for second in (evidence, swapped):
        generate_branched_ids(nano.model, nano.processor, [joint, second], rule, 1)
    finite = seen[0].isfinite()
    moved = (seen[0] - seen[1]).masked_fill(~finite, 0.0).abs().amax(-1)  # (branches, items)
    assert (moved[0] < 1e-5).all()
    assert (moved[1] > 1e-3).all()


def test_other_sound_in_one_branch_changes_what_is_written(nano, clips):
    sample = make_sample(question=OPEN)
    prompts = branch_prompts(nano, sample, clips[0], ("joint", "no_video"))
    other = branch_prompts(nano, sample, clips[2], ("no_video",))["no_video"]
    rule = token_rule("gacl", {"lam": 1.0, "tau": 0.0})
    texts = generate_branched(
        nano.model,
        nano.processor,
        [[prompts["joint"]] * 2, [prompts["no_video"], other]],
        rule,
        TOKENS,
    )
    assert texts[0] != texts[1]


def test_special_tokens_are_ruled_out_of_every_branch_and_of_any_mix(nano, prompts):
    forbidden = suppressed_tokens(nano.processor.tokenizer)

    def worst(logits):
        assert all((one[:, forbidden] == -torch.inf).all() for one in logits)
        return logits[0].masked_fill(logits[0] == -torch.inf, 1e4)  # a rule that would choose them

    found = generate_branched_ids(nano.model, nano.processor, [prompts["joint"]], worst, TOKENS)
    assert found == greedy(nano, prompts["joint"])


@pytest.mark.parametrize("nothing", [-torch.inf, torch.nan])
def test_a_row_without_scores_ends_and_the_others_go_on(nano, prompts, nothing):
    calls = []

    def rule(logits):
        calls.append(len(logits[0]))
        scores = logits[0].clone()
        if len(calls) == 2:
            scores[0] = nothing
        return scores

    expected = greedy(nano, prompts["joint"])
    found = generate_branched_ids(nano.model, nano.processor, [prompts["joint"]], rule, TOKENS)
    assert found == [expected[0][:1], *expected[1:]]


def test_branches_of_different_items_are_refused(nano, prompts):
    for branches in ([prompts["joint"], prompts["joint"][:1]], [], [[], []]):
        with pytest.raises(ValueError, match="branches of the same items"):
            generate_branched_ids(nano.model, nano.processor, branches, token_rule("gacl"), 1)
