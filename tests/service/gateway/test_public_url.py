"""Behind a proxy that calls the gateway by a name of its own: what clients are told begins with the public URL."""

from collections.abc import Callable

import httpx
from wan_relay.tests.service.gateway.stand import PICTURE, Stand
from wan_relay.tests.service.worker.conftest import png

PUBLIC = "https://video.example.com"
PROXIED = {"Host": "gateway:8100", "Authorization": "Bearer sesame", "X-Runway-Version": "2024-11-06"}


def test_what_clients_are_to_call_begins_with_the_public_url(make_stand: Callable[..., Stand]) -> None:
    stand = make_stand(WAN_RELAY_PUBLIC_URL=PUBLIC).start_gateway("--api-key", "sesame")
    with httpx.Client(base_url=stand.url, headers=PROXIED, timeout=60) as client:
        ordered = client.post("/api/v1/videos", json={"prompt": "x", "image_url": PICTURE})
        assert ordered.headers["location"] == f"{PUBLIC}/api/v1/videos/{ordered.json()['id']}"

        wish = {"filename": "photo.png", "type": "ephemeral"}
        upload = client.post("/runway/v1/uploads", json=wish).json()
        assert upload["uploadUrl"].startswith(f"{PUBLIC}/runway/v1/uploads/")
        sent = client.post(upload["uploadUrl"].removeprefix(PUBLIC), files={"file": png((64, 48))})
        assert sent.status_code == 204
        body = {"model": "gen4_turbo", "promptImage": upload["runwayUri"], "ratio": "1280:720"}
        assert client.post("/runway/v1/image_to_video", json=body).status_code == 200
