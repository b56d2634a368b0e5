"""What orders refuse."""

from http import HTTPStatus

from app.common.errors import DomainError, NotFound


class OrderNotFound(NotFound):
    """No such order, or not with this token: the caller cannot tell which."""


class MailRefused(DomainError):
    """A message did not get through. It ends in logs, task results and dead letters, so it names
    neither the address nor what the server said, which often repeats the address.

    `smtp_code` is the server's reply code, 0 without one; `permanent` says that the same message to
    the same address will be refused again.
    """

    status = HTTPStatus.BAD_GATEWAY
    code = "mail_refused"
    title = "The mail server refused the message"

    def __init__(self, smtp_code: int, *, permanent: bool) -> None:
        super().__init__(f"SMTP {smtp_code}, {'permanent' if permanent else 'temporary'}")
        self.smtp_code = smtp_code
        self.permanent = permanent
