"""Chat models behind an OpenAI-compatible endpoint, asked by the openai client, several items at once.

    from_environment -> Endpoint -> Asking -> ask_each(items, work) -> work(item) -> ask(fields) -> message

The base URL and the key come from the environment alone, and are never written, logged or shown in a message.
Retries, pauses and time-outs are the client's; its other habits (redirects, OPENAI_CUSTOM_HEADERS, log lines
with the URL) are turned off, and it never holds the key: a hook puts it on the request that leaves.
"""

import json
import logging
import os
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from rlcomm.utils.errors import UserError

DOWN = 20  # items in a row without an answer, all their retries spent: the endpoint is down
LARGEST = 1 << 20  # bytes of a response; more is no answer to us
SHOWN = 200  # characters of a foreign text in a message

_SENT = {"host", "accept", "connection", "content-type", "content-length", "user-agent"} | {
    "x-stainless-raw-response"  # the client looks there how to read the answer
}

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and the variables that say so; URL and key are kept out of the repr."""

    url: str = field(repr=False)
    key: str = field(repr=False)  # "" for none
    url_name: str
    key_name: str


class Failure(Exception):
    """No answer, and why. `scope`: may another try do, is this item lost, or is every item?"""

    def __init__(self, why: str, scope: Literal["try", "item", "run"]):
        super().__init__(why)
        self.why, self.scope = why, scope


@dataclass
class Asking:
    """How one run asks: the same for all its items.

    Attributes:
        endpoint: of `from_environment`.
        who: what the model is to the user, "judge model"; in messages and on the progress bar.
        model: its name at the endpoint.
        timeout: seconds that connecting, and then reading, may take.
        retries: further tries after a time-out, a broken connection, 408, 409, 429 or 5xx, with the client's
            pauses: what the endpoint asks for (Retry-After, up to two minutes), else 0.5 s, doubled up to 8.
        concurrency: items at once, at least 1.
        unit: what an item is called, "item". made: what comes of several, "judgements".
        place: where that is kept.
        progress: show a bar.
        stop: set: no further request.
        client: the openai client.
    """

    endpoint: Endpoint
    who: str
    model: str
    timeout: float
    retries: int
    concurrency: int
    unit: str
    made: str
    place: str | os.PathLike
    progress: bool
    stop: threading.Event = field(default_factory=threading.Event, repr=False)
    client: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.client = _client(self)


def from_environment(prefix: str, who: str) -> Endpoint:
    """The endpoint that the environment names; call it early, so that nothing is computed in vain.

    <prefix>_BASE_URL with <prefix>_API_KEY ("RLCOMM_JUDGE"), else OPENAI_BASE_URL with OPENAI_API_KEY. A key
    of OpenAI is not sent to a <prefix>_BASE_URL, which may belong to someone else; no key at all is fine for
    a server of one's own.

    Raises:
        UserError: there is no base URL, or it or the key cannot be used; it shows neither.
    """
    given = {name: value.strip() for name, value in os.environ.items() if value.strip()}
    own_url, own_key = f"{prefix}_BASE_URL", f"{prefix}_API_KEY"
    url_name = own_url if own_url in given else "OPENAI_BASE_URL"
    key_name = own_key if own_url in given or own_key in given else "OPENAI_API_KEY"
    url, key = given.get(url_name, ""), given.get(key_name, "")
    if not url:
        raise UserError(
            f"{own_url}: is not set, so there is no {who} to ask; set it to the base URL of an "
            f"OpenAI-compatible endpoint (https://.../v1) and {own_key} to its key."
        )
    if not _base_url(url):
        raise UserError(
            f"{url_name}: is no base URL of an endpoint; give http(s)://host/path without a user name, query "
            "or fragment, such as https://.../v1."
        )
    if not _sendable(key):
        raise UserError(
            f"{key_name}: holds a space, a line break or a character outside ASCII, which no key has; set "
            "the key alone."
        )
    return Endpoint(url.rstrip("/"), key, url_name, key_name)


def ask_each(
    missing: Mapping[str, Item], work: Callable[[str, Item], Result], asking: Asking
) -> dict[str, Result]:
    """Works on every item of `missing`, several at once.

    Args:
        missing: what is to be done, by key.
        work: does one item with `ask`, in a thread, and keeps what came of it on disk before it returns;
            None: done, and yet to be asked again one day. A `Failure` leaves the item for the next run.
        asking: how is asked; its `stop` is set when there is no use in going on; closed at the end.

    Returns:
        What `work` gave, by key; every key of `missing` is there.

    Raises:
        UserError: the endpoint refused all; or items remain undone, all others being kept.
    """
    from tqdm.auto import tqdm

    found: dict[str, Result] = {}
    failures: list[Failure] = []
    in_a_row = 0

    def unless_stopped(key: str, item: Item) -> Result:
        if asking.stop.is_set():
            raise Failure("", "try")
        return work(key, item)

    with (
        asking.client,
        ThreadPoolExecutor(asking.concurrency, thread_name_prefix="endpoint") as pool,
        tqdm(
            total=len(missing),
            desc=asking.who,
            unit=asking.unit,
            disable=not asking.progress,
            dynamic_ncols=True,
        ) as bar,
    ):
        try:
            futures = {pool.submit(unless_stopped, key, item): key for key, item in missing.items()}
            for future in as_completed(futures):
                try:
                    found[futures[future]] = future.result()
                    in_a_row = 0
                    bar.update()
                except Failure as failure:
                    failures.append(failure)
                    in_a_row += failure.scope == "try"
                    if failure.scope == "run" or in_a_row >= DOWN:
                        asking.stop.set()
        except BaseException:  # a full disk, Ctrl-C: the pool is left only when its threads are done
            asking.stop.set()
            raise
    if failures:
        raise _undone(failures, len(missing), sum(result is not None for result in found.values()), asking)
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
    for _ in range(asking.retries + 1):
        if (message := _message(_post(fields, asking))) is not None:
            return message
    raise Failure("the endpoint's answer is no chat completion", "try")


def clean(text: str, asking: Asking) -> str:
    """A text of the endpoint without the key, which it may quote."""
    return text.replace(asking.endpoint.key, "[key]") if asking.endpoint.key else text


def short(text: str) -> str:
    """One line of at most SHOWN characters."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[:SHOWN] + "..."


