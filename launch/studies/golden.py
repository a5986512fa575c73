"""Golden files: what the public commands print and write, so that a rebuild can prove it changed nothing.

    python launch/studies/golden.py                    write tests/golden/ anew
    python launch/studies/golden.py --check            make everything again elsewhere, print what differs
    python launch/studies/golden.py --check --only eval_direct,conflict

Only `python -m rlcomm ...` is used (in a process each, one thread, no network), so modules may move freely.
Kept are printed tables, JSON and JSON Lines, on the shipped miniatures and a small Orchestra. Left out are
times, memory, versions and HTML. Paths are named <data> and <root>, floats have 7 significant digits.

A check compares numbers at the tolerance of their part and everything else byte for byte. The parts of
`TRAINED` come from weights that were trained (or sampled from) here: their numbers are compared more loosely,
and on another kind of CPU even their words may differ.
"""

import argparse
import difflib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
RECIPES = ROOT / "recipes" / "orchestra"

TOLERANCE = 1e-6  # absolute and relative
TRAINED = {"stages": 1e-4, "steps_conflict": 1e-4, "quickstart": 1e-4}
VOLATILE = re.compile(r"seconds.*|peak_rss_mb|versions|time/.*|step_time|.*_runtime|.*_per_second|memory/.*")
SHOWN = 40  # differences printed of one file
SIZES = ["--seed", "7", "--test", "12", "--train", "16", "--warmup", "16", "--conflict", "8", "--sync", "0"]
EVERY_BENCHMARK = (
    "avconfuse_muted,avconfuse_modified,music_avqa,mcr,avqa,avhbench,alme,cmm,mmau,mmar,omnibench,captions"
)
FEW_BENCHMARKS = "avconfuse_muted,avconfuse_modified,mcr_aqa,alme,music_avqa"
QUIET = ["--disable_tqdm", "true"]

# -- running -------------------------------------------------------------------------------------------------


class Workspace:
    """A folder in which the commands run; what one part makes for others is made once.

    Paths are given relative to it, so that no table is as wide as a path happens to be long.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._made: dict[str, str] = {}

    def rlcomm(self, *words: str) -> str:
        """What a command prints.

        Raises:
            RuntimeError: it failed; with the end of what it said.
        """
        environment = {
            **{k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")},
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "HF_HUB_OFFLINE": "1",
            "WANDB_MODE": "disabled",
            "TOKENIZERS_PARALLELISM": "false",
            "COLUMNS": "120",
        }
        done = subprocess.run(
            [sys.executable, "-m", "rlcomm", *words],
            cwd=self.folder,
            env=environment,
            text=True,
            capture_output=True,
        )
        if done.returncode != 0:
            raise RuntimeError(
                f"rlcomm {' '.join(words)} ended with {done.returncode}:\n"
                f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
            )
        return done.stdout

    def once(self, name: str, *words: str) -> str:
        """What a command printed that makes the folder `name`; runs it the first time it is asked for."""
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            if name not in self._made:
                self._made[name] = self.rlcomm(*words)
            return self._made[name]

    def data(self) -> str:
        """Renders the small Orchestra; its folder."""
        self.once("orchestra", "data", "orchestra", "--out", "orchestra", "--workers", "1", *SIZES)
        return "orchestra"

    def eval(self, name: str, recipe: str, *words: str) -> str:
        """What `rlcomm eval` printed for the run folder `name`."""
        where = ["--eval_data", self.data(), "--output_dir", name]
        return self.once(name, "eval", str(RECIPES / recipe), *where, *QUIET, *words)

    def references(self) -> str:
        """Writes references (and sights) of the first rows; what was printed."""
        rows = ["--dataset", f"{self.data()}/train.jsonl", "--max_rows", "8"]
        where = ["--output", "reference/train.jsonl", "--sight", "true"]
        return self.once("reference", "reference", str(RECIPES / "reference.yaml"), *rows, *where)

    def train(self, name: str, recipe: str, *words: str) -> str:
        """What `rlcomm train` printed for the run folder `name`; it is evaluated on few rows in the end."""
        where = ["--eval_data", self.data(), "--output_dir", name, "--eval_max_rows", "3"]
        where += ["--eval_max_new_tokens", "48", "--logging_steps", "1", "--report_to", "none"]
        return self.once(name, "train", str(RECIPES / recipe), *where, *QUIET, *words)

    def warmup(self) -> str:
        """Teaches nano_omni the steps, as far as a few rows do; the model's folder."""
        self.train(
            "warmup", "warmup.yaml", "--dataset", f"{self.data()}/warmup.jsonl", "--max_steps", "60",
            "--logging_steps", "5",
        )  # fmt: skip
        return "warmup/model"


# -- the parts -----------------------------------------------------------------------------------------------

Files = dict[str, str]  # name below the part's folder -> normalised text


