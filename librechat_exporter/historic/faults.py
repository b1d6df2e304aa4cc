"""MariaDB's faults: which of them pass, and how they are told without quoting a row."""

import socket
import ssl
from collections.abc import Iterator

import mysql.connector
from mysql.connector import errorcode

_NO_ANSWER = errorcode.ER_QUERY_TIMEOUT  # the driver's number for an answer that does not come in time
# Whether the transaction was done is unknown or it was not: to do it again is right, as it replaces all that it writes.
_PASSING = {
    *(errorcode.ER_LOCK_DEADLOCK, errorcode.ER_LOCK_WAIT_TIMEOUT, errorcode.ER_CHECKREAD),
    *(errorcode.ER_SERVER_SHUTDOWN, errorcode.ER_CON_COUNT_ERROR, errorcode.ER_QUERY_INTERRUPTED),
    *(errorcode.CR_CONNECTION_ERROR, errorcode.CR_CONN_HOST_ERROR, errorcode.CR_UNKNOWN_HOST),
    *(errorcode.CR_SERVER_GONE_ERROR, errorcode.CR_SERVER_LOST, errorcode.CR_SERVER_LOST_EXTENDED),
    *(errorcode.CR_SERVER_HANDSHAKE_ERR, _NO_ANSWER, 1927),  # MariaDB's own: the connection was killed
    -1,  # the driver's own errors about a connection that is gone have no number
}
_NAMES = {number: name for name, number in vars(errorcode).items() if isinstance(number, int)}
# These messages speak of the connection alone. Others may quote a row, and so a user's id.
_HARMLESS = {
    *(errorcode.ER_ACCESS_DENIED_ERROR, errorcode.ER_DBACCESS_DENIED_ERROR, errorcode.ER_BAD_DB_ERROR),
    *(errorcode.ER_TABLEACCESS_DENIED_ERROR, errorcode.CR_CONN_HOST_ERROR, errorcode.CR_UNKNOWN_HOST),
    *(errorcode.CR_CONNECTION_ERROR, errorcode.CR_SSL_CONNECTION_ERROR, errorcode.CR_SERVER_LOST),
}


def describe(error: mysql.connector.Error) -> str:
    """The error in a line that quotes no row."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"MariaDB's certificate cannot be trusted: {cause.verify_message}"
    if error.errno == _NO_ANSWER and any(isinstance(cause, TimeoutError) for cause in causes):
        return "MariaDB does not answer in time"
    name = _NAMES.get(error.errno, "no name")
    text = f": {error.msg}" if error.errno in _HARMLESS else ""
    notes = "".join(f", {note}" for note in getattr(error, "__notes__", ()))
    return f"MariaDB error {error.errno} ({name}{notes}){text}"


def tries(error: mysql.connector.Error, most: int) -> int:
    """The number of times, at most `most`, that it is worth to try again."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return 0
        # A name that the DNS does not know is most often misspelt.
        if isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN:
            return min(most, 1)
    return most if error.errno in _PASSING else 0


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
