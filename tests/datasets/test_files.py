import io
import os
import pathlib
import pickle
import subprocess
import sys
import tarfile
import threading
import zipfile

import pytest

from rsjax.datasets import archives, files
from rsjax.errors import ConfigError, DatasetError

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONTENT = {f"top/d{i % 3}/file_{i}.bin": os.urandom(100 + 37 * i) for i in range(12)}
LONG = "top/" + "/".join(["x" * 60] * 4) + "/" + "y" * 90 + ".bin"  # needs a long-name header
UNSAFE = [
    "../evil", "a/../../evil", "/etc/passwd", "a\\..\\b", "C:/x", "http://h/x", "s3://b/x",
    "/vsicurl/http://h/x", "", "a\0b", "..",
]  # fmt: skip


def write_folder(path, content=CONTENT):
    for name, data in content.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def write_zip(path, content=CONTENT, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def write_tar(path, content=CONTENT, kind=tarfile.PAX_FORMAT, prefix=""):
    with tarfile.open(path, "w", format=kind) as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def make(kind, tmp_path, content):
    if kind == "folder":
        return write_folder(tmp_path / "folder", content)
    if kind.startswith("zip"):
        method = zipfile.ZIP_STORED if kind == "zip-stored" else zipfile.ZIP_DEFLATED
        return write_zip(tmp_path / "a.zip", content, method)
    formats = {"tar-pax": tarfile.PAX_FORMAT, "tar-gnu": tarfile.GNU_FORMAT}
    return write_tar(tmp_path / "a.tar", content, formats.get(kind, tarfile.USTAR_FORMAT))


KINDS = ["folder", "zip", "zip-stored", "tar-pax", "tar-gnu"]


@pytest.mark.parametrize("kind", [*KINDS, "tar-ustar"])
def test_reads_every_file(kind, tmp_path):
    content = dict(CONTENT) if kind == "tar-ustar" else CONTENT | {LONG: b"long"}
    source = files.open_source(make(kind, tmp_path, content))
    assert source.names() == sorted(content)
    assert {name: source.read(name) for name in content} == content
    assert source.names("top/d1") == sorted(n for n in content if n.startswith("top/d1/"))
    assert source.folders("top")[:3] == ["d0", "d1", "d2"]
    assert source.folders() == ["top"]
    assert source.exists("top/d2")
    assert source.exists("top/d2/file_2.bin")
    assert not source.exists("top/d2/file_1.bin")
    assert not source.exists("to")
    assert source.describe("top/x").endswith("top/x")


def test_dot_slash_prefix_of_tar_members_is_dropped(tmp_path):
    source = files.open_source(write_tar(tmp_path / "a.tar", prefix="./"))
    assert {name: source.read(name) for name in source.names()} == CONTENT


@pytest.mark.parametrize("kind", KINDS)
def test_missing_file_names_path_and_page(kind, tmp_path):
    source = files.open_source(make(kind, tmp_path, CONTENT), "https://page.example")
    with pytest.raises(DatasetError, match=r"top/none\.bin: no such file.*https://page\.example"):
        source.read("top/none.bin")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_names_are_refused(kind, name, tmp_path):
    source = files.open_source(make(kind, tmp_path, CONTENT))
    with pytest.raises(DatasetError, match="unsafe file name"):
        source.read(name)


@pytest.mark.parametrize("kind", KINDS)
def test_pickle_and_threads(kind, tmp_path):
    source = pickle.loads(pickle.dumps(files.open_source(make(kind, tmp_path, CONTENT))))
    wrong = []

    def work():
        for _ in range(30):
            wrong.extend(name for name, data in CONTENT.items() if source.read(name) != data)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# Runs on its own, because a process with threads must not fork.
FORK = """
import os, pickle, sys
from rsjax.datasets import files
source, content = files.open_source(sys.argv[1]), pickle.loads(sys.stdin.buffer.read())
same = lambda: all(source.read(n) == d for n, d in content.items() for _ in range(50))
pids = []
for _ in range(3):
    if (pid := os.fork()) == 0:
        os._exit(0 if same() else 1)
    pids.append(pid)
print(same(), [os.waitpid(pid, 0)[1] for pid in pids])
"""


@pytest.mark.parametrize("kind", ["zip", "tar-pax"])
def test_forked_processes_share_no_position(kind, tmp_path):
    path = make(kind, tmp_path, CONTENT)
    command = [sys.executable, "-c", FORK, str(path)]
    done = subprocess.run(command, input=pickle.dumps(CONTENT), capture_output=True, cwd=ROOT)
    assert done.stdout.decode().strip() == "True [0, 0, 0]", done.stderr.decode()


def test_link_out_of_a_folder_is_refused(tmp_path):
    folder = write_folder(tmp_path / "folder")
    (tmp_path / "secret").write_text("secret")
    (folder / "top" / "link.bin").symlink_to(tmp_path / "secret")
    (folder / "top" / "out").symlink_to(tmp_path)
    (folder / "top" / "in.bin").symlink_to(folder / "top" / "d0" / "file_0.bin")
    source = files.open_source(folder)
    for name in ("top/link.bin", "top/out/secret"):
        with pytest.raises(DatasetError, match="leads out of"):
            source.read(name)
    assert source.read("top/in.bin") == CONTENT["top/d0/file_0.bin"]


def test_linked_folders_are_listed(tmp_path):
    folder = write_folder(tmp_path / "folder")
    (tmp_path / "folder" / "parts").mkdir()
    (folder / "parts" / "linked").symlink_to(folder / "top" / "d1")
    (folder / "top" / "d0" / "back").symlink_to(folder)  # to a folder above: nothing new
    source = files.open_source(folder)
    linked = [n.replace("top/d1", "parts/linked") for n in CONTENT if n.startswith("top/d1/")]
    (folder / "loop").symlink_to("loop")
    assert source.names() == sorted([*CONTENT, *linked, "loop"])
    for under in ("parts", "parts/linked"):
        assert source.names(under) == sorted(linked)
    assert source.read(linked[0]) == CONTENT[linked[0].replace("parts/linked", "top/d1")]
    assert source.names("nowhere") == []
    (folder / "parts" / "out").symlink_to(tmp_path)
    with pytest.raises(DatasetError, match=r"parts.out: a link that leads out of"):
        source.names()


def test_pipe_and_folder_are_no_files(tmp_path):
    folder = write_folder(tmp_path / "folder")
    os.mkfifo(folder / "pipe.bin")
    source = files.open_source(folder)
    for name in ("pipe.bin", "top"):
        with pytest.raises(DatasetError, match="not a regular file"):
            source.read(name)


@pytest.mark.parametrize("kind", KINDS)
def test_file_above_the_limit_is_refused(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 300)
    path = make(kind, tmp_path, CONTENT)
    with pytest.raises(DatasetError, match=r"file_\d+\.bin: \d+ bytes, expected at most 300"):
        files.open_source(path).read("top/d2/file_11.bin")


@pytest.mark.parametrize(
    ("name", "command"), [("a.tar.zst", "zstd -d"), ("a.tar.gz", "gunzip"), ("a.tgz", "gunzip")]
)
def test_compressed_tar_names_the_command(name, command, tmp_path):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DatasetError, match=f"{command} .*{name}"):
        files.open_source(tmp_path / name)


