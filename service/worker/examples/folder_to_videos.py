"""A folder of images to videos, through a RunPod endpoint that has this worker. Needs nothing but Python 3.10.

    RUNPOD_API_KEY=KEY python folder_to_videos.py https://api.runpod.ai/v2/ENDPOINT_ID photos --prompt "she smiles"

An image's prompt is the text beside it (photo.txt for photo.png), else --prompt. Its video is written beside it:
photo.mp4, or photo.SEED.mp4 where several are asked for. Run it again after whatever went wrong: images that have a
video are skipped, and jobs that RunPod still knows are waited for, not sent again (wan_relay_jobs.jsonl in the folder).
"""

import argparse
import base64
import collections
import http.client
import json
import os
import random
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

IMAGES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
VIDEOS = {".mp4", ".webm"}
JOURNAL = "wan_relay_jobs.jsonl"
ENDS = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}
PASSING = {408, 425, 429, 500, 502, 503, 504}
TRIES = 5
CALL_S = 120
MAX_CALL = 9_500_000  # RunPod takes 10 MB a call
MAX_BATCH = 5_000
PAGE = 10


class Fault(Exception):
    """One sentence for the person at the terminal; `status` where a server answered."""

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status


class Endpoint:
    """RunPod's HTTP API. What may go away by itself is tried again."""

    def __init__(self, url: str, key: str, pause_s: float = 1.0) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._pause_s = pause_s

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON answer. Raises Fault."""
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, content, self._headers, method=method)
        fault = Fault("")
        for number in range(TRIES):
            if number:
                time.sleep(self._pause_s * 2**number)
            try:
                return json.loads(_read(request))
            except ValueError:
                raise Fault(f"the endpoint's answer to {method} {path} is not JSON") from None
            except Fault as error:
                fault = error
                if fault.status not in PASSING | {0}:
                    break
        raise fault


def _read(request: urllib.request.Request) -> bytes:
    try:
        with urllib.request.urlopen(request, timeout=CALL_S) as response:
            content: bytes = response.read()
            return content
    except urllib.error.HTTPError as error:
        words = {401: "the key is not the endpoint's", 404: "there is no such endpoint or job"}
        said = words.get(error.code) or error.read(300).decode(errors="replace").strip()
        raise Fault(f"HTTP {error.code}: {said}", error.code) from None
    except (OSError, http.client.HTTPException) as error:
        raise Fault(f"no answer came: {getattr(error, 'reason', None) or error}") from None


class Item:
    """One image that has no video yet, and what is asked of it."""

    def __init__(self, image: Path, prompt: str, fields: dict[str, Any]) -> None:
        self.image = image
        self._prompt = prompt
        self._fields = fields

    def request(self, **more: Any) -> dict[str, Any]:
        """Raises Fault where RunPod would not take it."""
        content = base64.b64encode(self.image.read_bytes()).decode()
        fields = {"prompt": self._prompt, "image_base64": content, **self._fields, **more}
        if len(content) > MAX_CALL:
            raise Fault(f"the image has {len(content) / 1e6:.1f} MB as base64, and RunPod takes 10 MB: make it smaller")
        return {"input": fields}

    def save(self, output: Any) -> list[str]:
        """Writes what came, each file whole or not at all. Raises Fault where a video is missing."""
        if not isinstance(output, dict):
            raise Fault("the job ended without an output; its answer may have been too large for RunPod")
        suffix = ".webm" if output.get("format") == "video/webm" else ".mp4"
        several = output.get("videos")
        written, faults = [], []
        for video in several if isinstance(several, list) else [output]:
            name = f"{self.image.stem}.{video['seed']}{suffix}" if several else f"{self.image.stem}{suffix}"
            try:
                _write(self.image.with_name(name), _content(video))
                written.append(name)
            except Fault as fault:
                faults.append(str(fault))
        if faults:
            raise Fault("; ".join(faults))
        return written


def _content(video: dict[str, Any]) -> bytes:
    if video.get("video"):
        return base64.b64decode(video["video"])
    if video.get("video_url"):
        return _read(urllib.request.Request(video["video_url"]))  # the link has its own permission
    raise Fault(str(video.get("error") or "the answer has no video"))


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise Fault(f"{path.name} cannot be written: {error.strerror}") from None


class Journal:
    """What was sent, a line of JSON each: jobs by image, and the batch, until their end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.jobs: dict[str, str] = {}
        self.batch: dict[str, Any] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                self._take(json.loads(line))
            except (ValueError, AttributeError):
                continue  # the line that was being written when the power went

    def note(self, **entry: Any) -> None:
        self._take(entry)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def _take(self, entry: dict[str, Any]) -> None:
        if "batch" in entry:
            self.batch = entry if entry["batch"] else {}
        elif entry.get("job"):
            self.jobs[entry["image"]] = entry["job"]
        else:
            self.jobs.pop(entry.get("image", ""), None)


