"""What others write into errors must not reach a log line: addresses and keys."""

import subprocess
import sys

import pytest

from cli.event_body import readable
from worker.redact import redacted


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("550 5.1.1 <ada@example.com>: no such user", "550 5.1.1 <[address]>: no such user"),
        ('"to": "Ada.L+x@mail.example.co.uk"', '"to": "[address]"'),
        ("postgresql://postgres:s3cret@db.example.com:5432/x", "[address]:5432/x"),
        ("postgresql://postgres:s3cret@localhost/x", "postgresql://[secret]@localhost/x"),
        ("'postgres://u:a,s3cret=(x)/y@db.example.com/x'", "'[address]/x'"),
        ("https://stripe.com/docs and a@b", "https://stripe.com/docs and a@b"),
        ("Invalid API Key provided: sk_live_abc123", "Invalid API Key provided: [secret]"),
        ("rk_test_1 whsec_2 sb_secret_3_4", "[secret] [secret] [secret]"),
        ("Bearer eyJhbGci.eyJzdWIi.c2ln-_0", "Bearer [secret]"),
        ("event evt_1 of cus_2 at 10:15 waits", "event evt_1 of cus_2 at 10:15 waits"),
    ],
)
def test_addresses_and_keys_are_left_out_of_a_line(text: str, line: str) -> None:
    assert redacted(text) == line


def test_a_traceback_for_people_shows_no_variables() -> None:
    """They have the bodies of events, and the settings."""
    program = (
        "import sys, structlog, worker.run\nsys.stderr.isatty = lambda: True\nworker.run.configure_logging()\n"
        "def work():\n    customer = 'Ada ' + 'Lovelace'\n    raise ValueError('broken')\n"
        "try:\n    work()\nexcept ValueError:\n    structlog.get_logger().exception('failed')"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stderr
    assert "ValueError" in told
    assert "Ada Lovelace" not in told


def test_a_body_is_shown_without_the_digits_of_its_card() -> None:
    shown = readable('{"card": {"last4": "4242", "dynamic_last4": null, "exp_year": 2030}, "id": "evt_4242"}')
    assert '"last4": "····"' in shown
    assert '"dynamic_last4": null' in shown
    assert '"id": "evt_4242"' in shown
    assert readable('no JSON "last4":"4242"') == 'no JSON "last4":"····"'
