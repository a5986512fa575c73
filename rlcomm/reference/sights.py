"""Sights o_see: what a witness says of a picture who has not heard its sound.

    Sample --(without sound, asked `sight_prompt`)--> `see` --> Sample.sight + meta["sight"] (provenance)

For avc_mode witnessed, and for the v-think of warm-up rows.
"""

import contextlib
import dataclasses
import gc
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rlcomm.config.reference import ReferenceRecipe
from rlcomm.data.clips import cache_key, load_clip
from rlcomm.data.sample import Sample, read_jsonl, write_jsonl
from rlcomm.omni.encode import encode
from rlcomm.omni.policy import load_policy
from rlcomm.omni.rollout import generate
from rlcomm.utils import processes

See = Callable[[list[Sample], int], list[str]]
"""(rows without sound, how many texts were made of them before) -> a description of each."""


def write_sights(
    path: str | os.PathLike,
    see: See,
    recipe: ReferenceRecipe,
    kept: Mapping[str, tuple[str | None, dict[str, Any]]] | None = None,
) -> int:
    """Fills in the sight of every row that has a picture; each picture is described once.

    An empty description is asked for anew, up to `attempts` times; the next run asks again.
    `meta["sight"]` of a row: model, question, inputs_hash (of the clip and how it is shown), attempt (texts
    made so far), failed (None, or why there is no sight).

    Args:
        path: JSON Lines of samples, as `write_references` wrote it; written anew.
        see: the witness, `policy_sight`; any vision-language model will do.
        recipe: policy_model and sight_prompt (provenance), media, attempts.
        kept: what `sights` read before `write_references` wrote the file; those of another model, prompt,
            picture or decoding are made anew.

    Returns:
        The number of rows with a sight.
    """
    samples = read_jsonl(path)
    made_of = {
        clip: {"model": recipe.policy_model, "question": recipe.sight_prompt,
               "inputs_hash": cache_key(clip, None, recipe.media())}
        for clip in {sample.video for sample in samples if sample.video}
    }  # fmt: skip
    known: dict[str, tuple[str, int]] = {}
    tried: dict[str, int] = {}
    for sample in samples:
        text, meta = (kept or {}).get(sample.id, (None, {}))
        if sample.video and made_of[sample.video].items() <= meta.items():
            if text:
                known[sample.video] = text, meta.get("attempt", 1)
            else:
                tried[sample.video] = meta.get("attempt", 0)
    unseen: dict[str, Sample] = {}
    for sample in samples:
        if sample.video and sample.video not in known:
            unseen.setdefault(sample.video, sample.without("audio"))
    known |= _described(unseen, tried, see, recipe.attempts)
    filled = []
    for sample in samples:
        if sample.video:
            text, attempt = known[sample.video]
            meta = {
                **made_of[sample.video],
                "attempt": attempt,
                "failed": None if text else "nothing was said",
            }
            sample = dataclasses.replace(sample, sight=text or None, meta={**sample.meta, "sight": meta})
        filled.append(sample)
    write_jsonl(path, filled)
    return sum(sample.sight is not None for sample in filled)


def sights(path: str | os.PathLike) -> dict[str, tuple[str | None, dict[str, Any]]]:
    """{id: (sight, provenance)} of the rows that were looked at; lines that cannot be read are left out."""
    found: dict[str, tuple[str | None, dict[str, Any]]] = {}
    if Path(path).exists():
        for line in Path(path).read_text(encoding="utf-8", errors="replace").split("\n"):
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                row = json.loads(line)
                found[str(row["id"])] = (row.get("sight"), dict(row["meta"]["sight"]))
    return found


def policy_sight(recipe: ReferenceRecipe) -> See:
    """A `see` made of the policy without sound: greedy at first, sampled after that; loaded when asked, then
    freed."""
    media = recipe.media()

    def see(samples: list[Sample], attempt: int) -> list[str]:
        policy = load_policy(recipe.policy_model, dtype=recipe.dtype, device=processes.device())
        sampling: dict[str, Any] = {}
        if attempt:
            sampling = {"temperature": recipe.temperature or 1.0, "top_p": recipe.top_p}
        texts: list[str] = []
        for first in tqdm(range(0, len(samples), recipe.batch_size), desc="what is seen"):
            prompts = [
                encode(policy, sample, load_clip(sample.video, None, media, recipe.media_cache_dir),
                       text=recipe.sight_prompt)
                for sample in samples[first : first + recipe.batch_size]
            ]  # fmt: skip
            groups = generate(
                policy.model, policy.processor, prompts, max_new_tokens=recipe.sight_max_new_tokens,
                seed=(recipe.seed * 1_000_003 + attempt * 10_007 + first) % 2**31, **sampling,
            )  # fmt: skip
            texts += [group[0] for group in groups]
        del policy
        gc.collect()
        return texts

    return see


def _described(
    unseen: Mapping[str, Sample], tried: Mapping[str, int], see: See, attempts: int
) -> dict[str, tuple[str, int]]:
    """{clip: (its description, "" where there is none; texts made so far)}."""
    found: dict[str, tuple[str, int]] = {}
    pending = {clip: tried.get(clip, 0) for clip in unseen}
    while pending:
        attempt = min(pending.values())  # those of a new clip come first, greedy
        now = [clip for clip, number in pending.items() if number == attempt]
        for clip, text in zip(now, see([unseen[clip] for clip in now], attempt), strict=True):
            pending[clip] = attempt + 1
            if text.strip() or attempt + 1 == tried.get(clip, 0) + attempts:
                found[clip] = text.strip(), pending.pop(clip)
    return found
