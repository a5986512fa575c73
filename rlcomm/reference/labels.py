"""Rows answered by the model itself, from one sense alone (`rlcomm reference --for labels`): no annotation.

    exchanged clip, question about the sound    --(the sound alone)-->     label
    exchanged clip, question about the picture  --(the picture alone)-->   label
    question beside another row's text          --(without the text)-->    label
    ordinary row                                --(both senses), or its gold answer

GACL decodes with a second branch that lacks the conflicting part; SFT on rows that this branch has answered
puts it into the weights, at one forward instead of two. Each branch is asked once per clip and question,
greedily; where the possible answers are known they are scored, and a label is kept only where it is ahead of
the next one by `label_margin`. Source of the branch: Beyond Text Following (GACL, arXiv 2606.05161).
"""

import dataclasses
import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rlcomm.config.reference import ReferenceRecipe
from rlcomm.data import controls
from rlcomm.data.sample import Sample, read_jsonl, write_jsonl
from rlcomm.omni.policy import load_policy
from rlcomm.omni.prompts import Prompts
from rlcomm.omni.rollout import generate
from rlcomm.omni.score import candidate_scores
from rlcomm.reference import mix, pairs
from rlcomm.reference.rows import check_ids
from rlcomm.rewards.accuracy import normalise
from rlcomm.utils import files, processes
from rlcomm.utils.errors import UserError

_MOST_LABELS = 32  # of a question type, beyond which answers are written freely
_CLOSED = re.compile(r"^(?:is|are|was|were|do|does|did|can|has|have)\b", re.IGNORECASE)
_SENSES = {"Audio/": "video", "Visual/": "audio"}  # by type: what a branch leaves out
BY = {"video": "audio", "audio": "video", "text": "without text", "joint": "joint"}  # left out -> who answers


class Branches:
    """A model that is asked what one sense alone says; greedy."""

    def __init__(self, recipe: ReferenceRecipe) -> None:
        self.recipe = recipe
        self.policy = load_policy(recipe.policy_model, dtype=recipe.dtype, device=processes.device())
        self.prompts = Prompts(self.policy, recipe.media(), "direct", recipe.media_cache_dir, memory_mb=256)
        self._known: dict[tuple, tuple[str, float | None]] = {}

    def ask(self, asked: Sequence[Sample], labels: Sequence[Sequence[str]]) -> list[tuple[str, float | None]]:
        """The answers, each with its lead in nats over the next label.

        Args:
            asked: what the branch gets: clip and question of each, N.
            labels: the possible answers of each; fewer than two: it is written freely.

        Returns:
            N pairs of an answer ("" where nothing was written) and its lead; None where it was written.
        """
        keys = [
            (s.video, s.audio, getattr(s, "change", None), s.question, s.options, *possible)
            for s, possible in zip(asked, labels, strict=True)
        ]
        first = {key: i for i, key in reversed(list(enumerate(keys))) if key not in self._known}
        todo = sorted(first.values(), key=lambda i: (asked[i].video or "", asked[i].audio or "", i))
        size = self.recipe.batch_size
        for start in tqdm(range(0, len(todo), size), desc="asked", disable=not processes.is_main()):
            part = todo[start : start + size]
            for closed in (True, False):
                some = [i for i in part if (len(labels[i]) > 1) == closed]
                if some:
                    found = self._scored if closed else self._written
                    for i, answer in zip(some, found(asked, labels, some), strict=True):
                        self._known[keys[i]] = answer
        return [self._known[key] for key in keys]

    def _scored(
        self, asked: Sequence[Sample], labels: Sequence[Sequence[str]], some: list[int]
    ) -> list[tuple[str, float | None]]:
        scores = candidate_scores(
            self.policy.model, self.policy.processor, [self.prompts(asked[i]) for i in some],
            [list(labels[i]) for i in some], normalise=False,
        )  # fmt: skip
        answers: list[tuple[str, float | None]] = []
        for i, row in zip(some, scores, strict=True):
            order = sorted(range(len(row)), key=lambda k: -row[k])
            answers.append((labels[i][order[0]], row[order[0]] - row[order[1]]))
        return answers

    def _written(
        self, asked: Sequence[Sample], labels: Sequence[Sequence[str]], some: list[int]
    ) -> list[tuple[str, float | None]]:
        texts = generate(
            self.policy.model, self.policy.processor, [self.prompts(asked[i]) for i in some],
            max_new_tokens=self.recipe.max_new_tokens,
        )  # fmt: skip
        return [(group[0].strip(), None) for group in texts]


