"""Which addresses are public, and which hosts an operator trusts."""

import pytest
from wan_relay.service.media.addresses import TrustedHosts, is_public_address

PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.1",
    "192.88.98.255",
    "198.17.255.255",
    "223.255.255.255",
    "168.63.129.15",
    "2000::1",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2606:4700:4700::1111",
    "2a00:1450:4001:81b::200e",
    "3ffe::1",
    "::ffff:8.8.8.8",
]
NOT_PUBLIC = {
    "this network": ["0.0.0.0", "0.255.255.255"],
    "private": ["10.0.0.0", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255"],
    "carrier NAT, Alibaba's metadata": ["100.64.0.1", "100.127.255.255", "100.100.100.200"],
    "loopback": ["127.0.0.1", "127.255.255.255", "::1"],
    "link-local, clouds' metadata": ["169.254.0.1", "169.254.169.254", "169.254.255.255", "fe80::1", "febf::1"],
    "IETF, Oracle's metadata": ["192.0.0.1", "192.0.0.8", "192.0.0.9", "192.0.0.170", "192.0.0.192", "192.0.0.255"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1", "3fff:fff::1"],
    "6to4 relays": ["192.88.99.1", "192.88.99.255"],
    "benchmarking": ["198.18.0.1", "198.19.255.255", "2001:2::1"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"],
    "reserved and broadcast": ["240.0.0.1", "255.255.255.255"],
    "Azure's wire server": ["168.63.129.16"],
    "unspecified": ["::"],
    "IPv4-compatible": ["::127.0.0.1", "::7f00:1", "::8.8.8.8", "::ffff"],
    "IPv4-mapped": ["::ffff:127.0.0.1", "::ffff:7f00:1", "0:0:0:0:0:ffff:10.0.0.1", "::ffff:169.254.169.254"],
    "IPv4-translated": ["::ffff:0:127.0.0.1", "::ffff:0:7f00:1", "::ffff:0:8.8.8.8"],
    "NAT64": ["64:ff9b::7f00:1", "64:ff9b::8.8.8.8", "64:ff9b:1::7f00:1"],
    "6to4": ["2002::1", "2002:7f00:1::", "2002:808:808::1"],
    "Teredo": ["2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"],
    "IETF protocols, ORCHID, AMT, AS112": ["2001:1::1", "2001:3::1", "2001:4:112::1", "2001:10::1", "2001:20::1"],
    "unique local": ["fc00::1", "fd00::1", "fd00:ec2::254", "fd20:ce::254", "fdff::1"],
    "site-local": ["fec0::1"],
    "segment routing, discard": ["5f00::1", "100::1", "100:0:0:1::1"],
    "not unicast that is given out": ["1::1", "4000::1", "8000::1", "e000::1"],
    "zone": ["fe80::1%eth0", "fe80::1%25eth0", "2606:4700::1%eth0", "::1%lo", "8.8.8.8%eth0"],
    "decimal, hex, octal, short": ["2130706433", "134744072", "0x7f000001", "0x8.8.8.8", "017700000001", "127.1"],
    "leading zeros": ["0177.0.0.1", "010.8.8.8", "08.8.8.8", "127.0.0.01"],
    "other digits": ["①②⑦.⓪.⓪.①", "８.８.８.８"],
    "no address": ["", "nonsense", "localhost", "8.8.8.8:80", "[2606:4700::1]", " 8.8.8.8", "8.8.8.8/32", "1.2.3.4.5"],
}


@pytest.mark.parametrize("address", PUBLIC)
def test_public_address(address):
    assert is_public_address(address) is True


@pytest.mark.parametrize("kind", NOT_PUBLIC)
def test_address_that_is_not_public(kind):
    assert [address for address in NOT_PUBLIC[kind] if is_public_address(address)] == []


def test_trusted_hosts():
    trusted = TrustedHosts.parse("MinIO.internal:9000, 10.0.0.5 ,[FD00:0:0::1]:443,bücher.example,")
    asked = [
        ("minio.internal", 9000),
        ("minio.internal.", 9000),
        ("minio.internal", 9001),
        ("evil.minio.internal", 9000),
        ("10.0.0.5", 80),
        ("10.0.0.6", 80),
        ("fd00::1", 443),
        ("fd00::1", 80),
        ("xn--bcher-kva.example", 443),
    ]
    assert [trusted.covers(*each) for each in asked] == [True, True, False, False, True, False, True, False, True]
    assert TrustedHosts.parse(str(trusted)) == trusted
    assert TrustedHosts.parse(" ") == TrustedHosts()
    assert str(TrustedHosts()) == ""


@pytest.mark.parametrize(
    "entry",
    ["http://minio:9000", "minio:9000/x", "*.internal", "10.0.0.0/8", "fd00::1", "[fd00::1", "a:70000", "a@b", "a b"],
)
def test_trusted_host_that_is_none(entry):
    with pytest.raises(ValueError) as caught:
        TrustedHosts.parse(f"minio.internal,{entry}")
    assert str(caught.value) == f"must be host or host:port, comma-separated and IPv6 in brackets; got {entry}"


def test_hosts_of_a_url():
    assert TrustedHosts.of("http://MinIO:9000/x") == TrustedHosts.parse("minio:9000")
    assert TrustedHosts.of("https://s3.example.com") == TrustedHosts.parse("s3.example.com:443")
    assert TrustedHosts.of("minio:9000") == TrustedHosts.of("http://[") == TrustedHosts()
