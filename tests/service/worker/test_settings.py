"""What an operator can set, and by which names."""

import pytest
from pydantic import ValidationError
from wan_relay.service.media.addresses import TrustedHosts
from wan_relay.service.worker.settings import Settings

DEFAULTS = Settings.from_environment({})


@pytest.mark.parametrize("spelled", [str.lower, str.upper, str.title])
def test_field_names_are_no_variables(spelled):
    """`volume` is what jails image_path, and any process may have a variable of that name."""
    aliases = {info.alias for info in Settings.model_fields.values()}
    stray = {spelled(name): "1" for name in Settings.model_fields if spelled(name) not in aliases}
    assert len(stray) > 10
    assert Settings.from_environment(stray) == DEFAULTS


def test_variables_count_in_upper_case_only():
    stray = {str(info.alias).lower(): "1" for info in Settings.model_fields.values()}
    assert Settings.from_environment(stray) == DEFAULTS
    assert all(str(info.alias).isupper() for info in Settings.model_fields.values())
    assert str(Settings.from_environment({"WAN_RELAY_VOLUME": "/data"}).volume) == "/data"


def test_trusted_hosts():
    settings = Settings.from_environment({"WAN_RELAY_TRUSTED_HOSTS": "minio:9000, 10.0.0.5"})
    assert settings.trusted_hosts == settings.image_limits.trusted_hosts == TrustedHosts.parse("10.0.0.5,minio:9000")
    with pytest.raises(ValidationError) as caught:
        Settings.from_environment({"WAN_RELAY_TRUSTED_HOSTS": "http://minio"})
    [fault] = caught.value.errors()
    assert fault["loc"] == ("WAN_RELAY_TRUSTED_HOSTS",)
    assert fault["msg"].endswith("must be host or host:port, comma-separated and IPv6 in brackets; got http://minio")
