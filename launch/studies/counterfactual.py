"""What cures arbitration out of ordinary clips, and at what price: every arm, several seeds, one table.

    python launch/studies/counterfactual.py run                  everything, one run at a time
    python launch/studies/counterfactual.py run --jobs 2 --seeds 0 1 --arms sft_direct,method
    python launch/studies/counterfactual.py run --tiny --out /tmp/tiny    a few steps of each arm
    python launch/studies/counterfactual.py list                 the arms
    python launch/studies/counterfactual.py table [--write]      markdown; into recipes/orchestra/README.md

Seed s trains and is measured on world s (`--asymmetric 0`: no muted clip in training, as a user's clips are).
An arm is a list of `rlcomm` commands, a process and one thread each; what has its result is skipped, so the
study goes on where it stopped. Arms share what they have in common (worlds, rows, warm-ups).
"""

import argparse
import json
import math
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "recipes" / "orchestra"
README, MARKERS = RECIPES / "README.md", ("<!-- counterfactual:start -->", "<!-- counterfactual:end -->")
FIVE = ("method", "arbitration_branch")  # the recommended recipe and its strongest rival; the others three
NAMES = "cello,drum,flute,guitar,harp,trumpet,violin,xylophone"
FULL = {
    "test": 300, "rl": 1500, "pool": 3000, "warm": 3000, "pairs": 600,  # rows
    "sft": 500, "warmup": 600, "rr": 250, "ac": 150,  # steps
}  # fmt: skip
TINY = {"test": 10, "rl": 24, "pool": 60, "warm": 24, "sft": 1, "warmup": 1, "rr": 1, "ac": 1, "pairs": 4}
FEW = ["--eval_max_rows", 2]  # of a tiny run

# -------------------------------------------------------------------------------------------- running steps


class Waits(Exception):
    """An arm needs something that rlcomm does not have yet."""


@dataclass(frozen=True)
class Step:
    """One command, finished when `done` is there.

    Attributes:
        done: the file that says so.
        words: what follows `rlcomm`, or a function that does the work itself.
    """

    done: Path
    words: Callable[[], Sequence[object]] | Callable[[], None]


