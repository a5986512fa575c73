"""A local OpenAI-compatible endpoint that says what it is told to."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server:
    """`say(item, how often it was asked before)` gives the reply: a text, or (status, body, headers), or None
    to hang. `item_of(body)` tells which item a request is about."""

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
        for name, value in {**headers, "Content-Length": str(len(content.encode()))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content.encode())


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
