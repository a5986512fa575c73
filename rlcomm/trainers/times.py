"""Where the time of a training step goes: a mixin of our trainers that logs it at every step.

    time/prompts             decoding and encoding clips that were not ready
    time/rollout             sampling
    time/rewards             all rewards
    time/other               what else a generation takes: its padding, its advantages, its table
    time/score               forwards that give log-probabilities: of the loss, and of the rollout before it
    time/backward            from the end of the last forward to the end of the micro-batch
    time/tokens_per_second   tokens of prompts and completions (a prompt once for each completion, whichever
                             way they are scored) by the seconds of the step
    time/padding             share of filler among the places that scoring computes, in [0, 1)

SFT and Ans-CO log the last four. Seconds are sums over the micro-batches of a step, of the process that logs;
what a step did not do is 0.
"""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch

from rlcomm.omni.score import Work


class StepTimes:
    """Put before TRL's trainer among the bases; the trainer says what it does by `spent`.

    Attributes:
        parts: what is logged at every step, beside "backward".
        work: what scoring has read in this step.
    """

    parts: tuple[str, ...] = ("score",)
    accelerator: Any
    model: Any
    _metrics: Any

    def __init__(self, *args: Any, **kwargs: Any):
        self._seconds: dict[str, float] = defaultdict(float)
        self._marked = self._whole = 0.0
        self.work = Work()
        super().__init__(*args, **kwargs)

    def _clock(self) -> float:
        """Seconds; what a GPU was asked to do before is done."""
        if self.accelerator.device.type == "cuda":
            torch.cuda.synchronize(self.accelerator.device)
        return time.perf_counter()

    @contextlib.contextmanager
    def spent(self, name: str) -> Iterator[None]:
        """What is done inside counts as `name`, but for what is counted inside it by itself."""
        started, before = self._clock(), sum(self._seconds.values())
        try:
            yield
        finally:
            self._marked = self._clock()
            within = sum(self._seconds.values()) - before
            self._seconds[name] += self._marked - started - within

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        started = self._clock()
        loss = super().training_step(*args, **kwargs)  # type: ignore[misc]
        ended = self._clock()
        self._seconds["backward"] += ended - max(self._marked, started)
        self._whole += ended - started
        if self.accelerator.sync_gradients:
            self.log_times("train", self._whole)
            self._whole = 0.0
        return loss

    def log_times(self, mode: str, seconds: float) -> None:
        """Notes what was spent since the last call.

        Args:
            mode: "train" or "eval".
            seconds: the whole of it, which the tokens a second refer to.
        """
        metrics = self._metrics[mode]
        for name in (*self.parts, *(("backward",) if mode == "train" else ())):
            metrics[f"time/{name}"].append(self._seconds[name])
        metrics["time/tokens_per_second"].append(self.work.tokens / seconds if seconds else 0.0)
        metrics["time/padding"].append(self.work.padding)
        self._seconds.clear()
        self.work = Work()