def part_data(work: Workspace) -> Files:
    """The rows that are rendered (clips show in every score of the other parts)."""
    folder = work.folder / work.data()
    found = sorted(p for p in folder.rglob("*") if p.suffix in (".json", ".jsonl", ".yaml"))
    return _kept(work, "orchestra", [str(p.relative_to(folder)) for p in found if p.name != "truth.json"])


def part_eval_direct(work: Workspace) -> Files:
    """Generated answers, the answer alone."""
    printed = work.eval("eval_direct", "eval.yaml", "--prompt_style", "direct")
    return _run(work, "eval_direct", printed)


def part_eval_steps(work: Workspace) -> Files:
    """Generated answers under the step prompt, which nano_omni as shipped does not know how to follow."""
    printed = work.eval("eval_steps", "eval.yaml", "--eval_max_rows", "6")
    return _run(work, "eval_steps", printed)


def part_conflict(work: Workspace) -> Files:
    """Label scores: every benchmark, every decoder, tuned on a dev split."""
    printed = work.eval(
        "conflict", "conflict.yaml", "--benchmarks", EVERY_BENCHMARK, "--eval_max_rows", "4",
        "--decoders", "greedy,gacl,aad,acd,cad,vcd,icd,avcd", "--dev_share", "0.3",
    )  # fmt: skip
    return _run(work, "conflict", printed)


def _conditions(work: Workspace) -> str:
    return work.eval(
        "conditions", "conflict.yaml", "--benchmarks", FEW_BENCHMARKS, "--eval_max_rows", "2",
        "--decoders", "greedy,gacl", "--dev_share", "0", "--conditions",
        "no_audio,other_audio,black_video,static_video,no_media,audio_1of2",
    )  # fmt: skip


def part_conditions(work: Workspace) -> Files:
    """Label scores, untuned, with blind controls beside them."""
    return _run(work, "conditions", _conditions(work), "conditions.jsonl")


def part_hypotheses(work: Workspace) -> Files:
    """The branches' own answers as candidates; prompt interventions; scores normalised by a dev split."""
    printed = work.eval(
        "hypotheses", "conflict.yaml", "--benchmarks", FEW_BENCHMARKS, "--eval_max_rows", "4",
        "--gacl_mode", "hypotheses", "--score_norm", "center", "--candidate_score", "sum",
        "--decoders", "greedy,gacl,aad,audio_priority,ignore_text,bias_awareness,chain_of_thought",
    )  # fmt: skip
    return _run(work, "hypotheses", printed)


def part_tokens(work: Workspace) -> Files:
    """Next-token scores mixed while generating."""
    printed = work.eval(
        "tokens", "conflict.yaml", "--benchmarks", "avconfuse_muted,avconfuse_modified,mcr_ser",
        "--eval_max_rows", "3", "--gacl_mode", "tokens", "--decoders", "greedy,gacl,aad,cad,vcd,avcd",
        "--dev_share", "0",
    )  # fmt: skip
    return _run(work, "tokens", printed)


def part_beside(work: Workspace) -> Files:
    """Another evaluation's answers as a line of this one's table, which `rlcomm show` prints again."""
    _conditions(work)
    printed = work.eval(
        "beside", "conflict.yaml", "--benchmarks", FEW_BENCHMARKS, "--eval_max_rows", "2",
        "--decoders", "greedy,audio_priority", "--dev_share", "0", "--beside", "earlier=conditions",
    )  # fmt: skip
    shown = work.rlcomm("show", "beside")
    return {**_run(work, "beside", printed), "show.txt": _text(work, shown)}


def part_diagnose(work: Workspace) -> Files:
    """Sign flips, patching, probes, reliance."""
    words = ["--eval_data", work.data(), "--output_dir", "diagnose", "--eval_max_rows", "2", *QUIET]
    printed = work.once("diagnose", "diagnose", str(RECIPES / "diagnose.yaml"), *words)
    parts = [f"{name}.jsonl" for name in ("flips", "patching", "probes", "reliance")]
    return {"printed.txt": _text(work, printed), **_kept(work, "diagnose", ["diagnosis.json", *parts])}


def part_reference(work: Workspace) -> Files:
    """The audio model's reasoning (sampled, a random stream a row) and what the policy sees without sound."""
    printed = work.references()
    return {"printed.txt": _text(work, printed), **_kept(work, "reference", ["train.jsonl", "stage.json"])}


def part_audit(work: Workspace) -> Files:
    """Whether rewards can be gamed, for two of them; and the rows of a degenerate policy."""
    work.references()
    recipe = [str(RECIPES / "step_rr.yaml"), "--dataset", "reference/train.jsonl"]
    found: Files = {}
    for mode in ("calibrated", "witnessed"):
        printed = work.once(
            f"audit_{mode}", "audit", *recipe, "--avc_mode", mode, "--output_dir", f"audit_{mode}"
        )
        found[f"{mode}.txt"] = _text(work, printed)
        found[f"{mode}.json"] = _kept(work, f"audit_{mode}", ["audit.json"])["audit.json"]
    return found


