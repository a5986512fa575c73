"""A local OpenAI-compatible endpoint that says what it is told to."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

VARIABLES = (
    "RLCOMM_JUDGE_BASE_URL", "RLCOMM_JUDGE_API_KEY", "RLCOMM_REFERENCE_BASE_URL", "RLCOMM_REFERENCE_API_KEY",
    "OPENAI_BASE_URL", "OPENAI_API_KEY",
)  # fmt: skip


def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No endpoint in the environment, no proxy before a local one, and a client that hardly waits."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)


class Server:
    """`say(item, how often it was asked before)` gives the reply: a text, or (status, body, headers), or None
    to hang; a body that is a list is sent part by part, 0.1 s apart. `item_of(body)` tells which item a
    request is about."""

    def __init__(self, item_of: Callable[[dict], str], say: Callable[[str, int], Any]):
        self.item_of, self.say = item_of, say
        self.asked: list[str] = []
        self.requests: list[tuple[str, dict, dict]] = []
        self.times: list[float] = []
        self.at_once = self.most_at_once = 0
        self.lock, self.release = threading.Lock(), threading.Event()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        item = self.item_of(body)
        with self.lock:
            before = self.asked.count(item)
            self.asked.append(item)
            self.times.append(time.monotonic())
            self.requests.append((handler.path, dict(handler.headers), body))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            said = self.say(item, before)
        finally:
            with self.lock:
                self.at_once -= 1
        if said is None:
            self.release.wait(5)
            return
        status, content, headers = said if isinstance(said, tuple) else (200, completion(said), {})
        handler.send_response(status)
        parts = content if isinstance(content, list) else [content]
        for name, value in {**headers, "Content-Length": str(len("".join(parts).encode()))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        with contextlib.suppress(ConnectionError):  # the client may have had enough
            for part in parts:
                handler.wfile.write(part.encode())
                self.release.wait(0.1 * (len(parts) > 1))


def completion(text: str | None, **fields: Any) -> str:
    """The body of a chat completion with this text; `fields` of its message beside it."""
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text, **fields}}]})


@contextmanager
def running(server: Server) -> Iterator[str]:
    """Serves; yields the base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            server.answer(self)

        do_GET = do_POST

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/v1"
    finally:
        server.release.set()
        http.shutdown()
        thread.join()
        http.server_close()
