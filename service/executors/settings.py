"""What an operator can set of every executor: environment variables only, read once."""

import hashlib
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field, ValidationError

from ..store.object_store import StoreError
from ..tasks.database import DatabaseUrlError
from ..tasks.shared_settings import SharedSettings


class ExecutorSettings(SharedSettings):
    """What every executor is told beside its backend's own."""

    executor_id: str = Field(
        "",
        max_length=100,
        pattern=r"^[A-Za-z0-9._-]*$",
        alias="WAN_RELAY_EXECUTOR_ID",
        description="a name that no other executor has, the same after a restart; else of its host and folder",
    )

    def id_for(self, kind: str, folder: Path | None = None) -> str:
        """The same after a restart on the same machine, so that DBOS takes up what was begun."""
        if self.executor_id:
            return self.executor_id
        place = f"-{hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:6]}" if folder else ""
        return f"{kind}-{socket.gethostname()}{place}"


@contextmanager
def told_errors() -> Iterator[None]:
    """Ends the process with one sentence where a setting cannot be used."""
    try:
        yield
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        sys.exit(f"{fault['loc'][0]}: {fault['msg']}")
    except (StoreError, DatabaseUrlError) as error:
        sys.exit(str(error))
