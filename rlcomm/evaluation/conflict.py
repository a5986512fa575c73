"""Every benchmark under every decoder, in one pass over the model.

    sets -> batches -> clip -> prompts of all branches -> scores of all candidates      (collect: the model)
    scores -> decoders under all their settings -> the one chosen on dev -> metrics     (decide: pure)

A clip is decoded and encoded once, whatever the decoders. What a batch scored is kept in a journal, a file
each, so an interrupted evaluation goes on where it stood, and several processes share the batches; the
partition is fixed, hence the numbers do not depend on either.
"""

import dataclasses
import json
import os
import shutil
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlcomm import files
from rlcomm.data.media import MediaSettings, load_clip
from rlcomm.data.sample import Sample
from rlcomm.decoding import decoders, gacl
from rlcomm.errors import UserError
from rlcomm.evaluation import judged
from rlcomm.evaluation.benchmarks import Record, avconfuse, common
from rlcomm.evaluation.catalog import Set
from rlcomm.evaluation.decide import count
from rlcomm.evaluation.runner import inference

GACL_MODES = ("candidates", "hypotheses", "tokens")
ARBITRATIONS = ("auto", "text", "video", "audio")
DIGITS = 6  # of a stored score: below that, one machine's sums differ from another's


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

    def __post_init__(self) -> None:
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

    Returns:
        The results (`decide.count`); None on all processes but the first.

    Raises:
        UserError: `out` holds the scores of another evaluation.
    """
    out = Path(out)
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    journal = _open_journal(out, policy, sets, plan, first=rank == 0)
    collect(policy, sets, plan, journal, cache_dir, progress and rank == 0, rank, world)
    if world > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()
    if rank != 0:
        return None
    raw = collect(policy, sets, plan, journal, cache_dir, progress=False)
    if judge is not None:
        sets = [
            judged.judge_set(one, raw, plan.prompt_style, **judge) if one.key == avconfuse.MODIFIED else one
            for one in sets
        ]
    results, records = count(raw, sets, plan, str(getattr(policy, "path", "")))
    results["judge"] = judged.name(judge)
    files.write_jsonl(out / "records.jsonl", records)
    files.write_json(out / "results.json", results)
    shutil.rmtree(journal)
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

    A raw record: `benchmark, set, id, candidates, scores {branch: [nats] or null}, texts {decoder: words}`.
    """
    from tqdm.auto import tqdm

    batches = [(one, batch) for one in sets for batch in _batches(one.samples, plan.batch_size)]
    mine = range(rank, len(batches), world)
    records: list[Record] = []
    with (
        inference(policy.model),
        tqdm(
            total=sum(len(batches[i][1]) for i in mine),
            desc="evaluate",
            unit="item",
            disable=not progress,
            dynamic_ncols=True,
        ) as bar,
    ):
        for number in mine:
            one, samples = batches[number]
            bar.set_postfix_str(one.key, refresh=False)
            kept = journal / f"{number:06d}.json" if journal is not None else None
            if kept is not None and kept.exists():
                found = json.loads(kept.read_text(encoding="utf-8"))
            else:
                found = _score_batch(policy, one, samples, plan, cache_dir)
                if kept is not None:
                    files.write_text(kept, json.dumps(found, ensure_ascii=False))
            records += found
            bar.update(len(samples))
    return records


def _open_journal(out: Path, policy: Any, sets: Sequence[Set], plan: Plan, first: bool) -> Path:
    journal = out / "scores"
    made = {
        "model": str(getattr(policy, "path", "")),
        "weights": _weights(str(getattr(policy, "path", ""))),
        "benchmarks": {one.key: zlib.crc32(repr(one.samples).encode()) for one in sets},
        **json.loads(json.dumps(dataclasses.asdict(plan))),
    }
    for name in ("dev_share", "budget_points", "settings"):
        made.pop(name)  # what is counted, not what is scored
    place = journal / "plan.json"
    if place.exists():
        before = json.loads(place.read_text(encoding="utf-8"))
        if changed := sorted(key for key in before.keys() | made.keys() if before.get(key) != made.get(key)):
            raise UserError(
                f"{journal}: holds the scores of another evaluation that was cut off ({', '.join(changed)} "
                "differ), which this one would mix with; choose another --output_dir or remove the folder."
            )
    elif first:
        files.write_json(place, made)
    return journal


def _weights(path: str) -> list:
    """Name, size and time of the weight files of a local model: it may be trained again under its name."""
    folder = Path(path)
    found = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in found]


