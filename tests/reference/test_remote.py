"""References from an endpoint: a local server that says what it is told to; each test names its trap."""

import base64
import dataclasses
import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
import traceback
import wave

import numpy as np
import pytest
import yaml

from rlcomm import llm_api as endpoint
from rlcomm.cli import main
from rlcomm.data.sample import Sample, Turn, read_jsonl, write_jsonl
from rlcomm.data.write_media import write_audio
from rlcomm.reference.prompts import reference_prompt
from rlcomm.reference.rows import write_references
from rlcomm.reference.warmup import write_warmup
from rlcomm.utils.errors import UserError
from tests.fake_endpoint import Server, bare, completion, running
from tests.reference.recipes import recipe

KEY = "sk-very-secret-0123456789"
MODEL = "audio-1"
RATE = 16_000
GOOD = "<a-think> I hear a drum. </a-think>"


def item_of(body):
    """The server knows a row by its question."""
    return body["messages"][0]["content"][-1]["text"].split("\n")[1]


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    bare(monkeypatch)
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(monkeypatch):
    server = Server(item_of, lambda *_: GOOD)
    with running(server) as url:
        monkeypatch.setenv("RLCOMM_REFERENCE_BASE_URL", url)
        monkeypatch.setenv("RLCOMM_REFERENCE_API_KEY", KEY)
        yield server


@pytest.fixture
def rows(tmp_path):
    return some(tmp_path, 4)


def some(folder, n):
    """n rows, row i a tone of (i + 1) x 100 Hz over half a second."""
    found = []
    for i in range(n):
        seconds = np.arange(RATE // 2) / RATE
        sound = 0.5 * np.sin(2 * np.pi * 100 * (i + 1) * seconds).astype(np.float32)
        write_audio(folder / f"{i}.wav", sound, RATE)
        turn = Turn(f"Question {i}?", "no")
        found.append(Sample(f"r{i}", (turn,), audio=str(folder / f"{i}.wav"), meta={"audible": ["drum"]}))
    return found


def run(samples, out, **options):
    progress = options.pop("progress", False)
    return write_references(samples, far(out, **options), progress=progress)


def far(out, model=MODEL, **options):
    """The recipe of a model behind the endpoint."""
    return recipe(model, out, reference_backend="endpoint", **{"timeout": 5.0, **options})


def sounds(body):
    """The sounds of a request, each (N,) int16, checked to be WAV files of 16 kHz mono."""
    found = []
    for part in body["messages"][0]["content"][:-1]:
        assert part["type"] == "input_audio"
        assert part["input_audio"]["format"] == "wav"
        with wave.open(io.BytesIO(base64.b64decode(part["input_audio"]["data"], validate=True))) as stream:
            assert (stream.getframerate(), stream.getnchannels(), stream.getsampwidth()) == (RATE, 1, 2)
            found.append(np.frombuffer(stream.readframes(stream.getnframes()), "<i2"))
    return found


def hertz(sound):
    return round(float(np.abs(np.fft.rfft(sound)).argmax()) * RATE / len(sound))


# ---- asking ----


def test_the_request(server, rows, tmp_path):
    row = dataclasses.replace(rows[0], turns=(Turn("Which one?", "harp", options=("drum", "harp")),))
    run([row], tmp_path / "out.jsonl", temperature=0.7, top_p=0.9, max_new_tokens=77)
    [(path, headers, body)] = server.requests
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["temperature"], body["top_p"], body["max_tokens"]) == (MODEL, 0.7, 0.9, 77)
    assert 0 <= body["seed"] < 2**31
    [message] = body["messages"]
    assert message["role"] == "user"
    text = reference_prompt("Which one?", "harp", ("drum", "harp"))
    assert message["content"][-1] == {"type": "text", "text": text}
    [sound] = sounds(body)
    with wave.open(row.audio) as stream:
        sent = np.frombuffer(stream.readframes(stream.getnframes()), "<i2")
    assert len(sound) == len(sent)
    assert np.abs(sound.astype(int) - sent).max() <= 1


