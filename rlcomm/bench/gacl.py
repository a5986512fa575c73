"""Costs, measured side by side in one run: `rlcomm bench gacl`.

Every form does the same work on the same prompts in turn, round after round, so that what else the machine
does hits all of them alike; the median over the rounds is reported.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from rlcomm.data.media import Clip
from rlcomm.data.sample import Sample, Turn
from rlcomm.decoding.branches import branch_prompts
from rlcomm.omni.encode import EncodedPrompt
from rlcomm.omni.policy import Policy, load_policy
from rlcomm.omni.score import branch_scores
from rlcomm.reports.tables import plain
from rlcomm.utils.errors import UserError

INSTRUMENTS = ["drum", "flute", "harp", "violin"]
FORMS = ("joint", "gacl", "unshared")
PARTS = ("encode", "score")


def gacl(
    model_name_or_path: str = "nano_omni", seconds: float = 30.0, items: int = 2, rounds: int = 5,
    labels: int = 4, text_tokens: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """What GACL in candidate mode costs over plain joint scoring.

    joint       the joint branch alone: what greedy decoding reads
    gacl        joint and evidence branch over one shared prefix with the media, one forward
    unshared    the two branches apart, each with its media: what GACL costs without sharing (about 2)

    Args:
        model_name_or_path: the policy.
        seconds: length of the clip, 1 frame a second beside its sound.
        items: questions in one batch.
        rounds: measurements of each form.
        labels: candidates of a question, at least 2.
        text_tokens: the question is filled up to so many tokens; with few, prompts are nearly all media.

    Returns:
        `{"device", "threads", "model", "prompt_tokens", "items", "labels", "text_tokens", "rounds", "forms":
        {name: {"encode_s", "score_s", "total_s", "ratio_score", "ratio_total"}}}`: medians, ratios against
        joint.

    Raises:
        UserError: a number that leaves nothing to measure.
    """
    for name, value, least in (("items", items, 1), ("rounds", rounds, 1), ("labels", labels, 2)):
        if value < least:
            raise UserError(f"{name} is {value}, which is nothing to measure; give {least} or more.")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    work = Work(load_policy(model_name_or_path, device=device), seconds, items, labels, text_tokens)
    times: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds + 1):
        for name in FORMS:
            for part in PARTS:
                taken = _timed(partial(getattr(work, part), name))
                if number > 0:  # the first round warms up
                    times.setdefault((name, part), []).append(taken)
    found: dict[str, dict[str, float]] = {}
    for name in FORMS:
        encoded, scored = (statistics.median(times[name, part]) for part in PARTS)
        found[name] = {"encode_s": encoded, "score_s": scored, "total_s": encoded + scored}
    for entry in found.values():
        for part in ("score", "total"):
            entry[f"ratio_{part}"] = entry[f"{part}_s"] / found["joint"][f"{part}_s"]
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "model": model_name_or_path,
        "prompt_tokens": len(work.prompts["joint"][0][0]),
        "items": items,
        "labels": labels,
        "text_tokens": work.text_tokens,
        "rounds": rounds,
        "forms": found,
    }


class Work:
    """The same work for every form.

    Args:
        policy: the model.
        seconds: see `gacl`, as the others.
        items: clips, a question each.
        labels: of each question.
        text_tokens: of each question.

    Attributes:
        text_tokens: of each question, as many as its words have at least.
        prompts: by form, of each item (or, apart, of each branch) the prompts that are read together.
    """

    def __init__(self, policy: Policy, seconds: float, items: int, labels: int, text_tokens: int):
        self.policy = policy
        named = [f"{INSTRUMENTS[i % 4]}{f' {i // 4 + 1}' if i >= 4 else ''}" for i in range(labels)]
        self.labels = [named] * items
        question = f"Which one plays: {', '.join(named)}?"
        written = len(policy.processor.tokenizer(question)["input_ids"])
        self.text_tokens = max(text_tokens, written)
        question += " a" * (self.text_tokens - written)
        self.rows = [_row(i, seconds, question) for i in range(items)]
        self.prompts: dict[str, list[list[EncodedPrompt]]] = {}

    def encode(self, name: str) -> None:
        """The prompts of a form, from frames and samples."""
        branches = ["joint", "evidence"] if name == "gacl" else ["joint"]
        rows = [self.rows]
        if name == "unshared":  # the evidence branch encoded for itself: its question is the plain one
            plain = [
                dataclasses.replace(sample, turns=(Turn(sample.meta["without_text"], sample.answer),))
                for sample, _ in self.rows
            ]
            rows.append([(sample, clip) for sample, (_, clip) in zip(plain, self.rows, strict=True)])
        self.prompts[name] = [
            [prompt for prompt in branch_prompts(self.policy, *row, branches).values() if prompt is not None]
            for some in rows for row in some
        ]  # fmt: skip

    def score(self, name: str) -> None:
        """The labels behind them; apart, a forward for each branch."""
        together = len(self.rows)
        for start in range(0, len(self.prompts[name]), together):
            some = self.prompts[name][start : start + together]
            branch_scores(self.policy.model, self.policy.processor, some, self.labels)


def _row(number: int, seconds: float, question: str) -> tuple[Sample, Clip]:
    """Noise for a clip, and a question behind a description of it."""
    rng = np.random.default_rng(number)
    frames = rng.integers(0, 255, (int(seconds), 112, 168, 3), dtype=np.uint8)
    sound = (0.1 * rng.standard_normal(int(16_000 * seconds))).astype(np.float32)
    text = f"Description of the audio: A {INSTRUMENTS[number % 4]} is playing.\n{question}"
    turns = (Turn(text, INSTRUMENTS[0]),)
    sample = Sample(str(number), turns, "x.mp4", "x.mp4", meta={"without_text": question})
    return sample, Clip(frames=frames, fps=1.0, audio=sound)


def format_gacl(result: dict[str, Any]) -> str:
    """The result as a table."""
    heads = ["form", "encode s", "score s", "total s", "score x", "total x"]
    rows = [
        [name, *(f"{entry[f'{part}_s']:.3f}" for part in ("encode", "score", "total")),
         *(f"{entry[f'ratio_{part}']:.2f}" for part in ("score", "total"))]
        for name, entry in result["forms"].items()
    ]  # fmt: skip
    told = (
        f"{result['items']} prompts of {result['prompt_tokens']} tokens, {result['labels']} labels behind "
        f"{result['text_tokens']} of text, {result['device']}, {result['threads']} threads, median of "
        f"{result['rounds']}"
    )
    return f"{told}\n{plain(heads, rows)}"


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started
