"""What the scores of the labels say in every branch of an item: one pass over the model for all decoders.

    sets -> batches -> clip -> prompts of all branches -> scores of all candidates -> raw records

An open question has no labels: then the joint and the evidence branch's own answers are its candidates
(hypotheses), or each decoder writes its own answer token by token. What is made of the scores: `tuning`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rlcomm.data import controls
from rlcomm.data.media import Clip
from rlcomm.data.sample import Sample
from rlcomm.decoding import decoders, grids
from rlcomm.evaluation import runner
from rlcomm.evaluation.benchmarks import common
from rlcomm.evaluation.catalog import Set
from rlcomm.evaluation.margins import rounded
from rlcomm.evaluation.plan import Plan
from rlcomm.evaluation.records import Raw

CLOSING = " </answer>"  # what follows a label in the step format
Prompts = dict[str, Any]  # branch -> EncodedPrompt, or None where the item has no such branch


def batches(policy: Any, sets: Sequence[Set], plan: Plan, cache_dir: str | None = None) -> list[runner.Batch]:
    """Everything to be scored, always in the same parts: all sets, then again under each condition."""
    clips = runner.Clips(plan.media, cache_dir)
    donors = {one.key: controls.donors(one.samples) for one in sets} if plan.conditions else {}
    found: list[runner.Batch] = []
    for condition in (controls.FULL, *plan.conditions):
        for one in sets:
            for samples in runner.split(one.samples, plan.batch_size):
                measure = partial(_score_batch, policy, one, samples, plan, clips)
                if condition != controls.FULL:
                    measure = partial(
                        _score_blind, policy, one, samples, plan, clips, condition, donors[one.key]
                    )
                found.append(runner.Batch(f"{len(found):06d}", len(samples), one.key, measure))
    return found


def collect(
    policy: Any, sets: Sequence[Set], plan: Plan, cache_dir: str | None = None, progress: bool = True
) -> list[Raw]:
    """The raw records of all items, in order; this process measures all of them, and keeps no journal."""
    found = runner.measured(policy.model, batches(policy, sets, plan, cache_dir), progress=progress)
    return [record for rows in found for record in rows]


def _score_blind(
    policy: Any,
    one: Set,
    samples: Sequence[Sample],
    plan: Plan,
    clips: runner.Clips,
    condition: str,
    donors: Mapping[str, Sample],
) -> list[Raw]:
    """Raw records of one batch under a condition, named by `media`; items that it leaves as they are have
    none."""
    given = []
    for sample in samples:
        clip = clips(sample)
        donor = donors.get(controls.source(sample)) if condition in controls.OTHER.values() else None
        given.append(controls.changed(clip, condition, clips(donor) if donor else None))
    asked = {i: clip for i, clip in enumerate(given) if clip is not None}
    if not asked:
        return []
    greedy = dataclasses.replace(plan, decoders=("greedy",))
    records = _score_batch(policy, one, [samples[i] for i in asked], greedy, clips, list(asked.values()))
    return [{**record, "media": condition} for record in records]


def _score_batch(
    policy: Any,
    one: Set,
    samples: Sequence[Sample],
    plan: Plan,
    clips: runner.Clips,
    given: Sequence[Clip] | None = None,
) -> list[Raw]:
    """Raw records of one batch, of its own clips or those given; all that needs the model is here."""
    from rlcomm.decoding.branches import branch_prompts

    labels = [list(common.candidates(sample)) for sample in samples]
    asked = [i for i, own in enumerate(labels) if plan.gacl_mode == "hypotheses" or not own]
    wanted = decoders.branches(plan.decoders)
    if asked and "evidence" not in wanted:
        wanted = (*wanted, "evidence")  # its answer is a hypothesis, whoever decides between them
    items = []
    for number, sample in enumerate(samples):
        clip = given[number] if given else clips(sample)
        arbitrate = plan.arbitrate
        if arbitrate == "auto":
            arbitrate = "text" if sample.meta.get("without_text") is not None else "video"
        items.append(branch_prompts(policy, sample, clip, wanted, plan.prompt_style, arbitrate))
    records: list[Raw] = [
        {
            "benchmark": sample.meta.get("benchmark", one.key),
            "set": one.key,
            "id": sample.id,
            "candidates": own,
            "completions": [],
            "scores": dict.fromkeys(item),
            "reasoning": {},
            "texts": {},
        }
        for sample, own, item in zip(samples, labels, items, strict=True)
    ]
    if plan.gacl_mode == "tokens":
        for record, texts in zip(records, _generate_tokens(policy, items, plan), strict=True):
            record["texts"], record["candidates"] = texts, []
        return records
    _add_hypotheses(policy, [records[i] for i in asked], [items[i] for i in asked], plan)
    _add_scores(policy, items, records, plan)
    return records


def _add_scores(policy: Any, items: Sequence[Prompts], records: Sequence[Raw], plan: Plan) -> None:
    """Fills `scores`: branch -> scores of the candidates in nats; None for a branch that is not there (or,
    under the step prompt, never came to an answer). `tokens`, where they are means. And `reasoning`, where a
    branch writes some first."""
    from rlcomm.decoding.branches import REASONED
    from rlcomm.omni.labels import label_tokens
    from rlcomm.omni.score import branch_scores

    tokenizer = policy.processor.tokenizer

    rows = [i for i, record in enumerate(records) if record["candidates"]]
    reasons = plan.prompt_style == "steps"
    plain = [
        [n for n in items[i] if items[i][n] is not None and not reasons and n not in REASONED] for i in rows
    ]
    if any(plain):
        some = [i for i, names in zip(rows, plain, strict=True) if names]
        values = branch_scores(
            policy.model,
            policy.processor,
            [[items[i][name] for name in names] for i, names in zip(rows, plain, strict=True) if names],
            [records[i]["candidates"] for i in some],
            plan.normalise,
        )
        for i, names, scored in zip(some, [names for names in plain if names], values, strict=True):
            records[i]["scores"].update({n: rounded(part) for n, part in zip(names, scored, strict=True)})
            if plan.normalise:
                tokens = label_tokens(tokenizer, records[i]["candidates"])
                records[i].setdefault("tokens", {}).update(dict.fromkeys(names, tokens))
    places = [
        (i, name) for i in rows for name in items[i]
        if items[i][name] is not None and (reasons or name in REASONED)
    ]  # fmt: skip
    if places:
        found = _after_reasoning(
            policy,
            [items[i][name] for i, name in places],
            [records[i]["candidates"] for i, _ in places],
            [name in REASONED for _, name in places],
            plan,
        )
        for (i, name), (text, own) in zip(places, found, strict=True):
            records[i]["reasoning"][name], records[i]["scores"][name] = text, own
            if plan.normalise and own is not None:
                tokens = label_tokens(tokenizer, _behind_a_tag(records[i]["candidates"]), CLOSING)
                records[i].setdefault("tokens", {})[name] = tokens


def _after_reasoning(
    policy: Any,
    prompts: Sequence[Any],
    labels: Sequence[Sequence[str]],
    always: Sequence[bool],
    plan: Plan,
) -> list[tuple[str, list[float] | None]]:
    """Each prompt's own greedy completion up to its answer, and the scores of the labels there.

    Without an opening tag there is no answer (None), unless the labels are scored `always`: then behind
    everything it wrote.
    """
    from rlcomm.omni.score import candidate_scores

    opening = "<answer>"
    before = []
    for text, anyhow in zip(_greedy(policy, prompts, plan), always, strict=True):
        if opening in text:
            before.append(text[: text.index(opening) + len(opening)])
        else:
            before.append(f"{text} {opening}" if anyhow else text)
    rows = [i for i, text in enumerate(before) if text.endswith(opening)]
    scores: list[list[float] | None] = [None] * len(before)
    if rows:
        values = candidate_scores(
            policy.model,
            policy.processor,
            [prompts[i] for i in rows],
            [_behind_a_tag(labels[i]) for i in rows],
            plan.normalise,
            prefixes=[before[i] for i in rows],
            closing=CLOSING,
        )
        for i, row in zip(rows, values, strict=True):
            scores[i] = rounded(row)
    return list(zip(before, scores, strict=True))


def _behind_a_tag(labels: Sequence[str]) -> list[str]:
    return [f" {label}" for label in labels]


def _add_hypotheses(policy: Any, records: Sequence[Raw], items: Sequence[Prompts], plan: Plan) -> None:
    """Fills `candidates` with the different answers of joint and evidence branch, `completions` with the
    words they stood in, and `texts` with what greedy decoding and the prompt interventions write."""
    from rlcomm import steps
    from rlcomm.decoding.hypotheses import hypothesis_set

    own = [name for name in plan.decoders if name in grids.PROMPTS]
    places = [
        (i, name)
        for i, item in enumerate(items)
        for name in ("joint", "evidence", *own)
        if item.get(name) is not None
    ]
    texts = dict(zip(places, _greedy(policy, [items[i][name] for i, name in places], plan), strict=True))
    for i, record in enumerate(records):
        written = {name: texts[i, name] for name in ("joint", "evidence") if (i, name) in texts}
        answers = {name: steps.answer_of(text, plan.prompt_style) for name, text in written.items()}
        record["candidates"] = list(hypothesis_set(answers.get("joint"), answers.get("evidence")))
        record["completions"] = [
            next(text for name, text in written.items() if answers[name] == candidate)
            for candidate in record["candidates"]
        ]
        if not record["candidates"]:  # nothing to score, but the branches are there: no answer of theirs
            there = [name for name, prompt in items[i].items() if prompt is not None]
            record["reasoning"] = {name: written.get(name, "") for name in there}
        record["texts"] = {"greedy": written["joint"]} | {
            n: _final(n, texts[i, n], plan.prompt_style) for n in own
        }


def _final(decoder: str, text: str, prompt_style: str) -> str:
    """What a decoder's completion answers: behind its reasoning, where it was asked for some.

    Under the step prompt every completion holds its answer in tags and is read so: it stays whole.
    """
    from rlcomm import steps
    from rlcomm.decoding.branches import REASONED

    answer = steps.parse(text).answer
    reasoned = prompt_style == "direct" and decoder in REASONED
    return answer.text if reasoned and answer.found else text


def _generate_tokens(policy: Any, items: Sequence[Prompts], plan: Plan) -> list[dict[str, str]]:
    """Per item, decoder -> what it writes; where a decoder lacks a branch, the joint answer stands."""
    from rlcomm.omni.branching import generate_branched

    found: list[dict[str, str]] = [{} for _ in items]
    joint = _greedy(policy, [item["joint"] for item in items], plan)
    for decoder in plan.decoders:
        reads = decoders.READS[decoder]
        rows = [i for i, item in enumerate(items) if all(item[name] is not None for name in reads)]
        texts: Sequence[str] = []
        if rows and decoder != "greedy":
            texts = generate_branched(
                policy.model,
                policy.processor,
                [[items[i][name] for i in rows] for name in reads],
                decoders.token_rule(decoder, plan.settings if decoder == "gacl" else None),
                plan.max_new_tokens,
            )
        written = dict(zip(rows, texts, strict=False))
        for i in range(len(items)):
            found[i][decoder] = _final(decoder, written.get(i, joint[i]), plan.prompt_style)
    return found


def _greedy(policy: Any, prompts: Sequence[Any], plan: Plan) -> list[str]:
    from rlcomm.omni.rollout import generate

    if not prompts:
        return []
    groups = generate(
        policy.model, policy.processor, list(prompts), max_new_tokens=plan.max_new_tokens, temperature=0.0
    )
    return [group[0] for group in groups]
