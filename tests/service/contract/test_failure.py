"""Failures: their codes, and their way over the wire and back."""

import pytest
from pydantic import ValidationError
from wan_relay.service.contract.errors import JobError
from wan_relay.service.contract.failure import CODES, Failure


def test_an_error_is_code_sentence_field() -> None:
    error = JobError("OUT_OF_RANGE", "fps must be from 1 to 60", "fps")
    assert str(error) == "OUT_OF_RANGE: fps must be from 1 to 60 (fps)"
    assert str(JobError("NO_OUTPUT", "no video came")) == "NO_OUTPUT: no video came"
    assert (error.code, error.sentence, error.field) == ("OUT_OF_RANGE", "fps must be from 1 to 60", "fps")


def test_no_other_code_can_be_made() -> None:
    with pytest.raises(ValueError, match="OOPS is not one of the public error codes"):
        JobError("OOPS", "x")
    with pytest.raises(ValidationError):
        Failure.model_validate({"code": "NO_OUTPUT", "sentence": "x", "secret": 1})


def test_a_sentence_is_made_safe() -> None:
    assert JobError("NO_OUTPUT", "not in /home/me/out/a.mp4").sentence == "not in a.mp4"


@pytest.mark.parametrize("field", [None, "image_url", "end_image", "my-own.field"])
@pytest.mark.parametrize(
    "sentence", ["it is 3: too few", "stopped (node Wan Relay: Sample)", "(x) y", "a (b c) d", "A: B"]
)
def test_a_failure_comes_back_from_the_wire(field: str | None, sentence: str) -> None:
    for code in CODES:
        failure = Failure(code=code, sentence=sentence, field=field)
        assert Failure.parse(str(failure)) == failure


@pytest.mark.parametrize("text", ["", "boom", "OOPS: x (y)", "worker exited with exit code 1", "no_output: x"])
def test_any_other_text_is_an_internal_error(text: str) -> None:
    assert Failure.parse(text) == Failure(code="INTERNAL_ERROR", sentence=text)


def test_what_a_retry_can_help_is_not_the_callers_fault() -> None:
    for code, known in CODES.items():
        failure = Failure(code=code, sentence="x")
        assert (failure.is_retryable, failure.http_status) == (known.is_retryable, known.http_status)
        assert known.is_retryable <= (known.http_status >= 500 or code.startswith(("DOWNLOAD", "WORKER_BUSY"))), code
    assert Failure(code="GPU_ERROR", sentence="x").is_retryable
    assert not Failure(code="OUT_OF_MEMORY", sentence="x").is_retryable
    assert Failure(code="TIMEOUT", sentence="x").http_status == 504
    assert Failure(code="MISSING_FIELD", sentence="x").http_status == 400
