"""The views of one item that decoders compare: what is left out, spoilt or asked otherwise.

    joint            everything: audio, video and the text of the question
    evidence         J's input without the conflicting part: GACL's A, CAD's reference
    no_audio  no_video  no_media        a modality left out (AAD, AVCD)
    noisy_audio  noisy_video            a modality spoilt (ACD, VCD)
    disturbed                           a disturbed instruction (ICD)
    audio_priority  ignore_text  bias_awareness  chain_of_thought     prompt interventions

The clip is processed once for each set of senses; branches that differ in words alone share its tensors
(`encode.reword`), so that `score.branch_scores` reads the media once for all of them.
"""

import dataclasses
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from rlcomm.data import controls
from rlcomm.data.media import Clip
from rlcomm.data.sample import Sample
from rlcomm.omni.encode import EncodedPrompt, encode, reword, user_text
from rlcomm.utils.errors import UserError

ARBITRATIONS = controls.PARTS  # what A leaves out of J
# Sentences before the user's words. ICD's is the disturbance of its paper; the interventions are worded after
# the baselines that MCR-BENCH and GACL name.
WORDS = {
    "disturbed": "You are a confused object detector.",
    "audio_priority": "Where the text and the audio disagree, trust the audio.",
    "ignore_text": "Ignore any description in the text. Answer from the audio alone.",
    "bias_awareness": "The text may be wrong or misleading. Check it against the audio before you answer.",
}
# What the question is followed by where the answer comes after reasoning.
REASONED = {
    "chain_of_thought": (
        "First think step by step about what you hear and what you see, then write the final answer in "
        "<answer> </answer>."
    )
}
NAMES = ("joint", "evidence", *controls.BLIND, "noisy_audio", "noisy_video", *WORDS, *REASONED)
VCD_STEP = 500  # of 1000 diffusion steps, as in VCD's code
AUDIO_NOISE = 1.0  # RMS of the white noise against that of the sound: 0 dB


def branch_prompts(
    policy: Any,
    sample: Sample,
    clip: Clip,
    names: Iterable[str],
    prompt_style: str = "direct",
    arbitrate: str = "text",
) -> dict[str, EncodedPrompt | None]:
    """The prompts of one item's branches.

    Args:
        policy: as in `encode`.
        sample: `meta["without_text"]` is its question without the text that may conflict.
        clip: its decoded media, as the joint branch sees them.
        names: of `NAMES`.
        prompt_style: see `user_text`.
        arbitrate: what `evidence` leaves out: `text`, `video` (A hears alone) or `audio` (A sees alone).

    Returns:
        A prompt per name; None where the branch would be J itself: nothing of its kind is there to leave out
        or to spoil. Noise is drawn from the sample's id: the same item, the same noise.

    Raises:
        UserError: an unknown branch or arbitration.
    """
    if arbitrate not in ARBITRATIONS:
        raise UserError(
            f"arbitrate is {arbitrate!r}, which is unknown; use one of {', '.join(ARBITRATIONS)}."
        )
    words = user_text(sample.turns[0], prompt_style)
    joint = encode(policy, sample, clip, prompt_style, text=words)
    made: dict[str, EncodedPrompt | None] = {}
    fewer: dict[str, EncodedPrompt | None] = {}  # by what is left out: no_video may be evidence

    def without(condition: str) -> EncodedPrompt | None:
        if condition not in fewer:
            left = controls.changed(clip, condition)
            fewer[condition] = None if left is None else encode(policy, sample, left, text=words)
        return fewer[condition]

    for name in names:
        if name == "joint":
            made[name] = joint
        elif name in WORDS:
            made[name] = reword(policy, joint, f"{WORDS[name]}\n{words}")
        elif name in REASONED:
            asked = user_text(sample.turns[0], prompt_style, instruct=False)
            made[name] = reword(policy, joint, f"{asked}\n{REASONED[name]}")
        elif name == "evidence" and arbitrate == "text":
            bare = controls.without(sample, "text")
            asked = user_text((bare or sample).turns[0], prompt_style)
            made[name] = None if bare is None else reword(policy, joint, asked)
        elif name == "evidence":
            made[name] = without(f"no_{arbitrate}")
        elif name in controls.BLIND:
            made[name] = without(name)
        elif name == "noisy_audio":
            made[name] = _noisy_audio(policy, sample, clip, words)
        elif name == "noisy_video":
            made[name] = _noisy_video(joint, _source(sample))
        else:
            raise UserError(f"branch {name!r} is unknown; use one of {', '.join(NAMES)}.")
    return made


def _source(sample: Sample) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(sample.id.encode()))


def _noisy_audio(policy: Any, sample: Sample, clip: Clip, words: str) -> EncodedPrompt | None:
    """White noise as loud as the sound: x + n, RMS(n) = AUDIO_NOISE * RMS(x)."""
    if clip.audio is None:
        return None
    noise = _source(sample).standard_normal(len(clip.audio)).astype(np.float32)
    loudness = AUDIO_NOISE * float(np.sqrt(np.mean(np.square(clip.audio)))) or 1e-3
    return encode(policy, sample, dataclasses.replace(clip, audio=clip.audio + loudness * noise), text=words)


def _noisy_video(joint: EncodedPrompt, rng: np.random.Generator) -> EncodedPrompt | None:
    """Forward diffusion on the normalised pixels: sqrt(abar_t) x + sqrt(1 - abar_t) n at t = VCD_STEP.

    Source: VCD (arXiv 2311.16922), section 3.2; the sigmoid schedule of its code.
    """
    key = next((key for key in ("pixel_values_videos", "pixel_values") if key in joint.media), None)
    if key is None:
        return None
    betas = 1 / (1 + np.exp(-np.linspace(-6, 6, 1000))) * (5e-3 - 1e-5) + 1e-5
    kept = float(np.prod(1 - betas[: VCD_STEP + 1]))
    pixels = joint.media[key]
    noise = torch.from_numpy(rng.standard_normal(tuple(pixels.shape)).astype(np.float32))
    spoilt = kept**0.5 * pixels + (1 - kept) ** 0.5 * noise
    return dataclasses.replace(joint, media={**joint.media, key: spoilt})