# ---- the client, and what its answers and errors mean ----


def _client(asking: Asking) -> Any:
    """The openai client, without what it would do besides: see the top of the file.

    Raises:
        UserError: a proxy or certificate file of the environment cannot be used.
    """
    import httpx2
    import openai

    for name in ("openai", "httpx2", "httpcore2"):  # below that they tell URLs and headers
        logging.getLogger(name).setLevel(logging.WARNING)

    def leaves(request: httpx2.Request) -> None:
        if asking.stop.is_set():  # also between two tries
            raise Failure("", "try")
        for name in set(request.headers) - _SENT:
            del request.headers[name]
        request.headers["Accept-Encoding"] = "identity"
        if asking.endpoint.key:
            request.headers["Authorization"] = f"Bearer {asking.endpoint.key}"

    def arrives(response: httpx2.Response) -> None:
        """Reads it: a server that drips must not hold a worker, nor one that pours fill the memory."""
        deadline, body, stream = time.monotonic() + asking.timeout, b"", response.stream
        assert isinstance(stream, httpx2.SyncByteStream)
        for part in stream:
            body += part
            if len(body) > LARGEST:
                break
            if time.monotonic() > deadline:
                raise httpx2.ReadTimeout("", request=response.request)
        stream.close()
        response.headers.pop("Content-Encoding", None)
        response.stream = httpx2.ByteStream(body[:LARGEST])

    try:
        http = httpx2.Client(
            timeout=asking.timeout, limits=httpx2.Limits(), follow_redirects=False,
            event_hooks={"request": [leaves], "response": [arrives]},
        )  # fmt: skip
    except (httpx2.InvalidURL, ValueError, ImportError, OSError) as error:
        raise UserError(
            "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE, SSL_CERT_DIR: one of them is set to what "
            f"cannot be used ({type(error).__name__}); mend it or unset it."
        ) from None
    return openai.OpenAI(
        base_url=asking.endpoint.url, api_key="-", admin_api_key="", timeout=asking.timeout,
        max_retries=asking.retries, http_client=http,
    )  # fmt: skip


