"""One evaluator: benchmarks asked, answers read or scored, one record a question, metrics over the records.

    catalog -> generated (what a policy says) | scored -> tuning (what decoders choose) -> records -> metrics

`evaluate(policy, benchmarks, ...)` is the entry for any policy object; `conflict.evaluate` compares decoders.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlcomm.evaluation.generated import evaluate

__all__ = ["evaluate"]


def __getattr__(name: str) -> Any:
    if name != "evaluate":
        raise AttributeError(f"module 'rlcomm.evaluation' has no attribute {name!r}")
    from rlcomm.evaluation.generated import evaluate

    return evaluate
