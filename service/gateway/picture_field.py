"""Where a picture of a client's body belongs, whose field takes a URL, a data URI and base64 alike."""


def picture_field(prefix: str, value: str | None) -> dict[str, str]:
    """The field of VideoRequest for it; `prefix` is `image` or `end_image`. Empty where there is no picture."""
    if not value or not value.strip():
        return {}
    is_url = value.strip()[:8].lower().startswith(("http://", "https://"))
    return {f"{prefix}_url" if is_url else f"{prefix}_base64": value}