def test_only_the_sound_is_sent(server, rows, tmp_path):
    shown = dataclasses.replace(rows[0], video=str(tmp_path / "not there.mp4"))
    run([shown], tmp_path / "out.jsonl")
    kinds = [part["type"] for part in server.requests[0][2]["messages"][0]["content"]]
    assert kinds == ["input_audio", "text"]


def test_swapped_sounds_swap_the_requests_and_the_references(server, rows, tmp_path):
    """A sound of another row, or none at all, would not be seen in the texts otherwise."""
    heard = {}

    def say(item, _):
        body = next(body for _, _, body in reversed(server.requests) if item_of(body) == item)
        heard[item] = hertz(sounds(body)[0])
        return f"<a-think> I hear {heard[item]} Hz. </a-think>"

    server.say = say
    out = tmp_path / "out.jsonl"
    run(rows[:2], out)
    assert [row.reference for row in read_jsonl(out)] == ["I hear 100 Hz.", "I hear 200 Hz."]
    swapped = [
        dataclasses.replace(one, audio=other.audio) for one, other in zip(rows[:2], rows[1::-1], strict=True)
    ]
    assert run(swapped, out)["computed"] == 2
    assert [row.reference for row in read_jsonl(out)] == ["I hear 200 Hz.", "I hear 100 Hz."]


def test_a_long_sound_is_sent_whole_or_in_parts(server, rows, tmp_path):
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 5 * RATE).astype(np.float32)
    write_audio(tmp_path / "0.wav", sound, RATE)
    run(rows[:1], tmp_path / "whole.jsonl")
    run(rows[:1], tmp_path / "parts.jsonl", audio_window=2.0)
    whole, parts = (sounds(body) for _, _, body in server.requests)
    assert [len(part) for part in whole] == [5 * RATE]
    assert len(parts) == 3
    assert max(map(len, parts)) <= 2 * RATE
    assert np.array_equal(np.concatenate(parts), whole[0])
    assert read_jsonl(tmp_path / "parts.jsonl")[0].meta["reference"]["parts"] == 3


def test_never_more_at_once_than_allowed(server, tmp_path):
    def say(*_):
        time.sleep(0.1)
        return GOOD

    server.say = say
    run(some(tmp_path, 12), tmp_path / "out.jsonl", concurrency=3)
    assert server.most_at_once == 3


# ---- what is written ----


def test_rows_and_provenance_are_like_those_of_a_local_model(server, rows, tmp_path):
    out = tmp_path / "out.jsonl"
    report = run([*rows, Sample("deaf", rows[0].turns)], out)
    found = read_jsonl(out)
    assert [row.id for row in found] == ["r0", "r1", "r2", "r3", "deaf"]
    assert [row.reference for row in found] == ["I hear a drum."] * 4 + [None]
    meta = found[1].meta["reference"]
    assert len(meta.pop("inputs_hash")) == len(meta.pop("prompt_hash")) == 32
    assert meta == {
        "model": MODEL, "revision": None, "backend": "endpoint",
        "sampling": {"temperature": 0.5, "top_p": 0.95, "max_new_tokens": 64, "attempts": 3, "seed": 0},
        "parts": 1, "attempt": 1, "failed": None,
    }  # fmt: skip
    assert found[4].meta["reference"]["failed"] == "no audio"
    assert report | {"seconds": 0} == {
        "rows": 5, "computed": 4, "reused": 0, "shared": 0, "with_reference": 4, "failed": [],
        "no_audio": ["deaf"], "split": 0, "hearing_exact": {"value": 1.0, "n": 4}, "seconds": 0,
        "model": MODEL, "revision": None, "out": str(out),
    }  # fmt: skip
    assert not list(tmp_path.glob("*.partial*"))