def test_open_source_refuses_what_is_not_local(tmp_path):
    with pytest.raises(DatasetError, match="not a local path"):
        files.open_source("/vsizip/a.zip")
    for path in ("http://host/a.zip", "zip://a.tif::memory://b/a.zip", "memory://a::b", "gs://"):
        with pytest.raises(ConfigError, match="not a local path, nor a bucket"):
            files.open_source(path)
    with pytest.raises(DatasetError, match=r"nowhere: no such folder.*https://page"):
        files.open_source(tmp_path / "nowhere", "https://page")
    (tmp_path / "a.rar").write_bytes(b"x")
    with pytest.raises(DatasetError, match="neither a folder nor"):
        files.open_source(tmp_path / "a.rar")


@pytest.mark.parametrize("name", ["../evil.tif", "/abs.tif", "a/../../b", "/vsicurl/http://h/x"])
def test_archive_with_unsafe_member_is_refused_whole(name, tmp_path):
    for path in (
        write_zip(tmp_path / "a.zip", CONTENT | {name: b"x"}),
        write_tar(tmp_path / "a.tar", CONTENT | {name: b"x"}),
    ):
        with pytest.raises(DatasetError, match="unsafe file name"):
            files.open_source(path)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_tar_with_link_or_device_is_refused(kind, tmp_path):
    path = write_tar(tmp_path / "a.tar")
    with tarfile.open(path, "a") as archive:
        member = tarfile.TarInfo("top/d0/odd.tif")
        member.type = kind
        member.linkname = "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(DatasetError, match=r"odd\.tif: a link or device"):
        files.open_source(path)


def test_zip_with_link_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a") as archive:
        member = zipfile.ZipInfo("top/link.tif")
        member.external_attr = 0o120777 << 16
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(DatasetError, match=r"link\.tif: a link or device"):
        files.open_source(path)


def test_zip_bomb_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"bomb.tif": bytes(2**24)})
    with pytest.raises(DatasetError, match=r"bomb\.tif: unpacks \d+ into 16777216"):
        files.open_source(path)


def test_zip_that_lies_about_size_or_content(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a.bin": b"A" * 500}, zipfile.ZIP_STORED)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"A" * 500, b"A" * 250 + b"B" + b"A" * 249))
    with pytest.raises(DatasetError, match=r"a\.bin: content does not match its checksum"):
        files.open_source(path).read("a.bin")
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DatasetError, match="not a readable zip"):
        files.open_source(path)


