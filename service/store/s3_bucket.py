"""Objects in an S3 bucket, of AWS or of any server that speaks its protocol."""

from datetime import timedelta
from typing import Any

from obstore.store import S3Store

from .obstore_backed import ObstoreBacked

CONNECT_S = 5
RETRIES = 3
LONGEST_TRANSFER_S = 3600


class S3Bucket(ObstoreBacked):
    """What is not given comes from the environment, as for any tool of AWS.

    A server that says nothing for `patience_s` is tried again, and given up after about twice as long. Uploads that
    were never finished stay in the bucket, unseen, until its own lifecycle rule removes them.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        patience_s: float = 20.0,
    ) -> None:
        given = {
            "endpoint": endpoint_url,
            "region": region,
            "access_key_id": access_key_id,
            "secret_access_key": secret_access_key,
        }
        config: Any = {name: value for name, value in given.items() if value}
        config |= {"disable_bulk_delete": True}  # not every server has it
        client: Any = {
            "allow_http": bool(endpoint_url and endpoint_url.startswith("http://")),
            "connect_timeout": timedelta(seconds=min(CONNECT_S, patience_s)),
            "read_timeout": timedelta(seconds=patience_s),
            "timeout": timedelta(seconds=LONGEST_TRANSFER_S),
        }
        retry: Any = {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=patience_s)}
        backend = S3Store(bucket, prefix=prefix or None, config=config, client_options=client, retry_config=retry)
        super().__init__(backend, keeps_attributes=True)
