"""nodes/rules/files/date_in_name.py."""

from datetime import datetime

import pytest
from wan_relay.nodes.rules.files.date_in_name import with_date

NOW = datetime(2026, 3, 4, 15, 6, 7)


@pytest.mark.parametrize(
    ("name", "filled"),
    [
        ("video/clip", "video/clip"),
        ("video/%date:yyyy-MM-dd%/clip", "video/2026-03-04/clip"),
        ("%date:yy.M.d h_m_s%", "26.3.4 15_6_7"),
        ("%date:hhmmss%_%date:yyyy%_%width%", "150607_2026_%width%"),
        ("%date% %date:% 100%", "%date% %date:% 100%"),
    ],
)
def test_dates_are_filled_in_as_the_editor_does(name: str, filled: str) -> None:
    assert with_date(name, NOW) == filled


def test_the_date_is_todays() -> None:
    before = datetime.now().date()
    assert with_date("%date:yyyy-MM-dd%") in (str(before), str(datetime.now().date()))