class Study:
    """Where things lie, how large they are, and what runs only once."""

    def __init__(self, out: Path, tiny: bool) -> None:
        self.out, self.tiny, self.n = out.resolve(), tiny, TINY if tiny else FULL
        self._locks: dict[Path, threading.Lock] = {}
        self._lock = threading.Lock()

    def run(self, step: Step) -> None:
        with self._lock:
            lock = self._locks.setdefault(step.done, threading.Lock())
        with lock:
            if step.done.exists():
                return
            step.done.parent.mkdir(parents=True, exist_ok=True)
            words = step.words()
            if words is None:
                return
            log = step.done.parent / f"{step.done.stem}.log"
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
            environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
            command = [sys.executable, "-m", "rlcomm", *map(str, words)]
            with log.open("w", encoding="utf-8") as stream:
                stream.write(" ".join(command) + "\n")
                stream.flush()
                code = subprocess.run(
                    command, stdout=stream, stderr=subprocess.STDOUT, env=environment, cwd=ROOT
                ).returncode
            if code or not step.done.exists():
                last = log.read_text(encoding="utf-8").strip().splitlines()[-1]
                raise RuntimeError(f"rlcomm {words[0]} ended with {code} (see {log}): {last}")

    def arm(self, name: str, seed: int) -> str | None:
        """Runs an arm; what became of it where it is not finished."""
        started = time.time()
        try:
            for step in ARMS[name][1](self, seed):
                self.run(step)
        except Waits as missing:
            return f"{name}: waits for {missing}"
        except (RuntimeError, OSError) as error:
            return f"{name}, seed {seed}: {error}"
        print(f"{name}, seed {seed}: done, {time.time() - started:.0f} s", flush=True)
        return None

    # -------------------------------------------------------------------------------------- worlds and rows

    def world(self, seed: int, asymmetric: float = 0.0) -> list[Step]:
        """A world; its training rows in two parts, those of RL and those that warm-ups are drawn from."""
        n, folder = self.n, self.world_at(seed, asymmetric)
        parts = folder / "pool.jsonl"

        def split() -> None:
            lines = (folder / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
            (folder / "rl.jsonl").write_text("".join(lines[: n["rl"]]), encoding="utf-8")
            parts.write_text("".join(lines[n["rl"] :]), encoding="utf-8")

        words = ["data", "orchestra", "--out", folder, "--seed", seed, "--asymmetric", asymmetric]
        words += ["--train", n["rl"] + n["pool"], "--test", n["test"], "--warmup", 100, "--workers", 1]
        return [Step(folder / "truth.json", lambda: words), Step(parts, split)]

    def world_at(self, seed: int, asymmetric: float = 0.0) -> Path:
        return self.out / (f"world{seed}" if not asymmetric else f"world{seed}_muted")

    def exchanged(self, seed: int, rows: str, labels: str) -> tuple[list[Step], Path]:
        """Rows of exchanged clips of a part of the world, and their file."""
        world = self.world_at(seed)
        folder = world / f"exchanged_{rows}_{labels}"
        words = ["data", "counterfactual", world / f"{rows}.jsonl", "--out", folder, "--labels", labels]

        def made() -> list[object]:
            has("data", "counterfactual")
            return [*words, "--seed", seed]

        return [Step(folder / "counterfactual.jsonl", made)], folder / "counterfactual.jsonl"

    def labelled(self, seed: int, name: str, *more: object, rows: str = "pool") -> tuple[Step, Path]:
        """Rows answered by the base's own branches, ordinary ones beside them."""
        world, out = self.world_at(seed), self.out / "rows" / f"{name}_{seed}" / "train.jsonl"
        words = [
            "reference",
            RECIPES / "reference.yaml",
            "--for",
            "labels",
            "--dataset",
            world / f"{rows}.jsonl",
        ]
        words += ["--output", out, "--seed", seed, "--balance_answers", "true"]
        words += ["--warmup_rows", self.n["rl" if rows == "rl" else "warm"]]
        words += ["--counterfactual_share", 0.5 if rows == "rl" else 0.4]
        return Step(out, lambda: [*words, *more]), out

    def warmup_rows(
        self, seed: int, number: int, exchanged: Path | None, balance: bool = True
    ) -> tuple[Step, Path]:
        """Machine-written warm-up rows."""
        world = self.world_at(seed)
        mark = f"warm{number}" + ("_cf" if exchanged else "")
        out = self.out / "rows" / f"{mark}_{seed}" / "train.jsonl"
        words = [
            "reference",
            RECIPES / "reference.yaml",
            "--for",
            "warmup",
            "--dataset",
            world / "pool.jsonl",
        ]
        words += ["--output", out, "--seed", seed, "--warmup_rows", number, "--min_type_share", 0.05]
        words += ["--balance_answers", str(balance).lower(), "--replay_share", 0.2]
        if exchanged:
            words += ["--counterfactual", exchanged, "--counterfactual_share", 0.4]
        return Step(out, lambda: words), out

    def references(self, seed: int, rows: Path, name: str, asymmetric: float = 0.0) -> tuple[Step, Path]:
        """The reasoning of the rows of RL, with what is seen."""
        out = self.out / "rows" / f"reference_{name}_{seed}" / "train.jsonl"
        words = [
            "reference",
            RECIPES / "reference.yaml",
            "--dataset",
            rows,
            "--output",
            out,
            "--sight",
            "true",
        ]
        return Step(out.with_name("stage.json"), lambda: [*words, "--seed", seed]), out

    # --------------------------------------------------------------------------------------------- training

    def train(
        self, arm: str, seed: int, recipe: str, rows: Path, model: object, steps: object, *more: object,
        style: str = "steps", world: Path | None = None,
    ) -> list[Step]:  # fmt: skip
        """A stage with its evaluation, and what it kept of other tasks."""
        world = world or self.world_at(seed)
        folder = self.out / "runs" / arm / str(seed)

        def words() -> list[object]:
            number = steps() if callable(steps) else steps
            return ["train", RECIPES / recipe, "--output_dir", folder, "--dataset", rows,
                    "--eval_data", world,
                    "--model_name_or_path", model, "--seed", seed, "--max_steps", number,
                    "--prompt_style", style,
                    "--report_to", "none", *(FEW if self.tiny else []), *more]  # fmt: skip

        return [Step(folder / "stage.json", words), self.kept(arm, seed, folder / "model", style, world)]

    def kept(self, arm: str, seed: int, model: object, style: str, world: Path) -> Step:
        """Conflict benchmarks that were never trained on, and GACL's gain."""
        folder = self.out / "conflict" / arm / str(seed)
        decoders = "greedy,gacl" if style == "direct" else "greedy"
        words = ["eval", RECIPES / "conflict.yaml", "--eval_data", world, "--model_name_or_path", model]
        words += ["--benchmarks", "mcr,alme,captions", "--decoders", decoders, "--prompt_style", style]
        words += ["--output_dir", folder, "--disable_tqdm", "true", *(FEW if self.tiny else [])]
        return Step(folder / "results.json", lambda: words)

    def model(self, arm: str, seed: int) -> Path:
        return self.out / "runs" / arm / str(seed) / "model"

    def facts(self, arm: str, seed: int) -> dict:
        return json.loads((self.out / "runs" / arm / str(seed) / "stage.json").read_text(encoding="utf-8"))


@cache
def has(*words: str) -> None:
    """Raises `Waits` where rlcomm lacks a command or a key of a stage."""
    if words[0] == "key":
        found = subprocess.run(
            [sys.executable, "-m", "rlcomm", "keys", words[1]], capture_output=True, text=True, cwd=ROOT
        )
        if words[2] not in found.stdout:
            raise Waits(f"{words[2]} of {words[1]}")
        return
    found = subprocess.run([sys.executable, "-m", "rlcomm", *words, "--help"], capture_output=True, cwd=ROOT)
    if found.returncode:
        raise Waits(f"rlcomm {' '.join(words)}")


# ----------------------------------------------------------------------------------------------------- arms


def base(s: Study, seed: int) -> list[Step]:
    folder = s.out / "runs" / "base" / str(seed)
    words = ["eval", RECIPES / "eval.yaml", "--prompt_style", "direct", "--eval_data", s.world_at(seed)]
    return [
        *s.world(seed), Step(folder / "results.json", lambda: [*words, "--output_dir", folder]),
        s.kept("base", seed, "nano_omni", "direct", s.world_at(seed)),
    ]  # fmt: skip


def sft_direct(
    s: Study, seed: int, arm: str = "sft_direct", steps: object = None, asymmetric: float = 0.0
) -> list[Step]:
    world = s.world_at(seed, asymmetric)
    return [*s.world(seed, asymmetric), *s.train(
        arm, seed, "arbitration.yaml", world / "rl.jsonl", "nano_omni", steps or s.n["ac"],
        style="direct", world=world,
    )]  # fmt: skip


def sft_as_long(s: Study, seed: int) -> list[Step]:
    """SFT on answers for the method's total of steps."""
    steps = s.n["warmup"] + s.n["rr"] + s.n["ac"]
    return sft_direct(s, seed, "sft_direct_steps", steps)


def sft_as_slow(s: Study, seed: int) -> list[Step]:
    """SFT on answers for the method's total of seconds, by its own seconds a step."""

    def steps() -> int:
        method = sum(s.facts(arm, seed)["seconds_training"] for arm in ("warm3000_cf", "method_rr", "method"))
        own = s.facts("sft_direct", seed)
        return max(1, round(method * own["steps"] / own["seconds_training"]))

    return [*method(s, seed), *sft_direct(s, seed), *sft_direct(s, seed, "sft_direct_seconds", steps)]


def sft_exchanged(s: Study, seed: int) -> list[Step]:
    """SFT on answers, half of the rows exchanged and answered by annotation."""
    made, strange = s.exchanged(seed, "rl", "annotation")
    rows, out = s.labelled(
        seed, "sft_cf", "--counterfactual", strange, "--exchanged_labels", "own", rows="rl"
    )
    train = s.train("sft_direct_cf", seed, "arbitration.yaml", out, "nano_omni", s.n["sft"], style="direct")
    return [*s.world(seed), *made, rows, *train]


def arbitration(labels: str, ordinary: str) -> Callable[[Study, int], list[Step]]:
    """SFT on answers; exchanged rows answered by `labels`, ordinary ones by gold or by the base itself."""

    def steps(s: Study, seed: int) -> list[Step]:
        arm = f"arbitration_{labels}" + ("" if ordinary == "gold" else f"_{ordinary}")
        more: list[object] = ["--ordinary_labels", ordinary]
        made: list[Step] = []
        if labels == "pairs":
            more += ["--names", *NAMES.split(","), "--pairs", s.n["pairs"]]
        else:
            # the branch answers anew what annotation or reference have answered, or is all there is
            made, strange = s.exchanged(seed, "pool", "annotation" if labels == "branch" else labels)
            more += ["--counterfactual", strange]
            if labels != "branch":
                more += ["--exchanged_labels", "own"]
        rows, out = s.labelled(seed, arm, *more)
        train = s.train(arm, seed, "arbitration.yaml", out, "nano_omni", s.n["sft"], style="direct")
        return [*s.world(seed), *made, rows, *train]

    return steps


def paper_warmup(s: Study, seed: int) -> list[Step]:
    """The paper's 100 rows."""
    rows = s.world_at(seed) / "warmup.jsonl"
    return [
        *s.world(seed),
        *s.train("warm100_paper", seed, "warmup.yaml", rows, "nano_omni", 300 if not s.tiny else 2),
    ]


def machine_warmup(number: int) -> Callable[[Study, int], list[Step]]:
    """A warm-up of machine-written rows, two in five exchanged."""

    def steps(s: Study, seed: int) -> list[Step]:
        arm = f"warm{number}_cf"
        made, strange = s.exchanged(seed, "pool", "annotation")
        rows, out = s.warmup_rows(seed, min(number, s.n["warm"]), strange)
        return [*s.world(seed), *made, rows, *s.train(
            arm, seed, "warmup.yaml", out, "nano_omni", s.n["warmup"], "--per_device_train_batch_size", 32,
        )]  # fmt: skip

    return steps


def rl(kind: str, arm: str, start: str, exchanged: bool, *more: object) -> Callable[[Study, int], list[Step]]:
    """RL from a warm-up, on ordinary rows or with exchanged ones; `kind`: grpo, or the AVC of Step-RR."""

    recipe = "ablation/" + ("grpo_accuracy.yaml" if kind == "grpo" else f"step_rr_{kind}.yaml")

    def steps(s: Study, seed: int) -> list[Step]:
        rows, before = s.world_at(seed) / "rl.jsonl", list(ARMS[start][1](s, seed))
        if exchanged:
            made, strange = s.exchanged(seed, "rl", "annotation")
            joined, rows = s.labelled(
                seed, "rl_cf", "--counterfactual", strange, "--exchanged_labels", "own", rows="rl"
            )
            before += [*made, joined]
        ready, out = s.references(seed, rows, "cf" if exchanged else "plain")
        if more:
            before.append(Step(s.out / "never", lambda: has("key", "step_rr", "twin_baseline")))
        return [*before, ready, *s.train(arm, seed, recipe, out, s.model(start, seed), s.n["rr"], *more)]

    return steps


def ans_co(arm: str, behind: str, avc: str) -> Callable[[Study, int], list[Step]]:
    """Ans-CO behind an arm of RL, on its rows."""

    def steps(s: Study, seed: int) -> list[Step]:
        before = ARMS[behind][1](s, seed)
        rows = next(
            step.done.with_name("train.jsonl") for step in before[::-1] if "reference_" in str(step.done)
        )
        more = ["--avc_mode", avc]
        if s.tiny:  # two steps of RL leave no usable rollout
            more += ["--ansco_target", "gold", "--rewards", "format", "accuracy"]
            rows = s.world_at(seed) / "warmup.jsonl"
        return [*before, *s.train(arm, seed, "ans_co.yaml", rows, s.model(behind, seed), s.n["ac"], *more)]

    return steps


def muted(s: Study, seed: int) -> list[Step]:
    """The world with muted training clips, which no user has."""
    return sft_direct(s, seed, "sft_direct_muted_world", asymmetric=0.5)


def method(s: Study, seed: int) -> list[Step]:
    return ans_co("method", "method_rr", "witnessed")(s, seed)


W, M = "warm100_paper", "warm3000_cf"  # where RL starts
TWINS = ("--counterfactual_share", 0.5, "--twin_baseline", "true")
ARMS: dict[str, tuple[str, Callable[[Study, int], list[Step]]]] = {
    "base": ("base (direct)", base),
    "sft_direct": ("SFT on answers (direct)", sft_direct),
    "sft_direct_steps": ("... at the method's steps", sft_as_long),
    "sft_direct_seconds": ("... at the method's seconds", sft_as_slow),
    "sft_direct_cf": ("... with exchanged rows", sft_exchanged),
    "sft_direct_muted_world": ("... with muted training clips", muted),
    "arbitration_annotation": ("arbitration, by annotation", arbitration("annotation", "gold")),
    "arbitration_reference": ("arbitration, by reference", arbitration("reference", "gold")),
    "arbitration_branch": ("arbitration, by the base's own branch", arbitration("branch", "gold")),
    "arbitration_branch_joint": ("... no gold answer anywhere", arbitration("branch", "joint")),
    "arbitration_pairs_joint": ("... nothing but clips and eight names", arbitration("pairs", "joint")),
    "warm100_paper": ("warm-up, the paper's 100 rows", paper_warmup),
    "grpo": ("GRPO, accuracy", rl("grpo", "grpo", W, False)),
    "similarity": ("Step-RR, paper's AVC", rl("similarity", "similarity", W, False)),
    "calibrated": ("Step-RR, calibrated AVC", rl("calibrated", "calibrated", W, False)),
    "witnessed": ("Step-RR, witnessed AVC", rl("witnessed", "witnessed", W, False)),
    "grpo_ac": ("GRPO, accuracy + Ans-CO", ans_co("grpo_ac", "grpo", "calibrated")),
    "similarity_ac": ("Step-RR, paper's + Ans-CO", ans_co("similarity_ac", "similarity", "similarity")),
    "calibrated_ac": ("Step-RR, calibrated + Ans-CO", ans_co("calibrated_ac", "calibrated", "calibrated")),
    "witnessed_ac": ("Step-RR, witnessed AVC + Ans-CO", ans_co("witnessed_ac", "witnessed", "witnessed")),
    "warm100_cf": ("warm-up, 100 machine-written rows, exchanged among them", machine_warmup(100)),
    "warm1000_cf": ("... 1,000 rows", machine_warmup(1000)),
    "warm3000_cf": ("... 3,000 rows (SFT with the three segments)", machine_warmup(3000)),
    "grpo_cf": ("... then GRPO, accuracy, exchanged rows", rl("grpo", "grpo_cf", M, True)),
    "method_rr": ("... then Step-RR, witnessed, exchanged rows", rl("witnessed", "method_rr", M, True)),
    "method": ("... then Ans-CO", method),
    "method_twins": ("... Step-RR with twins", rl("witnessed", "method_twins", M, True, *TWINS)),
    "method_twins_ac": ("... then Ans-CO", ans_co("method_twins_ac", "method_twins", "witnessed")),
}  # fmt: skip

# ---------------------------------------------------------------------------------------------------- table

COLUMNS: dict[str, tuple[str, str, str]] = {  # title: (folder, benchmark, metric); by 100 but for 0 to 5
    "muted": ("runs", "avconfuse_muted", "acc"),
    "control": ("runs", "avconfuse_muted", "control_acc"),
    "heard unseen": ("runs", "heard_unseen", "acc"),
    "its control": ("runs", "heard_unseen", "control_acc"),
    "sync": ("runs", "music_avqa", "acc"),
    "exist": ("runs", "music_avqa", "acc_exist"),
    "count": ("runs", "music_avqa", "acc_count"),
    "place": ("runs", "music_avqa", "acc_localis"),
    "compare": ("runs", "music_avqa", "acc_comp"),
    "time": ("runs", "music_avqa", "acc_temp"),
    "same audio": ("runs", "avconfuse_muted", "same_audio_acc"),
    "same audio, control": ("runs", "avconfuse_muted", "same_audio_control_acc"),
    "A-Acc": ("runs", "avconfuse_modified", "a_acc"),
    "V-Acc": ("runs", "avconfuse_modified", "v_acc"),
    "hears": ("runs", "avconfuse_muted", "hearing_exact"),
    "sees": ("runs", "avconfuse_muted", "seeing_exact"),
    "format": ("runs", "avconfuse_muted", "format_rate"),
    "MCR conflict": ("conflict", "mcr", "conflict_acc"),
    "MCR aligned": ("conflict", "mcr", "aligned_acc"),
    "captions": ("conflict", "captions", "conflict_acc"),
    "ALME aligned": ("conflict", "alme", "aligned_acc"),
}
OF_FIVE = ("A-Acc", "V-Acc")
Value = tuple[float, float]  # of one seed: the figure as a share of what it can be, and its standard error


def value(study: Study, arm: str, seed: int, title: str, decoder: str = "greedy") -> Value | None:
    """A figure of one run; None where there is none."""
    folder, benchmark, metric = COLUMNS[title]
    path = study.out / folder / arm / str(seed) / "results.json"
    if not path.exists():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))["decoders"][decoder]
    of = found["benchmarks"].get(benchmark) or found.get("macro", {}).get(benchmark) or {}
    one = of.get(metric)
    if one is None or one["value"] is None:
        return None
    top = 5.0 if title in OF_FIVE else 1.0
    low, high = one["ci95"] or (one["value"], one["value"])
    return one["value"] / top, (high - low) / 3.92 / top


