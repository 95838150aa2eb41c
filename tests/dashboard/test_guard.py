"""Who gets in: whoever brought the token first, under the right name, from our own pages; and the answers' headers."""

import re
from uuid import UUID, uuid4

import pytest
from starlette.routing import Route

from cli.dashboard.app import ROUTES
from cli.dashboard.session import Flash
from tests.dashboard.conftest import Browser
from tests.sql.calls import Connection, link, record_fraud_warning, sync_payment, value


def paths(method: str) -> list[str]:
    """An address of every route."""
    parts = {
        "{account_id:uuid}": str(uuid4()),
        "{warning_id}": "issfr_1",
        "{event_id}": "evt_1",
        "{dispute_id}": "du_1",
        "{customer_id}": "cus_1",
        "{id:int}": "1",
    }
    found: list[str] = []
    for route in ROUTES:
        path = route.path
        for name, example in parts.items():
            path = path.replace(name, example)
        if method in (route.methods or ()):
            found.append(path)
    return found


def test_every_page_is_a_route() -> None:
    assert all(isinstance(route, Route) for route in ROUTES)
    assert len(paths("GET")) >= 19
    assert len(paths("POST")) >= 15
    assert not any("{" in path for path in paths("GET") + paths("POST"))


@pytest.mark.parametrize("number", range(len(paths("GET"))))
def test_without_the_token_nothing_is_shown(stranger: Browser, number: int) -> None:
    path = paths("GET")[number]
    answer = stranger.get(path)
    assert answer.status_code == 401
    assert "till dashboard" in answer.text
    assert "menu" not in answer.text
    assert stranger.get(path, params={"token": "wrong"}).status_code == 401


@pytest.mark.parametrize("number", range(len(paths("POST"))))
def test_without_the_token_nothing_is_done(stranger: Browser, number: int) -> None:
    assert stranger.post(paths("POST")[number], reason="because").status_code == 401


@pytest.mark.parametrize("path", ["/readyzzz", "/ready/x", "/readyz", "/staticx", "/static"])
def test_only_two_addresses_are_open_to_anybody(stranger: Browser, path: str) -> None:
    assert stranger.get("/ready").status_code == 200
    assert stranger.get("/static/style.css").status_code == 200
    assert stranger.get(path).status_code == 401


@pytest.mark.parametrize("path", ["/static/nothing", "/static/..%2fsession.py", "/static/"])
def test_what_is_missing_among_open_files_shows_a_stranger_no_page(
    stranger: Browser, browser: Browser, path: str
) -> None:
    browser.session.flash(Flash("good", "done for alice@example.com"))
    browser.client.cookies.clear()
    answer = browser.get(path)
    assert answer.status_code in (404, 405)
    assert browser.session.csrf not in answer.text
    assert "alice@example.com" not in answer.text


def test_the_token_opens_one_browser_once(stranger: Browser) -> None:
    token = stranger.session.token
    assert stranger.get("/", params={"token": token[:-1]}).status_code == 401
    assert (
        stranger.client.head("/", params={"token": token}).status_code == 401
    )  # a preview does not use it up
    opened = stranger.get("/", params={"token": token})
    assert (opened.status_code, opened.headers["location"]) == (303, "/")
    cookie = opened.headers["set-cookie"].lower()
    assert cookie.startswith(f"till_dashboard_{stranger.port}=")
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip() for part in cookie.split(";")}
    assert token.lower() not in cookie
    assert stranger.get("/").status_code == 200
    assert stranger.get("/", params={"token": token}).status_code == 303  # the same browser, from its history
    stranger.client.cookies.clear()
    assert stranger.get("/", params={"token": token}).status_code == 401
    assert stranger.get("/").status_code == 401


def test_a_cookie_of_another_dashboard_is_no_key(browser: Browser) -> None:
    browser.client.cookies.clear()
    browser.client.cookies.set(f"till_dashboard_{browser.port}", "another")
    assert browser.get("/").status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", ""])
def test_under_another_name_it_does_not_answer(browser: Browser, host: str) -> None:
    host = host.format(port=browser.port)
    for path in ("/", "/static/style.css", "/ready"):
        assert browser.get(path, headers={"host": host}).status_code == 400


@pytest.mark.parametrize(
    "path", ["/inbox?type=%00", "/fraud/%00", "/fraud?before=2026-01-01~%00", "/?token=%00"]
)
def test_what_postgres_cannot_take_is_no_address(browser: Browser, path: str) -> None:
    assert browser.get(path).status_code == 400


def test_it_is_localhost_too(browser: Browser) -> None:
    cookie = browser.client.cookies[f"till_dashboard_{browser.port}"]
    headers = {"host": f"localhost:{browser.port}", "cookie": f"till_dashboard_{browser.port}={cookie}"}
    assert browser.get("/", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("origin", "csrf"),
    [
        ("https://evil.example", None),
        ("http://evil.example:{port}", None),
        ("http://127.0.0.1:1", None),
        ("https://127.0.0.1:{port}", None),
        ("http://localhost:{port}", None),
        ("null", None),
        (None, None),
        ("ours", ""),
        ("ours", "guessed"),
    ],
)
def test_a_form_of_another_page_does_nothing(
    browser: Browser, worker: Connection, app: Connection, account: UUID, origin: str | None, csrf: str | None
) -> None:
    sync_payment(worker)
    record_fraud_warning(worker)
    given = origin and origin.format(port=browser.port)
    refused = browser.post(
        "/fraud/issfr_1/resolve", origin=given, csrf=csrf, decision="dismissed", reason="evil"
    )
    assert refused.status_code == 403
    assert value(app, "select status from billing.fraud_warnings") == "open"


def test_a_huge_form_is_not_read(browser: Browser) -> None:
    assert browser.post("/inbox/evt_1/retry", reason="x" * 100_000).status_code == 413


def test_a_page_is_not_written_to_and_an_action_not_read(browser: Browser) -> None:
    assert browser.post("/fraud").status_code == 405
    assert browser.get("/inbox/evt_1/retry").status_code in (404, 405)


def test_every_answer_forbids_what_it_does_not_need(browser: Browser) -> None:
    answers = [
        browser.get("/"),
        browser.get("/nothing"),
        browser.get("/static/dashboard.js"),
        browser.get("/", headers={"host": "evil.example"}),
        browser.post("/inbox/retry", csrf="wrong"),
        browser.post("/inbox/retry", status="dead"),
    ]
    browser.client.cookies.clear()
    answers.append(browser.get("/"))
    assert [answer.status_code for answer in answers] == [200, 404, 200, 400, 403, 303, 401]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers


def test_pages_ask_for_nothing_from_elsewhere(
    browser: Browser, worker: Connection, app: Connection, account: UUID
) -> None:
    link(app, account)
    sync_payment(worker)
    record_fraud_warning(worker)
    for path in ("/", "/fraud", "/fraud/issfr_1", f"/accounts/{account}", "/settings"):
        # Links to Stripe's Dashboard are followed by a click only, and tell it nothing of this page.
        html, links = re.subn(
            r'<a class="out" href="https://dashboard\.stripe\.com/[^"]*" target="_blank" rel="noopener noreferrer"',
            "<a",
            browser.get(path).text,
        )
        assert links or path in ("/", "/fraud", "/settings")
        assert "http://" not in html.replace("http://www.w3.org/", "")
        assert "https://" not in html
        assert " style=" not in html
        assert " on" not in "".join(part.split(">")[0] for part in html.split("<")[1:]).replace(" only", "")
