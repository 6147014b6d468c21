"""Every text that a user of the editor can read exists in every language: node texts, panel texts, help pages."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from wan_relay.nodes.rules.frames.frame_size import CROP_POSITIONS
from wan_relay.nodes.rules.relay.presets import PRESETS
from wan_relay.tests.repo.node_texts import node_texts

pytestmark = pytest.mark.comfy

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ("en", "ru", "zh", "ko")
TRANSLATIONS = LANGUAGES[1:]
SCRIPTS = {"ru": r"[а-яё]", "zh": r"[\u4e00-\u9fff]", "ko": r"[\uac00-\ud7a3]"}
PLACEHOLDER = re.compile(r"\{(\w+)\}")


def read(language: str, name: str) -> dict[str, Any]:
    return json.loads((ROOT / "locales" / language / f"{name}.json").read_text())


def shape(value: Any) -> Any:
    """The keys of nested dicts, with a mark where a text stands."""
    return {key: shape(item) for key, item in value.items()} if isinstance(value, dict) else "text"


def texts(value: Any) -> list[str]:
    return [text for item in value.values() for text in texts(item)] if isinstance(value, dict) else [value]


def test_english_node_texts_are_those_of_the_schemas() -> None:
    assert read("en", "nodeDefs") == node_texts(), "run: python3 dev.py run tests.repo.node_texts"


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_node_texts_are_complete_and_translated(language: str) -> None:
    translated = read(language, "nodeDefs")
    assert shape(translated) == shape(node_texts())
    tooltips = [
        slot["tooltip"]
        for node in translated.values()
        for slots in (node["inputs"], node["outputs"])
        for slot in slots.values()
        if "tooltip" in slot
    ]
    descriptions = [node["description"] for node in translated.values()]
    untranslated = [text for text in tooltips + descriptions if not re.search(SCRIPTS[language], text, re.IGNORECASE)]
    assert untranslated == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_node_texts_are_plain_for_the_editors_message_format(language: str) -> None:
    assert [text for text in texts(read(language, "nodeDefs")) if re.search(r"[{}@|]", text)] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_panel_texts_are_complete_with_the_same_placeholders(language: str) -> None:
    english, own = read("en", "main")["wanRelay"], read(language, "main")["wanRelay"]
    placeholders = {key: sorted(PLACEHOLDER.findall(text)) for key, text in own.items()}
    assert placeholders == {key: sorted(PLACEHOLDER.findall(text)) for key, text in english.items()}


def test_panels_use_exactly_the_texts_that_exist() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "js").glob("*.mjs"))
    sizes = (ROOT / "nodes" / "rules" / "frames" / "frame_size.py").read_text()
    keys = read("en", "main")["wanRelay"].keys()
    asked = {key for key in keys if f'"{key}"' in code or re.search(rf"\b{key}:", code)}
    sides = {f"change_{how}_{side}" for how in ("crop", "pad") for side in ("width", "height")}
    changes = {f"change_{name}" for name in ("width", "height", "length", "wider", "narrower")} | sides
    timeline = (ROOT / "nodes" / "rules" / "frames" / "timeline.py").read_text()
    changes |= {f"change_{name}" for name in re.findall(r'"change": "(\w+)"', timeline)}
    spans = {f"span_{kind}" for kind in re.findall(r'"(\w+)"', timeline.partition("UNKNOWN, ")[2].partition("\n")[0])}
    assert all(f'"{name}"' in sizes for name in ("wider", "narrower"))
    schedule = (ROOT / "nodes" / "engine" / "relay" / "sigma_schedule.py").read_text()
    table = schedule.partition("NOTES = {")[2].partition("\n}")[0]
    notes = {f"note_{name}" for name in re.findall(r'^    "(\w+)": "', table, re.MULTILINE)}
    rules = (ROOT / "nodes" / "rules" / "relay" / "mistakes.py").read_text()
    mistakes = {f"mistake_{name}" for name in re.findall(r'(?:"mistake": |found.append\()"(\w+)"', rules)}
    mistakes |= {f"mistake_guided_{expert}" for expert in ("high_noise", "low_noise")}
    presets = {f"preset_{name}" for name in PRESETS}
    crops = {f"crop_{position}" for position in CROP_POSITIONS}
    assert keys == asked | changes | spans | notes | mistakes | presets | crops
    assert set(re.findall(r'\btext\("(\w+)"', code)) <= keys


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("node_id", read("en", "nodeDefs"))
def test_help_page_names_every_input_and_output(node_id: str, language: str) -> None:
    docs = ROOT / "js" / "docs"
    page = (docs / f"{node_id}.md" if language == "en" else docs / node_id / f"{language}.md").read_text()
    node = node_texts()[node_id]
    named = set(re.findall(r"^\| `([^`]+)`", page, re.MULTILINE))
    outputs = {output["name"] for output in node["outputs"].values()}
    further = {name for name in node["inputs"] if name.startswith("pairs_")}  # the row of `pairs` speaks of them
    assert named == (node["inputs"].keys() - {"control_after_generate"} - further) | outputs
    assert len(re.findall(r"^## ", page, re.MULTILINE)) == 4  # inputs, outputs, example, refusals


def test_javascript_stays_small_and_has_one_entry_point() -> None:
    files = [path for path in (ROOT / "js").rglob("*") if path.suffix in (".js", ".mjs")]
    assert [path.name for path in (ROOT / "js").rglob("*.js")] == ["wan_relay.js"]
    without_types = [re.sub(r"/\*\*.*?\*/", "", path.read_text(), flags=re.DOTALL) for path in files]
    assert sum(len(code.encode()) for code in without_types) < 46_000