class Report:
    """A line for each image, and the exit code."""

    def __init__(self) -> None:
        self.num_failed = 0

    def made(self, name: str, files: Sequence[str]) -> None:
        print(f"{name}: {', '.join(files)}", flush=True)

    def failed(self, name: str, sentence: object) -> None:
        self.num_failed += 1
        print(f"{name}: {sentence}", file=sys.stderr, flush=True)


def items_in(folder: Path, prompt: str, fields: dict[str, Any], report: Report) -> Iterator[Item]:
    """The images that have no video yet."""
    paths = sorted(folder.iterdir())
    done = {path.name.partition(".")[0] for path in paths if path.suffix.lower() in VIDEOS}
    for path in paths:
        if path.suffix.lower() not in IMAGES or path.name.partition(".")[0] in done:
            continue
        text = path.with_suffix(".txt")
        own = text.read_text(encoding="utf-8").strip() if text.is_file() else prompt
        if own:
            yield Item(path, own, fields)
        else:
            report.failed(path.name, f"there is no {text.name} beside it, and no --prompt")


def through_the_queue(
    endpoint: Endpoint, items: Sequence[Item], journal: Journal, report: Report, most: int, pause_s: float
) -> None:
    """/run for each, `most` at a time."""
    waiting, running = collections.deque(items), dict[str, Item]()

    def send(item: Item) -> None:
        job = str(endpoint.call("POST", "/run", item.request())["id"])
        journal.note(image=item.image.name, job=job)
        running[job] = item

    def look(job: str, item: Item) -> None:
        try:
            status = endpoint.call("GET", f"/status/{job}")
        except Fault as fault:
            if fault.status != 404:
                raise
            del running[job]  # RunPod keeps what has ended for half an hour
            journal.note(image=item.image.name, job=None)
            return send(item)
        if status.get("status") in ENDS:
            del running[job]
            journal.note(image=item.image.name, job=None)
            if status["status"] != "COMPLETED":
                raise Fault(status.get("error") or f"the job ended as {status['status']}")
            report.made(item.image.name, item.save(status.get("output")))

    while waiting or running:
        while waiting and len(running) < most:
            item = waiting.popleft()
            known = journal.jobs.get(item.image.name)
            try:
                if known:
                    running[known] = item
                else:
                    send(item)
            except (Fault, OSError) as fault:
                report.failed(item.image.name, fault)
        for job, item in list(running.items()):
            try:
                look(job, item)
            except (Fault, OSError) as fault:
                running.pop(job, None)
                report.failed(item.image.name, fault)
        if running:
            time.sleep(pause_s)


