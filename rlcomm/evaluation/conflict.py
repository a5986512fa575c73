"""Every benchmark under every decoder, in one pass over the model.

    sets -> batches -> clip -> prompts of all branches -> scores of all candidates      (collect: the model)
    scores -> decoders under all their settings -> the one chosen on dev -> metrics     (decide: pure)

A clip is decoded once, and encoded once for each set of senses that a branch is given. What a batch scored
is kept in a journal, a file each, so an interrupted evaluation goes on where it stood, and several processes
share the batches; the partition is fixed, hence the numbers do not depend on either.
"""

import dataclasses
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rlcomm.data import controls
from rlcomm.data.clips import load_clip
from rlcomm.data.media import Clip, MediaSettings
from rlcomm.data.sample import Sample
from rlcomm.decoding import decoders, gacl, grids
from rlcomm.evaluation import beside, judged
from rlcomm.evaluation.benchmarks import Record, avconfuse, common
from rlcomm.evaluation.catalog import Set
from rlcomm.evaluation.decide import count
from rlcomm.evaluation.margins import rounded
from rlcomm.evaluation.runner import batches as batched
from rlcomm.evaluation.runner import inference
from rlcomm.utils import files, processes
from rlcomm.utils.errors import UserError
from rlcomm.utils.journal import close_journal, kept, open_journal, weights

GACL_MODES = ("candidates", "hypotheses", "tokens")
ARBITRATIONS = ("auto", "text", "video", "audio")


@dataclass(frozen=True)
class Plan:
    """What is compared, and how.

    Attributes:
        decoders: of `decoding.decoders.READS`; greedy is always there, everything is measured against it.
        prompt_style: "direct" scores the labels right behind the question; "steps" lets every branch write
            its own reasoning first and scores them inside its <answer>.
        gacl_mode: "candidates": an item's labels, and hypotheses where it has none; "hypotheses": the joint
            and the evidence branch's own answers are the candidates of every item; "tokens": next-token
            scores are mixed while generating, under the default settings.
        arbitrate: what the evidence branch leaves out: "text", "video" or "audio"; "auto": the text beside
            the question where an item has one, else the picture.
        settings: keywords of `gacl.Settings` that hold for GACL throughout; `lam` and `tau` are its default
            where nothing is tuned.
        normalise: a label's score is the mean over its tokens (True) or their sum.
        dev_share: share of the clips, in [0, 1), on which settings are chosen; 0: none are, all decoders run
            under their published defaults on every item.
        budget_points: the faithful drop that a chosen setting may have on dev, in points.
        max_new_tokens: bound of a generated answer.
        batch_size: items a forward.
        media: how clips are decoded.
        conditions: of `data.controls`: greedy decoding is asked under each of them too, so that every score
            has its blind control beside it.
    """

    decoders: tuple[str, ...] = ("greedy",)
    prompt_style: str = "direct"
    gacl_mode: str = "candidates"
    arbitrate: str = "auto"
    settings: dict[str, Any] = field(default_factory=dict)
    normalise: bool = True
    dev_share: float = 0.0
    budget_points: float = 5.0
    max_new_tokens: int = 96
    batch_size: int = 16
    media: MediaSettings = field(default_factory=MediaSettings)
    conditions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        controls.check(self.conditions)
        object.__setattr__(self, "decoders", tuple(dict.fromkeys(("greedy", *self.decoders))))
        decoders.branches(self.decoders)
        gacl.Settings(**self.settings)
        for name, choices in (
            ("prompt_style", ("direct", "steps")),
            ("gacl_mode", GACL_MODES),
            ("arbitrate", ARBITRATIONS),
        ):
            if getattr(self, name) not in choices:
                raise UserError(
                    f"{name} is {getattr(self, name)!r}, which is unknown; use one of {', '.join(choices)}."
                )
        if not 0 <= self.dev_share < 1:
            raise UserError(
                f"dev_share is {self.dev_share}, outside [0, 1): the rest is what results are reported on; "
                "set a share such as 0.3, or 0 to tune nothing."
            )
        if self.settings.get("score_norm") in ("center", "zscore") and self.dev_share == 0:
            raise UserError(
                f"score_norm is {self.settings['score_norm']!r}, whose statistics come from a dev split, and "
                "dev_share is 0; set dev_share, or score_norm log_softmax."
            )


