"""Stands in for ComfyUI where a test needs a fault at a chosen point: the same HTTP and websocket protocol.

Reads `fake.json` in its output folder's parent: {"video": path, "step_s": seconds, "steps": n,
"progress": [[node id, step, steps], ...] in place of the sampler's own, "faults": {point: [kind, times]},
"unknown": classes that are not there, "extra": classes that are there once all packs may load}.
Points: boot, upload, queued, sampling, saving, finished. Kinds: kill, stop,
hang (waits for an interrupt), deaf (waits and ignores it), error:<type>:<message>, forget, empty, absent, child (starts
one that ignores SIGTERM), cut (ends the websocket, and goes on once the client is back).
A call such as "POST /prompt" or "GET /history/{prompt_id}" is a point too. Its kinds: slow:<seconds>, status:<code>,
refused (the connection ends before the call is heard), lost (it ends in place of an answer). Any kind may come later:
after:<times>:<kind>.
`log.json` beside it lists what clients asked for; `calls.jsonl` every call that arrived, every prompt that was heard,
with its graph, and the process ids of children.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
parser.add_argument("--input-directory", type=Path)
parser.add_argument("--output-directory", type=Path)
options, _ = parser.parse_known_args()
CHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(300)"
CONFIG = options.output_directory.parent / "fake.json"
LOG = options.output_directory.parent / "log.json"
CALLS = options.output_directory.parent / "calls.jsonl"


class InterruptedRunError(Exception):
    pass


class FailureError(Exception):
    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Fake:
    def __init__(self) -> None:
        self.sockets: dict[str, web.WebSocketResponse] = {}
        self.pending: list[tuple] = []
        self.running: tuple | None = None
        self.history: dict[str, dict] = {}
        self.wake = asyncio.Event()
        self.interrupted: str | None = None

    def config(self) -> dict:
        return json.loads(CONFIG.read_text())

    def fault(self, point: str) -> str:
        """The kind of fault that is due here, counted down on disk so that a new process goes on counting."""
        config = self.config()
        kind, times = config.get("faults", {}).get(point, ("", 0))
        if times <= 0:
            return ""
        if kind.startswith("after:") and not kind.startswith("after:0:"):
            _, left, rest = kind.split(":", 2)
            config["faults"][point] = [f"after:{int(left) - 1}:{rest}", times]
            CONFIG.write_text(json.dumps(config))
            return ""
        kind = kind.removeprefix("after:0:")
        config["faults"][point] = [kind, times - 1]
        CONFIG.write_text(json.dumps(config))
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if kind == "child":
            child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE)
            child.stdout.readline()
            self.note("child", child.pid)
        return kind

    def log(self, *entry: object) -> None:
        entries = json.loads(LOG.read_text()) if LOG.exists() else []
        LOG.write_text(json.dumps([*entries, list(entry)]))

    def note(self, *entry: object) -> None:
        with CALLS.open("a") as calls:
            calls.write(json.dumps(entry) + "\n")

    async def send(self, client_id: str, kind: str, data: dict) -> None:
        socket = self.sockets.get(client_id)
        if socket is not None and not socket.closed:
            await socket.send_json({"type": kind, "data": data})

    async def work(self) -> None:
        while True:
            while not self.pending:
                self.wake.clear()
                await self.wake.wait()
            self.running = self.pending.pop(0)
            _, prompt_id, graph, extra, _ = self.running
            messages, outputs = [["execution_start", {"prompt_id": prompt_id}]], {}
            state = "error"
            try:
                outputs = await self.execute(prompt_id, graph, extra["client_id"])
                messages.append(["execution_success", {"prompt_id": prompt_id}])
                state = "success"
            except InterruptedRunError:
                messages.append(["execution_interrupted", {"prompt_id": prompt_id}])
            except Exception as error:
                name = getattr(error, "kind", f"{type(error).__name__}")
                data = {"prompt_id": prompt_id, "node_id": "6", "node_type": "WanRelay_Sample"}
                messages.append(["execution_error", data | {"exception_type": name, "exception_message": f"{error}\n"}])
            status = {"status_str": state, "completed": state == "success", "messages": messages}
            forget = self.fault("finished") == "forget"
            self.running = None
            if not forget:
                self.history[prompt_id] = {"prompt": [], "outputs": outputs, "status": status}
            await self.send(extra["client_id"], "executing", {"node": None, "prompt_id": prompt_id})

    async def pause(self, prompt_id: str, kind: str) -> None:
        if kind in ("hang", "deaf"):
            while kind == "deaf" or self.interrupted != prompt_id:
                await asyncio.sleep(0.02)
            raise InterruptedRunError
        if kind.startswith("error:"):
            _, name, message = kind.split(":", 2)
            raise FailureError(name, message)

    async def cut(self, client_id: str) -> None:
        await self.sockets.pop(client_id).close()
        for _ in range(200):
            if client_id in self.sockets:
                break
            await asyncio.sleep(0.05)

    async def execute(self, prompt_id: str, graph: dict, client_id: str) -> dict:
        config = self.config()
        await self.pause(prompt_id, self.fault("queued"))
        by_class = {node["class_type"]: (key, node["inputs"]) for key, node in graph.items()}
        for _, node in graph.items():
            if node["class_type"] == "LoadImage":
                assert (options.input_directory / node["inputs"]["image"]).is_file(), "image is not there"
        sampler, inputs = by_class["WanRelay_Sample"]
        _, latent = by_class["WanRelay_PrepareLatent"]
        saver, save = by_class["WanRelay_SaveVideo"]
        own_steps = [[sampler, step, inputs["steps"]] for step in range(1, inputs["steps"] + 1)]
        for node, step, steps in config.get("progress", own_steps):
            kind = self.fault("sampling")
            if kind == "cut":
                await self.cut(client_id)
            await self.pause(prompt_id, kind)
            if self.interrupted == prompt_id:
                raise InterruptedRunError
            await asyncio.sleep(config.get("step_s", 0))
            progress = {"value": step, "max": steps, "prompt_id": prompt_id, "node": node}
            await self.send(client_id, "progress", progress)
        subfolder, _, name = save["filename_prefix"].rpartition("/")
        folder = options.output_directory / subfolder
        folder.mkdir(parents=True)
        kind = self.fault("saving")
        path = folder / f"{name}_00001_.mp4"
        if kind not in ("absent", "empty"):
            path.write_bytes(Path(config["video"]).read_bytes())
        elif kind == "empty":
            path.touch()
        await self.pause(prompt_id, kind)
        item = {"filename": path.name, "subfolder": subfolder, "type": "output", "fps": save["fps"]}
        item |= {"width": latent["width"], "height": latent["height"], "frame_count": latent["length"]}
        report = {name: inputs[name] for name in ("seed", "steps", "switch", "switch_step", "boundary")}
        return {
            saver: {"images": [item], "animated": [True]},
            sampler: {"wan_relay": [report | {"warnings": ["said by the sampler"]}]},
        }


async def main() -> None:
    fake = Fake()
    fake.fault("boot")
    routes = web.RouteTableDef()

    @web.middleware
    async def faulty(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        call = f"{request.method} {resource.canonical if resource else request.path}"
        fake.note(call)
        kind, _, value = fake.fault(call).partition(":")
        if kind == "slow":
            await asyncio.sleep(float(value))
        if kind == "status":
            return web.Response(status=int(value))
        if kind == "refused":
            request.transport.abort()
            return web.Response()
        response = await handler(request)
        if kind == "lost":
            request.transport.abort()
        return response

    @routes.get("/prompt")
    async def queue_info(_: web.Request) -> web.Response:
        return web.json_response({"exec_info": {"queue_remaining": len(fake.pending)}})

    @routes.get("/system_stats")
    async def system_stats(_: web.Request) -> web.Response:
        return web.json_response({"system": {"comfyui_version": "0.30.0"}})

    @routes.get("/object_info/{name}")
    async def object_info(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        config, is_whole = fake.config(), "--whitelist-custom-nodes" not in sys.argv
        if name in config.get("unknown", ()) or (name in config.get("extra", ()) and not is_whole):
            return web.json_response({})
        pictures = {"image": [[], {"image_upload": True}]} if name == "LoadImage" else {}
        info = {"output_node": name == "WanRelay_SaveVideo", "input": {"required": pictures}}
        return web.json_response({name: info})

    @routes.get("/wan_relay/schedule")
    async def schedule(request: web.Request) -> web.Response:
        return web.json_response({"switch_step": int(request.query["steps"]) // 2})

    @routes.get("/ws")
    async def websocket(request: web.Request) -> web.WebSocketResponse:
        if fake.config().get("no_websocket"):
            raise web.HTTPServiceUnavailable
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        client_id = request.query["clientId"]
        fake.sockets[client_id] = socket
        try:
            async for _ in socket:
                pass
        finally:
            if fake.sockets.get(client_id) is socket:
                fake.sockets.pop(client_id)
        return socket

    @routes.post("/upload/image")
    async def upload(request: web.Request) -> web.Response:
        form = await request.post()
        fake.fault("upload")
        image = form["image"]
        assert isinstance(image, web.FileField)
        (options.input_directory / image.filename).write_bytes(image.file.read())
        return web.json_response({"name": image.filename, "subfolder": "", "type": "input"})

    @routes.post("/prompt")
    async def prompt(request: web.Request) -> web.Response:
        body = await request.json()
        fake.note("prompt", body["prompt_id"], body["prompt"])
        assert str(uuid.UUID(body["prompt_id"])) == body["prompt_id"]
        fake.pending.append((time.time(), body["prompt_id"], body["prompt"], {"client_id": body["client_id"]}, []))
        fake.wake.set()
        return web.json_response({"prompt_id": body["prompt_id"], "number": 1, "node_errors": {}})

    @routes.get("/history/{prompt_id}")
    async def history(request: web.Request) -> web.Response:
        prompt_id = request.match_info["prompt_id"]
        return web.json_response({key: entry for key, entry in fake.history.items() if key == prompt_id})

    @routes.get("/history")
    async def whole_history(_: web.Request) -> web.Response:
        return web.json_response(fake.history)

    @routes.post("/history")
    async def forget(request: web.Request) -> web.Response:
        for prompt_id in (await request.json())["delete"]:
            fake.history.pop(prompt_id, None)
        return web.Response()

    @routes.get("/queue")
    async def queue(_: web.Request) -> web.Response:
        running = [fake.running] if fake.running else []
        return web.json_response({"queue_running": running, "queue_pending": fake.pending})

    @routes.post("/queue")
    async def delete(request: web.Request) -> web.Response:
        ids = (await request.json())["delete"]
        fake.log("delete", *ids)
        fake.pending = [item for item in fake.pending if item[1] not in ids]
        return web.Response()

    @routes.post("/interrupt")
    async def interrupt(request: web.Request) -> web.Response:
        prompt_id = (await request.json())["prompt_id"]
        fake.log("interrupt", prompt_id)
        if fake.running and fake.running[1] == prompt_id:
            fake.interrupted = prompt_id
        return web.Response()

    @routes.post("/free")
    async def free(request: web.Request) -> web.Response:
        fake.log("free", await request.json())
        return web.Response()

    app = web.Application(client_max_size=100_000_000, middlewares=[faulty])
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", options.port).start()
    except OSError:
        print(f"\033[1m\033[31m[ERROR]\033[0m Port {options.port} is already in use on address 127.0.0.1.", flush=True)
        raise SystemExit(1) from None
    await fake.work()


asyncio.run(main())