def test_a_second_run_asks_only_for_what_changed(server, rows, tmp_path, monkeypatch):
    out = tmp_path / "out.jsonl"
    run(rows, out)
    server.asked.clear()
    changed = [dataclasses.replace(rows[0], turns=(Turn("Question 9?", "yes"),)), *rows[1:]]
    assert run(changed, out)["computed"] == 1
    assert server.asked == ["Question 9?"]
    monkeypatch.delenv("RLCOMM_REFERENCE_BASE_URL")  # nothing to ask, nobody needed
    assert run(changed, out, concurrency=1, timeout=9.0, retries=0)["computed"] == 0
    with pytest.raises(
        UserError, match="RLCOMM_REFERENCE_BASE_URL: is not set, so there is no reference model"
    ):
        run(changed, out, temperature=0.9)
    with pytest.raises(UserError, match="RLCOMM_REFERENCE_BASE_URL"):  # another model is asked anew
        write_references(changed, far(out, "audio-2"), progress=False)
    with pytest.raises(UserError, match="RLCOMM_REFERENCE_BASE_URL"):
        run(changed, out, media_audio_seconds=0.2)


# ---- what is no reference ----


def test_a_malformed_reply_is_asked_again_and_then_recorded_as_missing(server, rows, tmp_path):
    """Trap: "I hear a drum." without its tags is a fine sentence, and no reference."""
    server.say = lambda item, before: GOOD if item == "Question 1?" and before == 1 else "I hear a drum."
    out = tmp_path / "out.jsonl"
    report = run(rows[:2], out, attempts=2)
    first, second = read_jsonl(out)
    assert (first.reference, first.meta["reference"]["failed"]) == (None, "I hear a drum.")
    assert (second.reference, second.meta["reference"]["attempt"]) == ("I hear a drum.", 2)
    assert (report["failed"], report["with_reference"]) == (["r0"], 1)
    assert sorted(server.asked) == ["Question 0?"] * 2 + ["Question 1?"] * 2
    seeds = [body["seed"] for _, _, body in server.requests]
    assert len(set(seeds)) == 4  # greedy servers aside, the same seed would say the same again
    run(rows[:1], tmp_path / "greedy.jsonl", attempts=3, temperature=0.0)
    assert len(server.asked) == 5


def test_a_model_that_says_nothing_has_a_reason(server, rows, tmp_path):
    server.say = lambda *_: (200, completion(None), {})
    run(rows[:1], tmp_path / "out.jsonl", attempts=1)
    meta = read_jsonl(tmp_path / "out.jsonl")[0].meta["reference"]
    assert meta["failed"] == "(the model said nothing)"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ((400, json.dumps({"error": {"message": "too long"}}), {}), "refused: HTTP 400: too long"),
        ((422, "{}", {}), "refused: HTTP 422"),
        ((200, completion(None, refusal="I cannot help."), {}), "refused: I cannot help."),
        ((200, completion(GOOD, refusal="I cannot help."), {}), "refused: I cannot help."),
    ],
)
def test_a_refused_row_is_missing_with_its_reason_and_asked_again_another_day(
    server, rows, tmp_path, said, reason
):
    server.say = lambda item, _: said if item == "Question 2?" else GOOD
    out = tmp_path / "out.jsonl"
    report = run(rows, out)
    row = read_jsonl(out)[2]
    meta = row.meta["reference"]
    assert (row.reference, meta["failed"], meta["refused"]) == (None, reason, True)
    assert (report["failed"], report["with_reference"]) == (["r2"], 3)
    assert server.asked.count("Question 2?") == 1  # neither retried nor sampled anew
    server.say, before = lambda *_: GOOD, len(server.asked)
    assert run(rows, out)["computed"] == 1
    assert server.asked[before:] == ["Question 2?"]
    assert all(row.reference and "refused" not in row.meta["reference"] for row in read_jsonl(out))


