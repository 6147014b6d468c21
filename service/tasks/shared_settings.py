"""What the gateway and its executors must agree on: where the tasks and where the files are."""

import os
from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field


class SharedSettings(BaseModel):
    """Environment variables, read once."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    database: str = Field(
        "wan_relay_data/tasks.sqlite",
        alias="WAN_RELAY_DATABASE",
        description="a file (SQLite, one machine) or postgresql://… (many machines)",
    )
    store: str = Field(
        "wan_relay_data/objects",
        alias="WAN_RELAY_STORE",
        description="a folder, or s3://bucket/prefix",
    )
    store_endpoint_url: str | None = Field(None, alias="WAN_RELAY_STORE_ENDPOINT_URL", description="S3 endpoint")
    store_region: str | None = Field(None, alias="WAN_RELAY_STORE_REGION", description="S3 region")
    store_key_id: str | None = Field(None, alias="WAN_RELAY_STORE_KEY_ID", description="S3 key id")
    store_secret: str | None = Field(None, alias="WAN_RELAY_STORE_SECRET", description="S3 secret", repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Raises pydantic.ValidationError that names the variable."""
        source = os.environ if environment is None else environment
        return cls.model_validate({name: value for name, value in source.items() if value != ""})
