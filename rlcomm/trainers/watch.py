"""Watching a run in Weights & Biases or TensorBoard, rollouts to be heard and seen among its metrics.

    report_to: wandb | tensorboard  ->  transformers' callback  ->  ours: area/name metrics, one run, rollouts

transformers' own callbacks put everything under `train/`, begin another run when a stage is resumed, and show
no sound. Ours keep the metric names of metrics.jsonl (those without an area go under `train/`), go on in the
same run without telling a step twice, and every `rollouts_every` steps show the best and the worst completion
of a few prompts with the clip, the reasoning, the rewards and the advantage. Only the main process speaks;
whoever logs in does so with the tools' own commands and environment variables, no key passes through here.
"""

import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback, WandbCallback
from transformers.integrations.integration_utils import WandbLogModel

from rlcomm import steps
from rlcomm.data.clips import load_clip
from rlcomm.trainers.grpo import OmniGRPOTrainer, Rollout
from rlcomm.utils import files
from rlcomm.utils.errors import UserError

STEP = "train/global_step"  # transformers' x axis in W&B
TABLE = "rollouts"
MEMORY = "wandb.json"  # of a run folder: the id of its W&B run, the last step sent there, what was sent of it
FRAMES = 8  # shown of a clip, side by side
COLUMNS = ("step", "prompt", "audio", "frames", "a-think", "v-think", "answer", "gold", "reference")
# What W&B draws by itself; the rest is hidden there, one click away.
MATTERS = re.compile(
    r"train/(loss|reward|reward_std|frac_reward_zero_std|entropy|grad_norm|learning_rate)$"
    r"|rewards/\w+/mean$|steps/|ansco/|eval/|diagnose/\w+$|completions/(mean_length|clipped_ratio)$|time/rollout$"
)


