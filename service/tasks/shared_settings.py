"""What the gateway and its executors must be told alike: environment variables only, read once."""

import os
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field


class SharedSettings(BaseModel):
    """Where the tasks are kept, and where the files."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    database: str = Field(
        "wan_relay_data/tasks.sqlite",
        alias="WAN_RELAY_DATABASE",
        description="the tasks' database: a file, for the processes of one machine, or `postgresql://…`",
        repr=False,
    )
    store: str = Field(
        "wan_relay_data/objects",
        alias="WAN_RELAY_STORE",
        description="the pictures and videos: a folder, or `s3://bucket/prefix`",
    )
    store_endpoint_url: str | None = Field(
        None, alias="WAN_RELAY_STORE_ENDPOINT_URL", description="S3 endpoint, when it is not AWS"
    )
    store_region: str | None = Field(None, alias="WAN_RELAY_STORE_REGION", description="S3 region")
    store_key_id: str | None = Field(None, alias="WAN_RELAY_STORE_KEY_ID", description="S3 key id")
    store_secret: str | None = Field(None, alias="WAN_RELAY_STORE_SECRET", description="S3 secret", repr=False)

    public_url: str | None = Field(
        None,
        alias="WAN_RELAY_PUBLIC_URL",
        description="where clients and RunPod's workers reach the gateway, such as `https://video.example.com`",
    )
    link_secret: str | None = Field(
        None,
        min_length=16,
        alias="WAN_RELAY_LINK_SECRET",
        description="what links to files are signed with",
        repr=False,
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Raises pydantic.ValidationError that names the variable."""
        source = os.environ if environment is None else environment
        return cls.model_validate({name: value for name, value in source.items() if value != ""})

    @property
    def store_options(self) -> dict[str, Any]:
        """What `open_store` takes beside the store's address."""
        return {
            "endpoint_url": self.store_endpoint_url,
            "region": self.store_region,
            "access_key_id": self.store_key_id,
            "secret_access_key": self.store_secret,
        }