def _batches(items: Sequence[Sample], size: int) -> Iterable[Sequence[Sample]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _score_batch(
    policy: Any, one: Set, samples: Sequence[Sample], plan: Plan, cache_dir: str | None
) -> list[Record]:
    """Raw records of one batch; everything that needs the model happens below here."""
    from rlcomm.decoding.branches import branch_prompts

    wanted = decoders.branches(plan.decoders)
    items = []
    for sample in samples:
        clip = load_clip(sample.video, sample.audio, plan.media, cache_dir)
        arbitrate = plan.arbitrate
        if arbitrate == "auto":
            arbitrate = "text" if sample.meta.get("without_text") is not None else "video"
        items.append(branch_prompts(policy, sample, clip, wanted, plan.prompt_style, arbitrate))
    labels = [list(common.candidates(sample)) for sample in samples]
    texts: list[dict[str, str]] = [{} for _ in samples]
    if plan.gacl_mode == "tokens":
        texts = _generate_tokens(policy, items, plan)
        labels = [[] for _ in samples]
    else:
        asked = [i for i, own in enumerate(labels) if plan.gacl_mode == "hypotheses" or not own]
        for i, (written, answers) in zip(asked, _hypotheses(policy, items, asked, plan), strict=True):
            texts[i], labels[i] = {"greedy": written}, answers
    scores = _scores(policy, items, labels, plan)
    return [
        {
            "benchmark": sample.meta.get("benchmark", one.key),
            "set": one.key,
            "id": sample.id,
            "candidates": own,
            "scores": found,
            "texts": written,
        }
        for sample, own, found, written in zip(samples, labels, scores, texts, strict=True)
    ]


Prompts = dict[str, Any]  # branch -> EncodedPrompt, or None where the item has no such branch


def _scores(
    policy: Any, items: Sequence[Prompts], labels: Sequence[Sequence[str]], plan: Plan
) -> list[dict[str, list[float] | None]]:
    """Per item, branch -> scores of its candidates in nats; None for a branch that is not there (or, under
    the step prompt, that never came to an answer)."""
    from rlcomm.omni.tree import branch_scores

    found: list[dict[str, list[float] | None]] = [dict.fromkeys(item) for item in items]
    places = [(i, name) for i, item in enumerate(items) if labels[i] for name in item if item[name]]
    if plan.prompt_style == "direct":
        rows = [i for i in range(len(items)) if labels[i]]
        names = [[name for name in items[i] if items[i][name] is not None] for i in rows]
        if rows:
            values = branch_scores(
                policy.model,
                policy.processor,
                [[items[i][name] for name in some] for i, some in zip(rows, names, strict=True)],
                [labels[i] for i in rows],
                plan.normalise,
            )
            for i, some, row in zip(rows, names, values, strict=True):
                found[i].update({name: _rounded(part) for name, part in zip(some, row, strict=True)})
    else:
        prompts, asked = [items[i][name] for i, name in places], [labels[i] for i, _ in places]
        for (i, name), scored in zip(places, _after_reasoning(policy, prompts, asked, plan), strict=True):
            found[i][name] = scored
    return found


def _after_reasoning(
    policy: Any, prompts: Sequence[Any], labels: Sequence[Sequence[str]], plan: Plan
) -> list[list[float] | None]:
    """Scores of labels inside the <answer> of each prompt's own greedy completion; None without an opening
    tag."""
    from rlcomm.omni.score import candidate_scores

    opening = "<answer>"
    texts = _greedy(policy, prompts, plan)
    rows = [i for i, text in enumerate(texts) if opening in text]
    found: list[list[float] | None] = [None] * len(texts)
    if rows:
        values = candidate_scores(
            policy.model,
            policy.processor,
            [prompts[i] for i in rows],
            [[f" {label} </answer>" for label in labels[i]] for i in rows],
            plan.normalise,
            prefixes=[texts[i][: texts[i].index(opening) + len(opening)] for i in rows],
        )
        for i, scored in zip(rows, values, strict=True):
            found[i] = _rounded(scored)
    return found


def _hypotheses(
    policy: Any, items: Sequence[Prompts], asked: Sequence[int], plan: Plan
) -> list[tuple[str, list[str]]]:
    """What the joint branch writes, and the different answers of joint and evidence branch, per item."""
    from rlcomm import steps
    from rlcomm.decoding.hypotheses import hypothesis_set

    places = [(i, name) for i in asked for name in ("joint", "evidence") if items[i].get(name) is not None]
    texts = dict(zip(places, _greedy(policy, [items[i][name] for i, name in places], plan), strict=True))
    found = []
    for i in asked:
        answers = [
            steps.answer_of(texts[i, name], plan.prompt_style) if (i, name) in texts else None
            for name in ("joint", "evidence")
        ]
        found.append((texts[i, "joint"], list(hypothesis_set(*answers))))
    return found


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
            found[i][decoder] = written.get(i, joint[i])
    return found


def _greedy(policy: Any, prompts: Sequence[Any], plan: Plan) -> list[str]:
    from rlcomm.omni.rollout import generate

    if not prompts:
        return []
    groups = generate(
        policy.model, policy.processor, list(prompts), max_new_tokens=plan.max_new_tokens, temperature=0.0
    )
    return [group[0] for group in groups]


def _rounded(scores: Sequence[float]) -> list[float]:
    return [round(score, DIGITS) for score in scores]