def interval(values: Sequence[Value], draws: int = 4000) -> tuple[float, float, float]:
    """Mean and 95 % of a bootstrap over seeds, and over clips within a seed, in [0, 1].

    Seeds are drawn with replacement; of each, the figure is drawn around its own by the standard error of its
    bootstrap over clips, on the logit scale (so that nothing leaves [0, 1]; a figure of 0 or 1 stays).
    """
    rng = random.Random(0)
    means = []
    for _ in range(draws):
        total = 0.0
        for _ in values:
            share, error = rng.choice(values)
            if 0 < share < 1 and error > 0:
                middle, spread = math.log(share / (1 - share)), error / (share * (1 - share))
                share = 1 / (1 + math.exp(-max(-30.0, min(30.0, rng.gauss(middle, spread)))))
            total += share
        means.append(total / len(values))
    means.sort()
    return sum(v for v, _ in values) / len(values), means[int(0.025 * draws)], means[int(0.975 * draws) - 1]


def table(study: Study, seeds: Sequence[int]) -> str:
    """The markdown table of what is finished."""
    lines = [
        "| arm | seeds | " + " | ".join(COLUMNS) + " | s |",
        "|---|---|" + "---|" * (len(COLUMNS) + 1),
    ]
    for arm, (title, _) in ARMS.items():
        done = [seed for seed in seeds if (study.out / "runs" / arm / str(seed) / "results.json").exists()]
        if not done:
            continue
        cells = []
        for column in COLUMNS:
            found = [v for seed in done if (v := value(study, arm, seed, column)) is not None]
            scale = 5.0 if column in OF_FIVE else 100.0
            digits = 2 if column in OF_FIVE else 1
            if not found:
                cells.append("-")
                continue
            mean, low, high = (scale * x for x in interval(found))
            cells.append(f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]")
        spent = [s for seed in done if (s := seconds(study, arm, seed))]
        cells.append(f"{sum(spent) / len(spent):.0f}" if spent else "-")
        lines.append(f"| {title} | {len(done)} | " + " | ".join(cells) + " |")
    gains = [line for arm in ARMS if (line := gain(study, arm, seeds))]
    if gains:
        lines += [
            "",
            "GACL's nAUC (MCR, drop of at most 5 points) before and after, mean of the seeds:",
            "",
            *gains,
        ]
    return "\n".join(lines)