def test_a_model_that_takes_no_sound_is_not_asked_for_every_row(server, tmp_path):
    """It refuses each: thousands of requests, and a file without one reference."""
    body = json.dumps({"error": {"message": "input_audio is not supported"}})
    server.say = lambda *_: (400, body, {})
    with pytest.raises(UserError) as error:
        run(some(tmp_path, 60), tmp_path / "out.jsonl", concurrency=2)
    assert "20 rows in a row were refused: HTTP 400: input_audio is not supported; name a" in str(error.value)
    assert "; 0 new rows are kept in" in str(error.value)
    assert len(server.asked) < 40
    assert not (tmp_path / "out.jsonl").exists()


# ---- trying again, going on ----


def test_429_waits_as_long_as_it_is_told_to(server, rows, tmp_path):
    server.say = lambda _, before: GOOD if before else (429, "{}", {"Retry-After": "1"})
    assert run(rows[:1], tmp_path / "out.jsonl")["with_reference"] == 1
    assert server.times[1] - server.times[0] >= 1.0


def test_a_server_that_hangs_is_asked_again(server, rows, tmp_path):
    server.say = lambda _, before: GOOD if before else None
    assert run(rows[:1], tmp_path / "out.jsonl", timeout=0.3)["with_reference"] == 1


def test_what_is_left_unanswered_stops_the_run_and_is_all_that_the_next_asks(server, rows, tmp_path):
    """Trap: an endpoint that is down must not look like a model that heard nothing."""
    out, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    run(rows, whole)
    server.asked.clear()
    server.say = lambda item, _: (500, "{}", {}) if item == "Question 1?" else GOOD
    with pytest.raises(UserError) as error:
        run(rows, out, retries=2)
    assert str(error.value) == (
        f"reference model 'audio-1': 1 of 4 rows remain (HTTP 500); 3 new rows are kept in {out}.partial, "
        "and the same command asks only for the rest."
    )
    assert server.asked.count("Question 1?") == 3
    assert not out.exists()
    server.say, server.asked = lambda *_: GOOD, []
    report = run(rows, out)
    assert (report["computed"], report["reused"]) == (1, 3)
    assert server.asked == ["Question 1?"]
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_where_it_stood(server, tmp_path):
    rows = some(tmp_path, 8)
    write_jsonl(tmp_path / "rows.jsonl", rows)
    whole, out = tmp_path / "whole" / "out.jsonl", tmp_path / "out" / "out.jsonl"
    recipe = tmp_path / "recipe.yaml"
    keys = dict(
        stage="reference", reference_backend="endpoint", model_name_or_path=MODEL, concurrency=2,
        dataset=str(tmp_path / "rows.jsonl"), max_new_tokens=20,
    )  # fmt: skip
    recipe.write_text(yaml.safe_dump({**keys, "output": str(out)}))
    assert main(["reference", str(recipe), "--output", str(whole)]) == 0
    server.asked.clear()
    server.say = lambda item, _: GOOD if item < "Question 4?" else server.release.wait(20)
    with subprocess.Popen([sys.executable, "-m", "rlcomm", "reference", str(recipe)]) as process:
        partial = out.with_name("out.jsonl.partial")
        deadline = time.monotonic() + 120
        while not partial.exists() or partial.read_text().count("\n") < 4:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert not out.exists()
    server.say, server.asked = lambda *_: GOOD, []
    assert main(["reference", str(recipe)]) == 0
    assert sorted(server.asked) == [f"Question {i}?" for i in range(4, 8)]
    assert out.read_bytes() == whole.read_bytes()
    assert not partial.exists()


# ---- the command ----


def test_the_command_says_what_came_of_it(server, rows, tmp_path, capsys):
    write_jsonl(tmp_path / "rows.jsonl", rows)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"stage: reference\nreference_backend: endpoint\nmodel_name_or_path: {MODEL}\n"
        f"dataset: {tmp_path / 'rows.jsonl'}\noutput: {tmp_path / 'run' / 'out.jsonl'}\ntimeout: 5\n"
    )
    assert main(["reference", str(recipe)]) == 0
    said = capsys.readouterr().out
    assert "4 of 4 rows have a reference; it names exactly what sounds in 100.0% of 4 rows" in said
    facts = json.loads((tmp_path / "run" / "stage.json").read_text())
    assert (facts["rows"], facts["with_reference"]) == (4, 4)


