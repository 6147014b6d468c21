"""The gateway's command line.

    python -m service.gateway [serve] [--host 127.0.0.1] [--port 8100] [--api-key KEY] [--tls]
    python -m service.gateway keys add NAME [--running N] [--queued N] [--per-minute N] | list | revoke NAME
    python -m service.gateway doctor

Settings are environment variables; gateway/README.md lists them.
"""

import argparse
import asyncio
import ipaddress
import os
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

import uvicorn
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from ..store.object_store import StoreError
from ..tasks.database import DatabaseUrlError, database_url, own_engine
from .app import Gateway, application
from .doctor import findings
from .journal import note, take_over_libraries, warn
from .keys import KeyLimits, KeyNameError, Keys
from .settings import GatewaySettings
from .tls import TlsFiles, own_certificate

GRACE_S = 5


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    try:
        settings = GatewaySettings.from_environment()
        database_url(settings.database)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        _end(f"{fault['loc'][0]}: {fault['msg']}")
    except DatabaseUrlError as error:
        _end(f"WAN_RELAY_DATABASE: {error}")
    try:
        options.run(options, settings)
    except StoreError as error:
        _end(f"WAN_RELAY_STORE: {error.sentence}")
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or type(error).__name__).strip().partition("\n")[0]
        _end(f"WAN_RELAY_DATABASE: the database does not answer: {reason[:200]}")


def serve(options: argparse.Namespace, settings: GatewaySettings) -> None:
    """Prints `ready http://host:port`, or https, when it serves."""
    if options.api_key:
        settings = settings.model_copy(update={"api_keys": (*settings.api_keys, *options.api_key)})
    take_over_libraries()
    tls = _tls(options, settings)
    listener = _listen(options.host, options.port)
    host, port = listener.getsockname()[:2]
    gateway = Gateway(settings, f"gateway-{socket.gethostname()}-{port}")
    if gateway.keys.is_open and not _is_loopback(host):
        gateway.engine.close()
        _end(
            f"--host {options.host} lets other machines in, and there is no key: make one with `keys add NAME`, "
            "or give --api-key KEY"
        )
    if gateway.keys.is_open:
        warn("no_key", sentence="there is no key, so whoever reaches this port may use it; only this machine can")
    if settings.toy_size:
        note("toy_size", sentence="every request is rendered at toy size, and its answer warns of it")
    if tls and tls.authority:
        print(f"Clients must trust {tls.authority} (SSL_CERT_FILE, NODE_EXTRA_CA_CERTS).", flush=True)
    config = uvicorn.Config(
        application(gateway),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1"),
        h11_max_incomplete_event_size=64_000,
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
    )
    for sign in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises it again when it has ended
        signal.signal(sign, lambda *_: sys.exit(0))
    scheme = "https" if tls else "http"
    _Server(config, gateway, f"ready {scheme}://{'[' + host + ']' if ':' in host else host}:{port}").run([listener])


def _tls(options: argparse.Namespace, settings: GatewaySettings) -> TlsFiles | None:
    """The operator's certificate, else one of the gateway's own, kept where the tasks are; None for plain HTTP."""
    given = [path for path in (options.tls_certificate, options.tls_key) if path is not None]
    if len(given) == 1:
        _end("--tls-certificate and --tls-key go together")
    for path in given:
        if not path.is_file():
            _end(f"there is no file {path}")
    if given:
        return TlsFiles(*given)
    if not options.tls:
        return None
    is_file = "://" not in settings.database
    folder = Path(settings.database).expanduser().absolute().parent if is_file else Path("wan_relay_data").absolute()
    return own_certificate(folder / "tls", options.host)


class _Server(uvicorn.Server):
    """Says when it serves, and lets nobody wait when it ends."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway, words: str) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._words = words

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(self._words, flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        note("ending", sentence="no request is taken any more")
        self._gateway.board.close()
        await super().shutdown(sockets)


def doctor(_: argparse.Namespace, settings: GatewaySettings) -> None:
    """A line for each thing that was tried; exit code 1 where one is a fault."""

    async def examine() -> bool:
        is_well = True
        async for finding in findings(settings):
            print(finding, flush=True)
            is_well &= finding.verdict != "fault"
        return is_well

    is_well = asyncio.run(examine())
    sys.stdout.flush()
    os._exit(0 if is_well else 1)  # a database that does not answer keeps its thread


def keys(options: argparse.Namespace, settings: GatewaySettings) -> None:
    table = Keys(own_engine(database_url(settings.database)))
    if options.action == "add":
        limits = KeyLimits(running=options.running, queued=options.queued, per_minute=options.per_minute)
        try:
            print(table.add(options.name, limits))
        except KeyNameError as error:
            _end(str(error))
        print("Keep it: it is not shown again.", file=sys.stderr)
    elif options.action == "revoke":
        if not table.revoke(options.name):
            _end(f"there is no key named {options.name!r} that is not revoked")
    else:
        for key in table.list():
            words = ", ".join(f"{name} {value}" for name, value in key.limits.model_dump(exclude_none=True).items())
            print(f"{key.name}\t{'revoked' if key.revoked_at_s else words or 'no limits'}")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        _end(f"cannot listen on {host}, port {port}: {error.strerror}")


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def _port(text: str) -> int:
    if text.isascii() and text.isdecimal() and int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text!r}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service.gateway", description="Wan Relay's gateway.")
    parser.set_defaults(run=serve, host="127.0.0.1", port=8100, api_key=[], tls=False)
    parser.set_defaults(tls_certificate=None, tls_key=None)
    commands = parser.add_subparsers(metavar="COMMAND")
    added = commands.add_parser("serve", help="serve HTTP (what it does without a command, too)")
    for each in (parser, added):
        each.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in, and needs a key")
        each.add_argument("--port", type=_port, default=8100)
        each.add_argument("--api-key", action="append", default=[], metavar="KEY")
        each.add_argument("--tls", action="store_true", help="HTTPS, by a certificate of the gateway's own")
        each.add_argument(
            "--tls-certificate", type=Path, metavar="FILE", help="HTTPS, by this one (PEM, with its chain)"
        )
        each.add_argument("--tls-key", type=Path, metavar="FILE", help="its key (PEM)")
    added.set_defaults(run=serve)
    added = commands.add_parser("doctor", help="try the settings, the database, the store and the executors")
    added.set_defaults(run=doctor)
    added = commands.add_parser("keys", help="make, list and revoke the keys of clients")
    added.set_defaults(run=keys)
    actions = added.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="a new key, shown once")
    add.add_argument("name")
    add.add_argument("--running", type=_positive, help="tasks at a time")
    add.add_argument("--queued", type=_positive, help="tasks that wait")
    add.add_argument("--per-minute", type=_positive, help="new tasks in a minute")
    actions.add_parser("list", help="names and limits")
    actions.add_parser("revoke", help="refuse it from now on").add_argument("name")
    return parser


def _end(sentence: str) -> NoReturn:
    sys.exit(f"{sentence[0].upper()}{sentence[1:]}.")


if __name__ == "__main__":
    main()