def test_archive_with_a_name_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a", b"2")
    write_tar(tmp_path / "a.tar", {"b": b"1"})
    with tarfile.open(tmp_path / "a.tar", "a") as archive:
        archive.addfile(tarfile.TarInfo("b"))
    for name in ("a.zip", "a.tar"):
        with pytest.raises(DatasetError, match="twice"):
            files.open_source(tmp_path / name)


@pytest.mark.parametrize("cut", [0.3, 0.5, 0.8])
def test_truncated_tar_is_refused(cut, tmp_path):
    path = write_tar(tmp_path / "a.tar", {n: d for n, d in CONTENT.items()})
    data = path.read_bytes().rstrip(b"\0")
    path.write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(DatasetError, match=r"cut off at byte|without the end mark"):
        files.open_source(path)


def test_damaged_tar_header_is_refused(tmp_path):
    path = write_tar(tmp_path / "a.tar")
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="no tar header at byte 0"):
        files.open_source(path)


@pytest.mark.parametrize(
    "record", [b"0 path=x\n", b"x path=y\n", b"-3 a=b\n", b"garbage", b"9 a\n"]
)
def test_damaged_pax_header_is_refused(record, tmp_path):
    long = "x/" * 90 + "z"
    path = write_tar(tmp_path / "a.tar", {long: b"1"})
    data = path.read_bytes()
    place = data.index(b"path=x/") - 4  # "191 path=..."
    path.write_bytes(data[:place] + record + data[place + len(record) :])
    with pytest.raises(DatasetError, match=r"no tar header at byte 0|unsafe|no such file"):
        files.open_source(path).read(long)


def test_index_of_a_large_tar_is_saved_and_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_SAVE_FROM", 5)
    path = write_tar(tmp_path / "a.tar")
    saved = tmp_path / "a.tar.index.npy"
    files.open_source(path)
    assert saved.exists()
    monkeypatch.setattr(archives.TarSource, "_scan", None)  # the index must do without
    source = files.open_source(path)
    assert {name: source.read(name) for name in CONTENT} == CONTENT
    monkeypatch.undo()
    write_tar(path, {"other.bin": b"new"})
    assert files.open_source(path).read("other.bin") == b"new"
    saved.write_bytes(b"rubbish")
    assert files.open_source(path).read("other.bin") == b"new"


def test_open_part_takes_folder_or_tar_and_tells_how_to_do_without(tmp_path):
    write_folder(tmp_path / "one" / "S2", {"a": b"folder"})
    write_folder(tmp_path / "two", {})
    (tmp_path / "two").mkdir()
    write_tar(tmp_path / "two" / "S2.tar", {"S2/a": b"tar"})
    (tmp_path / "three").mkdir()
    (tmp_path / "three" / "S2.tar.zst").write_bytes(b"x")
    (tmp_path / "four").mkdir()
    assert files.open_part(tmp_path / "one", "S2", "", "").read("S2/a") == b"folder"
    assert files.open_part(tmp_path / "two", "S2", "", "").read("S2/a") == b"tar"
    with pytest.raises(DatasetError, match="zstd -d"):
        files.open_part(tmp_path / "three", "S2", "", "")
    with pytest.raises(DatasetError, match=r"S2\.tar is there.*https://p.*sensors=\('s1',\)"):
        files.open_part(tmp_path / "four", "S2", "https://p", "sensors=('s1',)")


def test_a_link_to_nothing_is_a_missing_file(tmp_path):
    (tmp_path / "image.tif").symlink_to(tmp_path / "elsewhere" / "image.tif")
    with pytest.raises(DatasetError, match="no such file"):
        files.open_source(tmp_path).read("image.tif")


@pytest.mark.parametrize("kind", ["folder", "zip", "tar-pax"])
def test_a_part_is_a_folder_or_an_archive(kind, tmp_path):
    made = make(kind, tmp_path, CONTENT)
    if kind == "folder":
        (made / "top").rename(tmp_path / "top")
    else:
        made.rename(tmp_path / f"top{made.suffix}")
    part = files.open_part(tmp_path, "top", "https://page")
    assert {name: part.read(name) for name in part.names("top")} == CONTENT


def test_a_part_that_is_not_there(tmp_path):
    with pytest.raises(DatasetError, match=r"neither the folder a nor a\.zip or a\.tar .*page$"):
        files.open_part(tmp_path, "a", "https://page")
    with pytest.raises(DatasetError, match="page, or leave it out with x=1"):
        files.open_part(tmp_path, "a", "https://page", "x=1")
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        files.open_part(tmp_path / "nowhere", "a", "https://page")
    (tmp_path / "a.tar.zst").write_bytes(b"x")
    with pytest.raises(DatasetError, match="zstd -d"):
        files.open_part(tmp_path, "a", "https://page")
