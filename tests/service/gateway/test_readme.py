"""The gateway's page says what the declarations say."""

import re

from wan_relay.service.gateway import app
from wan_relay.tools import readme_tables as documentation


def page() -> str:
    return documentation.GATEWAY_README.read_text(encoding="utf-8")


def test_its_tables_are_those_of_the_declarations() -> None:
    assert documentation.with_tables(page(), documentation.GATEWAY_TABLES) == page()


def test_every_dialects_address_is_on_it() -> None:
    for dialect in app.DIALECTS:
        assert f"`{dialect.PREFIX}" in page(), dialect.NAME


def test_its_python_is_valid() -> None:
    codes = re.findall(r"```python\n(.*?)```", page(), re.DOTALL)
    assert codes
    for code in codes:
        compile(code, "README", "exec")