def seconds(study: Study, arm: str, seed: int) -> float | None:
    """Seconds of training of one stage (not of what it started from)."""
    path = study.out / "runs" / arm / str(seed) / "stage.json"
    return json.loads(path.read_text(encoding="utf-8")).get("seconds_training") if path.exists() else None


def gain(study: Study, arm: str, seeds: Sequence[int]) -> str | None:
    """A line on what decoding still repairs in an arm that answers directly."""
    found = []
    for seed in seeds:
        path = study.out / "conflict" / arm / str(seed) / "results.json"
        if path.exists():
            one = json.loads(path.read_text(encoding="utf-8"))["decoders"].get("gacl", {}).get("macro", {})
            if (metric := one.get("mcr", {}).get("nauc_5")) and metric["value"] is not None:
                found.append(metric["value"])
    return f"- {ARMS[arm][0]}: {sum(found) / len(found):.3f}" if found else None


# --------------------------------------------------------------------------------------------- command line


def main() -> int:
    parser = argparse.ArgumentParser(description="arms of the counterfactual study")
    parser.add_argument("what", choices=("run", "table", "list"))
    parser.add_argument("--out", type=Path, default=Path("runs/counterfactual"))
    parser.add_argument("--arms", type=lambda text: text.split(","), default=list(ARMS), help="a,b,...")
    parser.add_argument(
        "--seeds", type=int, nargs="+", help="default: five for the recommended, three for others"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    parser.add_argument(
        "--tiny", action="store_true", help="a few steps of everything; its numbers mean nothing"
    )
    parser.add_argument("--write", action="store_true", help="of table: into recipes/orchestra/README.md")
    given = parser.parse_args()
    if unknown := sorted(set(given.arms) - set(ARMS)):
        parser.error(f"--arms has {', '.join(unknown)}; there are {', '.join(ARMS)}")
    study = Study(given.out, given.tiny)
    if given.what == "list":
        print("\n".join(f"{name}: {title}" for name, (title, _) in ARMS.items()))
        return 0
    if given.what == "table":
        made = table(study, given.seeds or range(5))
        print(made)
        if given.write:
            text = README.read_text(encoding="utf-8")
            before, rest = text.split(MARKERS[0])
            README.write_text(
                f"{before}{MARKERS[0]}\n{made}\n{MARKERS[1]}{rest.split(MARKERS[1])[1]}", encoding="utf-8"
            )
        return 0
    runs = [
        (arm, seed)
        for seed in (given.seeds or ([0] if given.tiny else range(5)))
        for arm in given.arms
        if given.seeds or seed < 3 or arm in FIVE
    ]
    with ThreadPoolExecutor(given.jobs) as pool:
        problems = [p for p in pool.map(lambda one: study.arm(*one), runs) if p]
    print("\n".join(dict.fromkeys(problems)))
    return 1 if any("waits for" not in problem for problem in problems) else 0


if __name__ == "__main__":
    sys.exit(main())
