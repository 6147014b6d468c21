"""One endpoint: the jobs, with the clients' API on one side and the worker's on the other."""

import secrets

from aiohttp import web

from .client_api import ClientApi
from .jobs import MB, Jobs, Limits
from .sdk_api import SdkApi
from .webhooks import Webhooks


class Endpoint:
    def __init__(self, limits: Limits, endpoint_id: str = "local", api_key: str | None = None) -> None:
        self.id = endpoint_id
        self.api_key = api_key
        self.sdk_path = f"/sdk/{secrets.token_urlsafe(24)}"  # known to the worker alone: jobs carry images and keys
        self.jobs = Jobs(limits, Webhooks(limits.webhook_pause_s).tell)

    def application(self) -> web.Application:
        app = web.Application(client_max_size=64 * MB)
        ClientApi(self.jobs, self.id, self.api_key).add_to(app)
        SdkApi(self.jobs, self.sdk_path).add_to(app)
        return app