def named(logs: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a logging step as `area/name`; what has no area is transformers' and goes to `train/`.

    Args:
        logs: of `Trainer.log`; what is no number (a reward that never applied is None) is left out.
    """
    return {
        key if "/" in key else f"train/{key}": value
        for key, value in logs.items()
        if isinstance(value, (int, float))
    }


def picked(rollouts: Sequence[Rollout], most: int) -> list[Rollout]:
    """The best and the worst completion of one prompt after the other, at most `most` of them.

    A group whose completions all earned the same shows its first one alone.
    """
    groups: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        groups.setdefault(rollout.sample.id, []).append(rollout)
    found: list[Rollout] = []
    for group in groups.values():
        best = max(group, key=lambda rollout: rollout.advantage)
        worst = min(group, key=lambda rollout: rollout.advantage)
        found += [best] if worst is best else [best, worst]
    return found[:most]


class Looks:
    """When the rollouts of a GRPO run are looked at, and what is seen and heard then.

    Args:
        trainer: its latest generation and its clips; a stage without rollouts never has a look.
        recipe: `rollouts_every` and `rollouts_shown`.
    """

    def __init__(self, trainer: Any, recipe: Any):
        self.trainer = trainer
        self.every = recipe.rollouts_every if isinstance(trainer, OmniGRPOTrainer) else 0
        self.most = recipe.rollouts_shown if self.every else 0

    def at(self, step: int) -> list[Rollout]:
        """What to show after this step: at the first one and at every `rollouts_every`th, else nothing."""
        if not self.every or (step != 1 and step % self.every):
            return []
        return picked(self.trainer.rollouts(), self.most)

    def clip(self, rollout: Rollout) -> tuple[np.ndarray | None, np.ndarray | None, int]:
        """Picture and sound as the policy gets them.

        Returns:
            Frames of the whole clip side by side (H, W, 3) uint8; sound (N,) float32 mono in [-1, 1]; its
            rate in Hz. None where the row has no such sense.
        """
        prompts, sample = self.trainer.prompts, rollout.sample
        clip = load_clip(sample.video, sample.audio, prompts.media, prompts.cache_dir)
        strip = None
        if clip.frames is not None:
            some = np.linspace(0, len(clip.frames) - 1, min(FRAMES, len(clip.frames))).round().astype(int)
            strip = np.concatenate(list(clip.frames[some]), axis=1)
        return strip, clip.audio, prompts.media.sampling_rate


def words(rollout: Rollout) -> dict[str, str | None]:
    """The columns of a rollout that are read: prompt, its three segments, gold answer, reference."""
    found = steps.parse(rollout.completion)
    return {
        "prompt": rollout.prompt,
        "a-think": found.audio.text,
        "v-think": found.video.text,
        "answer": found.answer.text,
        "gold": rollout.sample.answer,
        "reference": rollout.sample.reference,
    }


class Wandb(WandbCallback):
    """transformers' W&B callback, in the manner of this file.

    Project: the recipe's `project`, else WANDB_PROJECT, else rlcomm. Name: `run_name`, else the run folder.
    WANDB_ENTITY, WANDB_RUN_GROUP, WANDB_TAGS, WANDB_MODE and WANDB_DIR are W&B's own; WANDB_LOG_MODEL is
    transformers': `end` keeps the finished model/ as an artifact, `checkpoint` every checkpoint too.

    Args:
        recipe: of the stage.
        looks: at its rollouts.
    """

    def __init__(self, recipe: Any, looks: Looks):
        super().__init__()
        self.recipe, self.looks = recipe, looks
        self.memory = Path(recipe.output_dir) / MEMORY
        # transformers would save the model a second time, by a trainer of its own and with a pickle
        self.artifacts, self._log_model = self._log_model, WandbLogModel.FALSE
        self.sent = -1  # the last step that an earlier process of this stage sent,
        self.told: set[str] = set()  # and what of it: a kill may come between its rollouts and its metrics
        self.now: tuple[int, set[str]] = (-1, set())  # the same of this process
        self.hidden: set[str] = set()
        self.table: Any = None

    def setup(self, args: TrainingArguments, state: TrainerState, model: Any, **kwargs: Any) -> None:
        """Begins the W&B run of this stage, or goes on with it; transformers fills in the configuration.

        Raises:
            UserError: W&B refuses, most often because nobody is logged in.
        """
        if state.is_world_process_zero and self._wandb.run is None:
            known: dict[str, Any] = {"id": os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4), "step": -1,
                                     "told": []}  # fmt: skip
            if self.memory.exists():
                known = json.loads(self.memory.read_text(encoding="utf-8"))
            set_here = "project" in self.recipe.given
            project = None if set_here else os.environ.get("WANDB_PROJECT")
            try:
                self._wandb.init(
                    project=project or self.recipe.project, id=known["id"], resume="allow",
                    name=self.recipe.run_name or str(self.recipe.output_dir), job_type=self.recipe.stage,
                    dir=os.environ.get("WANDB_DIR") or str(self.recipe.output_dir),
                )  # fmt: skip
            except self._wandb.Error as error:
                raise UserError(
                    f"report_to is wandb, which refuses ({str(error).splitlines()[0].rstrip('.')}); run "
                    "`wandb login`, set WANDB_MODE=offline, or set report_to none."
                ) from error
            self.sent, self.told = known["step"], set(known.get("told", ()))
            self.now = (self.sent, set(self.told))
            files.write_json(self.memory, known)
        super().setup(args, state, model, **kwargs)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None,
        logs: dict[str, Any] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        if not self._initialized:
            self.setup(args, state, model)
        if not state.is_world_process_zero or not logs:
            return
        row = named(logs)
        if "train_runtime" in logs:  # the totals, once
            self._wandb.run.summary.update(row)
            return
        for name in row.keys() - self.hidden:
            if not MATTERS.match(name):
                self._wandb.define_metric(name, step_metric=STEP, hidden=True)
                self.hidden.add(name)
        self._send(state.global_step, row)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero or not self._new(state.global_step, {TABLE}):
            return
        rows = [self._row(state.global_step, rollout) for rollout in self.looks.at(state.global_step)]
        if not rows:
            return
        if self.table is None:  # each look is an increment of it; W&B shows the newest hundred
            self.table = self._wandb.Table(columns=list(rows[0]), log_mode="INCREMENTAL")
        for row in rows:
            self.table.add_data(*row.values())
        self._send(state.global_step, {TABLE: self.table})

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.artifacts == WandbLogModel.CHECKPOINT and state.is_world_process_zero:
            name = f"checkpoint-{state.global_step}"
            self._keep(self.memory.parent / name, name)

    def finish(self, trainer: Any, model: Path, summary: Mapping[str, Any]) -> None:
        """Closes the W&B run when the stage has been evaluated.

        Args:
            trainer: of the stage.
            model: the saved model, an artifact where WANDB_LOG_MODEL says so.
            summary: rates of the evaluation by name, W&B's summary under `eval/`.
        """
        if not trainer.state.is_world_process_zero:
            return
        if not self._initialized:  # trained by an earlier process
            self.setup(trainer.args, trainer.state, trainer.model)
        self._wandb.run.summary.update(named({f"eval/{key}": value for key, value in summary.items()}))
        if self.artifacts.is_enabled:
            self._keep(model, "final_model")
        self._wandb.finish()

    def _row(self, step: int, rollout: Rollout) -> dict[str, Any]:
        strip, audio, rate = self.looks.clip(rollout)
        read = words(rollout)
        seen = {
            "step": step,
            "audio": None if audio is None else self._wandb.Audio(audio, sample_rate=rate),
            "frames": None if strip is None else self._wandb.Image(strip, file_type="jpg"),
            **read,
        }
        return {
            **{name: seen[name] for name in COLUMNS},
            "completion": rollout.completion,
            **rollout.rewards,
            "advantage": rollout.advantage,
        }

    def _send(self, step: int, row: dict[str, Any]) -> None:
        """One row of the run's history, unless an earlier process of this stage has sent it."""
        if self._new(step, row.keys()):
            self._wandb.log({**row, STEP: step})
            self.now = (step, (self.now[1] if self.now[0] == step else set()) | row.keys())
            told = {"id": self._wandb.run.id, "step": step, "told": sorted(self.now[1])}
            files.write_json(self.memory, told)

    def _new(self, step: int, names: Set[str]) -> bool:
        """Whether no earlier process of this stage has sent all of these at that step."""
        return step > self.sent or (step == self.sent and not names <= self.told)

    def _keep(self, folder: Path, alias: str) -> None:
        run = self._wandb.run
        artifact = self._wandb.Artifact(
            f"model-{run.id}", type="model", metadata={"stage": self.recipe.stage}
        )
        artifact.add_dir(str(folder))
        run.log_artifact(artifact, aliases=[alias])


class TensorBoard(TensorBoardCallback):
    """transformers' TensorBoard callback, in the manner of this file, into `tensorboard/` of the run folder.

    Args:
        recipe: of the stage.
        looks: at its rollouts.
    """

    def __init__(self, recipe: Any, looks: Looks):
        super().__init__()
        self.looks = looks
        self.logging_dir = self.logging_dir or str(Path(recipe.output_dir) / "tensorboard")

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            # what was logged after the checkpoint that is resumed from will be logged again
            self.tb_writer = self._SummaryWriter(log_dir=self.logging_dir, purge_step=state.global_step + 1)
        super().on_train_begin(args, state, control, **kwargs)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
        logs: dict[str, Any] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        if state.is_world_process_zero and self.tb_writer is not None:
            for name, value in named(logs or {}).items():
                self.tb_writer.add_scalar(name, value, state.global_step)
            self.tb_writer.flush()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero or self.tb_writer is None:
            return
        for number, rollout in enumerate(self.looks.at(state.global_step)):
            place, step = f"{TABLE}/{number}", state.global_step
            strip, audio, rate = self.looks.clip(rollout)
            told = {**words(rollout), **rollout.rewards, "advantage": rollout.advantage}
            lines = [f"| {name} | {str(value).replace('|', '/')} |" for name, value in told.items()]
            text = "\n".join(["| | |", "|---|---|", *(line.replace("\n", " ") for line in lines)])
            self.tb_writer.add_text(place, text, step)
            if audio is not None:
                self.tb_writer.add_audio(place, torch.from_numpy(audio)[None], step, sample_rate=rate)
            if strip is not None:
                self.tb_writer.add_image(place, strip, step, dataformats="HWC")


def watch(trainer: Any, recipe: Any) -> Wandb | None:
    """Puts our callbacks in place of transformers', for those of them that the recipe reports to.

    Args:
        trainer: made with this recipe.
        recipe: of the stage.

    Returns:
        The W&B callback, to be told when the stage ends; None where nothing is reported there.
    """
    looks = Looks(trainer, recipe)
    watcher = None
    if "tensorboard" in recipe.report_to:
        trainer.remove_callback(TensorBoardCallback)
        trainer.add_callback(TensorBoard(recipe, looks))
    if "wandb" in recipe.report_to:
        trainer.remove_callback(WandbCallback)
        watcher = Wandb(recipe, looks)
        trainer.add_callback(watcher)
        # TRL speaks to W&B itself where it reads the name here: a table of the latest completions without
        # their sound, and rows for the seconds of every method, which a resumed run would send twice
        trainer.args.report_to = [name for name in recipe.report_to if name != "wandb"]
    return watcher
