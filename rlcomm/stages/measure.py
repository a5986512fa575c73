"""What of a model is measured: at the end of its stage, while it trains, and by `eval` and `diagnose`."""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from rlcomm.evaluation import catalog, conflict, generated, judge_model, judged
from rlcomm.evaluation.plan import Plan
from rlcomm.evaluation.records import read_records
from rlcomm.omni.policy import Policy, load_policy
from rlcomm.stages.save import save_model
from rlcomm.utils import files, processes


def evaluate_run(run_dir: Path, model: str, recipe: Any, prompt_style: str | None = None) -> dict[str, Any]:
    """Evaluates a saved model, the items shared by all processes; writes records.jsonl and results.json.

    Returns:
        The row of the summary; {} on all processes but the first.
    """
    policy = load_policy(
        model,
        recipe.dtype,
        recipe.model_revision,
        recipe.attn_implementation,
        processes.device(),
    )
    records = run_dir / "records.jsonl"
    judge = _judge(recipe, run_dir)
    results = generated.evaluate(
        policy, recipe.eval_data, prompt_style=prompt_style or recipe.prompt_style,
        media_settings=recipe.media(), max_new_tokens=recipe.eval_max_new_tokens,
        batch_size=recipe.eval_batch_size, cache_dir=recipe.media_cache_dir, records_path=records,
        limit=recipe.eval_max_rows, progress=processes.is_main() and not recipe.disable_tqdm,
        rejudge=(lambda found: judged.judge_records(found, **judge)) if judge else None,
    )  # fmt: skip
    results["decoders"]["greedy"]["settings"]["judge"] = judged.name(judge)
    if not processes.is_main():
        return {}
    files.write_json(run_dir / "results.json", results)
    return generated.summary(read_records(records))


def _judge(recipe: Any, run_dir: Path) -> dict[str, Any] | None:
    """The judge model of an eval recipe, as keywords of `judged.judge_records`; its endpoint is looked for
    before anything is generated."""
    if getattr(recipe, "judge_model", None) is None:
        return None
    judge_model.endpoint()
    return {
        "model": recipe.judge_model, "cache": run_dir / "judge.jsonl", "timeout": recipe.judge_timeout,
        "concurrency": recipe.judge_concurrency, "retries": recipe.judge_retries,
        "progress": not recipe.disable_tqdm,
    }  # fmt: skip


def evaluate_conflict(recipe: Any) -> dict[str, Any] | None:
    """`rlcomm eval --benchmarks ... --decoders ...`; several processes share the items.

    Returns:
        The results; None on all processes but the first.
    """
    from rlcomm.evaluation import beside
    from rlcomm.reports import conflict as conflict_report

    plan = Plan(
        decoders=tuple(recipe.decoders), prompt_style=recipe.prompt_style, gacl_mode=recipe.gacl_mode,
        arbitrate=recipe.arbitrate,
        settings={"lam": recipe.gacl_lambda, "tau": recipe.gacl_tau, "alpha_max": recipe.gacl_alpha_max,
                  "score_norm": recipe.score_norm},
        normalise=recipe.candidate_score == "mean", dev_share=recipe.dev_share,
        budget_points=recipe.budget_points, max_new_tokens=recipe.eval_max_new_tokens,
        batch_size=recipe.eval_batch_size, media=recipe.media(), conditions=tuple(recipe.conditions),
    )  # fmt: skip
    sets, out = _sets(recipe), Path(recipe.output_dir)
    others = beside.load(recipe.beside, sets, plan.dev_share)  # a mistake is found before a model is loaded
    results = conflict.evaluate(
        _measured_policy(recipe), sets, plan, out, cache_dir=recipe.media_cache_dir,
        progress=not recipe.disable_tqdm, judge=_judge(recipe, out), others=others,
    )  # fmt: skip
    if results is not None:
        conflict_report.write_report(out / "report.html", results, read_records(out / "records.jsonl"))
    return results


def diagnose_model(recipe: Any) -> dict[str, Any] | None:
    """`rlcomm diagnose`; several processes share the items.

    Returns:
        diagnosis.json; None on all processes but the first.
    """
    from rlcomm.diagnostics import compare
    from rlcomm.diagnostics import run as diagnostics

    plan = diagnostics.Plan(
        which=tuple(recipe.which), distractor=recipe.distractor, batch_size=recipe.eval_batch_size,
        seed=recipe.seed, media=recipe.media(),
    )  # fmt: skip
    sets, before = _sets(recipe), [compare.load(folder) for folder in recipe.compare]
    diagnostics.check(sets, plan)
    return diagnostics.diagnose(  # whatever can be wrong is found before a model is loaded
        _measured_policy(recipe), sets, plan, recipe.output_dir, before=before,
        cache_dir=recipe.media_cache_dir, progress=not recipe.disable_tqdm,
    )  # fmt: skip


def _sets(recipe: Any) -> list[catalog.Set]:
    """The benchmarks of a recipe that measures a model, opened."""
    return catalog.open_sets(
        recipe.eval_data, recipe.benchmarks, dict(item.split("=", 1) for item in recipe.benchmark_files),
        dict(item.split("=", 1) for item in recipe.benchmark_media), recipe.eval_max_rows,
    )  # fmt: skip


def _measured_policy(recipe: Any) -> Policy:
    return load_policy(
        recipe.model_name_or_path, recipe.dtype, recipe.model_revision, recipe.attn_implementation,
        device=processes.device(),
    )  # fmt: skip


def callback_of_evaluation(trainer: Any, policy: Policy, recipe: Any) -> TrainerCallback:
    """The recipe's evaluation during training."""
    from rlcomm.evaluation.callback import ConflictCallback

    plan = Plan(
        decoders=tuple(recipe.eval_decoders), prompt_style=recipe.prompt_style, media=recipe.media(),
        max_new_tokens=recipe.eval_max_new_tokens, batch_size=recipe.eval_batch_size,
    )  # fmt: skip
    sets = catalog.open_sets(recipe.eval_data, recipe.eval_benchmarks, limit=recipe.eval_subset)
    callback = ConflictCallback(
        policy, sets, plan, recipe.output_dir, recipe.eval_every, recipe.eval_metric, recipe.eval_budget,
        lambda path: save_model(trainer, policy.processor, path), recipe.media_cache_dir,
    )  # fmt: skip
    callback.trainer = trainer
    return callback


def callback_of_diagnosis(trainer: Any, policy: Policy, recipe: Any) -> TrainerCallback:
    """The recipe's diagnosis during training."""
    from rlcomm.diagnostics import run as diagnostics
    from rlcomm.diagnostics.callback import DiagnoseCallback

    plan = diagnostics.Plan(
        which=tuple(recipe.diagnose_which), batch_size=recipe.eval_batch_size, seed=recipe.seed,
        media=recipe.media(),
    )  # fmt: skip
    sets = catalog.open_sets(recipe.eval_data, recipe.diagnose_benchmarks, limit=recipe.diagnose_subset)
    callback = DiagnoseCallback(
        policy, sets, plan, recipe.output_dir, recipe.diagnose_every, recipe.media_cache_dir
    )
    callback.trainer = trainer
    return callback
