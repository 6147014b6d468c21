"""What links are signed with: drawn once for a database, so that every gateway on it honours every link."""

import secrets

import sqlalchemy as sa

from ..tasks.database import make_tables

_METADATA = sa.MetaData()
SECRETS = sa.Table(
    "wan_relay_secrets",
    _METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)


def kept_secret(engine: sa.Engine, name: str) -> bytes:
    """The secret of that name, drawn and stored by whoever asks first."""
    make_tables(engine, _METADATA)
    with engine.begin() as connection:
        found = connection.execute(sa.select(SECRETS.c.value).where(SECRETS.c.name == name)).scalar()
    if found is None:
        try:
            with engine.begin() as connection:
                connection.execute(sa.insert(SECRETS).values(name=name, value=secrets.token_hex(32)))
        except sa.exc.IntegrityError:
            pass
        with engine.connect() as connection:
            found = connection.execute(sa.select(SECRETS.c.value).where(SECRETS.c.name == name)).scalar_one()
    return bytes.fromhex(found)
