"""Who got an e-mail, how often, and what PostgreSQL says about it."""

from __future__ import annotations

from collections import Counter
from typing import LiteralString

from tests.proofs.shop import Shop
from tests.support.mailbox import Mailbox

# Every outbox row that was ever committed: the relay deletes the rows themselves.
LOG: LiteralString = """
CREATE TABLE proof_outbox (id text PRIMARY KEY, envelope jsonb NOT NULL);
CREATE FUNCTION proof_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO proof_outbox VALUES (NEW.id, NEW.envelope); RETURN NULL; END $$;
CREATE TRIGGER proof_outbox AFTER INSERT ON taskqueue_outbox
    FOR EACH ROW EXECUTE FUNCTION proof_outbox()"""

# A transaction that fails as late as one can: at its commit, after everything was written.
FAIL_AT_COMMIT: LiteralString = """
CREATE FUNCTION proof_rollback() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN IF NEW.email LIKE 'rollback-%%' THEN RAISE 'planted: no commit'; END IF;
    RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER proof_rollback AFTER INSERT ON orders_order
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION proof_rollback()"""


def judge(shop: Shop, mailbox: Mailbox, buyers: list[str]) -> list[str]:
    """Each buyer has exactly one order, one task and one e-mail, and nobody else has any."""
    found = []
    sent = Counter(
        recipient
        for message in mailbox.messages()
        for recipient in message["to"]
        if recipient.endswith(domain(shop))
    )
    if sent != Counter(buyers):
        twice = sum(count > 1 for count in sent.values())
        never = len(set(buyers) - set(sent))
        strangers = len(set(sent) - set(buyers))
        found.append(
            f"e-mails: {never} buyers without, {twice} with several, {strangers} strangers"
        )
    rows = {str(email): int(count) for email, count in shop.sql(_ORDERS)}
    if Counter(rows) != Counter(buyers):
        found.append(f"{sum(rows.values())} orders of {len(rows)} buyers instead of {len(buyers)}")
    tasks = shop.number("SELECT count(*) FROM proof_outbox")
    if tasks != len(buyers):
        found.append(f"{tasks} tasks were committed instead of {len(buyers)}")
    unsent = shop.number("SELECT count(*) FROM orders_order WHERE confirmation_sent_at IS NULL")
    if unsent:
        found.append(f"{unsent} orders are not marked as confirmed")
    return found + shop.bookkeeping()


def domain(shop: Shop) -> str:
    """The mail domain of this shop's buyers: all shops of a run share one sink."""
    return f"@{shop.name.replace('_', '-')}.example"


_ORDERS: LiteralString = "SELECT email, count(*) FROM orders_order GROUP BY 1"
