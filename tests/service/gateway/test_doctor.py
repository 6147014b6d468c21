"""`gateway doctor`: a sentence for each thing that is wrong, and an exit code."""

from collections.abc import Callable

from wan_relay.tests.service.gateway.postgres import Postgres
from wan_relay.tests.service.gateway.stand import Stand

MakeStand = Callable[..., Stand]


def examined(stand: Stand) -> tuple[int, dict[str, str]]:
    """(exit code, what was tried -> `verdict sentence`)"""
    done = stand.run("service.gateway", "doctor")
    assert done.stderr == ""
    found = {}
    for line in done.stdout.splitlines():
        what, _, sentence = line[7:].partition(": ")
        found[what] = f"{line[:5].strip()} {sentence}"
    return done.returncode, found


def test_a_gateway_that_is_well(make_stand: MakeStand, postgres: Postgres) -> None:
    stand = make_stand(WAN_RELAY_DATABASE=postgres.new_database())
    stand.start_executor()
    stand.start_gateway("--api-key", "an-own-key")
    stand.variables |= {"WAN_RELAY_PUBLIC_URL": stand.url, "WAN_RELAY_API_KEYS": "an-own-key"}
    code, found = examined(stand)
    database = found.pop("database")
    assert database.startswith("ok PostgreSQL ")
    assert database.endswith(" can be written to, and has the tasks' tables")
    assert found == {
        "store": "ok it takes, gives back and deletes a file",
        "prompt expander": "note WAN_RELAY_EXPANDER_URL is not set; prompts are used as they are",
        "keys": "ok 1 may ask for videos",
        "executors": "ok 1 alive: fast-1",
        "public URL": f"ok a link under {stand.url} gives the file",
    }
    assert code == 0
    assert list((stand.folder / "objects").rglob("*.txt")) == []


def test_a_gateway_that_is_not(make_stand: MakeStand) -> None:
    stand = make_stand(
        WAN_RELAY_PUBLIC_URL="http://127.0.0.1:1",
        WAN_RELAY_EXPANDER_URL="http://127.0.0.1:1/v1",
        WAN_RELAY_BACKEND="runpod",
    )
    stand.start_executor()
    stand.start_gateway()
    code, found = examined(stand)
    assert code == 1
    assert found["database"].startswith("ok SQLite ")
    assert found["keys"].startswith("note there is none, so the gateway serves this machine only")
    faults = {what: sentence.removeprefix("fault ") for what, sentence in found.items() if sentence.startswith("fault")}
    assert faults == {
        "prompt expander": "it does not answer as /chat/completions of an OpenAI-compatible endpoint should",
        "executors": "those that are alive take other tasks than WAN_RELAY_BACKEND=runpod makes",
        "public URL": "http://127.0.0.1:1 cannot be reached: ClientConnectorError",
    }


def test_nothing_that_it_needs_is_there(make_stand: MakeStand) -> None:
    stand = make_stand(
        WAN_RELAY_DATABASE="postgresql://nobody:secret-word@127.0.0.1:1/none", WAN_RELAY_STORE="/proc/none"
    )
    code, found = examined(stand)
    assert code == 1
    assert found["database"].startswith("fault it cannot be written to: connection failed")
    assert found["store"] == "fault the object store's folder cannot be made"
    assert "secret-word" not in str(found)
    assert set(found) == {"database", "store", "prompt expander"}


def test_no_executor_is_alive(make_stand: MakeStand) -> None:
    stand = make_stand()
    executor = stand.start_executor()
    executor.kill()
    code, found = examined(stand)
    assert code == 1
    sentence = "none is alive, so tasks wait: start python -m service.executors.local on this database"
    assert found["executors"] == f"fault {sentence}"
