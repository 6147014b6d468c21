"""What may come beside a workflow of the client's own: named pictures, and the fields of a video request."""

import json
import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from .scalars import MAX_PATH, Prompt, invalid
from .video_request import VideoRequest

MAX_IMAGES = 32


class NamedImage(BaseModel):
    """A picture, base64 or data URI or http(s) URL, under the name that the workflow's nodes have for it."""

    model_config = ConfigDict(frozen=True)

    name: str
    image: str

    @property
    def form(self) -> str:
        return "url" if self.image.lstrip()[:8].lower().startswith(("http://", "https://")) else "base64"


def named_images(value: object) -> tuple[NamedImage, ...]:
    """Raises PydanticCustomError, whose message names the item that is at fault."""
    if not isinstance(value, list | tuple):
        raise PydanticCustomError("INVALID_TYPE", "must be a list of objects {name, image}")
    if len(value) > MAX_IMAGES:
        raise PydanticCustomError("INVALID_VALUE", f"must have at most {MAX_IMAGES} items, got {len(value)}")
    images = tuple(_named_image(item, f"images[{number}]") for number, item in enumerate(value))
    names = [image.name for image in images]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise invalid(f"must have different names, and images[{number}] has that of an earlier one")
    return images


def _named_image(item: object, where: str) -> NamedImage:
    if isinstance(item, NamedImage):
        return item
    values: dict[str, Any] = item if isinstance(item, dict) else {}
    name, image = values.get("name"), values.get("image")
    if not isinstance(name, str) or not isinstance(image, str):
        raise invalid(f"must be objects with two strings, name and image, and {where} is not")
    if not 0 < len(name) <= MAX_PATH or any(part.strip() in ("", ".", "..") for part in re.split(r"[\\/]", name)):
        raise invalid(f"must have plain file names, such as photo.png, and {where} has not")
    return NamedImage(name=name, image=image)


NamedImages = Annotated[tuple[NamedImage, ...], BeforeValidator(named_images)]


class GraphFields(VideoRequest):
    """The fields of a video request, none of which is needed: the workflow has values of its own."""

    prompt: Prompt = Field("", description="what should happen in the video")
    images: NamedImages = Field((), description="pictures by the names that the workflow's nodes have for them")

    def _prompt_says_something(self) -> None:
        pass

    def _images_suit_workflow(self) -> None:
        if self.loop:
            self._loop_has_a_start_image()


def from_text(raw: Any) -> Any:
    """A whole input, or its `workflow`, that came as JSON text; anything else as it is."""
    if isinstance(raw, str) and raw.lstrip().startswith("{"):
        try:
            return json.loads(raw)
        except (ValueError, RecursionError):
            return raw
    return raw


def brings_graph(raw: Any) -> bool:
    """Whether an input has a workflow of its own."""
    return isinstance(raw, dict) and isinstance(from_text(raw.get("workflow")), dict)
