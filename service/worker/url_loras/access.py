"""Which LoRAs may be downloaded, and what a download may cost."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BeforeValidator
from yarl import URL

from ...contract.errors import JobError
from ...contract.lora_request import LoraRequest, lora_urls
from ...media.addresses import TrustedHosts
from ...media.guarded_http import BadUrl, dialled_url

FIELD = "loras"
_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class LoraAccess:
    """A URL of a request must name one of `hosts`. Where that redirects to is that host's choice, within https and
    public addresses. `trusted` hosts may lie anywhere, and speak http. `tokens`: host -> bearer token.
    """

    hosts: TrustedHosts
    trusted: TrustedHosts = field(default_factory=TrustedHosts)
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    max_bytes: int = 2_500_000_000
    timeout_s: float = 300.0

    def token(self, url: URL) -> str | None:
        """For the host that a request names, and never for one that this redirects to."""
        host, port = _host_and_port(url)
        return next((token for name, token in self.tokens.items() if TrustedHosts.parse(name).covers(host, port)), None)

    def refuse_http(self, url: URL, subject: str) -> None:
        """Raises JobError."""
        if url.scheme != "https" and not self.trusted.covers(*_host_and_port(url)):
            raise JobError("INVALID_URL", f"{subject} must be an https URL", FIELD)


def refuse_hosts(loras: Sequence[LoraRequest], access: LoraAccess) -> None:
    """Raises JobError for a URL that may not be asked; nothing is dialled."""
    for name, text in lora_urls(loras):
        if not access.hosts.hosts:
            sentence = f"{name} is a URL, and this worker loads no LoRA by URL: WAN_RELAY_LORA_HOSTS is empty"
            raise JobError("BLOCKED_URL", sentence, FIELD)
        try:
            url = dialled_url(text)
        except BadUrl as error:
            raise JobError("INVALID_URL", f"{name} {error}", FIELD) from None
        if not access.hosts.covers(*_host_and_port(url)):
            raise JobError("BLOCKED_URL", f"the host of {name} is not one of this worker's WAN_RELAY_LORA_HOSTS", FIELD)
        access.refuse_http(url, name)


def _host_and_port(url: URL) -> tuple[str, int]:
    return url.raw_host or "", url.port or 0


def _tokens(value: object) -> object:
    """Raises ValueError that repeats no token."""
    try:
        tokens = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        tokens = None
    if not isinstance(tokens, dict) or not all(isinstance(t, str) and _TOKEN.fullmatch(t) for t in tokens.values()):
        raise ValueError("must be a JSON object of hosts and their tokens")
    for host in tokens:
        if len(TrustedHosts.parse(host).hosts) != 1:
            raise ValueError("must name one host a token")
    return tokens


Tokens = Annotated[dict[str, str], BeforeValidator(_tokens)]
