"""Chat models behind an OpenAI-compatible HTTP endpoint: several asked at once, again where that may help.

    from_environment -> Endpoint -> Asking -> ask_each(items, work) -> work(item) -> ask(fields) -> message

The base URL and the key come from the environment alone, and are never written, logged or shown in a message.
It speaks through urllib: requests would put a key from ~/.netrc in the place of ours.
"""

import contextlib
import email.utils
import http.client
import json
import math
import os
import random
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal, TypeVar

from rlcomm.utils.errors import UserError

LONGEST_WAIT = 300.0  # seconds between two tries; an endpoint that asks for more is left for another day
DOWN = 20  # items in a row without an answer, all their retries spent: the endpoint is down
LARGEST = 1 << 20  # bytes of a response; more is no answer to us
SHOWN = 200  # characters of a foreign text in a message

_AGAIN = {408, 409, 425, 429}  # and 5xx
_OF_THE_ITEM = {400, 413, 422}  # such as a text too long or filtered: says nothing about the other items
_JITTER = random.SystemRandom()  # leaves the seeds of the run alone

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and the variables that say so. URL and key are kept out of the repr."""

    url: str = field(repr=False)
    key: str = field(repr=False)  # "" for none
    url_name: str
    key_name: str


@dataclass(frozen=True)
class Asking:
    """How one run asks: the same for all its items.

    Attributes:
        endpoint: of `from_environment`.
        who: what the model is to the user, "judge model"; in messages and on the progress bar.
        model: its name at the endpoint.
        timeout: seconds that connecting, and then reading, may take.
        retries: further tries after a time-out, a broken connection, 429 or 5xx.
        backoff: seconds before the first retry; doubled for each further one, less a random share of up to a
            half, and added to what the endpoint asks for (Retry-After).
        stop: set: no further request.
    """

    endpoint: Endpoint
    who: str
    model: str
    timeout: float
    retries: int
    backoff: float
    stop: threading.Event = field(default_factory=threading.Event)


class Failure(Exception):
    """No answer, and why. `scope`: may another try do, is this item lost, or is every item?

    `wait`: seconds that the endpoint asks to wait for.
    """

    def __init__(self, why: str, scope: Literal["try", "item", "run"], wait: float = 0.0):
        super().__init__(why)
        self.why, self.scope, self.wait = why, scope, wait


def from_environment(prefix: str, who: str) -> Endpoint:
    """The endpoint that the environment names; call it early, so that nothing is computed in vain.

    <prefix>_BASE_URL with <prefix>_API_KEY, else OPENAI_BASE_URL with OPENAI_API_KEY. A key of OpenAI is not
    sent to a <prefix>_BASE_URL, which may belong to someone else; no key at all is fine for a server of one's
    own.

    Args:
        prefix: of the variables, e.g. "RLCOMM_JUDGE".
        who: what is asked there, e.g. "judge model".

    Raises:
        UserError: there is no base URL, or it or the key cannot be used. The message shows neither.
    """
    own_url, own_key = f"{prefix}_BASE_URL", f"{prefix}_API_KEY"
    url_name, url = _first(own_url, "OPENAI_BASE_URL")
    if not url:
        raise UserError(
            f"{own_url}: is not set, so there is no {who} to ask; set it to the base URL of "
            f"an OpenAI-compatible endpoint (https://.../v1) and {own_key} to its key."
        )
    key_name, key = _first(own_key, "OPENAI_API_KEY") if url_name == "OPENAI_BASE_URL" else _first(own_key)
    if not _plain(url) or not _usable(url):
        raise UserError(
            f"{url_name}: is no base URL of an endpoint; give http(s)://host/path without a user name, query "
            "or fragment, such as https://.../v1."
        )
    if not _plain(key):
        raise UserError(
            f"{key_name}: holds a space, a line break or a character outside ASCII, which no key has; set "
            "the key alone."
        )
    return Endpoint(url.rstrip("/") + "/chat/completions", key, url_name, key_name)


def ask_each(
    missing: Mapping[str, Item],
    work: Callable[[str, Item], Result],
    asking: Asking,
    concurrency: int,
    *,
    unit: str,
    made: str,
    place: str | os.PathLike,
    progress: bool,
) -> dict[str, Result]:
    """Works on every item of `missing`, at most `concurrency` at once.

    Args:
        missing: what is to be done, by key.
        work: does one item with `ask`, and keeps what came of it on disk before it returns; called in
            threads. A `Failure` of it leaves the item for the next run. None: it is done, and yet to be asked
            again one day.
        asking: how is asked; its `stop` is set when there is no use in going on.
        concurrency: items at once, at least 1.
        unit: what an item is called, "item".
        made: what comes of several, "judgements".
        place: where `work` keeps them.
        progress: show a progress bar.

    Returns:
        What `work` gave, by key; every key of `missing` is there.

    Raises:
        UserError: the endpoint refused all; or items remain undone, all others being kept.
    """
    from tqdm.auto import tqdm

    found: dict[str, Result] = {}
    failures: list[str] = []
    fatal: Failure | None = None
    in_a_row = 0

    def unless_stopped(key: str, item: Item) -> Result:
        if asking.stop.is_set():
            raise Failure("", "try")
        return work(key, item)

    with (
        ThreadPoolExecutor(concurrency, thread_name_prefix="endpoint") as pool,
        tqdm(total=len(missing), desc=asking.who, unit=unit, disable=not progress, dynamic_ncols=True) as bar,
    ):
        try:
            futures = {pool.submit(unless_stopped, key, item): key for key, item in missing.items()}
            for future in as_completed(futures):
                try:
                    found[futures[future]] = future.result()
                    in_a_row = 0
                    bar.update()
                except Failure as failure:
                    if failure.why:
                        failures.append(failure.why)
                    if failure.scope == "run":
                        fatal = fatal or failure
                    in_a_row += failure.scope == "try"
                    if fatal or in_a_row >= DOWN:
                        asking.stop.set()
        except BaseException:  # a full disk, Ctrl-C: the pool is left only when its threads are done
            asking.stop.set()
            raise
    left = len(missing) - len(found)
    kept = sum(result is not None for result in found.values())
    again = f"{kept} new {made} are kept in {place}, and the same command asks only for the rest."
    if fatal:
        raise UserError(f"{fatal.why}; {again}")
    if left:
        why = Counter(failures).most_common(1)[0][0]
        raise UserError(
            f"{asking.who} {asking.model!r}: {left} of {len(missing)} {unit}s remain ({why}); {again}"
        )
    return found


def ask(fields: dict[str, Any], asking: Asking) -> dict[str, Any]:
    """The message of one chat completion, with as many retries as may be.

    Args:
        fields: of the request beside the model: messages, temperature, ...
        asking: how is asked.

    Returns:
        The assistant's message; "content" in it is a text, "" where the model said nothing.

    Raises:
        Failure: no completion came; without the key, and without a cause that could hold it.
    """
    body = json.dumps({"model": asking.model, **fields}).encode()
    attempt = 0
    while True:
        if asking.stop.is_set():
            raise Failure("", "try")
        try:
            return _post(body, asking)
        except Failure as failure:
            if failure.scope != "try" or attempt >= asking.retries or failure.wait > LONGEST_WAIT:
                raise
            pause = min(asking.backoff * 2 ** min(attempt, 30), LONGEST_WAIT)
            asking.stop.wait(failure.wait + pause * _JITTER.uniform(0.5, 1.0))
        attempt += 1


def clean(text: str, asking: Asking) -> str:
    """A text of the endpoint without the key, which it may quote."""
    return text.replace(asking.endpoint.key, "[key]") if asking.endpoint.key else text


def short(text: str) -> str:
    """One line of at most SHOWN characters."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[:SHOWN] + "..."