def part_stages(work: Workspace) -> Files:
    """Warm-up, two steps of Step-RR and one of Ans-CO: losses, rewards, and what the models then answer."""
    base = work.warmup()
    work.references()
    few = ["--per_device_train_batch_size", "8", "--num_generations", "4", "--max_completion_length", "48"]
    work.train(
        "step_rr", "step_rr.yaml", "--model_name_or_path", base, "--dataset", "reference/train.jsonl",
        "--max_steps", "2", "--save_strategy", "no", *few,
    )  # fmt: skip
    work.train(
        "ans_co", "ans_co.yaml", "--model_name_or_path", base, "--dataset", "reference/train.jsonl",
        "--max_steps", "2", "--ansco_threshold", "10", *few,
    )  # fmt: skip
    found: Files = {}
    for name in ("warmup", "step_rr", "ans_co"):
        kept = ["metrics.jsonl", "results.json", "records.jsonl", "stage.json"]
        kept += ["targets.json"] if name == "ans_co" else []
        found |= {f"{name}/{file}": text for file, text in _kept(work, name, kept).items()}
    return found


def part_steps_conflict(work: Workspace) -> Files:
    """Label scores behind a branch's own reasoning, of a model that writes the steps."""
    printed = work.eval(
        "steps_conflict", "conflict.yaml", "--model_name_or_path", work.warmup(), "--prompt_style", "steps",
        "--benchmarks", "avconfuse_muted,avconfuse_modified,mcr_aqa", "--eval_max_rows", "3",
        "--eval_max_new_tokens", "48", "--decoders", "greedy,gacl,aad,chain_of_thought", "--dev_share", "0",
    )  # fmt: skip
    return _run(work, "steps_conflict", printed)


def part_quickstart(work: Workspace) -> Files:
    """The whole pipeline at its smallest; it takes too few steps to log a loss, `stages` has those."""
    printed = work.once("quickstart", "quickstart", "--tiny", "--output_dir", "quickstart", "--seed", "0")
    table = printed[printed.rindex("\n\n") + 2 :]
    kept = ["summary.json", "reference/train.jsonl", "ans_co/targets.json"]
    kept += [f"{stage}/{file}" for stage in ("base", "ans_co") for file in ("results.json", "records.jsonl")]
    return {"printed.txt": _text(work, table), **_kept(work, "quickstart", kept)}


PARTS: dict[str, Callable[[Workspace], Files]] = {
    name.removeprefix("part_"): made
    for name, made in list(globals().items())
    if name.startswith("part_") and callable(made)
}

# -- normalising ---------------------------------------------------------------------------------------------


def _run(work: Workspace, folder: str, printed: str, *more: str) -> Files:
    """The table and the two files that every evaluation has."""
    kept = _kept(work, folder, ["results.json", "records.jsonl", *more])
    return {"printed.txt": _text(work, printed), **kept}


def _kept(work: Workspace, folder: str, names: Sequence[str]) -> Files:
    """Files of a run folder, normalised."""
    found = {}
    for name in names:
        text = (work.folder / folder / name).read_text(encoding="utf-8")
        if name.endswith(".jsonl"):
            rows = (json.loads(line) for line in text.splitlines())
            found[name] = "".join(json.dumps(_value(work, row), ensure_ascii=False) + "\n" for row in rows)
        elif name.endswith(".json"):
            found[name] = _dump(_value(work, json.loads(text))) + "\n"
        else:
            found[name] = _text(work, text)
    return found


def _text(work: Workspace, text: str) -> str:
    return text.replace(str(work.folder), "<data>").replace(str(ROOT), "<root>")


