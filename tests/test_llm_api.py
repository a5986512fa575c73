"""What leaves for an endpoint and what comes back; the judge's and the reference's tests have the rest."""

import logging
import ssl
import subprocess
import sys
import threading
import time
import traceback

import httpx2
import pytest

from rlcomm import llm_api
from rlcomm.llm_api import Asking, Failure, ask, ask_each, from_environment
from rlcomm.utils.errors import UserError
from tests.fake_endpoint import Server, bare, completion, running

KEY = "sk-very-secret-0123456789"
CHAT = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    bare(monkeypatch)


@pytest.fixture
def server(monkeypatch):
    server = Server(lambda body: body["messages"][0]["content"], lambda *_: "fine")
    with running(server) as url:
        monkeypatch.setenv("RLCOMM_JUDGE_BASE_URL", url)
        monkeypatch.setenv("RLCOMM_JUDGE_API_KEY", KEY)
        yield server


def asking(timeout=5.0, retries=1):
    return Asking(
        from_environment("RLCOMM_JUDGE", "judge model"), "judge model", "judge-1", timeout, retries, 1,
        unit="item", made="items", place="nowhere", progress=False,
    )  # fmt: skip


def refused(**options):
    """Why `ask` gets no answer."""
    with pytest.raises(Failure) as failure:
        ask(CHAT, asking(**options))
    return failure.value


# ---- what leaves ----


def test_nothing_else_of_the_environment_is_sent(server, monkeypatch, tmp_path):
    """The client reads these by itself, and would send OpenAI's to whoever serves the judge."""
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, f"foreign-{name}")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer foreign\nX-Api-Key: foreign")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login foreign password foreign\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert ask(CHAT, asking())["content"] == "fine"
    monkeypatch.delenv("RLCOMM_JUDGE_API_KEY")
    assert ask(CHAT, asking())["content"] == "fine"
    (_, one, _), (_, keyless, _) = server.requests
    assert one["Authorization"] == f"Bearer {KEY}"
    assert "Authorization" not in keyless
    assert "foreign" not in repr(server.requests)
    assert {name.lower() for name in one} <= llm_api._SENT | {"accept-encoding", "authorization"}


def test_a_redirect_is_not_followed(server):
    """It would carry the key, or the rows, elsewhere."""
    other = Server(lambda _: "", lambda *_: "here")
    with running(other) as url:
        for status in (301, 302, 303, 307, 308):
            server.say = lambda *_, s=status: (s, "{}", {"Location": f"{url}/chat/completions"})
            assert "sends requests elsewhere" in refused().why
    assert other.requests == []
    assert len(server.asked) == 5


def test_no_log_line_tells_the_key_or_the_url(server, caplog, monkeypatch):
    """At INFO the client's transport would log every URL, at DEBUG every header that comes back."""
    caplog.set_level(logging.DEBUG)
    server.say = lambda _, before: (
        (200, completion("fine"), {"X-Echo": KEY}) if before else (500, "{}", {"X-Request-Id": KEY})
    )
    one = asking()
    assert ask(CHAT, one)["content"] == "fine"
    for text in (caplog.text, repr(one), repr(one.client), repr(one.endpoint)):
        assert KEY not in text
        assert "127.0.0.1" not in text


@pytest.mark.parametrize("proxy", ["ftp://user:secret@host", "socks9://secret", "http://secret:port"])
def test_a_proxy_that_is_none_is_one_sentence_without_it(server, monkeypatch, proxy):
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(UserError, match="ALL_PROXY, SSL_CERT_FILE") as raised:
        asking()
    assert "secret" not in "".join(traceback.format_exception(raised.value))


# ---- what comes back ----


def test_a_server_that_drips_holds_nobody(server):
    """The client's own time-out starts anew with every byte."""
    server.say = lambda *_: (200, list(completion("fine")), {})
    started = time.monotonic()
    assert refused(timeout=0.5, retries=0).why == "no answer in 0.5 s"
    assert time.monotonic() - started < 2.0


def test_an_endless_answer_is_none(server, monkeypatch):
    monkeypatch.setattr(llm_api, "LARGEST", 1000)
    server.say = lambda *_: (200, completion("x" * 1001), {})
    assert refused().why == "the endpoint's answer is no chat completion"


def test_garbage_is_asked_again_and_may_be_followed_by_an_answer(server):
    server.say = lambda _, before: "fine" if before else (200, "<html>", {"Content-Type": "text/html"})
    assert ask(CHAT, asking())["content"] == "fine"


@pytest.mark.parametrize(
    "body",
    ["", "<html>", "null", "[]", "{}", '{"choices": []}', '{"choices": [{"message": 3}]}',
     '{"choices": [{"message": {"content": []}}]}', '{"error": "none"}', "[" * 100_000, "\ufeff{}", "\x00"],
)  # fmt: skip
def test_garbage_is_one_sentence(server, body):
    server.say = lambda *_: (200, body, {"Content-Type": "application/json"})
    assert refused(retries=0).why == "the endpoint's answer is no chat completion"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("<html><body>Bad gateway</body></html>", "HTTP 502"),
        ('{"error": "overloaded"}', "HTTP 502: overloaded"),
        ('{"error": {"message": "over\\nloaded", "code": 7}}', "HTTP 502: over loaded"),
        ('{"error": {"message": {"a": 1}}}', "HTTP 502"),
        ('{"message": "overloaded"}', "HTTP 502: overloaded"),
        ('["overloaded"]', "HTTP 502"),
        (f'"{"long " * 100}"', "HTTP 502: " + ("long " * 40)[:200] + "..."),
    ],
)
def test_an_error_is_told_in_its_own_words_and_not_by_a_page(server, body, why):
    server.say = lambda *_: (502, body, {})
    assert refused(retries=0).why == why


def test_a_certificate_that_nobody_trusts_stops_all(server, monkeypatch):
    def untrusted(*_, **__):
        raise httpx2.ConnectError("...") from ssl.SSLCertVerificationError("self-signed certificate")

    monkeypatch.setattr(httpx2.Client, "send", untrusted)
    failure = refused()
    assert failure.scope == "run"
    assert failure.why.startswith("RLCOMM_JUDGE_BASE_URL: has a certificate that is not trusted here")


def test_nothing_of_the_request_hangs_on_the_error(server):
    server.say = lambda *_: (500, "{}", {})
    failure = refused()
    assert failure.__cause__ is None
    assert failure.__context__ is None


# ---- stopping ----


def test_a_run_that_is_stopped_sends_no_retry(server, monkeypatch):
    """The client would go through all its retries before the pool is left."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.2)
    one, failed = asking(retries=50), threading.Event()

    def say(*_):
        failed.set()
        return (500, "{}", {})

    server.say = say
    threading.Thread(target=lambda: (failed.wait(), one.stop.set())).start()
    with pytest.raises(Failure):
        ask(CHAT, one)
    assert len(server.asked) <= 2


def test_the_client_is_closed_at_the_end(server):
    one = asking()
    assert ask_each({"a": 1}, lambda *_: ask(CHAT, one)["content"], one) == {"a": "fine"}
    assert one.client.is_closed()


def test_the_module_is_imported_without_the_client():
    """`import rlcomm` and every stage would wait for it."""
    code = "import sys, rlcomm.llm_api; sys.exit('openai' in sys.modules or 'httpx2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
