"""nodes/rules/files/save_name.py."""

import ntpath
import os
import posixpath
from datetime import datetime
from pathlib import Path

import pytest
from wan_relay.nodes.rules.errors import InvalidInput
from wan_relay.nodes.rules.files.save_name import check_name, fill_name

NOW = datetime(2026, 3, 4, 15, 6, 7)
VALUES = {
    ("Sample", "seed"): "42",
    ("Wan Relay: Sample", "scheduler"): "simple",
    ("a/b", "c"): "slash in the title",
    ("Load", "file"): 'sub/a\\b:c*?<d>|"e"\n\x7f\x85\ud800',
    ("Note", "text"): "",
    ("Note", "up"): "..",
    ("Note", "date"): "%date:yyyy%%Sample.seed%",
    ("Prompt", "text"): "ж" * 300,
}


def fill(name: str) -> str:
    filled, warnings = fill_name(name, lambda node, widget: VALUES.get((node, widget)), NOW)
    assert warnings == []
    return filled


@pytest.mark.parametrize(
    ("name", "filled"),
    [
        ("video/clip", "video/clip"),
        ("video/%date:yyyy-MM-dd%/clip", "video/2026-03-04/clip"),
        ("%date:yy.M.d h_m_s%", "26.3.4 15_6_7"),
        ("%date:hhmmss%_%date:yyyy%_%width%", "150607_2026_%width%"),
        ("%date% %date:% 100%", "%date% %date:% 100%"),
        ("%date:yyyy/MM%/clip", "2026/03/clip"),
        ("%date:yyyy.MM%", "2026.03"),
    ],
)
def test_dates_are_filled_in_as_the_editor_does(name: str, filled: str) -> None:
    assert fill(name) == filled


def test_the_date_is_todays() -> None:
    before = datetime.now().date()
    today, _ = fill_name("%date:yyyy-MM-dd%", lambda node, widget: None)
    assert today in (str(before), str(datetime.now().date()))


@pytest.mark.parametrize(
    ("name", "filled"),
    [
        ("video/%Sample.seed%_%Wan Relay: Sample.scheduler%", "video/42_simple"),
        ("100%_%Sample.seed%%width%", "100%_42%width%"),
        ("%Sample.seed%/%date:yyyy%", "42/2026"),
        ("%a/b.c%", "slash in the title"),
        ("%Sample.nothing%_%nobody.seed%_%a.b.c%", "%Sample.nothing%_%nobody.seed%_%a.b.c%"),
        ("x%Load.file%", "xsub_a_b_c___d___e_____"),
        ("clip_%Note.text%", "clip_"),
        ("%Note.text%/%Note.up%/.%Note.text%", "_/_/_"),
        ("%Note.date%", "%date_yyyy%%Sample.seed%"),
        ("./a/../video//%Sample.seed%", "./a/../video//42"),
    ],
)
def test_widgets_are_filled_in_as_the_editor_does_and_stay_one_name(name: str, filled: str) -> None:
    assert fill(name) == filled


def test_what_a_value_makes_too_long_is_cut_and_said() -> None:
    filled, warnings = fill_name("%Prompt.text%/a%Prompt.text%/b", lambda node, widget: VALUES[node, widget])
    assert filled == "ж" * 100 + "/a" + "ж" * 99 + "/b"
    assert warnings == [
        f"filename_prefix was cut to 200 bytes at '{'ж' * 40}'.",
        f"filename_prefix was cut to 200 bytes at 'a{'ж' * 39}'.",
    ]


@pytest.mark.parametrize("name", ["a\0b", "a\n", "%Sample.\x1fseed%", "\x85", "a\ud800"])
def test_control_characters_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        fill(name)
    assert str(raised.value) == f"filename_prefix must not hold control characters; got {name!r}."


SHORT_NAME = "filename_prefix must end in a file name of 1 to 200 bytes; got "
SHORT_FOLDER = "filename_prefix must have folder names of at most 255 bytes; got one of "
REFUSED = [
    ("", SHORT_NAME + "''."),
    ("a/..", SHORT_NAME + "'a/..'."),
    ("..", SHORT_NAME + "'..'."),
    ("n" * 201, SHORT_NAME + repr("n" * 80) + "."),
    ("视" * 67, SHORT_NAME + repr("视" * 67) + "."),
    ("f" * 256 + "/clip", f"{SHORT_FOLDER}256, {'f' * 40!r}."),
    ("a/" + "视" * 86 + "/b/clip", f"{SHORT_FOLDER}258, {'视' * 40!r}."),
    ("👩‍🚀" * 24 + "/clip", f"{SHORT_FOLDER}264, {('👩‍🚀' * 24)[:40]!r}."),
]
TAKEN = [
    "clip",
    "a/b/clip",
    "n" * 200,
    "视" * 66,
    "f" * 255 + "/clip",
    "视" * 85 + "/clip",
    "x" * 300 + "/../clip",
    "a/",
]


@pytest.mark.parametrize(("name", "sentence"), REFUSED)
def test_a_name_that_no_file_can_have_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        check_name(name)
    assert str(raised.value) == sentence


@pytest.mark.parametrize("name", TAKEN)
def test_the_longest_names_that_are_taken_can_be_written(tmp_path: Path, name: str) -> None:
    check_name(name)
    folder, last = os.path.split(os.path.normpath(name))
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / folder / f"{last}_1234567890_.webm").touch(exist_ok=False)


@pytest.mark.parametrize(
    "name", ["clip:b", "what?/clip", "a\\nul\\clip", "Com1.videos/clip", "nul.x", "a|b", "aux /clip"]
)
def test_what_windows_refuses_is_refused_on_windows(name: str) -> None:
    check_name(name, posixpath)
    with pytest.raises(InvalidInput, match="filename_prefix must not hold what Windows refuses in a name; got "):
        check_name(name, ntpath)


@pytest.mark.parametrize("name", ["clip", "a\\b/clip", "con", "console/clip", "C:\\output\\clip", "aux"])
def test_what_windows_takes_is_taken(name: str) -> None:
    check_name(name, ntpath)
