"""What the gateway and its executors must be told alike: environment variables only, read once."""

from typing import Any

from pydantic import Field

from ..environment_settings import EnvironmentSettings


class SharedSettings(EnvironmentSettings):
    """Where the tasks are kept, and where the files."""

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

    @property
    def store_options(self) -> dict[str, Any]:
        """What `open_store` takes beside the store's address."""
        return {
            "endpoint_url": self.store_endpoint_url,
            "region": self.store_region,
            "access_key_id": self.store_key_id,
            "secret_access_key": self.store_secret,
        }