def check(who: str, model: Any, concurrency: Any, timeout: Any, retries: Any, backoff: Any) -> None:
    """Refuses settings with which nothing can be asked.

    Raises:
        UserError: names the first wrong one.
    """
    if not isinstance(model, str) or not model.strip():
        raise UserError(
            f"{who}: {model!r} names no model, so nothing can be asked; give its name at the endpoint."
        )
    for name, value, fine, words in (
        ("concurrency", concurrency, is_integer(concurrency) and concurrency > 0, "an integer of at least 1"),
        ("retries", retries, is_integer(retries) and retries >= 0, "an integer of at least 0"),
        ("timeout", timeout, is_number(timeout) and timeout > 0, "a number of seconds above 0"),
        ("backoff", backoff, is_number(backoff) and backoff >= 0, "a number of seconds of at least 0"),
    ):
        if not fine:
            raise UserError(f"{who}: {name} is {value!r}, which is no such setting; give {words}.")


# ---- HTTP ----


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: it would carry the key elsewhere, and turn a POST into a GET."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _post(body: bytes, asking: Asking) -> dict[str, Any]:
    """The message of the completion for one request body.

    Raises:
        Failure: without the key, and without a cause that could hold it.
    """
    headers = {"Content-Type": "application/json", "User-Agent": "rlcomm"}
    request = urllib.request.Request(asking.endpoint.url, body, headers)
    if asking.endpoint.key:
        request.add_unredirected_header("Authorization", f"Bearer {asking.endpoint.key}")
    deadline = time.monotonic() + asking.timeout
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=asking.timeout) as response:
            return _message(_read(response, deadline))
    except urllib.error.HTTPError as error:
        with error:
            failure = _refusal(error, asking, deadline)
    except (OSError, http.client.HTTPException) as error:
        failure = _no_answer(error, asking)
    raise failure


