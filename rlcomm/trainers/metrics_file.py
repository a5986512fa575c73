"""metrics.jsonl: what a run logged, one JSON object a logging step."""

import json
import os
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from rlcomm.utils import files
from rlcomm.utils.errors import UserError


class MetricsFile(TrainerCallback):
    """metrics.jsonl: one JSON object a logging step; steps after the resumed one are dropped."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            kept = [row for row in read_metrics(self.path) if row["step"] <= state.global_step]
            files.write_jsonl(self.path, kept)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict | None = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        if state.is_world_process_zero and logs and "train_runtime" not in logs:
            row = {
                "step": state.global_step,
                **{k: v for k, v in logs.items() if v is None or isinstance(v, (int, float))},
            }
            try:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
            except OSError as error:
                raise UserError(
                    f"{self.path}: could not be written ({error.strerror}); free space and run the same "
                    "command again, it goes on from the last checkpoint."
                ) from error


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; a last line cut off by a kill is left out."""
    rows = []
    if Path(path).exists():
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows
