"""Where an image may come from."""

import asyncio
import base64

from wan_relay.service.media.images import load_image
from wan_relay.service.worker.settings import Settings
from wan_relay.tests.service.media.pictures import PNG, plain


def test_url_may_be_a_data_uri(tmp_path):
    settings = Settings.from_environment({"WAN_RELAY_VOLUME": str(tmp_path)})
    uri = "data:image/png;base64," + base64.b64encode(PNG).decode()
    (tmp_path / "a.png").write_bytes(PNG)
    for field, value in (("image_url", uri), ("end_image_path", f"{tmp_path}/a.png")):
        image = asyncio.run(load_image(field, value, settings.image_limits))
        assert (image.content, image.warnings) == (plain(PNG).png, ())
