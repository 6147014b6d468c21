"""Where an image may come from."""

import asyncio
import base64

from wan_relay.service.media.images import load_image
from wan_relay.service.worker.settings import Settings
from wan_relay.tests.service.media.pictures import PNG


def test_url_may_be_a_data_uri(tmp_path):
    settings = Settings.from_environment({"WAN_RELAY_VOLUME": str(tmp_path)})
    uri = "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert asyncio.run(load_image("image_url", uri, settings.image_limits)).content == PNG
    (tmp_path / "a.png").write_bytes(PNG)
    assert asyncio.run(load_image("end_image_path", f"{tmp_path}/a.png", settings.image_limits)).content == PNG
