"""What the gateway's operator can set: environment variables only, read once."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from ..environment_settings import FROM_JSON, Hosts
from ..media.addresses import TrustedHosts
from ..tasks.heartbeats import BEAT_S, SILENT_S
from ..tasks.shared_settings import SharedSettings
from .toy_size import MAX_FRAMES


class GatewaySettings(SharedSettings):
    """The declaration of every variable (gateway/README.md prints it), with those that the executors share."""

    backend: Literal["local", "runpod"] = Field(
        "local", alias="WAN_RELAY_BACKEND", description="who renders: `local` executors, or the `runpod` executor"
    )
    api_keys: tuple[str, ...] = Field(
        (), alias="WAN_RELAY_API_KEYS", description="keys beside those of `keys add`, comma-separated", repr=False
    )
    trusted_hosts: Hosts = Field(
        TrustedHosts(),
        alias="WAN_RELAY_TRUSTED_HOSTS",
        description="`host[:port], …` that webhooks may name although they are not public",
    )
    max_store_gb: float = Field(
        50, gt=0, alias="WAN_RELAY_MAX_STORE_GB", description="size of the store; the oldest files go first"
    )
    metrics_key: str | None = Field(
        None,
        min_length=8,
        alias="WAN_RELAY_METRICS_KEY",
        description="a key that reads `/metrics` and nothing else; a client's key reads it too",
        repr=False,
    )
    silent_s: float = Field(
        SILENT_S,
        ge=3 * BEAT_S / 2,
        alias="WAN_RELAY_SILENT_S",
        description="an executor whose heartbeat stands still for so many seconds is lost, and its tasks go to others",
    )
    max_upload_mb: int = Field(200, ge=1, alias="WAN_RELAY_MAX_UPLOAD_MB", description="one uploaded file")
    toy_size: bool = Field(
        False, alias="WAN_RELAY_TOY_SIZE", description="render every request at the toy family's size"
    )
    toy_frames: int = Field(
        MAX_FRAMES, ge=5, alias="WAN_RELAY_TOY_FRAMES", description="frames of such a video at most, of the form 4n+1"
    )
    models: Annotated[dict[str, tuple[str, str]], FROM_JSON] = Field(
        {},
        alias="WAN_RELAY_MODEL_NAMES",
        description="JSON object of clients' model names beside our own: name -> [workflow for a picture, for words]",
    )
    expander_url: str | None = Field(
        None, alias="WAN_RELAY_EXPANDER_URL", description="OpenAI-compatible endpoint that writes prompts out, with /v1"
    )
    expander_model: str = Field("", alias="WAN_RELAY_EXPANDER_MODEL", description="its model")
    expander_key: str | None = Field(None, alias="WAN_RELAY_EXPANDER_KEY", description="its key", repr=False)
    expander_language: Literal["keep", "english"] = Field(
        "keep", alias="WAN_RELAY_EXPANDER_LANGUAGE", description="the expanded prompt's language"
    )
    expander_sees_pictures: bool = Field(
        True, alias="WAN_RELAY_EXPANDER_SEES_PICTURES", description="send it the start picture"
    )

    @field_validator("api_keys", mode="before")
    @classmethod
    def _keys(cls, value: Any) -> Any:
        return tuple(key for part in value.split(",") if (key := part.strip())) if isinstance(value, str) else value

    @field_validator("public_url")
    @classmethod
    def _origin(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[^/?#\s]+/?", value):
            raise ValueError("must be scheme and host alone, such as https://video.example.com")
        return value.rstrip("/") if value else None