def write_labels(samples: Sequence[Sample], recipe: ReferenceRecipe, branches: Any = None) -> dict[str, Any]:
    """Writes rows whose answers are the model's own, `meta["label"]` saying which branch gave them.

    Ordinary rows (`samples`) keep their gold answer or get the joint branch's (`ordinary_labels`). Exchanged
    rows are those of `counterfactual`, of pairs drawn blindly (`names`), and of `texts`. All are mixed as
    warm-up rows are; what is left out is counted by reason.

    Args:
        samples: ordinary rows.
        recipe: of the labels; `output` is the file to write, `policy_model` answers.
        branches: who is asked; None: `Branches` of the recipe.

    Returns:
        {"rows", "labelled", "left_out": {reason: rows}, "agree": {"value": share of labels that are the row's
        own answer, "n"}, "mix": as `mix.described`, "out"}; also in `<output without suffix>.labels.json`.

    Raises:
        UserError: nothing is exchanged or nothing could be answered; a mix that cannot be made.
    """
    branches = branches or Branches(recipe)
    own, asked = _exchanged(recipe)
    # where no gold answer may be used, not even what answers there are is taken from them
    known = labels_by_type([*samples, *own, *asked]) if recipe.ordinary_labels == "gold" else {}
    if recipe.ordinary_labels == "none":
        samples = []
    ordinary, gone = list(samples), Counter[str]()
    agreed: list[bool] = []
    if recipe.ordinary_labels == "joint":
        ordinary = _answered(ordinary, ["joint"] * len(ordinary), known, branches, recipe, gone, agreed)
    fit = [(row, branch) for row in asked if (branch := branch_of(row)) is not None]
    gone["asks both senses at once"] += len(asked) - len(fit)
    labelled = _answered([r for r, _ in fit], [b for _, b in fit], known, branches, recipe, gone, agreed)
    labelled += own
    if recipe.names:
        labelled += pairs.blind_rows(read_jsonl(recipe.dataset)[: recipe.max_rows], recipe, branches.ask)
    if not labelled:
        raise UserError(
            f"{recipe.output}: no exchanged row could be answered ({dict(+gone) or 'there was none'}); name "
            "counterfactual, texts or names, or lower label_margin."
        )
    pool, exchanged = [*ordinary, *labelled], {row.id for row in labelled}
    check_ids(pool)
    taken = mix.copies(
        pool, recipe.warmup_rows or len(pool), exchanged=[row.id in exchanged for row in pool],
        exchanged_share=recipe.counterfactual_share, min_type_share=recipe.min_type_share,
        balance_answers=recipe.balance_answers, seed=recipe.seed,
    )  # fmt: skip
    rows = [mix.again(row, n) for row, t in zip(pool, taken, strict=True) for n in range(1, t + 1)]
    random.Random(recipe.seed).shuffle(rows)
    write_jsonl(recipe.output, rows)
    report = {
        "rows": len(rows), "labelled": len(agreed), "left_out": dict(+gone),
        "agree": {"value": sum(agreed) / len(agreed) if agreed else None, "n": len(agreed)},
        "mix": mix.described(pool, taken), "out": recipe.output,
    }  # fmt: skip
    files.write_json(Path(recipe.output).with_suffix(".labels.json"), report)
    return report


def _exchanged(recipe: ReferenceRecipe) -> tuple[list[Sample], list[Sample]]:
    """The exchanged rows that keep their answers, and those that a branch is asked for."""
    clips = read_jsonl(recipe.counterfactual) if recipe.counterfactual else []
    texts = exchanged_texts(read_jsonl(recipe.texts), recipe.seed) if recipe.texts else []
    return (clips, texts) if recipe.exchanged_labels == "own" else ([], clips + texts)