def _read(response: Any, deadline: float) -> bytes:
    """The body of a response, by the deadline: a server that drips must not hold a worker."""
    parts: list[bytes] = []
    while part := response.read1(1 << 16):
        parts.append(part)
        if sum(map(len, parts)) > LARGEST:
            break
        if time.monotonic() > deadline:
            raise TimeoutError
    return b"".join(parts)


def _message(body: bytes) -> dict[str, Any]:
    """The message of a chat completion, its content a text; "" where the model said nothing."""
    try:
        message = dict(json.loads(body)["choices"][0]["message"])
        content = message.get("content")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        content = body
    if not isinstance(content, str | None):
        raise Failure("the endpoint's answer is no chat completion", "try")
    return {**message, "content": content or ""}


def _refusal(error: urllib.error.HTTPError, asking: Asking, deadline: float) -> Failure:
    """What an HTTP error status means."""
    status, where = error.code, asking.endpoint
    said = f"HTTP {status}{_said(error, asking, deadline)}"
    if status in _AGAIN or status >= 500:
        wait = retry_after(error.headers.get("Retry-After"))
        if wait > LONGEST_WAIT:
            said += f", to be asked again in {wait:.0f} s"
        return Failure(said, "try", wait)
    if status in _OF_THE_ITEM:
        return Failure(said, "item")
    if status == 401 and not where.key:
        mend = f"{where.key_name}: is not set, and the endpoint asks for a key (HTTP 401); set it"
    elif status in (401, 403):
        mend = f"{where.key_name}: may not use {asking.model!r} ({said}); set a key that may"
    elif status == 404:
        mend = (
            f"{where.url_name}: has no chat completions of {asking.model!r} ({said}); mend the URL or model"
        )
    elif status < 400:
        mend = f"{where.url_name}: sends requests elsewhere (HTTP {status}); set the final URL"
    else:
        mend = (
            f"{where.url_name}: refuses chat completions ({said}); set the URL of an endpoint that has them"
        )
    return Failure(mend, "run")


def _no_answer(error: Exception, asking: Asking) -> Failure:
    """What a connection that failed means."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return Failure(
            f"{asking.endpoint.url_name}: has a certificate that is not trusted here; set SSL_CERT_FILE to "
            "the authorities to trust",
            "run",
        )
    if isinstance(reason, TimeoutError):
        return Failure(f"no answer in {asking.timeout:g} s", "try")
    return Failure(f"no connection, {type(reason).__name__}", "try")


def _said(error: urllib.error.HTTPError, asking: Asking, deadline: float) -> str:
    """What the endpoint says of its error, as ": text"; nothing of a 401, which may quote part of the key."""
    if error.code == 401:
        return ""
    with contextlib.suppress(
        OSError, http.client.HTTPException, ValueError, LookupError, TypeError, RecursionError
    ):
        value = json.loads(_read(error, deadline))
        value = value.get("error", value) if isinstance(value, dict) else value
        text = value["message"] if isinstance(value, dict) else value
        if isinstance(text, str) and text.strip():
            return ": " + short(clean(text, asking))
    return ""


def retry_after(value: str | None) -> float:
    """Seconds of a Retry-After header, given as a number or as an HTTP date; 0 where it says nothing."""
    if not value:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = email.utils.parsedate_to_datetime(value)
        except (ValueError, TypeError):
            return 0.0
        when = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
        seconds = (when - datetime.now(timezone.utc)).total_seconds()
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0


# ---- small parts ----


def is_integer(value: Any) -> bool:
    """Whether `value` is a whole number; a bool is none."""
    return type(value) is int


def is_number(value: Any) -> bool:
    """Whether `value` is a finite number; a bool is none."""
    return type(value) in (int, float) and math.isfinite(value)


def _first(*names: str) -> tuple[str, str]:
    """(name, value) of the first variable that is set; the first name and "" where none is."""
    for name in names:
        if value := os.environ.get(name, "").strip():
            return name, value
    return names[0], ""


def _plain(text: str) -> bool:
    """Printable ASCII without a space: what may stand in a URL or a header."""
    return all("!" <= letter <= "~" for letter in text)


def _usable(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        (parts.hostname or "").encode("idna")
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port)
    except ValueError:
        return False
    return bool(known) and "@" not in parts.netloc and not parts.query and not parts.fragment
