"""Conflict benchmarks while a model trains: the same evaluator on a fixed subset, every so many steps."""

import logging
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import rlcomm.utils.torchvision_ops  # noqa: F401  (before anything that imports torchvision)

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments  # isort: skip
from rlcomm.evaluation import scored
from rlcomm.evaluation.catalog import ALIGNED, CONFLICT, Set
from rlcomm.evaluation.plan import Plan
from rlcomm.evaluation.records import read_records
from rlcomm.evaluation.tuning import count
from rlcomm.omni.policy import own_temperature
from rlcomm.utils import files, processes
from rlcomm.utils.errors import UserError

logger = logging.getLogger("rlcomm")

ALIGNED_ACC = "aligned_acc"
# in eval_during.jsonl alone
UNLOGGED = re.compile(r"^step$|/(tir_|norm_acc_|nauc_|frontier_|mean_confidence)")


class ConflictCallback(TrainerCallback):
    """Logs `eval/<benchmark>/<metric>`, of other decoders than greedy `eval/<benchmark>/<decoder>/<metric>`.

    Asked before the first step, every `every` steps and after the last one. All processes score all items, so
    that sharded weights are gathered in step, and all decide by the numbers of the first. `eval_during.jsonl`
    of the run folder keeps the rows, so a resumed run knows its best model and where it began; an undefined
    metric is left out of its row.

    Args:
        policy: the model that trains (unwrapped) and its processor.
        sets: of `catalog.open_sets`, already cut to the subset.
        plan: what is compared.
        run_dir: run folder.
        every: steps between two evaluations.
        metric: "benchmark/metric" or "benchmark/decoder/metric"; the best model (highest) goes to `best/`.
        budget: points that the mean aligned accuracy of greedy decoding (faithful text, positive control) may
            fall below that of the first evaluation, over the benchmarks of both; then the run stops. None:
            never.
        save: writes the model to a path.
        trainer: set by whoever adds the callback: what logs.
    """

    def __init__(
        self,
        policy: Any,
        sets: Sequence[Set],
        plan: Plan,
        run_dir: str | os.PathLike,
        every: int,
        metric: str | None = None,
        budget: float | None = None,
        save: Callable[[Path], None] | None = None,
        cache_dir: str | None = None,
    ):
        self.policy, self.sets, self.plan, self.every = policy, sets, plan, every
        self.metric, self.budget, self.save, self.cache_dir = metric, budget, save, cache_dir
        self.run_dir = Path(run_dir)
        self.file = self.run_dir / "eval_during.jsonl"
        self.rows: list[dict[str, Any]] = []
        self.trainer: Any = None
        self.asked = False  # by this process

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.budget is not None and not any(map(has_both_sides, self.sets)):
            raise UserError(
                f"eval_budget is {self.budget}, but none of the eval_benchmarks "
                f"({', '.join(one.key for one in self.sets)}) has aligned items beside those in conflict, so "
                "there is no aligned accuracy to watch; add one that has, such as mcr_aqa, or leave it out."
            )
        if state.is_world_process_zero and self.file.exists():
            self.rows = [row for row in read_records(self.file) if row["step"] <= state.global_step]
        self.rows = processes.tell(self.rows)
        if state.global_step == 0 and not self.rows:
            self._evaluate(state, control)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self._evaluate(state, control)

    def _evaluate(self, state: TrainerState, control: TrainerControl) -> None:
        with own_temperature(self.policy.model):
            raw = scored.collect(self.policy, self.sets, self.plan, self.cache_dir, progress=False)
        results, _ = count(raw, self.sets, self.plan, "")
        found = processes.tell(named(results))
        row = {"step": state.global_step, **{key: value for key, value in found.items() if value is not None}}
        if self.metric is not None and not self.asked:
            self._check_metric(self.metric, found)
        self.asked = True
        others = [old[self.metric] for old in self.rows if self.metric in old]
        better = self.metric in row and all(row[self.metric] > other for other in others)
        self.rows.append(row)
        if state.is_world_process_zero:
            files.write_jsonl(self.file, self.rows)
        logged = {key: value for key, value in row.items() if not UNLOGGED.search(key)}
        due = control.should_log
        # transformers' own: TRL's would take it for the end of a logging interval
        Trainer.log(self.trainer, {f"eval/{key}": value for key, value in logged.items()})
        control.should_log = due  # logging cleared it, and the step's own row is still to come
        if better and self.save is not None and state.global_step > 0:
            self.save(self.run_dir / "best")
        if self.budget is None:
            return
        start, now = aligned(self.rows, row)
        if round(100 * (start - now), 6) > self.budget:
            logger.warning(
                "stopped at step %d: the aligned accuracy fell from %.1f to %.1f %%, more than eval_budget "
                "%.1f points.",
                state.global_step, 100 * start, 100 * now, self.budget,
            )  # fmt: skip
            control.should_training_stop = True

    def _check_metric(self, metric: str, found: dict[str, float | None]) -> None:
        """Refuses a name that neither this evaluation gives nor one before; a decoder that could do nothing
        yet (`applies` is 0) may give it later."""
        known = any(metric in one for one in (found, *self.rows))
        if not known and found.get(f"{metric.rpartition('/')[0]}/applies") != 0:
            raise UserError(
                f"eval_metric is {metric!r}, which this evaluation does not give; use one of "
                f"{', '.join(found)}."
            )


def has_both_sides(one: Set) -> bool:
    """Whether a benchmark has an aligned accuracy: aligned items beside those in conflict."""
    return {CONFLICT, ALIGNED} <= {sample.meta.get("condition") for sample in one.samples}


def named(results: dict[str, Any]) -> dict[str, float | None]:
    """results.json flat: "mcr_aqa/conflict_acc" of greedy decoding, "mcr_aqa/gacl/conflict_acc" of others;
    None: undefined on these items."""
    found = {}
    for decoder, entry in results["decoders"].items():
        for key, metrics in entry["benchmarks"].items():
            for metric, value in metrics.items():
                name = f"{key}/{metric}" if decoder == "greedy" else f"{key}/{decoder}/{metric}"
                found[name] = value["value"]
    return found


def aligned_accuracies(found: dict[str, Any]) -> dict[str, float]:
    """The defined aligned accuracies of greedy decoding in [0, 1], by name."""
    return {
        name: value
        for name, value in found.items()
        if name.count("/") == 1 and name.endswith(f"/{ALIGNED_ACC}") and value is not None
    }


def aligned(rows: Sequence[dict[str, Any]], row: dict[str, Any]) -> tuple[float, float]:
    """The mean aligned accuracy at the first of `rows` that shares a benchmark with `row`, and that of `row`,
    over the benchmarks of both; zeros where none does."""
    now = aligned_accuracies(row)
    for old in map(aligned_accuracies, rows):
        if both := [name for name in now if name in old]:
            return sum(old[name] for name in both) / len(both), sum(now[name] for name in both) / len(both)
    return 0.0, 0.0