def branch_of(row: Sample) -> str | None:
    """Who can answer an exchanged row: "text" (without the text), "video" (the sound alone) or "audio" (the
    picture alone), named as `controls.PARTS` by what is left out; None: it asks for both senses."""
    if row.meta.get("without_text") is not None:
        return "text"
    return next((lost for kind, lost in _SENSES.items() if row.turns[0].type.startswith(kind)), None)


def labels_by_type(rows: Sequence[Sample]) -> dict[str, tuple[str, ...]]:
    """The answers of every question type, in the words that came first; () where there are too many."""
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        if row.answer.strip():
            found.setdefault(row.turns[0].type, {}).setdefault(normalise(row.answer), row.answer)
    return {kind: tuple(a.values()) if len(a) <= _MOST_LABELS else () for kind, a in found.items()}


def possible(row: Sample, known: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The answers between which a row's question decides; () where they are not known."""
    if row.options:
        return row.options
    if candidates := row.meta.get("candidates"):
        return tuple(candidates)
    if _CLOSED.match(row.turns[0].question):
        return ("yes", "no")
    return known.get(row.turns[0].type, ()) if row.turns[0].type else ()


def exchanged_texts(rows: Sequence[Sample], seed: int) -> list[Sample]:
    """Every row beside the text of another one of its task, about another clip.

    Args:
        rows: `meta["without_text"]` is their question without its text, part of the whole question.
        seed: of the draw.

    Returns:
        Rows without answer; those for whom no other text is there are left out.
    """
    rng, made = random.Random(seed), []
    framed: dict[Any, list[tuple[str, Any]]] = {}
    asked = [(row, str(row.meta.get("without_text") or "")) for row in rows]
    asked = [(row, bare) for row, bare in asked if bare and bare in row.question and bare != row.question]
    for row, bare in asked:
        framed.setdefault(row.meta.get("task"), []).append((row.question.replace(bare, "{}"), row.audio))
    for row, bare in asked:
        others = [frame for frame, audio in framed[row.meta.get("task")] if audio != row.audio]
        if others:
            question = rng.choice(others).replace("{}", bare)
            turn = dataclasses.replace(row.turns[0], question=question, target=None)
            made.append(dataclasses.replace(row, id=f"text-{row.id}", turns=(turn, *row.turns[1:])))
    return made


def _answered(
    rows: Sequence[Sample], branches: Sequence[str], known: dict[str, tuple[str, ...]], model: Any,
    recipe: ReferenceRecipe, gone: Counter[str], agreed: list[bool],
) -> list[Sample]:  # fmt: skip
    """The rows with a branch's answers; `gone` counts those without, `agreed` compares with their own."""
    asked: list[Sample] = []
    keep: list[tuple[Sample, str]] = []
    for row, branch in zip(rows, branches, strict=True):
        bare = row if branch == "joint" else controls.without(row, branch)
        if bare is None:
            gone["the sense that could answer is not there"] += 1
        else:
            keep.append((row, branch))
            asked.append(bare)
    found = model.ask(asked, [possible(row, known) for row, _ in keep])
    made = []
    for (row, branch), (answer, lead) in zip(keep, found, strict=True):
        if not answer:
            gone["nothing was answered"] += 1
        elif recipe.label_margin > 0 and (lead is None or lead < recipe.label_margin):
            gone[f"ahead by less than {recipe.label_margin:g} nats"] += 1
        else:
            agreed += [normalise(answer) == normalise(row.answer)] if row.answer.strip() else []
            turn = dataclasses.replace(row.turns[0], answer=answer, target=None)
            label = {"by": BY[branch], "model": recipe.policy_model, "lead": lead}
            meta = {**row.meta, "label": label}
            made.append(dataclasses.replace(row, turns=(turn,), meta=meta, reference=None, sight=None))
    return made
