"""A private MariaDB of Debian's package mariadb-server."""

import os
import pwd
import shutil
import subprocess

import mysql.connector
from mysql.connector.abstracts import MySQLConnectionAbstract

from tools.private_server import PrivateServer

USER = "metrics"
PASSWORD = "p@ss'word"  # noqa: S105


class MariaDB(PrivateServer):
    """A mariadbd process that can be hurt. Raises RuntimeError if it does not come up or is not installed."""

    name = "mariadb"

    def prepare(self) -> None:
        installer = shutil.which("mariadb-install-db")
        if installer is None:
            raise RuntimeError("MariaDB is not installed: run tools/debian-packages.sh")
        done = subprocess.run(
            [
                installer,
                *("--no-defaults", f"--datadir={self.folder / 'data'}", f"--user={self._user}", "--skip-test-db"),
                "--auth-root-authentication-method=normal",
            ],
            capture_output=True,
            text=True,
            check=False,
            # A server that starts removes what looks like another's temporary tables.
            env=os.environ | {"TMPDIR": str(self.folder)},
        )
        if done.returncode != 0:
            raise RuntimeError(f"mariadb-install-db failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    @property
    def _user(self) -> str:
        return pwd.getpwuid(os.getuid()).pw_name

    def command(self) -> list[str]:
        return [
            shutil.which("mariadbd") or "/usr/sbin/mariadbd",
            *("--no-defaults", f"--datadir={self.folder / 'data'}", f"--user={self._user}", f"--port={self.port}"),
            *("--bind-address=127.0.0.1", f"--socket={self.folder / 'socket'}", f"--pid-file={self.folder / 'pid'}"),
            f"--tmpdir={self.folder}",
        ]

    def connect(self, database: str | None = None) -> MySQLConnectionAbstract:
        """A connection as root, which commits each statement."""
        connection = mysql.connector.connect(
            host="127.0.0.1",
            port=self.port,
            user="root",
            database=database,
            charset="utf8mb4",
            collation="utf8mb4_bin",
            autocommit=True,
            connection_timeout=5,
        )
        if not isinstance(connection, MySQLConnectionAbstract):
            raise TypeError("a connection of a pool")
        return connection

    def answers(self) -> bool:
        try:
            self.connect().close()
        except mysql.connector.Error:
            return False
        return True

    def environment(self, database: str) -> dict[str, str]:
        """The settings that name a database of this server, which is made, with a user that may do all in it."""
        connection = self.connect()
        cursor = connection.cursor()
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{database}`")
        cursor.execute(f"CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY %s", (PASSWORD,))
        cursor.execute(f"GRANT ALL ON `{database}`.* TO '{USER}'@'%'")
        connection.close()
        return {
            "MYSQL_HOST": "127.0.0.1",
            "MYSQL_PORT": str(self.port),
            "MYSQL_DATABASE": database,
            "MYSQL_USER": USER,
            "MYSQL_PASSWORD": PASSWORD,
        }
