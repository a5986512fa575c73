"""Costs, measured side by side in one run: `rlcomm bench gacl`.

Every form does the same work on the same prompts in turn, round after round, so that what else the machine
does hits all of them alike; the median over the rounds is reported.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from rlcomm.data.media import Clip
from rlcomm.data.sample import Sample, Turn
from rlcomm.decoding.branches import branch_prompts
from rlcomm.omni.policy import load_policy
from rlcomm.omni.tree import branch_scores

LABELS = ["drum", "flute", "harp", "violin"]


def gacl(
    model_name_or_path: str = "nano_omni", seconds: float = 30.0, items: int = 2, rounds: int = 5
) -> dict[str, Any]:
    """What GACL in candidate mode costs over plain joint scoring, on prompts that are nearly all media.

    joint       the joint branch alone: what greedy decoding reads
    gacl        joint and evidence branch over one shared prefix with the media, one packed forward
    unshared    the two branches apart, each with its media: what GACL costs without sharing (about 2)

    Args:
        model_name_or_path: the policy.
        seconds: length of the clip, 1 frame a second beside its sound.
        items: questions in one batch.
        rounds: measurements of each form.

    Returns:
        `{"device", "threads", "prompt_tokens", "items", "labels", "rounds", "forms": {name: {"encode_s",
        "score_s", "total_s", "ratio_score", "ratio_total"}}}`: medians, ratios against joint.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    policy = load_policy(model_name_or_path, device=device)
    rng = np.random.default_rng(0)
    rows = []
    for i in range(items):
        frames = rng.integers(0, 255, (int(seconds), 112, 168, 3), dtype=np.uint8)
        sound = (0.1 * rng.standard_normal(int(16_000 * seconds))).astype(np.float32)
        question = f"Which one plays: {', '.join(LABELS)}?"
        text = f"Description of the audio: A {LABELS[i % 4]} is playing.\n{question}"
        sample = Sample(str(i), (Turn(text, LABELS[0]),), "x.mp4", "x.mp4", meta={"without_text": question})
        rows.append((sample, Clip(frames=frames, fps=1.0, audio=sound)))
    prompts: dict[str, list] = {}

    def encode(name: str) -> None:
        branches = {"joint": ["joint"], "gacl": ["joint", "evidence"]}
        if name == "unshared":  # the evidence branch encoded for itself: its question is the plain one
            prompts[name] = []
            for asked in (lambda sample: sample.question, lambda sample: sample.meta["without_text"]):
                some = [
                    (dataclasses.replace(sample, turns=(Turn(asked(sample), sample.answer),)), clip)
                    for sample, clip in rows
                ]
                prompts[name].append(
                    [branch_prompts(policy, sample, clip, ["joint"])["joint"] for sample, clip in some]
                )
        else:
            prompts[name] = [
                list(branch_prompts(policy, sample, clip, branches[name]).values()) for sample, clip in rows
            ]

    def score(name: str) -> None:
        if name == "unshared":
            for branch in prompts[name]:
                branch_scores(
                    policy.model, policy.processor, [[prompt] for prompt in branch], [LABELS] * items
                )
        else:
            branch_scores(policy.model, policy.processor, prompts[name], [LABELS] * items)

    forms = ("joint", "gacl", "unshared")
    times: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds + 1):
        for name in forms:
            for part, work in (("encode", encode), ("score", score)):
                taken = _timed(lambda work=work, name=name: work(name))  # type: ignore[misc]
                if number > 0:  # the first round warms up
                    times.setdefault((name, part), []).append(taken)
    found: dict[str, dict[str, float]] = {}
    for name in forms:
        encoded, scored = (statistics.median(times[name, part]) for part in ("encode", "score"))
        found[name] = {"encode_s": encoded, "score_s": scored, "total_s": encoded + scored}
    for entry in found.values():
        for part in ("score", "total"):
            entry[f"ratio_{part}"] = entry[f"{part}_s"] / found["joint"][f"{part}_s"]
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "model": model_name_or_path,
        "prompt_tokens": len(prompts["joint"][0][0]),
        "items": items,
        "labels": len(LABELS),
        "rounds": rounds,
        "forms": found,
    }


def format_gacl(result: dict[str, Any]) -> str:
    """The result as a table."""
    lines = [
        f"{result['items']} prompts of {result['prompt_tokens']} tokens, {result['labels']} labels, "
        f"{result['device']}, {result['threads']} threads, median of {result['rounds']}",
        f"{'form':10s}{'encode s':>10s}{'score s':>10s}{'total s':>10s}{'score x':>10s}{'total x':>10s}",
    ]
    for name, entry in result["forms"].items():
        lines.append(
            f"{name:10s}{entry['encode_s']:10.3f}{entry['score_s']:10.3f}{entry['total_s']:10.3f}"
            f"{entry['ratio_score']:10.2f}{entry['ratio_total']:10.2f}"
        )
    return "\n".join(lines)


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started
