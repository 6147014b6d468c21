"""Which settings name a database."""

from pathlib import Path

import pytest
from wan_relay.service.tasks.database import DatabaseUrlError, database_url


def test_a_file_is_sqlite_and_its_folder_is_made(tmp_path: Path) -> None:
    assert database_url(str(tmp_path / "a" / "tasks.sqlite")) == f"sqlite:///{tmp_path}/a/tasks.sqlite"
    assert (tmp_path / "a").is_dir()


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_postgresql_by_either_name(scheme: str) -> None:
    assert database_url(f"{scheme}://user:word@host:5432/name") == "postgresql://user:word@host:5432/name"


def test_another_database_is_refused_without_its_password() -> None:
    with pytest.raises(DatabaseUrlError, match=r"must be a file or postgresql://…, got mysql://…") as caught:
        database_url("mysql://user:word@host/name")
    assert "word" not in str(caught.value)
