"""Paths that carry their own permission: until when, for which method, and a signature over both."""

import hashlib
import hmac
import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, urlencode

MIN_SECRET = 16  # bytes
_EXPIRES = re.compile(r"[0-9]{1,11}")
_PURPOSE = b"wan-relay signed path 1\n"


class SignatureError(Exception):
    """A sentence that is safe to show."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        super().__init__(sentence)


class WrongSignatureError(SignatureError):
    """It was not signed here, or not for this path, method and time."""


class ExpiredSignatureError(SignatureError):
    """It was signed here, and its time is over."""


class PathSigner:
    """HMAC-SHA256 under a secret of at least 16 bytes. HEAD is allowed whatever GET is."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < MIN_SECRET:
            raise ValueError(f"the secret that signs links must have at least {MIN_SECRET} bytes, not {len(secret)}")
        self._secret = secret

    def sign(self, path: str, expires_at_s: float, method: str = "GET") -> str:
        """The query for this decoded path, good until that time (epoch seconds, rounded down)."""
        expires = str(int(expires_at_s))
        return urlencode({"expires": expires, "signature": self._signature(path, expires, method)})

    def check(self, path: str, query: str, method: str, now_s: float) -> None:
        """Raises ExpiredSignatureError or WrongSignatureError. Other parameters in the query are ignored."""
        parameters = parse_qsl(query, keep_blank_values=True, max_num_fields=20) if query.count("&") < 20 else []
        expires = _only(value for name, value in parameters if name == "expires")
        signature = _only(value for name, value in parameters if name == "signature")
        is_signed = hmac.compare_digest(signature.encode(), self._signature(path, expires, method).encode())
        if not is_signed or not _EXPIRES.fullmatch(expires):
            raise WrongSignatureError("the link's signature is wrong")
        if now_s >= int(expires):
            raise ExpiredSignatureError("the link has expired")

    def _signature(self, path: str, expires: str, method: str) -> str:
        signed = "\n".join(("GET" if method == "HEAD" else method, expires, path))
        return hmac.new(self._secret, _PURPOSE + signed.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def _only(values: Iterable[str]) -> str:
    found = list(values)
    return found[0] if len(found) == 1 else ""