def test_of_several_processes_the_first_alone_asks(server, rows, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert run(rows, tmp_path / "out.jsonl") is None
    assert server.asked == []
    monkeypatch.setenv("RANK", "0")
    assert run(rows, tmp_path / "out.jsonl")["computed"] == 4


def test_warm_up_rows_from_an_endpoint(server, rows, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"clip")
    shown = [dataclasses.replace(row, video=str(tmp_path / "clip.mp4")) for row in rows]
    report = write_warmup(
        shown, far(tmp_path / "warmup.jsonl"), see=lambda rows, attempt: ["I see a harp."] * len(rows),
        progress=False,
    )  # fmt: skip
    assert report["written"] == 4
    assert read_jsonl(tmp_path / "warmup.jsonl")[0].turns[0].target.startswith(GOOD)


# ---- the key and the URL ----


def test_the_key_and_the_url_are_nowhere(server, rows, tmp_path, capfd, caplog):
    """Whatever a server does with the key: quoting it in a reference, a refusal or an error."""
    quoted = json.dumps({"error": {"message": f"Incorrect API key {KEY}"}})
    says = {
        "reference": f"<a-think> {KEY} </a-think>",
        "malformed": f"your key is {KEY}",
        "refusal": (200, completion(None, refusal=f"not with {KEY}"), {}),
        **{f"HTTP {s}": (s, quoted, {"Location": f"/{KEY}"}) for s in (302, 400, 401, 403, 404, 429, 500)},
    }
    url = os.environ["RLCOMM_REFERENCE_BASE_URL"]
    shown = ""
    caplog.set_level(logging.DEBUG)
    for name, said in says.items():
        server.say = lambda *_, said=said: said
        try:
            shown += repr(run(rows[:2], tmp_path / "out" / f"{name}.jsonl", retries=1, progress=True))
        except UserError as error:
            shown += "".join(traceback.format_exception(error)) + repr(error.__context__)
    out, err = capfd.readouterr()
    assert "reference model" in err  # the progress bar
    written = [path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) >= 4
    assert "[key]" in "".join(written)
    for text in (shown, out, err, caplog.text, *written):
        assert KEY not in text
        assert url.removeprefix("http://") not in text
    assert all(headers["Authorization"] == f"Bearer {KEY}" for _, headers, _ in server.requests)


def test_openais_key_is_not_for_somebody_elses_server(server, rows, tmp_path, monkeypatch):
    monkeypatch.delenv("RLCOMM_REFERENCE_API_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    run(rows[:1], tmp_path / "out.jsonl")
    assert "Authorization" not in server.requests[0][1]
    monkeypatch.setenv("OPENAI_BASE_URL", os.environ["RLCOMM_REFERENCE_BASE_URL"])
    monkeypatch.delenv("RLCOMM_REFERENCE_BASE_URL")
    run(rows[1:2], tmp_path / "out.jsonl")
    assert server.requests[1][1]["Authorization"] == f"Bearer {KEY}"


# ---- settings ----


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("concurrency", 0),
        ("timeout", 0),
        ("retries", -1),
        ("audio_window", 0.5),
        ("reference_backend", "x"),
    ],
)
def test_wrong_settings_are_one_sentence(server, rows, tmp_path, name, value):
    with pytest.raises(UserError, match=name):
        recipe(MODEL, tmp_path / "out.jsonl", **{"reference_backend": "endpoint", name: value})
    assert server.asked == []


def test_an_endpoint_that_is_down_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(endpoint, "DOWN", 5)
    server.say = lambda *_: (503, "{}", {})
    with pytest.raises(UserError, match="40 of 40 rows remain"):
        run(some(tmp_path, 40), tmp_path / "out.jsonl", retries=0, concurrency=2)
    assert len(server.asked) < 20
