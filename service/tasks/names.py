"""What the gateway and its executors call each other by; the gateway enqueues by name, and imports no executor."""

APPLICATION = "wan-relay"
# Raised when what is stored of a task changes, so that an older executor leaves newer tasks alone.
PROTOCOL = "1"
LOCAL_QUEUE = "render"
RUNPOD_QUEUE = "render_runpod"
# queue -> tasks that one executor has at a time: a GPU takes one, RunPod's own queue takes what it is given
RENDER_QUEUES = {LOCAL_QUEUE: 1, RUNPOD_QUEUE: 100}
RENDER_WORKFLOW = "render_video"
GATEWAY_QUEUE = "gateway"
# Keys of a task's attributes, which its executor writes while it runs.
PROGRESS = "progress"
LOG = "log"
GIVEN_BACK = "given_back"  # how often an executor that was told to stop gave it back
# Where the gateway serves the object store's files, by signed links.
FILES_PATH = "/files/"


def result_key(task_id: str, name: str, suffix: str) -> str:
    """Where a task's video lies in the object store."""
    return f"results/{task_id}/{name}{suffix}"
