"""Whether the optimiser and the learning-rate schedule of a recipe can be made, before a model is read."""

import copy
import math
import re
import warnings
from typing import Any

import rlcomm.utils.torchvision_ops  # noqa: F401  (before anything that imports torchvision)

from transformers.training_args import OptimizerNames  # isort: skip
from transformers.trainer_utils import SchedulerType  # isort: skip

from rlcomm.utils.errors import UserError

# Their settings have ranges of their own among the keys, so that nothing is left to be tried.
_OPTIMISERS = (OptimizerNames.ADAMW_TORCH, OptimizerNames.ADAMW_TORCH_FUSED)
_SCHEDULES = (
    SchedulerType.LINEAR, SchedulerType.COSINE, SchedulerType.CONSTANT, SchedulerType.CONSTANT_WITH_WARMUP,
)  # fmt: skip
_NEED_A_MODEL = ("galore", "apollo", "lomo", "adalomo")  # cannot be tried on one parameter
_ENDLESS = 1_000_000  # steps, where the rows decide how many there are
_LOOKS = 64  # at a schedule


def check_optimiser(recipe: Any) -> None:
    """Makes the optimiser for one parameter and follows its schedule, where the recipe sets more than usual.

    Args:
        recipe: of a training stage, after transformers has read it.

    Raises:
        UserError: `optim`, `optim_args`, `lr_scheduler_type` or `lr_scheduler_kwargs` that cannot work.
    """
    _pairs(recipe.optim_args)
    unusual = recipe.optim not in _OPTIMISERS or recipe.lr_scheduler_type not in _SCHEDULES
    if not (unusual or recipe.optim_args or recipe.lr_scheduler_kwargs) or recipe.deepspeed:
        return
    from transformers import get_scheduler

    optimiser = _tried(recipe, "optim", "optim_args", lambda: _optimiser(recipe))
    steps = recipe.max_steps if recipe.max_steps > 0 else _ENDLESS

    def follow() -> None:
        schedule = get_scheduler(
            recipe.lr_scheduler_type,
            optimiser,
            recipe.get_warmup_steps(steps),
            steps,
            recipe.lr_scheduler_kwargs,
        )
        for share in getattr(schedule, "lr_lambdas", ()):
            for step in sorted({round(steps * part / _LOOKS) for part in range(_LOOKS + 1)}):
                if not (math.isfinite(share(step)) and share(step) >= 0):
                    raise ValueError(
                        f"the learning rate of step {step} would be {share(step)} of learning_rate"
                    )

    _tried(recipe, "lr_scheduler_type", "lr_scheduler_kwargs", follow)


def _optimiser(recipe: Any) -> Any:
    """The recipe's optimiser of one parameter; SGD in its place where it needs the whole model."""
    import torch
    from transformers import Trainer

    parameter = torch.nn.Parameter(torch.zeros(2, 2))
    try:
        made, options = Trainer.get_optimizer_cls_and_kwargs(recipe)
    except ValueError:
        if not recipe.optim.value.startswith(_NEED_A_MODEL):
            raise
        return torch.optim.SGD([parameter], lr=recipe.learning_rate)
    pairs = _pairs(recipe.optim_args)
    for name, value in pairs.items():
        other = copy.copy(recipe)
        changed = {**pairs, name: _another(value)}
        other.optim_args = ",".join("=".join(pair) for pair in changed.items())
        if Trainer.get_optimizer_cls_and_kwargs(other)[1] == options:
            raise ValueError(f"it takes no {name}")
    optimiser = made([parameter], **options)
    if made.__module__.startswith("torch.optim"):  # others may want a GPU for a step
        for _ in range(3):
            parameter.grad = torch.ones(2, 2)
            optimiser.step()
        if not parameter.isfinite().all():
            raise ValueError("three steps along a gradient of 1 are not finite")
    return optimiser


def _another(value: str) -> str:
    """Another value of the same kind: an option that changes nothing with it changes nothing at all."""
    try:
        return str(int(value) + 1) if value.lstrip("+-").isdigit() else str(float(value) / 2 + 0.1)
    except ValueError:
        return "false" if value.lower() in ("true", "1", "yes") else "true"


def _tried(recipe: Any, name: str, settings: str, make: Any) -> Any:
    """What `make` makes; whatever it raises names the two keys that decide it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a schedule that runs without its optimiser
            return make()
    except UserError:
        raise
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        value = getattr(recipe, settings)
        given = f" with {settings} {value!r}" if value else ""
        raise UserError(
            f"{name} is {getattr(recipe, name).value!r}{given}, which cannot be made ({said}); correct them."
        ) from error


def _pairs(text: str | None) -> dict[str, str]:
    """`name=value,name=value`, read.

    Raises:
        UserError: something else, or a number that is none.
    """
    pairs: dict[str, str] = {}
    for pair in text.split(",") if text else ():
        found = re.fullmatch(r"\s*(\w+)\s*=\s*([^=\s]+)\s*", pair)
        if found is None:
            raise UserError(f"optim_args is {text!r}, where {pair!r} is no name=value; write e.g. eps=1e-6.")
        if found[2].lower().lstrip("+-") in ("nan", "inf", "infinity"):
            raise UserError(f"optim_args is {text!r}, and {found[2]} is no finite number; correct it.")
        pairs[found[1]] = found[2]
    return pairs
