"""Checkpoints that are whole or absent: written beside, renamed into place."""

import os
import shutil
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints

from rlcomm.utils import files
from rlcomm.utils.errors import UserError

_UNFINISHED = ".unfinished-checkpoints"


class AtomicCheckpoints:
    """Mixin for a transformers Trainer: `checkpoint-N` appears only once everything in it is on disk."""

    _writing_to: str | None = None

    def _get_output_dir(self, trial: Any) -> str:
        return self._writing_to or super()._get_output_dir(trial)  # type: ignore[misc]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        run_dir = super()._get_output_dir(trial)  # type: ignore[misc]
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"  # type: ignore[attr-defined]
        beside = os.path.join(run_dir, _UNFINISHED)
        self._writing_to = beside
        try:
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
            self.accelerator.wait_for_everyone()  # type: ignore[attr-defined]
            if self.args.should_save:  # type: ignore[attr-defined]
                shutil.rmtree(os.path.join(run_dir, name), ignore_errors=True)
                os.replace(os.path.join(beside, name), os.path.join(run_dir, name))
                rotate_checkpoints(
                    output_dir=run_dir, save_total_limit=self.args.save_total_limit, use_mtime=True,  # type: ignore[attr-defined]
                    best_model_checkpoint=self.state.best_model_checkpoint,  # type: ignore[attr-defined]
                )  # fmt: skip
        except Exception as error:
            if (reason := files.write_failure(error)) is None:
                raise
            raise UserError(
                f"{run_dir}: the checkpoint of step {self.state.global_step} could not be written "  # type: ignore[attr-defined]
                f"({reason}); free space and run the same command again, it goes on from the last one."
            ) from error
        finally:
            self._writing_to = None
            if self.args.should_save:  # type: ignore[attr-defined]
                shutil.rmtree(beside, ignore_errors=True)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Reads weights back by `from_pretrained`, which knows the names they were saved under.

        transformers saves a model under the tensor names of its hub checkpoints, and its Trainer reads them
        back as if they were the model's own: of this model none matches, and a resumed run would go on from
        the base weights with nothing but a warning.
        """
        resumed = self.model if model is None else model  # type: ignore[attr-defined]
        if self.is_fsdp_enabled or not isinstance(resumed, PreTrainedModel):  # type: ignore[attr-defined]
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
            return
        saved = type(resumed).from_pretrained(resume_from_checkpoint, dtype=resumed.dtype)
        resumed.load_state_dict(saved.state_dict())

    def init_hf_repo(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: what goes to the Hub is a finished stage's `model/` (`rlcomm.export.hub`), no checkpoint
        with its pickles."""

    def push_to_hub(self, *args: Any, **kwargs: Any) -> Any:
        """Nothing, as above; transformers would push whenever a model is saved."""

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Nothing, as above."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """TRL's card of every checkpoint; the run folder describes itself."""


def last_checkpoint(run_dir: str | os.PathLike) -> str | None:
    """The newest whole checkpoint of a run folder, or None."""
    found = [
        p for p in Path(run_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*") if (p / "trainer_state.json").exists()
    ]
    return str(max(found, key=lambda p: int(p.name.rsplit("-", 1)[1]))) if found else None
