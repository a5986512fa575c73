"""The audit of rewards: what degenerate policies earn beside honest completions, before anything trains.

    rows -> stories (heard, seen) -> every policy of `degenerate` -> the recipe's own rewards -> beside honest

No model but the embedder. A policy is named where its reasoning is paid like an honest one's: r_arr + I, the
part of the reward that is there to make the policy listen and look.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rlcomm.data.sample import Sample
from rlcomm.diagnostics import degenerate, twin_policies
from rlcomm.diagnostics.degenerate import POLICIES, Story
from rlcomm.evaluation import metrics
from rlcomm.reports.tables import plain
from rlcomm.rewards.adapters import OF_TWINS, reward_functions
from rlcomm.rewards.embed import Embedder
from rlcomm.rewards.omega import default_omega
from rlcomm.utils.errors import UserError

FILE = "audit.json"
REACHES = 0.8
"""A policy whose r_arr + I is so large a share of the honest one is named."""

_CHUNK = 256  # rows scored at a time
Rewards = Sequence[Callable[..., list[float | None]]]

_OF_PAIRS = ("accuracy", "consistency")

# Policies whose v-think is made without looking, whose a-think is as honest as can be.
_BLIND = ("a_told_as_seen", "reference_echoed", "another_view", "v_says_nothing")


# -- scoring -------------------------------------------------------------------------------------------------


def audit(
    samples: Sequence[Sample], rewards: Rewards, decided: Mapping[str, Any], progress: bool = True
) -> dict[str, Any]:
    """Scores every degenerate policy and the honest one on the rows.

    For a row, with w the weights, I = r_avc - r_acc (0 where that is negative), and only what the recipe has:

        reasoning = w_arr r_arr + w_avc I          total = sum of w r

    A policy is compared with the honest completion on the same rows: those where it says anything else, and
    where both are applicable (`always_no`: all rows, since a share of "no" is what it lives on).

    Args:
        samples: the recipe's rows.
        rewards: its reward functions (`rlcomm.rewards.adapters`), accuracy among them.
        decided: `decided_by`.
        progress: show a bar where it takes longer than two seconds.

    Returns:
        `{"fingerprint", "decided_by", "rows", "rows_used", "honest": scores, "policies": {name: scores},
        "findings": [sentence, ...]}`. Scores: "rows", "example", the means "format", "accuracy", "arr", "I",
        "total" (None: not a reward of the recipe); "reasoning" with its interval; of a policy also
        "of_honest" (reasoning, summed over the rows, as share of the honest), "of_honest_conflict" (the same
        where picture and sound differ, as far as `meta` tells), "I_of_honest", "total_of_honest", "reaches".
        With a reward of twins also "twins" (`twin_policies.scores`); the totals are without it.

    Raises:
        UserError: no row says what is heard and what is seen.
    """
    rows = degenerate.stories(samples)
    if not rows:
        raise UserError(
            f"None of the {len(samples)} rows tells both what is honestly heard (reference) and what is "
            "honestly seen (a target with a v-think, meta.visible or sight), so there is nothing to compare "
            "with; run `rlcomm reference RECIPE --sight true` on the rows first."
        )
    others = degenerate.others(rows)
    of_twins = [reward for reward in rewards if reward.__name__ in OF_TWINS]  # these read two rows
    rewards = [reward for reward in rewards if reward not in of_twins]
    weights = {name: weight for name, weight in decided["weights"].items() if name not in OF_TWINS}
    with tqdm(
        total=(len(POLICIES) + 1) * len(rows), desc="audit", unit="row", delay=2, disable=not progress
    ) as bar:
        fair = _scored([degenerate.honest(row) for row in rows], rows, rewards, weights, bar)
        scored = {
            name: _scored([write(row, row.sample.answer, o) for row, o in zip(rows, others, strict=True)],
                          rows, rewards, weights, bar)
            for name, write in POLICIES.items()
        }  # fmt: skip
    policies = {}
    for name, parts in scored.items():
        used = [
            i for i, (row, other) in enumerate(zip(rows, others, strict=True))
            if name in degenerate.OWN_ANSWER or degenerate.differs(name, row, other)
        ]  # fmt: skip
        policies[name] = {**_means(parts, rows, used), **_beside(parts, fair, rows, used)}
        if used:
            row, other = rows[used[0]], others[used[0]]
            policies[name]["example"] = POLICIES[name](row, row.sample.answer, other)
    found = {
        "fingerprint": fingerprint(decided), "decided_by": dict(decided), "rows": len(samples),
        "rows_used": len(rows),
        "honest": {**_means(fair, rows, range(len(rows))), "example": degenerate.honest(rows[0])},
        "policies": policies,
    }  # fmt: skip
    said = _findings(found, rows)
    if of_twins:
        found["twins"] = twins = twin_policies.scores(samples, of_twins[0])
        said += twin_policies.findings(twins, REACHES)
    return {**found, "findings": said}


def audit_rewards(
    samples: Sequence[Sample],
    weights: Mapping[str, float],
    *,
    embedder: Embedder | str = "minilm",
    omega: float | None = None,
    avc_mode: str = "similarity",
    format_mode: str = "strict",
    progress: bool = True,
) -> dict[str, Any]:
    """Can these rewards be gamed on these rows? `audit` without a recipe.

    Args:
        samples: rows that tell what is heard (`reference`) and what is seen (`sight`, or a target).
        weights: the rewards by name with their weights; format and accuracy are measured in any case.
        embedder: an `Embedder`, or the name of its model.
        omega: threshold of arr and witnessed avc in [-1, 1]; None: the one of the embedder.
        avc_mode: "similarity", "calibrated" or "witnessed".
        format_mode: "strict" or "lenient".
        progress: show a bar where it takes longer than two seconds.

    Returns:
        See `audit`: `["findings"]` holds a sentence for every exploit that is paid like honest reasoning,
        and `format_table` makes a table of it all.

    Raises:
        UserError: an unknown reward, a value out of range, or no row that tells both.
    """
    embedder = Embedder(embedder) if isinstance(embedder, str) else embedder
    omega = default_omega(embedder.model_name) if omega is None else omega
    weights = {"format": 0.0, "accuracy": 0.0, **weights}
    functions = reward_functions(
        weights, format_mode=format_mode, omega=omega, avc_mode=avc_mode, embedder=embedder
    )
    decided = decided_by(
        weights,
        samples,
        format_mode=format_mode,
        avc_mode=avc_mode,
        omega=omega,
        embedder=embedder.model_name,
    )
    return audit(samples, functions, decided, progress)


Parts = dict[str, list[float | None]]  # by name, one value a row


def _scored(
    texts: Sequence[str], rows: Sequence[Story], rewards: Rewards, weights: Mapping[str, float], bar: Any
) -> Parts:
    """What each completion earns, part by part."""
    parts: Parts = {reward.__name__: [] for reward in rewards}
    for start in range(0, len(texts), _CHUNK):
        some, samples = texts[start : start + _CHUNK], [row.sample for row in rows[start : start + _CHUNK]]
        for reward in rewards:
            parts[reward.__name__] += reward(prompts=[""] * len(some), completions=some, sample=samples)
        bar.update(len(some))
    if "avc" in parts:
        parts["I"] = [
            None if avc is None or right is None else max(0.0, avc - right)
            for avc, right in zip(parts["avc"], parts["accuracy"], strict=True)
        ]
    looks = {"arr": weights.get("arr", 0.0), "I": weights.get("avc", 0.0)}
    parts["reasoning"] = _weighted(parts, {k: w for k, w in looks.items() if w}, len(texts))
    parts["total"] = _weighted(parts, {k: w for k, w in weights.items() if w}, len(texts))
    return parts


def _weighted(parts: Parts, weights: Mapping[str, float], rows: int) -> list[float | None]:
    """The weighted sum of some parts, row by row; None where one does not apply, or there is none."""
    summed: list[float | None] = []
    for i in range(rows):
        values = [parts[name][i] for name in weights]
        applies = bool(values) and None not in values
        summed.append(
            sum(w * v for w, v in zip(weights.values(), values, strict=True) if v is not None)
            if applies
            else None
        )
    return summed


def _clips(rows: Sequence[Story], used: Sequence[int]) -> list[str]:
    return [f"{rows[i].sample.video} {rows[i].sample.audio}" for i in used]


def _means(parts: Parts, rows: Sequence[Story], used: Sequence[int]) -> dict[str, Any]:
    """The mean of every part; an interval for the one that is compared."""
    found: dict[str, Any] = {"rows": len(used)}
    for name in ("format", "accuracy", "arr", "I", "total"):
        kept = [value for i in used if (value := parts.get(name, [None] * len(rows))[i]) is not None]
        found[name] = math.fsum(kept) / len(kept) if kept else None
    found["reasoning"] = metrics.mean([parts["reasoning"][i] for i in used], _clips(rows, used))
    return found


def _beside(parts: Parts, fair: Parts, rows: Sequence[Story], used: Sequence[int]) -> dict[str, Any]:
    """What a policy earns as a share of what the honest completion earns on the same rows."""

    def share(name: str, some: Sequence[int]) -> metrics.Metric:
        pairs = [(parts[name][i], fair[name][i], i) for i in some] if name in parts else []
        both = [(mine, its, i) for mine, its, i in pairs if mine is not None and its is not None]
        clips = _clips(rows, [i for _, _, i in both])
        return metrics.ratio([mine for mine, _, _ in both], [its for _, its, _ in both], clips)

    conflict = [i for i in used if senses_differ(rows[i].sample)]
    whole, hard = share("reasoning", used), share("reasoning", conflict)
    return {
        "of_honest": whole, "of_honest_conflict": hard, "I_of_honest": share("I", used)["value"],
        "total_of_honest": share("total", used)["value"],
        "reaches": any(found["value"] is not None and found["value"] >= REACHES for found in (whole, hard)),
    }  # fmt: skip


def senses_differ(sample: Sample) -> bool:
    """Whether `meta` says that what sounds is not what is seen."""
    visible, audible = sample.meta.get("visible"), sample.meta.get("audible")
    if visible is None or audible is None:
        return False
    return set(visible) != set(audible) or bool(sample.meta.get("ambient"))


# -- findings ------------------------------------------------------------------------------------------------


def _findings(found: Mapping[str, Any], rows: Sequence[Story]) -> list[str]:
    """One sentence for every policy that is paid like the honest one, and what to change."""
    decided = found["decided_by"]
    if not found["honest"]["reasoning"]["value"]:
        return [
            "No reward of this recipe pays for honest reasoning (arr and avc are absent, at weight 0, or 0 "
            "on every honest completion), so any reasoning with the right answer earns as much; add arr and "
            "avc, or lower omega if arr refuses the references themselves."
        ]
    said = []
    for name, scores in found["policies"].items():
        if scores["reaches"]:
            whole, hard = scores["of_honest"]["value"], scores["of_honest_conflict"]["value"]
            where = f", {hard:.0%} where picture and sound differ" if hard is not None else ""
            said.append(
                f"{name} ({degenerate.MEANING[name]}) earns {whole:.0%} of the honest r_arr + I{where}; "
                f"{_change(name, scores, decided, rows)}."
            )
    return said


def _change(name: str, scores: Mapping[str, Any], decided: Mapping[str, Any], rows: Sequence[Story]) -> str:
    """What to change about a policy that is named."""
    witnessed = decided["avc_mode"] == "witnessed" and decided["weights"].get("avc", 0) > 0
    if name == "always_no":
        no = sum(row.sample.answer.strip().lower() == "no" for row in rows) / len(rows)
        return f"{no:.0%} of the rows are answered no, so balance them, and give arr more weight against I"
    if name == "tags_repeated":
        held = (
            f"the format reward alone holds it to {scores['total_of_honest']:.0%} of the total"
            if decided["weights"].get("format", 0) > 0 and decided["format_mode"] == "strict"
            else "nothing holds it, so add the strict format reward"
        )
        return f"{held}; avc_mode witnessed pays no I for a tag that stands twice"
    if name in _BLIND and not witnessed:
        return (
            "no reward knows the picture, so set avc_mode witnessed, with a sight in every row "
            "(`rlcomm reference RECIPE --sight true`)"
        )
    if name in _BLIND:
        return f"omega {decided['omega']:g} lets this v-think pass for what the witness saw, so raise it"
    if decided["weights"].get("arr", 0) <= 0:
        return "nothing asks what was heard, so add arr to the rewards"
    return f"omega {decided['omega']:g} lets this a-think pass for the reference's, so raise it"


# -- finding an audit again ----------------------------------------------------------------------------------


def decided_by(
    weights: Mapping[str, float],
    samples: Sequence[Sample],
    *,
    format_mode: str,
    avc_mode: str,
    omega: float,
    embedder: str,
) -> dict[str, Any]:
    """All that an audit depends on: the rewards, and of the rows the texts that they or the policies read."""
    rows = [
        [s.question, s.answer, list(s.options), degenerate.heard(s), degenerate.seen(s), s.sight]
        + ([s.id, s.meta.get("twin"), s.video == s.audio] if OF_TWINS & set(weights) else [])
        for s in samples
    ]
    return {
        "weights": dict(weights), "format_mode": format_mode, "avc_mode": avc_mode, "omega": omega,
        "embedder": embedder, "policies": list(POLICIES), "rows": _digest(rows),
    }  # fmt: skip


def fingerprint(decided: Mapping[str, Any]) -> str:
    """The name of an audit: another one is an audit of something else."""
    return _digest(dict(decided))


def find(output_dir: str | Path, wanted: str) -> dict[str, Any] | None:
    """The audit with a fingerprint, in a run folder or in those beside it; None: there is none."""
    folder = Path(output_dir)
    for path in (folder / FILE, *sorted(folder.absolute().parent.glob(f"*/{FILE}"))):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, dict) and found.get("fingerprint") == wanted:
            return found
    return None


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


# -- the table -----------------------------------------------------------------------------------------------


def format_table(found: Mapping[str, Any]) -> str:
    """The audit as text: one line a policy, the honest one first, then the findings."""
    heads = ("policy", "rows", "format", "accuracy", "r_arr", "I", "r_arr + I", "of honest", "[95 %]",
             "in conflict", "I of honest", "total", "")  # fmt: skip
    table = plain(
        heads, [_line(name, one) for name, one in [("honest", found["honest"]), *found["policies"].items()]]
    )
    used, rows = found["rows_used"], found["rows"]
    said = [f"{used} of {rows} rows: what is heard and what is seen is known"] if used < rows else []
    named = found["findings"] or [f"No degenerate policy earns {REACHES:.0%} of the honest r_arr + I."]
    return "\n".join([table, *said, *_twins_table(found.get("twins")), "", *named])


def _twins_table(found: Mapping[str, Any] | None) -> list[str]:
    """What policies earn on twins, where a reward reads them."""
    if found is None:
        return []
    rows = [
        [name, str(one["pairs"]), *(None if one[part] is None else f"{one[part]:.2f}" for part in _OF_PAIRS)]
        for name, one in found["policies"].items()
    ]
    return ["", plain(("on twins", "pairs", *_OF_PAIRS), rows)]


def _line(name: str, scores: Mapping[str, Any]) -> list[str | None]:
    def number(value: float | None) -> str | None:
        return None if value is None else f"{value:.2f}"

    def percent(value: float | None) -> str | None:
        return None if value is None else f"{100 * value:.0f} %"

    shares: list[str | None] = ["", "", "", ""]
    if "of_honest" in scores:
        ci95 = scores["of_honest"]["ci95"]
        shares = [
            percent(scores["of_honest"]["value"]),
            f"[{100 * ci95[0]:.0f}, {100 * ci95[1]:.0f}]" if ci95 else None,
            percent(scores["of_honest_conflict"]["value"]), percent(scores["I_of_honest"]),
        ]  # fmt: skip
    parts = [*(scores[key] for key in ("format", "accuracy", "arr", "I")), scores["reasoning"]["value"]]
    named = "<- named" if scores.get("reaches") else ""
    return [name, str(scores["rows"]), *map(number, parts), *shares, number(scores["total"]), named]
