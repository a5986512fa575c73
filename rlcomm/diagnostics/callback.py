"""The modality balance while a model trains: any parts of `rlcomm diagnose` on a fixed small subset."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rlcomm.utils.torchvision_ops  # noqa: F401  (before anything that imports torchvision)

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments  # isort: skip
from rlcomm.diagnostics.run import Plan, check, measured, part_of, summarised
from rlcomm.evaluation.catalog import Set
from rlcomm.evaluation.records import read_records
from rlcomm.omni.policy import own_temperature
from rlcomm.reports import stages as report
from rlcomm.utils import files, processes

FILE = "diagnose_during.jsonl"
PAGE = "balance.html"


class DiagnoseCallback(TrainerCallback):
    """Logs `diagnose/audio_reliance`, `visual_reliance`, `text_prior`, `sign_flip_rate` and `muted_acc`, and
    what each part has to log (its `scalars`), as `diagnose/<part>/...`.

    Measured before the first step, every `every` steps and after the last one. All processes measure all
    items, so that sharded weights are gathered in step, and the numbers are those of the first.
    `diagnose_during.jsonl` of the run folder keeps the rows, so a resumed run goes on with them; an undefined
    number is left out of its row. `balance.html` beside it draws the five over the steps so far.

    Args:
        policy: the model that trains (unwrapped) and its processor.
        sets: of `catalog.open_sets`, already cut to the subset.
        plan: what is measured.
        run_dir: run folder.
        every: steps between two measurements.
        cache_dir: of decoded media.
        trainer: set by whoever adds the callback: what logs.
    """

    def __init__(
        self,
        policy: Any,
        sets: Sequence[Set],
        plan: Plan,
        run_dir: str | os.PathLike,
        every: int,
        cache_dir: str | None = None,
    ):
        self.policy, self.sets, self.plan, self.every = policy, sets, plan, every
        self.cache_dir = cache_dir
        self.file = Path(run_dir) / FILE
        self.rows: list[dict[str, Any]] = []
        self.trainer: Any = None
        check(sets, plan)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero and self.file.exists():
            self.rows = [row for row in read_records(self.file) if row["step"] <= state.global_step]
        self.rows = processes.tell(self.rows)
        if state.global_step == 0 and not self.rows:
            self._diagnose(state, control)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self._diagnose(state, control)

    def _diagnose(self, state: TrainerState, control: TrainerControl) -> None:
        with own_temperature(self.policy.model):
            records = measured(self.policy, self.sets, self.plan, self.cache_dir)
        values = processes.tell(numbers(summarised(records)))
        self.rows.append({"step": state.global_step, **values})
        if state.is_world_process_zero:
            files.write_jsonl(self.file, self.rows)
            curve = [{"step": row["step"], **logged(row)} for row in self.rows]
            report.write_balance(self.file.with_name(PAGE), curve, self.file.parent.name)
        due = control.should_log
        # transformers' own: TRL's would take it for the end of a logging interval
        Trainer.log(self.trainer, logged(values))
        control.should_log = due  # logging cleared it, and the step's own row is still to come


def logged(values: dict[str, Any]) -> dict[str, Any]:
    """Numbers of a diagnosis under the names they are logged by."""
    return {f"diagnose/{name}": value for name, value in values.items() if name != "step"}


def numbers(diagnosis: dict[str, Any]) -> dict[str, float]:
    """The defined numbers of a diagnosis (`run.summarised`): the balance by its names, the parts' scalars."""
    found = {name: metric["value"] for name, metric in diagnosis["balance"].items()}
    for name, summary in diagnosis.items():
        if name != "balance":
            found |= part_of(name).scalars(summary)
    return {name: value for name, value in found.items() if value is not None}
