# mypy: ignore-errors
"""One check of replicate 2.0.0b4 at a time, by the Python that has it: prints what was seen as JSON."""

import io
import json
import os
import sys
import time

import replicate

FAST = "wan-video/wan-2.2-i2v-fast"
PICTURE = os.environ["PICTURE"]
client = replicate.Replicate()


def wish(prompt, **more):
    return {"prompt": prompt, "image": PICTURE, **more}


def ended(prediction):
    while prediction.status in ("starting", "processing"):
        time.sleep(0.1)
        prediction = client.predictions.get(prediction_id=prediction.id)
    return prediction


def run():
    return str(client.run(FAST, input=wish("run")))


def slow():
    return str(client.run(FAST, input=wish("slow 3"), wait=1))


def predictions():
    prediction = client.models.predictions.create(
        model_owner="wan-video", model_name="wan-2.2-i2v-fast", input=wish("hang")
    )
    listed = client.predictions.list().results[0].id == prediction.id
    canceled = client.predictions.cancel(prediction_id=prediction.id)
    return [prediction.status, listed, canceled.status]


def version():
    model = client.models.get(model_owner="wan-video", model_name="wan-2.2-i2v-fast")
    return ended(client.predictions.create(version=model.latest_version.id, input=wish("version"))).status


def file(**options):
    content = io.BytesIO(bytes.fromhex(os.environ["CONTENT"]))
    content.name = "photo.png"
    prediction = ended(client.predictions.create(version=FAST, input=wish("look", image=content), **options))
    return [line for line in prediction.logs.split("\n") if line.startswith("image_base64")]


def file_as_base64():
    return file(file_encoding_strategy="base64")


def bad_field():
    try:
        client.run(FAST, input=wish("bad", num_frames=900))
    except replicate.APIStatusError as error:
        return [error.status_code, error.body["invalid_fields"][0]["field"]]


def failure():
    try:
        client.run(FAST, input=wish("fail NO_OUTPUT"))
    except Exception as error:
        return [type(error).__name__, str(error)]


def wrong_key():
    try:
        client.predictions.list()
    except replicate.AuthenticationError as error:
        return error.status_code


def submit():
    return ended(
        client.models.predictions.create(
            model_owner="wan-video", model_name="wan-2.2-i2v-fast", input=wish(os.environ["WORDS"])
        )
    ).status


def output():
    return client.run(FAST, input=wish("file")).read()[4:8].decode()


def secret():
    return client.webhooks.default.secret.get().key


def shown():
    prediction = client.predictions.get(prediction_id=os.environ["ID"])
    return [prediction.status, prediction.output, prediction.data_removed]


print(json.dumps(globals()[sys.argv[1]]()))
