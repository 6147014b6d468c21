"""The local executor over the fake ComfyUI."""

from wan_relay.tests.service.executors.deployment import deployed


def test_a_task_from_order_to_video(tmp_path):
    with deployed(tmp_path) as here:
        machine = here.machine().start()
        task_id = here.submit(here.order(request={"seed": 7, "length": 9, "fps": 12}))
        task = here.wait(task_id)
        print(task.model_dump_json(indent=1))
        print(machine.executor.said())
        assert task.state == "succeeded"
        assert here.results() == [task.outcome.video.key]
        assert machine.left_files() == []
