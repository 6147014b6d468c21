"""Which store a setting names."""

from pathlib import Path

import pytest
from wan_relay.service.store.local_folder import LocalFolder
from wan_relay.service.store.object_store import StoreError, StoreUnavailableError
from wan_relay.service.store.open_store import open_store
from wan_relay.service.store.s3_bucket import S3Bucket
from wan_relay.tests.service.store.s3_server import KEYS


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "form", ["{}/new/folder", "file://{}/new/folder", "file://localhost{}/new/folder", "new/folder"]
)
async def test_a_folder_is_made_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str):
    monkeypatch.chdir(tmp_path)
    store = open_store(form.format(tmp_path))
    assert isinstance(store, LocalFolder)
    monkeypatch.chdir("/")
    await store.put("results/a.mp4", b"1", "video/mp4")
    assert (tmp_path / "new" / "folder" / "results" / "a.mp4").read_bytes() == b"1"


@pytest.mark.asyncio
async def test_names_of_folders_are_taken_as_they_are(tmp_path: Path):
    for folder, url in (("a b#1%20é", f"{tmp_path}/a b#1%20é"), ("a b", f"file://{tmp_path}/a%20b")):
        await open_store(url).put("a.txt", b"1", "text/plain")
        assert (tmp_path / folder / "a.txt").is_file()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailableError) as raised:
        open_store(str(tmp_path / "file" / "folder"))
    assert raised.value.sentence == "the object store's folder cannot be made"


def test_a_bucket_is_not_dialled():
    assert isinstance(open_store("s3://videos/a/b", endpoint_url="http://127.0.0.1:9", **KEYS), S3Bucket)
    assert isinstance(open_store("s3://videos", **KEYS), S3Bucket)


@pytest.mark.parametrize(
    "url", ["", " ", "file://", "file://host/folder", "s3://", "s3:///a", "s3://a b/", "s3://k:s@videos/"]
)
def test_what_names_no_store_is_refused(url: str):
    with pytest.raises(StoreError, match="the object store"):
        open_store(url)


@pytest.mark.parametrize("url", ["http://videos/", "gs://videos/a", "memory:///", "S3//:videos://"])
def test_other_stores_are_not_known(url: str):
    with pytest.raises(StoreError) as raised:
        open_store(url)
    assert raised.value.sentence == "the object store must be a folder, file:///folder or s3://bucket/prefix"


@pytest.mark.parametrize("prefix", ["../x", "a//b", "a b", "é"])
def test_a_prefix_is_a_key(prefix: str):
    with pytest.raises(StoreError):
        open_store(f"s3://videos/{prefix}", **KEYS)


@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        ("endpoint_url", "s3.example.org", "the object store's S3 endpoint is not valid"),
        ("endpoint_url", "ftp://s3.example.org", "the object store's S3 endpoint is not valid"),
        ("endpoint_url", "http://", "the object store's S3 endpoint is not valid"),
        ("endpoint_url", "http://k:s@s3.example.org", "the object store's S3 endpoint is not valid"),
        ("endpoint_url", "http://s3.example.org\n", "the object store's S3 endpoint is not valid"),
        ("region", "us east", "the object store's S3 region is not valid"),
        ("access_key_id", "KEYID\n", "the object store's S3 key id is not valid"),
        ("secret_access_key", "SÉCRET", "the object store's S3 secret is not valid"),
        ("secret_access_key", None, "the object store's S3 key id and secret must come together"),
        ("access_key_id", "", "the object store's S3 key id and secret must come together"),
    ],
)
def test_a_setting_that_cannot_be_is_named(setting: str, value: str | None, sentence: str):
    with pytest.raises(StoreError) as raised:
        open_store("s3://videos", **{"endpoint_url": "https://s3.example.org/base", **KEYS, setting: value})
    assert raised.value.sentence == sentence
