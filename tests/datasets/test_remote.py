import pickle
import tarfile
import zipfile

import fsspec
import pytest
from test_files import CONTENT, LONG, UNSAFE, make

from rsjax import storage
from rsjax.datasets import archives, files, remote
from rsjax.errors import ConfigError, DatasetError, StorageError

KINDS = ["folder", "zip", "zip-stored", "tar-pax", "tar-gnu"]


def upload(kind, tmp_path, content):
    """The same download as on a disk, on fsspec's object store in memory."""
    local = make(kind, tmp_path, content)
    store = fsspec.filesystem("memory")
    url = f"memory://{tmp_path.name}/{local.name}"
    store.put(str(local), url, recursive=local.is_dir())
    return url


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_store_reads_as_a_disk_does(kind, tmp_path):
    content = CONTENT | {LONG: b"long", "top/empty": b""}
    source = files.open_source(upload(kind, tmp_path, content))
    (tmp_path / "again").mkdir()
    local = files.open_source(make(kind, tmp_path / "again", content))
    source = pickle.loads(pickle.dumps(source))
    assert isinstance(source, remote.RemoteSource) == (kind == "folder")
    assert source.names() == local.names() == sorted(content)
    assert {name: source.read(name) for name in content} == content
    assert source.names("top/d1") == local.names("top/d1")
    assert source.folders("top") == local.folders("top")
    for name in ("top/d2", "top/d2/file_2.bin", "top/d2/file_1.bin", "to"):
        assert source.exists(name) == local.exists(name), name
    with pytest.raises(DatasetError, match=r"memory://.*top/none\.bin: no such file"):
        source.read("top/none.bin")


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_inside_never_becomes_a_url(kind, tmp_path):
    fsspec.filesystem("memory").pipe("/b/x", b"secret")
    source = files.open_source(upload(kind, tmp_path, CONTENT))
    for name in [*UNSAFE, "memory://b/x", "x::memory://b/x", "../b/x"]:
        with pytest.raises(DatasetError, match="unsafe file name"):
            source.read(name)


def test_large_and_damaged_objects_are_refused(tmp_path, monkeypatch):
    url = upload("folder", tmp_path, CONTENT)
    monkeypatch.setattr(files, "MAX_BYTES", 300)
    with pytest.raises(DatasetError, match=r"file_11\.bin: 507 bytes, expected at most 300"):
        files.open_source(url).read("top/d2/file_11.bin")
    store = fsspec.filesystem("memory")
    store.pipe(f"{url}.zip", b"no zip")
    with pytest.raises(DatasetError, match="not a readable zip"):
        files.open_source(f"{url}.zip")
    with pytest.raises(DatasetError, match="no such folder or archive"):
        files.open_source(f"{url}/nowhere")


def test_the_index_of_a_large_tar_is_saved_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_SAVE_FROM", 3)
    url = upload("tar-pax", tmp_path, CONTENT)
    files.open_source(url)
    assert storage.is_file(f"{url}.index.npy")

    def no_scan(*_):
        raise AssertionError("scanned again")

    with monkeypatch.context() as patch:
        patch.setattr(archives.TarSource, "_scan", no_scan)
        assert files.open_source(url).read("top/d0/file_0.bin") == CONTENT["top/d0/file_0.bin"]
    other = CONTENT | {"top/d0/file_0.bin": b"other"}
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        for name, data in other.items():
            (tmp_path / "one").write_bytes(data)
            archive.add(tmp_path / "one", name)
    fsspec.filesystem("memory").put(str(tmp_path / "b.tar"), url)
    assert files.open_source(url).read("top/d0/file_0.bin") == b"other"


def test_what_a_store_raises_is_one_line(tmp_path, monkeypatch):
    url = upload("folder", tmp_path, CONTENT)
    source = files.open_source(url)

    def refuse(*_, **__):
        raise ValueError("403 Forbidden\nlong text")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", refuse)
    with pytest.raises(
        StorageError, match=r"file_0.bin: ValueError: 403 Forbidden. Check"
    ) as found:
        source.read("top/d0/file_0.bin")
    assert not isinstance(found.value, DatasetError)  # which --on_error=skip would leave out
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "info", refuse)
    for ask in (files.open_source, lambda url: source.exists("top/d2"), storage.is_file):
        with pytest.raises(StorageError, match="403 Forbidden"):  # not: it is not there
            ask(url)


def test_a_client_that_is_not_installed_is_named(monkeypatch):
    def missing(*_, **__):
        raise ImportError("Please install s3fs")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(ConfigError, match=r"s3fs. pip install 'rsjax\[s3\]'"):
        files.open_source("s3://bucket/BigEarthNet")


def test_zip_of_one_member_is_read_by_ranges(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("big", bytes(10**6))
        archive.writestr("small", b"small")
    url = f"memory://{tmp_path.name}/a.zip"
    store = fsspec.filesystem("memory")
    store.put(str(tmp_path / "a.zip"), url)
    source = files.open_source(url)
    asked = []
    read = storage.read

    def counted(path, start=0, end=None):
        asked.append(end - start)
        return read(path, start, end)

    monkeypatch.setattr(storage, "read", counted)
    assert source.read("small") == b"small"
    assert sum(asked) < 100