def through_a_batch(
    endpoint: Endpoint, items: Sequence[Item], journal: Journal, report: Report, pause_s: float
) -> None:
    """RunPod's batch jobs (beta). Its list of results does not say which request each belongs to: the seed does."""
    if not journal.batch:
        seeds = dict(zip((item.image.name for item in items), random.sample(range(2**53), len(items)), strict=True))
        batch = endpoint.call("POST", "/batch", [])["id"]
        for requests in _in_calls(items, seeds, report):
            endpoint.call("POST", f"/batch/{batch}/requests", {"requests": requests})
        endpoint.call("POST", f"/batch/{batch}/finalize")
        journal.note(batch=batch, seeds=seeds)
    batch, seeds = journal.batch["batch"], journal.batch["seeds"]
    while True:
        state = endpoint.call("GET", f"/batch/{batch}")
        ended, total = state.get("requestCompleted", 0) + state.get("requestFailed", 0), state.get("requestTotal", 0)
        if state.get("status") in ("FAILED", "CANCELLED") or ended >= total:
            break
        print(f"{ended} of {total} requests of batch {batch} have ended", flush=True)
        time.sleep(pause_s)
    left = {seeds[item.image.name]: item for item in items if item.image.name in seeds}
    for result in _results(endpoint, batch):
        output = result.get("output")
        item = left.pop(output.get("seed"), None) if isinstance(output, dict) else None
        try:
            if item is not None:
                report.made(item.image.name, item.save(output))
            elif result.get("status") != "COMPLETED":
                print(
                    f"a request ended as {result.get('status')}: {result.get('error') or 'why is not said'}", flush=True
                )
        except (Fault, OSError) as fault:
            assert item is not None
            report.failed(item.image.name, fault)
    for item in left.values():
        report.failed(item.image.name, "no video came of the batch; run this again to send it once more")
    journal.note(batch=None)


def _in_calls(items: Sequence[Item], seeds: dict[str, int], report: Report) -> Iterator[list[dict[str, Any]]]:
    requests, size = list[dict[str, Any]](), 0
    for item in items:
        try:
            request = item.request(seed=seeds[item.image.name])
        except (Fault, OSError) as fault:
            report.failed(item.image.name, fault)
            continue
        length = len(json.dumps(request))
        if requests and size + length > MAX_CALL:
            yield requests
            requests, size = [], 0
        requests.append(request)
        size += length
    if requests:
        yield requests


def _results(endpoint: Endpoint, batch: str) -> Iterator[dict[str, Any]]:
    offset = 0
    while True:
        page = endpoint.call("GET", f"/batch/{batch}/requests?offset={offset}&limit={PAGE}")
        yield from page["requests"]
        offset += len(page["requests"])
        if not page.get("hasMore") or not page["requests"]:
            return


def _field(text: str) -> tuple[str, Any]:
    name, is_given, value = text.partition("=")
    if not is_given or not name:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A folder of images to videos, through a RunPod endpoint.")
    parser.add_argument("url", help="https://api.runpod.ai/v2/ENDPOINT_ID")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--key", default=os.environ.get("RUNPOD_API_KEY", ""), help="else RUNPOD_API_KEY")
    parser.add_argument("--prompt", default="", help="for images without a text file of their own")
    parser.add_argument("--set", type=_field, action="append", default=[], metavar="NAME=VALUE", help="a request field")
    parser.add_argument("--in-flight", type=int, default=4, metavar="N", help="jobs at a time")
    parser.add_argument("--batch", action="store_true", help="by RunPod's batch jobs, within hours")
    parser.add_argument("--jsonl", type=Path, metavar="FILE", help="only write the requests there, a line each")
    parser.add_argument("--pause", type=float, default=2.0, metavar="S", help="seconds between two looks")
    options = parser.parse_args(arguments)
    report, fields = Report(), dict(options.set)
    own = {"seed", "seeds", "num_videos"} & fields.keys()
    try:
        items = list(items_in(options.folder, options.prompt.strip(), fields, report))
        journal = Journal(options.folder / JOURNAL)
        if options.jsonl:
            options.jsonl.write_text("".join(json.dumps(item.request()) + "\n" for item in items), encoding="utf-8")
        elif not options.batch:
            endpoint = Endpoint(options.url, options.key)
            through_the_queue(endpoint, items, journal, report, max(1, options.in_flight), options.pause)
        elif own:
            raise Fault(
                f"--batch chooses the seed of each image itself, by which it knows its video; leave out {own.pop()}"
            )
        elif items:
            through_a_batch(Endpoint(options.url, options.key), items[:MAX_BATCH], journal, report, options.pause)
    except (Fault, OSError) as fault:
        report.failed("stopped", fault)
    except KeyboardInterrupt:
        report.failed("stopped", "run the same again to go on")
    return 1 if report.num_failed else 0


if __name__ == "__main__":
    sys.exit(main())
