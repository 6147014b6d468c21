"""What an operator sets: environment variables only, read once."""

import json
import os
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict

from .media.addresses import TrustedHosts


def _hosts(value: object) -> object:
    return TrustedHosts.parse(value) if isinstance(value, str) else value


def _json(value: object) -> Any:
    return json.loads(value) if isinstance(value, str) else value


Hosts = Annotated[TrustedHosts, BeforeValidator(_hosts)]
FROM_JSON = BeforeValidator(_json)


class EnvironmentSettings(BaseModel):
    """A declaration of variables: name, default, range and meaning; the READMEs print it. An empty one is not set."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Raises pydantic.ValidationError that names the variable."""
        source = os.environ if environment is None else environment
        return cls.model_validate({name: value for name, value in source.items() if value != ""})
