"""Readings of real thinkers: equal to plain forwards, read again from anywhere, patched like a naive loop.

Qwen2.5-Omni (with adapters too) and Qwen3-Omni (experts, visual features that enter several layers). In
double precision, so that equal means equal.
"""

import dataclasses

import pytest
import torch
from peft import get_peft_model

from rlcomm.diagnostics.hooks import COMPONENTS, Patch, decoder_of, layers_of
from rlcomm.diagnostics.patching import sweep
from rlcomm.diagnostics.reading import Reading
from rlcomm.diagnostics.segments import pairings, segments
from rlcomm.omni.encode import encode, merge_media, reword, swap_media
from rlcomm.omni.labels import label_ids
from rlcomm.omni.policy import load_policy, lora_config
from rlcomm.omni.score import candidate_scores
from tests.checkpoints import qwen3_omni, qwen3_processor, qwen3_tokenizer
from tests.conftest import make_clip, make_sample

LABELS = ["yes", "a harp and a drum", "no"]
TEXT, QUESTION = "I hear a harp and a flute.\n", "Is there a violin sound?"
EXACT = 1e-9


def margin(scores):
    return scores[0] - scores[2]


@pytest.fixture(scope="module")
def qwen3_folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen3")
    renamed = qwen3_tokenizer(tokenizer)
    qwen3_omni(renamed).thinker.save_pretrained(folder)
    qwen3_processor(renamed).save_pretrained(folder)
    return folder


@pytest.fixture(params=["qwen2.5", "lora", "qwen3"])
def policy(request, nano_folder):
    if request.param == "qwen3":
        loaded = load_policy(str(request.getfixturevalue("qwen3_folder")))
        loaded.model.set_experts_implementation("eager")  # the grouped one knows no double precision
    else:
        loaded = load_policy(str(nano_folder))
    if request.param == "lora":
        loaded.model = get_peft_model(loaded.model, lora_config(r=2, alpha=4))
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.3)
    loaded.model.double().eval()
    return loaded


def branches(policy, distractor, seed=0):
    """Joint and reference prompt."""
    clip = make_clip(seed, 2.0)
    joint = encode(policy, make_sample(), clip, text=TEXT + QUESTION)
    if distractor == "text":
        return joint, reword(policy, joint, QUESTION)
    lost = {"video": "frames", "audio": "audio"}[distractor]
    return joint, encode(
        policy, make_sample(), dataclasses.replace(clip, **{lost: None}), text=TEXT + QUESTION
    )


def both(policy, prompts):
    tokenizer = policy.processor.tokenizer
    joint = Reading(policy.model, tokenizer, prompts[0], LABELS)
    reference = Reading(policy.model, tokenizer, prompts[1], LABELS, known=joint)
    here = segments(policy.processor, *prompts, joint.length - len(prompts[0]))
    there = segments(policy.processor, *prompts[::-1], reference.length - len(prompts[1]))
    return joint, reference, pairings(here, there), pairings(here, here)


def swept(joint, pairs, states, shared=0):
    def forward(patches, start):
        return [margin(scores) for scores in joint.rescored(patches, start)]

    return sweep(forward, pairs, states, margin(joint.scores), shared, rows=5)


def naive(policy, joint, prompt, pairs, states):
    """One label, one patch, one whole forward at a time, through hooks of its own; no cache, no packing."""
    tokenizer, layers = policy.processor.tokenizer, layers_of(decoder_of(policy.model))
    size = len(prompt)
    found = {}
    for component in COMPONENTS:
        for group, pairing in pairs.items():
            for layer in range(len(layers)):
                scores = []
                behind = size  # where the label's tokens lie in the reading
                for end in label_ids(tokenizer, LABELS):
                    at, values = pairing.at, pairing.values(states[component, layer])
                    own = (at < size) | ((at >= behind) & (at < behind + len(end) - 1))
                    place = torch.where(at < size, at, at - behind + size)[own]

                    def put(module, args, output, place=place, values=values[own]):
                        hidden = output[0] if isinstance(output, tuple) else output
                        hidden = hidden.index_copy(1, place, values[None])
                        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

                    handle = layers.at(component, layer).register_forward_hook(put)
                    row = torch.cat([prompt.ids, torch.tensor(end[:-1], dtype=torch.long)])[None]
                    positions = joint.positions[:, None, : row.shape[1]].clone()
                    following = prompt.next_position + torch.arange(len(end) - 1)
                    positions[:, 0, size:] = following.to(positions.dtype)
                    logits = policy.model(
                        input_ids=row, attention_mask=torch.ones_like(row), position_ids=positions,
                        **merge_media([prompt], torch.device("cpu"), torch.float64),
                    ).logits[0, size - 1 :]  # fmt: skip
                    handle.remove()
                    scores.append(logits.log_softmax(-1).gather(1, torch.tensor(end)[:, None]).mean().item())
                    behind += len(end) - 1
                found[component, group, layer] = margin(scores)
    return found


