"""HTTPS by an authority of the gateway's own."""

import ssl
import stat
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from wan_relay.service.gateway.tls import own_certificate
from wan_relay.tests.service.gateway.stand import Stand


def test_a_restart_keeps_the_authority_and_makes_a_new_certificate(tmp_path: Path) -> None:
    first = own_certificate(tmp_path, "127.0.0.1")
    authority, certificate = first.authority.read_bytes(), first.certificate.read_bytes()
    second = own_certificate(tmp_path, "video.example.com")
    assert second == first
    assert second.authority.read_bytes() == authority
    assert second.certificate.read_bytes() != certificate


def test_the_certificate_is_for_this_machine_and_signed_by_the_authority(tmp_path: Path) -> None:
    files = own_certificate(tmp_path, "10.1.2.3")
    server = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    server.verify_directly_issued_by(x509.load_pem_x509_certificate(files.authority.read_bytes()))
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {"127.0.0.1", "::1", "10.1.2.3"}
    assert "localhost" in names.get_values_for_type(x509.DNSName)


def test_keys_are_their_owners_alone(tmp_path: Path) -> None:
    own_certificate(tmp_path, "127.0.0.1")
    for name in ("server.key", "ca.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_a_given_certificate_is_served(make_stand: Callable[..., Stand], tmp_path: Path) -> None:
    files = own_certificate(tmp_path / "mine", "127.0.0.1")
    stand = make_stand()
    stand.start_gateway("--tls-certificate", str(files.certificate), "--tls-key", str(files.key))
    assert stand.url.startswith("https://")
    trusting = ssl.create_default_context(cafile=files.authority)
    assert httpx.get(f"{stand.url}/healthz", verify=trusting).json() == {"status": "ok"}
    assert not (stand.folder / "tls").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tls-key", "a.key"], "--tls-certificate and --tls-key go together."),
        (["--tls-key", "a.key", "--tls-certificate", "b.crt"], "There is no file b.crt."),
    ],
)
def test_files_that_do_not_fit_are_said(make_stand: Callable[..., Stand], arguments: list[str], words: str) -> None:
    done = make_stand().run("service.gateway", "--port", "0", *arguments)
    assert (done.returncode, done.stderr.strip().splitlines()[-1]) == (1, words)
