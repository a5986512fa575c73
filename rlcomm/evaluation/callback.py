"""Conflict benchmarks while a model trains: the same evaluator on a fixed subset, every so many steps."""

import logging
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rlcomm import files
from rlcomm.errors import UserError
from rlcomm.evaluation import conflict
from rlcomm.evaluation.catalog import Set
from rlcomm.evaluation.decide import count
from rlcomm.evaluation.runner import read_records
from rlcomm.omni.policy import own_temperature

logger = logging.getLogger("rlcomm")

ALIGNED_ACC = "aligned_acc"
UNLOGGED = re.compile(r"^step$|/(tir_|norm_acc_|nauc_|mean_confidence)")  # in eval_during.jsonl alone


class ConflictCallback(TrainerCallback):
    """Logs `eval/<benchmark>/<metric>`, of other decoders than greedy `eval/<benchmark>/<decoder>/<metric>`.

    Asked before the first step, every `every` steps and after the last one. All processes score all items, so
    that sharded weights are gathered in step. `eval_during.jsonl` of the run folder keeps the rows, so a
    resumed run knows its best model and where it began.

    Args:
        policy: the model that trains (unwrapped) and its processor.
        sets: of `catalog.open_sets`, already cut to the subset.
        plan: what is compared.
        run_dir: run folder.
        every: steps between two evaluations.
        metric: "benchmark/metric" or "benchmark/decoder/metric"; the best model (highest) goes to `best/`.
        budget: points that the mean aligned accuracy of greedy decoding (faithful text, positive control) may
            fall below that before the first step; below that the run stops. None: never.
        save: writes the model to a path.
        trainer: set by whoever adds the callback: what logs.
    """

    def __init__(
        self,
        policy: Any,
        sets: Sequence[Set],
        plan: conflict.Plan,
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

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.file.exists():
            self.rows = [row for row in read_records(self.file) if row["step"] <= state.global_step]
        if state.global_step == 0 and not self.rows:
            self._evaluate(state, control)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self._evaluate(state, control)

    def _evaluate(self, state: TrainerState, control: TrainerControl) -> None:
        with own_temperature(self.policy.model):
            raw = conflict.collect(self.policy, self.sets, self.plan, None, self.cache_dir, progress=False)
        results, _ = count(raw, self.sets, self.plan, "")
        row: dict[str, Any] = {"step": state.global_step, **named(results)}
        if self.metric is not None and self.metric not in row:
            raise UserError(
                f"eval_metric is {self.metric!r}, which this evaluation does not give; use one of "
                f"{', '.join(key for key in row if key != 'step')}."
            )
        better = self.metric is not None and all(row[self.metric] > old[self.metric] for old in self.rows)
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
        start, now = aligned(self.rows[0]), aligned(row)
        if self.budget is None or start is None or now is None:
            return
        if 100 * (start - now) > self.budget:
            logger.warning(
                "stopped at step %d: the aligned accuracy fell from %.1f to %.1f %%, more than eval_budget "
                "%.1f points.",
                state.global_step, 100 * start, 100 * now, self.budget,
            )  # fmt: skip
            control.should_training_stop = True


def named(results: dict[str, Any]) -> dict[str, float]:
    """results.json flat: "mcr_aqa/conflict_acc" of greedy decoding, "mcr_aqa/gacl/conflict_acc" of others."""
    found = {}
    for decoder, entry in results["decoders"].items():
        for key, metrics in entry["benchmarks"].items():
            for metric, value in metrics.items():
                if value["value"] is not None:
                    name = f"{key}/{metric}" if decoder == "greedy" else f"{key}/{decoder}/{metric}"
                    found[name] = value["value"]
    return found


def aligned(row: dict[str, Any]) -> float | None:
    """The mean aligned accuracy of greedy decoding over the benchmarks that have one, in [0, 1]."""
    values = [
        value for name, value in row.items() if name.count("/") == 1 and name.endswith(f"/{ALIGNED_ACC}")
    ]
    return sum(values) / len(values) if values else None
