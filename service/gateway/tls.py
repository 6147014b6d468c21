"""HTTPS for a gateway that has no certificate of its own: an authority for this machine, made once and kept.

Some clients speak nothing but HTTPS. They are told to trust `ca.crt` (`SSL_CERT_FILE`, `NODE_EXTRA_CA_CERTS`).
"""

import datetime
import ipaddress
import os
import socket
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3650
SERVER_DAYS = 390  # the most that Apple's systems take
_Key = ec.EllipticCurvePrivateKey


class TlsFiles(NamedTuple):
    """PEM files. `authority` is what clients must trust, None for a certificate that the operator brought."""

    certificate: Path
    key: Path
    authority: Path | None = None


def own_certificate(folder: Path, host: str) -> TlsFiles:
    """A fresh server certificate for `host`, localhost and this machine's name, by the authority of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    files = TlsFiles(folder / "server.crt", folder / "server.key", folder / "ca.crt")
    ca_certificate, ca_key = _authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    names = _names(host)
    certificate = (
        _builder("Wan Relay gateway", SERVER_DAYS, key)
        .issuer_name(ca_certificate.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    _write(files.certificate, _pem(certificate))
    _write(files.key, _pem_key(key), mode=0o600)
    return files


def _authority(folder: Path) -> tuple[x509.Certificate, _Key]:
    """The one of the folder, or a new one if there is none or it is about to end."""
    certificate_file, key_file = folder / "ca.crt", folder / "ca.key"
    if certificate_file.exists() and key_file.exists():
        certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
        if isinstance(key, _Key) and left > datetime.timedelta(days=SERVER_DAYS):
            return certificate, key
    key = ec.generate_private_key(ec.SECP256R1())
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
    )
    certificate = (
        _builder("Wan Relay gateway's own authority", CA_DAYS, key)
        .issuer_name(_name("Wan Relay gateway's own authority"))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, decipher_only=False, **usage),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(key_file, _pem_key(key), mode=0o600)
    _write(certificate_file, _pem(certificate))
    return certificate, key


def _builder(name: str, days: int, key: _Key) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _names(host: str) -> list[x509.GeneralName]:
    """What a client may call the server by."""
    names = {"localhost", "127.0.0.1", "::1", socket.gethostname(), host} - {"0.0.0.0", "::"}
    found: list[x509.GeneralName] = []
    for name in sorted(names):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_key(key: _Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Whole or not at all, and never readable by others for a moment."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    temporary.replace(path)
