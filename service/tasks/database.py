"""The database that the gateway and its executors share: DBOS keeps the tasks in it, heartbeats.py who is alive.

One SQLite file serves the processes of one machine; `postgresql://…` serves many machines. What is stored is JSON.
"""

from pathlib import Path

import sqlalchemy as sa
from dbos import DBOSConfig, DBOSPortableJSONSerializer

from .names import APPLICATION, PROTOCOL


class DatabaseUrlError(ValueError):
    """The setting names no database that the engine can keep its tasks in."""


def database_url(setting: str) -> str:
    """SQLAlchemy's URL of a setting: a file's path, `sqlite:///…` or `postgresql://…`. Raises DatabaseUrlError."""
    if setting.startswith(("postgresql://", "postgres://")):
        return "postgresql://" + setting.partition("://")[2]
    if setting.startswith("sqlite:///"):
        return setting
    if "://" in setting:
        raise DatabaseUrlError(f"the database must be a file or postgresql://…, got {setting.partition('://')[0]}://…")
    path = Path(setting).expanduser().absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{path}"


def dbos_config(url: str, executor_id: str) -> DBOSConfig:
    """DBOS as the gateway and every executor run it; the names must agree between them.

    JSON in place of DBOS's pickles, which would let whoever may write to the database run code in a gateway.
    """
    return {
        "name": APPLICATION,
        "system_database_url": url,
        "application_version": PROTOCOL,
        "executor_id": executor_id,
        "serializer": DBOSPortableJSONSerializer(),
        "use_listen_notify": False,
        "console_log_level": "WARNING",
        "log_level": "WARNING",
        "enable_otlp": False,
    }


def own_engine(url: str) -> sa.Engine:
    """For the tables beside DBOS's own; at most a few connections."""
    if url.startswith("sqlite"):
        return sa.create_engine(url, connect_args={"timeout": 30})
    driver_url = sa.make_url(url).set(drivername="postgresql+psycopg")
    return sa.create_engine(driver_url, pool_size=2, max_overflow=2, pool_pre_ping=True)


def make_tables(engine: sa.Engine, tables: sa.MetaData) -> None:
    """Those that are missing, also where another process makes them at the same moment."""
    try:
        tables.create_all(engine, checkfirst=True)
    except sa.exc.DBAPIError:
        tables.create_all(engine, checkfirst=True)
