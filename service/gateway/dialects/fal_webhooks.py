"""How fal signs its webhooks: ED25519 over four lines, by a key that a JWKS publishes."""

import base64
import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def signed_headers(secret: bytes, request_id: str, user_id: str, at_s: int, body: bytes) -> dict[str, str]:
    """`secret` is the key's 32 bytes."""
    message = "\n".join((request_id, user_id, str(at_s), hashlib.sha256(body).hexdigest()))
    return {
        "X-Fal-Webhook-Request-Id": request_id,
        "X-Fal-Webhook-User-Id": user_id,
        "X-Fal-Webhook-Timestamp": str(at_s),
        "X-Fal-Webhook-Signature": Ed25519PrivateKey.from_private_bytes(secret).sign(message.encode()).hex(),
    }


def key_set(secret: bytes) -> dict[str, list[dict[str, str]]]:
    """The JWKS that receivers check by."""
    public = Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
    x = base64.urlsafe_b64encode(public).rstrip(b"=").decode()
    return {
        "keys": [{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": hashlib.sha256(public).hexdigest()[:16], "use": "sig"}]
    }
