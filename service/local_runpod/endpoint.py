"""One endpoint: the jobs, with the clients' API on one side and the worker's on the other."""

import secrets

from aiohttp import web

from ..media.addresses import NO_TRUSTED_HOSTS, TrustedHosts
from .client_api import ClientApi
from .jobs import Jobs, Limits
from .json_http import refusals_as_json
from .sdk_api import SdkApi
from .webhooks import Webhooks


class Endpoint:
    def __init__(
        self,
        limits: Limits,
        endpoint_id: str = "local",
        api_key: str = "",
        trusted_hosts: TrustedHosts = NO_TRUSTED_HOSTS,
    ) -> None:
        self.id = endpoint_id
        self.api_key = api_key
        self._worker_key = secrets.token_urlsafe(24)
        self.jobs = Jobs(limits, Webhooks(limits.webhook_pause_s, trusted_hosts).tell)

    @property
    def sdk_path(self) -> str:
        """Known to the worker alone: jobs carry images and keys."""
        return f"/sdk/{self._worker_key}"

    def application(self) -> web.Application:
        app = web.Application(middlewares=[refusals_as_json])
        app.add_subapp("/v2", ClientApi(self.jobs, self.id, self.api_key).application())
        app.add_subapp("/sdk", SdkApi(self.jobs, self._worker_key).application())
        return app