@torch.no_grad()
@pytest.mark.parametrize("distractor", ["text", "video", "audio"])
def test_scores_are_those_of_single_prompts(policy, distractor):
    prompts = branches(policy, distractor)
    joint, reference, _, _ = both(policy, prompts)
    assert (reference.shared > 0) == (distractor == "text")
    for reading, prompt in zip((joint, reference), prompts, strict=True):
        expected = candidate_scores(policy.model, policy.processor, [prompt], [LABELS], scoring="rows")
        assert reading.scores == pytest.approx(expected[0], abs=1e-6)
    assert abs(margin(joint.scores) - margin(reference.scores)) > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("distractor", ["text", "video"])
def test_patches_equal_a_naive_loop(policy, distractor):
    """Trap: a place that shifted with the kept prefix, a label that sees its neighbour, a lost picture."""
    prompts = branches(policy, distractor)
    joint, reference, pairs, _ = both(policy, prompts)
    pairs = {group: pairs[group] for group in (distractor, "all")}
    found = swept(joint, pairs, reference.activations, reference.shared)
    expected = naive(policy, joint, prompts[0], pairs, reference.activations)
    for (component, group, layer), value in expected.items():
        assert found[component][group][layer] == pytest.approx(value, abs=1e-6), (component, group, layer)
    assert len({round(value, 6) for value in expected.values()}) > 10


@torch.no_grad()
@pytest.mark.parametrize("distractor", ["text", "video"])
def test_a_branchs_own_activations_change_nothing(policy, distractor):
    joint, _, _, same = both(policy, branches(policy, distractor))
    expected = margin(joint.scores)
    for by_group in swept(joint, same, joint.activations).values():
        for values in by_group.values():
            assert values == pytest.approx([expected] * len(values), abs=EXACT)


@torch.no_grad()
@pytest.mark.parametrize("distractor", ["text", "video", "audio"])
def test_the_last_residual_at_the_answer_is_the_reference(policy, distractor):
    joint, reference, pairs, _ = both(policy, branches(policy, distractor))
    residual = swept(joint, pairs, reference.activations, reference.shared)["residual"]
    for group in ("answer", "all"):
        assert residual[group][-1] == pytest.approx(margin(reference.scores), abs=EXACT)
    for group in residual.keys() - {"answer", "all"}:
        assert residual[group][-1] == pytest.approx(margin(joint.scores), abs=EXACT)


@torch.no_grad()
def test_what_stands_before_the_difference_needs_no_patch(policy):
    """What is left out of the forwards (recovery 0) is indeed 0 where it is computed."""
    joint, reference, pairs, _ = both(policy, branches(policy, "text"))
    media = {group: pairs[group] for group in ("audio", "video")}
    assert all(int(pairing.at.max()) < reference.shared for pairing in media.values())
    computed = swept(joint, media, reference.activations)
    for component, by_group in swept(joint, media, reference.activations, reference.shared).items():
        for group, values in by_group.items():
            assert values == pytest.approx(computed[component][group], abs=EXACT)


@torch.no_grad()
def test_another_clips_media_change_what_is_read(policy):
    prompts, others = branches(policy, "text"), branches(policy, "text", seed=7)
    before = both(policy, prompts)[1].activations
    for key in ("input_features", "pixel_values_videos"):
        joint = swap_media(prompts[0], others[0], (key,))
        reference = dataclasses.replace(prompts[1], media=joint.media)
        after = both(policy, (joint, reference))[1].activations
        for component in COMPONENTS:
            for layer in range(len(layers_of(decoder_of(policy.model)))):
                moved = (after[component, layer][-1] - before[component, layer][-1]).abs().max()
                assert moved > 1e-6, (key, component, layer)


@torch.no_grad()
def test_hooks_are_gone_afterwards_and_after_a_failure(policy):
    joint, reference, pairs, _ = both(policy, branches(policy, "text"))
    swept(joint, pairs, reference.activations, reference.shared)
    bad = Patch("mlp", 0, torch.tensor([joint.length + 50]), torch.zeros(1, 3, dtype=torch.float64))
    with pytest.raises((IndexError, RuntimeError)):
        joint.rescored([[bad]], 0)
    left = [name for name, part in policy.model.named_modules() if part._forward_hooks]
    assert not left
    assert not [name for name, part in policy.model.named_modules() if part._forward_pre_hooks]


@torch.no_grad()
def test_media_are_read_once_for_both_branches_and_all_patches(policy):
    prompts = branches(policy, "text")
    towers = decoder_parent(policy)
    heard, seen = [], []
    handles = [
        towers.audio_tower.register_forward_hook(lambda *_: heard.append(1)),
        towers.visual.register_forward_hook(lambda *_: seen.append(1)),
    ]
    joint, reference, pairs, _ = both(policy, prompts)
    swept(joint, pairs, reference.activations, reference.shared)
    for handle in handles:
        handle.remove()
    assert (len(heard), len(seen)) == (1, 1)


def decoder_parent(policy):
    model = policy.model.get_base_model() if hasattr(policy.model, "get_base_model") else policy.model
    return model.model
