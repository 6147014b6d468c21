"""Every text of the page exists in every language, and the page asks for exactly the texts that exist."""

import json
import re
from pathlib import Path

import pytest
from wan_relay.service.contract.failure import CODES

PAGE = Path(__file__).resolve().parents[3] / "service" / "gateway" / "page"
LANGUAGES = ("en", "ru", "zh", "ko")
SCRIPTS = {"ru": r"[а-яё]", "zh": r"[\u4e00-\u9fff]", "ko": r"[\uac00-\ud7a3]"}
PLACEHOLDER = re.compile(r"\{(\w+)\}")
# The same everywhere: names, figures and units.
UNTRANSLATED = {"model_5b", "pictureSize", "fileValue", "cfg", "status_running"}


def words(language: str) -> dict[str, str]:
    read: dict[str, str] = json.loads((PAGE / "words" / f"{language}.json").read_text())
    return read


def code() -> str:
    return "\n".join(path.read_text() for path in sorted(PAGE.glob("*.mjs"))) + (PAGE / "index.html").read_text()


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_are_complete_with_the_same_placeholders(language: str) -> None:
    placeholders = {key: sorted(PLACEHOLDER.findall(text)) for key, text in words(language).items()}
    assert placeholders == {key: sorted(PLACEHOLDER.findall(text)) for key, text in words("en").items()}
    assert list(words(language)) == list(words("en"))


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_words_are_translated(language: str) -> None:
    plain = {key for key, text in words(language).items() if not re.search(SCRIPTS[language], text, re.IGNORECASE)}
    assert plain <= UNTRANSLATED


def test_the_page_uses_exactly_the_words_that_exist() -> None:
    found = code()
    asked = set(re.findall(r'data-(?:text|label|placeholder)="(\w+)"', found))
    asked |= {key for key in words("en") if f'"{key}"' in found}
    asked |= {f"{picture}_crop_{side}" for picture in ("start", "end") for side in ("width", "height")}
    asked |= {f"status_{status}" for status in ("queued", "running", "succeeded", "failed", "cancelled")}
    asked |= {f"{expert}_does" for expert in ("opening", "high_noise", "low_noise")}
    asked |= {f"model_{model}" for model in ("4step", "reference", "5b")}
    assert asked == set(words("en"))
    assert set(re.findall(r'\bsay\("(\w+)"', found)) <= set(words("en"))
    assert set(re.findall(r'\bkey: "(\w+)"', found)) <= set(words("en"))


def test_every_code_that_a_video_can_end_with_has_words() -> None:
    """Those that are left say "It did not work", and the gateway's sentence."""
    table = (PAGE / "problems.mjs").read_text().partition("WORDS = {")[2].partition("\n}")[0]
    without = {"INVALID_INPUT", "INVALID_PATH", "FILE_NOT_FOUND", "NO_OUTPUT", "RESULT_TOO_LARGE", "UPLOAD_FAILED"}
    without |= {"NOT_FOUND", "METHOD_NOT_ALLOWED", "ALREADY_FINISHED", "CANCELLED", "WORKER_BUSY"}
    assert set(CODES) - set(re.findall(r"(\w+):", table)) <= without
    assert set(re.findall(r"(\w+):", table)) <= {*CODES, "UNREACHABLE"}