def evaluate(
    policy: Any,
    sets: Sequence[Set],
    plan: Plan,
    out: str | os.PathLike,
    *,
    cache_dir: str | None = None,
    progress: bool = True,
    judge: dict[str, Any] | None = None,
    others: Sequence[beside.Other] = (),
) -> dict[str, Any] | None:
    """Runs what is not scored yet and writes `records.jsonl` and `results.json` into `out`.

    Args:
        policy: of `omni.policy.load_policy`.
        sets: of `catalog.open_sets`.
        plan: what is compared.
        out: run folder; the scores of an interrupted evaluation lie in its `scores/`.
        cache_dir: of decoded media.
        progress: show a bar.
        judge: a judge model for the modified set, as keywords of `judged.judge_set`; None: the keywords.
        others: of `beside.load`: finished evaluations of other models on the same items.

    Returns:
        The results (`decide.count`); None on all processes but the first.

    Raises:
        UserError: `out` holds the scores of another evaluation.
    """
    out = Path(out)
    rank, world = processes.rank(), processes.world()
    if rank == 0:
        _open_journal(out, policy, sets, plan, first=True)
    processes.wait()  # for the plan, so that no process scores under another one
    journal = _open_journal(out, policy, sets, plan, first=False)
    collect(policy, sets, plan, journal, cache_dir, progress and rank == 0, rank, world)
    processes.wait()
    if rank != 0:
        return None
    raw = collect(policy, sets, plan, journal, cache_dir, progress=False)
    if judge is not None:
        sets = [
            judged.judge_set(one, raw, plan.prompt_style, **judge) if one.key == avconfuse.MODIFIED else one
            for one in sets
        ]
    model = str(getattr(policy, "path", ""))
    results, records = count([r for r in raw if "media" not in r], sets, plan, model)
    results, records = beside.add(results, records, others)
    results["judge"] = judged.name(judge)
    if plan.conditions:
        results["conditions"], blind = _count_conditions(raw, sets, plan, model)
        files.write_jsonl(out / "conditions.jsonl", blind)
    files.write_jsonl(out / "records.jsonl", records)
    files.write_json(out / "results.json", results)
    close_journal(journal)
    return results


def collect(
    policy: Any,
    sets: Sequence[Set],
    plan: Plan,
    journal: Path | None = None,
    cache_dir: str | None = None,
    progress: bool = True,
    rank: int = 0,
    world: int = 1,
) -> list[Record]:
    """The raw records of this process's batches, in order: what the journal holds, and the rest scored now.

    A raw record: `benchmark, set, id, candidates, scores {branch: [nats] or null}`, `completions` (the words
    each candidate stood in, where a branch wrote it), `reasoning` {branch: words before its answer; of every
    branch that there is, all it wrote, where none gave a hypothesis} and `texts` {decoder: words it wrote
    itself}.
    """
    from tqdm.auto import tqdm

    batches = [
        (condition, one, batch)
        for condition in (controls.FULL, *plan.conditions)
        for one in sets
        for batch in batched(one.samples, plan.batch_size)
    ]
    donors = {one.key: controls.donors(one.samples) for one in sets} if plan.conditions else {}
    mine = range(rank, len(batches), world)
    records: list[Record] = []
    with (
        inference(policy.model),
        tqdm(
            total=sum(len(batches[i][2]) for i in mine),
            desc="evaluate",
            unit="item",
            disable=not progress,
            dynamic_ncols=True,
        ) as bar,
    ):
        for number in mine:
            condition, one, samples = batches[number]
            bar.set_postfix_str(one.key, refresh=False)
            if condition == controls.FULL:
                measure = partial(_score_batch, policy, one, samples, plan, cache_dir)
            else:
                measure = partial(
                    _score_blind, policy, one, samples, plan, cache_dir, condition, donors[one.key]
                )
            records += kept(journal, f"{number:06d}", measure)
            bar.update(len(samples))
    return records