def _post(fields: dict[str, Any], asking: Asking) -> bytes:
    """The body of the answer to one request.

    Raises:
        Failure: without the key, and without a cause that could hold it.
    """
    import openai

    try:
        raw = asking.client.chat.completions.with_raw_response
        return raw.create(model=asking.model, **fields).content
    except openai.APIStatusError as error:
        failure = _refusal(error, asking)
    except openai.APIConnectionError as error:
        failure = _no_answer(error, asking)
    raise failure


def _message(body: bytes) -> dict[str, Any] | None:
    """The message of a chat completion, its content a text; None where the body is none."""
    try:
        message = dict(json.loads(body)["choices"][0]["message"])
        content = message.get("content")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return {**message, "content": content or ""} if isinstance(content, str | None) else None


def _refusal(error: Any, asking: Asking) -> Failure:
    """What an HTTP error status means."""
    status, where = error.status_code, asking.endpoint
    said = f"HTTP {status}"
    text = error.body.get("message") if isinstance(error.body, dict) else error.body
    # a 401 may quote part of the key; a page is no sentence
    if status != 401 and isinstance(text, str) and text.strip() and not text.lstrip().startswith("<"):
        said += ": " + short(clean(text, asking))
    if status in (408, 409, 425, 429) or status >= 500:
        wait = short(clean(error.response.headers.get("Retry-After", ""), asking))
        return Failure(said + (f", to be asked again: Retry-After {wait}" if wait else ""), "try")
    if status in (400, 413, 422):  # a text too long or filtered: says nothing about the other items
        return Failure(said, "item")
    url, key = f"{where.url_name}: ", f"{where.key_name}: "
    if status == 401 and not where.key:
        mend = f"{key}is not set, and the endpoint asks for a key (HTTP 401); set it"
    elif status in (401, 403):
        mend = f"{key}may not use {asking.model!r} ({said}); set a key that may"
    elif status == 404:
        mend = f"{url}has no chat completions of {asking.model!r} ({said}); mend the URL or model"
    elif status < 400:
        mend = f"{url}sends requests elsewhere (HTTP {status}); set the final URL"
    else:
        mend = f"{url}refuses chat completions ({said}); set the URL of an endpoint that has them"
    return Failure(mend, "run")


def _no_answer(error: Any, asking: Asking) -> Failure:
    """What a connection that failed means."""
    import openai

    if isinstance(error, openai.APITimeoutError):
        return Failure(f"no answer in {asking.timeout:g} s", "try")
    cause: BaseException = error
    while inner := cause.__cause__ or cause.__context__:
        cause = inner
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Failure(
            f"{asking.endpoint.url_name}: has a certificate that is not trusted here; set SSL_CERT_FILE to "
            "the authorities to trust",
            "run",
        )
    return Failure(f"no connection, {type(cause).__name__}", "try")


def _undone(failures: Sequence[Failure], asked: int, kept: int, asking: Asking) -> UserError:
    """What is told where some of the items that were asked have no answer."""
    again = (
        f"{kept} new {asking.made} are kept in {asking.place}, and the same command asks only for the rest."
    )
    if fatal := [failure.why for failure in failures if failure.scope == "run"]:
        return UserError(f"{fatal[0]}; {again}")
    why = Counter(failure.why for failure in failures if failure.why).most_common(1)[0][0]
    left = f"{len(failures)} of {asked} {asking.unit}s remain ({why})"
    return UserError(f"{asking.who} {asking.model!r}: {left}; {again}")


def _sendable(text: str) -> bool:
    """Printable ASCII without a space: what may stand in a URL or a header."""
    return all("!" <= letter <= "~" for letter in text)


def _base_url(text: str) -> bool:
    """Whether it is http(s)://host[:port][/path] and nothing else."""
    import httpx2

    try:
        url = httpx2.URL(text)
        url.host.encode("idna")
    except (httpx2.InvalidURL, UnicodeError):
        return False
    plain = not (url.userinfo or url.query or url.fragment)
    return url.scheme in ("http", "https") and bool(url.host) and plain and _sendable(text)
