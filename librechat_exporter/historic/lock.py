"""One export at a time writes into a database."""

import contextlib
import hashlib
import logging
from collections.abc import Callable

import mysql.connector
from mysql.connector import errorcode
from mysql.connector.abstracts import MySQLConnectionAbstract

from librechat_exporter.historic.faults import describe, tries
from librechat_exporter.historic.tables import EXPORT_LOCK

log = logging.getLogger(__name__)

# The connection that holds a row is idle for as long as the run lasts.
_IDLE_SECONDS = 30 * 86_400
_GET_LOCK = "SELECT GET_LOCK(%s, %s)"


class LockedError(Exception):
    """Another export writes into this database."""


class Lock:
    """A named lock of the server, which its connection holds; where the server refuses these, as clusters do, a row of
    export_lock, which a connection of its own holds in a transaction.
    """

    def __init__(self, database: str) -> None:
        self._database = database
        # Named locks are the server's, not the database's, and MySQL allows them 64 characters.
        self._name = f"librechat_exporter.{hashlib.sha256(database.encode()).hexdigest()[:32]}"
        self._row: MySQLConnectionAbstract | None = None

    def take(
        self, connection: MySQLConnectionAbstract, connect: Callable[[], MySQLConnectionAbstract], seconds: int
    ) -> None:
        """For this connection. Waits so long for another export's end. Raises LockedError, mysql.connector.Error."""
        if self._row is not None and self._row.is_connected():
            return
        cursor = connection.cursor()
        try:
            cursor.execute(_GET_LOCK, (self._name, seconds))
            [taken] = [row[0] for row in cursor.fetchall()]  # type: ignore[index]
        except mysql.connector.Error as error:
            if tries(error, 1):
                raise
            log.info("Named locks are refused (%s): a row of %s is locked instead", describe(error), EXPORT_LOCK.name)
            self._take_row(connect(), seconds)
            return
        finally:
            cursor.close()
        if taken != 1:
            raise LockedError(self._told)

    def _take_row(self, connection: MySQLConnectionAbstract, seconds: int) -> None:
        cursor = connection.cursor()
        try:
            cursor.execute(EXPORT_LOCK.create)
            cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {max(1, seconds)}, wait_timeout = {_IDLE_SECONDS}")
            cursor.execute(f"INSERT IGNORE INTO `{EXPORT_LOCK.name}` VALUES (1)")  # noqa: S608
            connection.commit()
            cursor.execute(f"SELECT id FROM `{EXPORT_LOCK.name}` WHERE id = 1 FOR UPDATE")  # noqa: S608
            cursor.fetchall()
        except mysql.connector.Error as error:
            connection.disconnect()
            if error.errno == errorcode.ER_LOCK_WAIT_TIMEOUT:
                raise LockedError(self._told) from None
            raise
        self._row = connection

    @property
    def _told(self) -> str:
        return f"another export writes into the database {self._database}"

    def release(self) -> None:
        """That of a row; a named one ends with its connection."""
        if self._row is not None:
            with contextlib.suppress(mysql.connector.Error):
                self._row.disconnect()
            self._row = None