def _score_blind(
    policy: Any,
    one: Set,
    samples: Sequence[Sample],
    plan: Plan,
    cache_dir: str | None,
    condition: str,
    donors: Mapping[str, Sample],
) -> list[Record]:
    """Raw records of one batch under a condition, named by `media`; items that it leaves as they are have
    none."""
    clips = []
    for sample in samples:
        clip = load_clip(sample.video, sample.audio, plan.media, cache_dir)
        donor = donors.get(controls.source(sample)) if condition in controls.OTHER.values() else None
        other = load_clip(donor.video, donor.audio, plan.media, cache_dir) if donor else None
        clips.append(controls.changed(clip, condition, other))
    asked = {i: clip for i, clip in enumerate(clips) if clip is not None}
    if not asked:
        return []
    greedy = dataclasses.replace(plan, decoders=("greedy",))
    records = _score_batch(policy, one, [samples[i] for i in asked], greedy, cache_dir, list(asked.values()))
    return [{**record, "media": condition} for record in records]


def _count_conditions(
    raw: Sequence[Record], sets: Sequence[Set], plan: Plan, model: str
) -> tuple[dict[str, Any], list[Record]]:
    """`{condition: {benchmark: {metric: ...}}}` of greedy decoding, and the records behind it.

    A benchmark stands under the conditions that change something about its items, counted over these alone;
    `full` holds what the same plan gives where nothing is changed.
    """
    greedy = dataclasses.replace(plan, decoders=("greedy",))
    found: dict[str, Any] = {}
    records: list[Record] = []
    for condition in (controls.FULL, *plan.conditions):
        part = [record for record in raw if record.get("media", controls.FULL) == condition]
        there = {(record["set"], record["id"]) for record in part}
        asked = [
            dataclasses.replace(one, samples=[s for s in one.samples if (one.key, s.id) in there])
            for one in sets
        ]
        asked = [one for one in asked if one.samples]
        results, rows = count(part, asked, greedy, model)
        found[condition] = results["decoders"]["greedy"]["benchmarks"]
        if condition != controls.FULL:
            records += [{"media": condition, **row} for row in rows]
    return found, records


def _open_journal(out: Path, policy: Any, sets: Sequence[Set], plan: Plan, first: bool) -> Path:
    journal = out / "scores"
    made = {
        "model": str(getattr(policy, "path", "")),
        "weights": weights(str(getattr(policy, "path", ""))),
        "benchmarks": {one.key: zlib.crc32(repr(one.samples).encode()) for one in sets},
        **json.loads(json.dumps(dataclasses.asdict(plan))),
    }
    counted = ["dev_share", "budget_points"]  # what is counted, not what is scored
    counted += ["settings"] if plan.gacl_mode != "tokens" else []
    for name in counted:
        made.pop(name)
    return open_journal(journal, made, first)


def _score_batch(
    policy: Any,
    one: Set,
    samples: Sequence[Sample],
    plan: Plan,
    cache_dir: str | None,
    clips: Sequence[Clip] | None = None,
) -> list[Record]:
    """Raw records of one batch; everything that needs the model happens below here."""
    from rlcomm.decoding.branches import branch_prompts

    labels = [list(common.candidates(sample)) for sample in samples]
    asked = [i for i, own in enumerate(labels) if plan.gacl_mode == "hypotheses" or not own]
    wanted = decoders.branches(plan.decoders)
    if asked and "evidence" not in wanted:
        wanted = (*wanted, "evidence")  # its answer is a hypothesis, whoever decides between them
    items = []
    for number, sample in enumerate(samples):
        clip = clips[number] if clips else load_clip(sample.video, sample.audio, plan.media, cache_dir)
        arbitrate = plan.arbitrate
        if arbitrate == "auto":
            arbitrate = "text" if sample.meta.get("without_text") is not None else "video"
        items.append(branch_prompts(policy, sample, clip, wanted, plan.prompt_style, arbitrate))
    records: list[Record] = [
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


Prompts = dict[str, Any]  # branch -> EncodedPrompt, or None where the item has no such branch


def _add_scores(policy: Any, items: Sequence[Prompts], records: Sequence[Record], plan: Plan) -> None:
    """Fills `scores`: branch -> scores of the candidates in nats; None for a branch that is not there (or,
    under the step prompt, never came to an answer). And `reasoning`, where a branch writes some first."""
    from rlcomm.decoding.branches import REASONED
    from rlcomm.omni.tree import branch_scores

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
            [[f" {label} </answer>" for label in labels[i]] for i in rows],
            plan.normalise,
            prefixes=[before[i] for i in rows],
        )
        for i, row in zip(rows, values, strict=True):
            scores[i] = rounded(row)
    return list(zip(before, scores, strict=True))


def _add_hypotheses(policy: Any, records: Sequence[Record], items: Sequence[Prompts], plan: Plan) -> None:
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
