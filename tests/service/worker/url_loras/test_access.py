"""Which URLs may be asked: known before anything is dialled."""

from typing import Any

import pytest
from pydantic import ValidationError
from wan_relay.service.contract.errors import JobError
from wan_relay.service.contract.lora_request import lora_requests
from wan_relay.service.media.addresses import TrustedHosts
from wan_relay.service.worker.settings import Settings
from wan_relay.service.worker.url_loras.access import LoraAccess, refuse_hosts
from yarl import URL

HUB = "https://huggingface.co/owner/name/resolve/main/a.safetensors"
NOT_ALLOWED = "BLOCKED_URL: the host of low in loras item 2 is not one of this worker's WAN_RELAY_LORA_HOSTS (loras)"


def said(url: str, hosts: str, trusted: str = "") -> str:
    loras = lora_requests([{"high": "on_the_volume.safetensors"}, {"low": url}])
    try:
        refuse_hosts(loras, LoraAccess(TrustedHosts.parse(hosts), TrustedHosts.parse(trusted)))
    except JobError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("url", "hosts", "sentence"),
    [
        (HUB, "huggingface.co", ""),
        (HUB, "civitai.com, huggingface.co:443", ""),
        ("HTTPS://HuggingFace.CO./a.safetensors", "huggingface.co", ""),
        (
            HUB,
            "",
            "BLOCKED_URL: low in loras item 2 is a URL, and this worker loads no LoRA by URL: WAN_RELAY_LORA_HOSTS is "
            "empty (loras)",
        ),
        (HUB, "civitai.com", NOT_ALLOWED),
        (HUB, "huggingface.co:8443", NOT_ALLOWED),
        ("https://huggingface.co.evil.example/a.safetensors", "huggingface.co", NOT_ALLOWED),
        ("https://cdn.huggingface.co/a.safetensors", "huggingface.co", NOT_ALLOWED),
        ("https://evil.example/huggingface.co/a.safetensors", "huggingface.co", NOT_ALLOWED),
        (
            HUB.replace("https", "http"),
            "huggingface.co",
            "INVALID_URL: low in loras item 2 must be an https URL (loras)",
        ),
    ],
)
def test_hosts(url: str, hosts: str, sentence: str) -> None:
    assert said(url, hosts) == sentence


def test_a_trusted_host_may_speak_http_where_it_is_allowed() -> None:
    assert said("http://minio:9000/a.safetensors", "minio", "minio:9000") == ""
    assert said("http://minio:9000/a.safetensors", "minio", "minio:9001").startswith("INVALID_URL")
    assert said("http://minio:9000/a.safetensors", "other", "minio:9000") == NOT_ALLOWED


def test_names_on_the_volume_need_no_host() -> None:
    refuse_hosts(lora_requests([{"high": "a.safetensors", "low": "b/c.safetensors"}]), LoraAccess(TrustedHosts()))


def test_a_token_is_its_hosts_alone() -> None:
    settings = Settings.from_environment(
        {"WAN_RELAY_LORA_TOKENS": '{"huggingface.co": "hf_1", "civitai.com:444": "c"}', "WAN_RELAY_LORA_HOSTS": "a"}
    )
    token = settings.lora_access.token
    assert token(URL("https://huggingface.co/x")) == "hf_1"
    assert token(URL("https://civitai.com:444/x")) == "c"
    assert token(URL("https://civitai.com/x")) is None
    assert token(URL("https://cdn.huggingface.co/x")) is None
    assert "hf_1" not in repr(settings) + repr(settings.lora_access)


@pytest.mark.parametrize(
    "value",
    ["hf_secret", '["hf_secret"]', '{"a": 1, "b": "hf_secret"}', '{"a": "hf_secret\\n"}', '{"a b": "hf_secret"}'],
)
def test_tokens_that_cannot_be_are_refused_and_not_shown(value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.from_environment({"WAN_RELAY_LORA_TOKENS": value})
    [fault] = caught.value.errors(include_input=False)
    assert fault["loc"] == ("WAN_RELAY_LORA_TOKENS",)
    assert "hf_secret" not in fault["msg"]


def test_where_the_cache_lies(tmp_path: Any) -> None:
    def folder(**variables: str) -> str:
        set_ = {"WAN_RELAY_RUN_DIR": f"{tmp_path}/run", "WAN_RELAY_VOLUME": f"{tmp_path}/volume", **variables}
        return str(Settings.from_environment(set_).lora_cache_folder.relative_to(tmp_path))

    assert folder() == "run/loras"
    (tmp_path / "volume").mkdir()
    assert folder() == "volume/wan_relay/loras"
    assert folder(WAN_RELAY_LORA_CACHE=f"{tmp_path}/mine") == "mine"
