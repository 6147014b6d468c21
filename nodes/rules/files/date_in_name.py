"""The date in a file name, `%date:yyyy-MM-dd%`, which the editor fills in for ComfyUI's own save nodes alone."""

import re
from datetime import datetime


def with_date(name: str, now: datetime | None = None) -> str:
    """`name` with every `%date:FORMAT%` filled in as the editor does it: yyyy or yy, M, d, h, m and s, two letters for
    two digits."""
    moment = now or datetime.now()
    values = {"M": moment.month, "d": moment.day, "h": moment.hour, "m": moment.minute, "s": moment.second}

    def shown(part: re.Match[str]) -> str:
        if part[0].startswith("y"):
            return str(moment.year)[-len(part[0]) :]
        return str(values[part[0][0]]).zfill(len(part[0]))

    return re.sub("%date:([^%]+)%", lambda date: re.sub("yyyy|yy|MM?|dd?|hh?|mm?|ss?", shown, date[1]), name)