def _value(work: Workspace, value: Any) -> Any:
    """A JSON value without what differs from run to run."""
    if isinstance(value, dict):
        return {_text(work, k): _value(work, v) for k, v in value.items() if not VOLATILE.fullmatch(k)}
    if isinstance(value, list):
        return [_value(work, item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.7g}")
    return _text(work, value) if isinstance(value, str) else value


def _dump(value: Any, indent: int = 0) -> str:
    """Indented JSON in which whatever fits on a line stands on one."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) + indent <= 160 or not isinstance(value, (dict, list)) or not value:
        return line
    pad, end = " " * (indent + 1), " " * indent
    if isinstance(value, list):
        inner = ",\n".join(f"{pad}{_dump(item, indent + 1)}" for item in value)
        return f"[\n{inner}\n{end}]"
    inner = ",\n".join(
        f"{pad}{json.dumps(k, ensure_ascii=False)}: {_dump(v, indent + 1)}" for k, v in value.items()
    )
    return f"{{\n{inner}\n{end}}}"


# -- comparing -----------------------------------------------------------------------------------------------


def differences(part: str, files: Files, golden: Path = GOLDEN) -> list[str]:
    """What is not as in the golden files, in readable lines; empty where nothing differs."""
    folder, tolerance, lines = golden / part, TRAINED.get(part, TOLERANCE), []
    kept = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    for name in sorted(kept | files.keys()):
        where = f"{part}/{name}"
        if name not in kept or name not in files:
            lines.append(f"{where}: {'is no longer written' if name in kept else 'has no golden file'}")
            continue
        old, new = (folder / name).read_text(encoding="utf-8"), files[name]
        if old == new:
            continue
        found = list(_compare(name, old, new, tolerance))
        lines += [f"{where}{line}" if line.startswith((":", "[", ".")) else line for line in found[:SHOWN]]
        if len(found) > SHOWN:
            lines.append(f"{where}: {len(found) - SHOWN} more lines differ")
    return lines


def _compare(name: str, old: str, new: str, tolerance: float) -> Iterator[str]:
    if name.endswith(".jsonl"):
        before, after = ([json.loads(line) for line in text.splitlines()] for text in (old, new))
        if len(before) != len(after):
            yield f": {len(before)} rows -> {len(after)} rows"
        for number, (one, other) in enumerate(zip(before, after, strict=False)):
            row = one.get("id", "") if isinstance(one, dict) else ""
            yield from _changes(f"[{number}{f' {row}' if row else ''}]", one, other, tolerance)
    elif name.endswith(".json"):
        yield from _changes("", json.loads(old), json.loads(new), tolerance)
    else:
        lines = [text.splitlines() for text in (old, new)]
        for line in difflib.unified_diff(*lines, f"golden/{name}", f"now/{name}", lineterm="", n=1):
            yield f"    {line}"


def _changes(path: str, old: Any, new: Any, tolerance: float) -> Iterator[str]:
    """`.path[to].field: old -> new` for every field that differs, the order of keys included."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            if key not in new:
                yield f"{path}.{key}: {_short(old[key])} -> (gone)"
            elif key not in old:
                yield f"{path}.{key}: (not there) -> {_short(new[key])}"
            else:
                yield from _changes(f"{path}.{key}", old[key], new[key], tolerance)
        if old.keys() == new.keys() and list(old) != list(new):
            yield f"{path or '.'}: the same keys in another order"
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield f"{path}: {len(old)} entries -> {len(new)} entries"
        for number, (one, other) in enumerate(zip(old, new, strict=False)):
            yield from _changes(f"{path}[{number}]", one, other, tolerance)
    elif not _same(old, new, tolerance):
        yield f"{path}: {_short(old)} -> {_short(new)}"


def _same(old: Any, new: Any, tolerance: float) -> bool:
    numbers = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (old, new))
    if not numbers:
        return type(old) is type(new) and old == new
    if math.isnan(old) or math.isnan(new) or math.isinf(old) or math.isinf(new):
        return str(old) == str(new)
    return abs(old - new) <= tolerance + tolerance * abs(old)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:197]}..."


# -- the command ---------------------------------------------------------------------------------------------


def write(part: str, files: Files, folder: Path = GOLDEN) -> int:
    """Replaces the golden files of a part; their bytes."""
    shutil.rmtree(folder / part, ignore_errors=True)
    for name, text in files.items():
        path = folder / part / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return sum(len(text.encode()) for text in files.values())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=GOLDEN, help="folder of the golden files")
    parser.add_argument(
        "--check", action="store_true", help="compare instead of writing; 1 if anything differs"
    )
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="commands at a time")
    arguments = parser.parse_args()
    names = [name for name in arguments.only.split(",") if name]
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    names.sort(key=lambda name: name != "quickstart")  # the longest first
    differ, failed = 0, False
    with tempfile.TemporaryDirectory(prefix="golden_") as folder, ThreadPoolExecutor(arguments.jobs) as pool:
        work = Workspace(Path(folder))
        made = {name: pool.submit(PARTS[name], work) for name in names}
        for name, result in made.items():
            try:
                files = result.result()
            except RuntimeError as error:
                failed = True
                print(f"{name}: {error}", flush=True)
                continue
            if not arguments.check:
                print(f"{name}: {len(files)} files, {write(name, files, arguments.out):,} bytes", flush=True)
                continue
            found = differences(name, files, arguments.out)
            differ += bool(found)
            print("\n".join(found) if found else f"{name}: as before", flush=True)
    if arguments.check and differ:
        print(f"{differ} of {len(names)} parts differ")
    return int(failed or differ > 0)


if __name__ == "__main__":
    sys.exit(main())
