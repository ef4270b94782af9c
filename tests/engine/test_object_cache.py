"""The objects on disk: what is trusted, what is replaced, and that nothing that happens there is an error."""

import errno
import os
import stat
import time
import warnings
from pathlib import Path

import pytest

from attngraph.engine import object_cache
from attngraph.engine.object_cache import CacheWarning, ObjectCache

DIGEST = "ab" * 32
OTHER = "cd" * 32
IMAGE = b"the object" * 100


@pytest.fixture(autouse=True)
def nothing_warned(monkeypatch):
    monkeypatch.setattr(object_cache, "_warned", set())


@pytest.fixture
def cache(tmp_path):
    return ObjectCache(str(tmp_path / "cache"))


def names(cache):
    return sorted(path.name for path in cache.path(DIGEST).parent.iterdir())


def test_what_is_stored_is_loaded(cache):
    assert cache.load(DIGEST) is None
    cache.store(DIGEST, IMAGE)
    cache.store(OTHER, b"")
    assert cache.load(DIGEST) == IMAGE
    assert cache.load(OTHER) == b""


def test_the_files_are_the_users_alone(tmp_path):
    before = os.umask(0)
    try:
        cache = ObjectCache(str(tmp_path / "some" / "cache"))
        cache.store(DIGEST, IMAGE)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "some" / "cache").stat().st_mode) == 0o700
    assert stat.S_IMODE(cache.path(DIGEST).stat().st_mode) == 0o600
    assert names(cache) == [DIGEST + ".object"]


def test_an_object_stored_again_is_replaced(cache):
    cache.store(DIGEST, IMAGE)
    cache.store(DIGEST, b"new")
    assert cache.load(DIGEST) == b"new"
    assert len(names(cache)) == 1


def flip(content, at):
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGES = {
    "empty": lambda content: b"",
    "header only in part": lambda content: content[:50],
    "truncated": lambda content: content[:-1],
    "longer": lambda content: content + b"x",
    "foreign": lambda content: b"something else entirely, of some length" * 30,
    "magic": lambda content: flip(content, 0),
    "version": lambda content: flip(content, 16),
    "digest": lambda content: flip(content, 20),
    "checksum": lambda content: flip(content, 52),
    "length": lambda content: flip(content, 84),
    "first byte": lambda content: flip(content, 92),
    "last byte": lambda content: flip(content, len(content) - 1),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_not_loaded_and_is_replaced(cache, damage):
    cache.store(DIGEST, IMAGE)
    path = cache.path(DIGEST)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(CacheWarning, match="damaged and is compiled again"):
        assert cache.load(DIGEST) is None
    assert cache.load(DIGEST) is None  # without a second warning
    cache.store(DIGEST, IMAGE)
    assert cache.load(DIGEST) == IMAGE


def test_a_file_under_another_name_is_not_loaded(cache):
    cache.store(OTHER, IMAGE)
    cache.path(OTHER).rename(cache.path(DIGEST))
    with pytest.warns(CacheWarning, match="damaged"):
        assert cache.load(DIGEST) is None


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_not_trusted(cache, mode):
    cache.store(DIGEST, IMAGE)
    cache.path(DIGEST).chmod(mode)
    with pytest.warns(CacheWarning, match="writable by others"):
        assert cache.load(DIGEST) is None
    cache.store(DIGEST, IMAGE)
    assert cache.load(DIGEST) == IMAGE


def test_a_file_of_another_user_is_not_trusted(cache, monkeypatch):
    cache.store(DIGEST, IMAGE)
    if os.geteuid() == 0:
        os.chown(cache.path(DIGEST), 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.warns(CacheWarning, match="another user's"):
        assert cache.load(DIGEST) is None


def test_a_link_is_not_followed(cache, tmp_path):
    cache.store(DIGEST, IMAGE)
    path = cache.path(DIGEST)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.warns(CacheWarning, match="a symbolic link"):
        assert cache.load(DIGEST) is None
    cache.store(DIGEST, b"new")  # replaces the link, not what it points to
    assert cache.load(DIGEST) == b"new"
    assert (tmp_path / "elsewhere").read_bytes().endswith(IMAGE)


def test_an_unfinished_file_cannot_be_planted(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(object_cache.secrets, "token_hex", lambda size: "known")
    cache.store(OTHER, IMAGE)
    victim = tmp_path / "victim"
    planted = cache.path(DIGEST).with_name(f"{DIGEST}.{os.getpid()}-known.unfinished")
    planted.symlink_to(victim)
    with pytest.warns(CacheWarning, match="cannot be kept"):
        cache.store(DIGEST, IMAGE)
    assert not victim.exists()


def test_what_is_not_a_file_is_not_read(cache):
    cache.store(OTHER, IMAGE)
    os.mkfifo(cache.path(DIGEST))
    with pytest.warns(CacheWarning, match="not a regular file"):
        assert cache.load(DIGEST) is None  # and does not wait for somebody to write into the pipe
    cache.path(DIGEST).unlink()
    cache.path(DIGEST).mkdir()
    assert cache.load(DIGEST) is None
    with pytest.warns(CacheWarning, match="cannot be kept"):
        cache.store(DIGEST, IMAGE)


def test_a_file_in_the_place_of_the_directory(tmp_path):
    (tmp_path / "cache").write_text("not a directory")
    cache = ObjectCache(str(tmp_path / "cache"))
    assert cache.load(DIGEST) is None
    with pytest.warns(CacheWarning, match="cannot be kept in .*cache"):
        cache.store(DIGEST, IMAGE)
    assert (tmp_path / "cache").read_text() == "not a directory"


def failing(code):
    def fail(*arguments, **options):
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("call", ["mkdir", "open", "write", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_what_cannot_be_written_is_not_kept(cache, monkeypatch, call, code):
    with monkeypatch.context() as patched:
        patched.setattr(os, call, failing(code))
        with pytest.warns(CacheWarning, match=os.strerror(code)):
            cache.store(DIGEST, IMAGE)
        cache.store(DIGEST, IMAGE)  # without a second warning
    directory = cache.path(DIGEST).parent
    assert not directory.exists() or names(cache) == []  # nothing half-written remains
    cache.store(DIGEST, IMAGE)
    assert cache.load(DIGEST) == IMAGE


def test_the_disk_fills_up_in_the_middle(cache, monkeypatch):
    cache.store(DIGEST, b"old")
    write, written = os.write, []

    def full(descriptor, content):
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(write(descriptor, content[:60]))
        return written[0]

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.warns(CacheWarning, match="No space left"):
            cache.store(DIGEST, IMAGE)
    assert written == [60]
    assert cache.load(DIGEST) == b"old"
    assert len(names(cache)) == 1


def test_short_writes_and_reads_are_continued(cache, monkeypatch):
    write, read = os.write, os.read
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:7]))
    monkeypatch.setattr(os, "read", lambda descriptor, size: read(descriptor, min(size, 11)))
    cache.store(DIGEST, IMAGE)
    assert cache.load(DIGEST) == IMAGE


@pytest.mark.parametrize("call", ["open", "read", "fstat"])
def test_what_cannot_be_read_is_compiled_again(cache, monkeypatch, call):
    cache.store(DIGEST, IMAGE)
    with monkeypatch.context() as patched:
        patched.setattr(os, call, failing(errno.EIO))
        with pytest.warns(CacheWarning, match="cannot be read"):
            assert cache.load(DIGEST) is None
    assert cache.load(DIGEST) == IMAGE


def test_each_kind_of_trouble_is_reported_once(cache, tmp_path):
    (tmp_path / "file").write_text("")

    def trouble(digest):
        cache.store(digest, IMAGE)
        cache.path(digest).write_bytes(b"")
        cache.load(digest)
        cache.path(digest).chmod(0o666)
        cache.load(digest)
        ObjectCache(str(tmp_path / "file")).store(digest, IMAGE)

    with pytest.warns(CacheWarning) as caught:
        trouble(DIGEST)
    trouble(OTHER)
    assert len(caught) == 3
    assert {warning.filename for warning in caught} == {__file__}


def test_no_descriptor_is_left_open(cache, monkeypatch):
    cache.store(DIGEST, IMAGE)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cache.load(DIGEST)
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", failing(errno.ENOSPC))
            cache.store(OTHER, IMAGE)
        cache.path(DIGEST).write_bytes(b"damaged")
        cache.load(DIGEST)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def digests(count):
    return [f"{number:064x}" for number in range(count)]


def aged(cache, seconds_by_digest):
    now = time.time()
    for digest, seconds in seconds_by_digest.items():
        os.utime(cache.path(digest), (now - seconds, now - seconds))


def test_the_oldest_are_removed_by_number(tmp_path):
    cache = ObjectCache(str(tmp_path), most_files=10)
    for age, digest in enumerate(digests(10)):
        cache.store(digest, IMAGE)
        aged(cache, {digest: 1000 - age})
    cache.store(DIGEST, IMAGE)
    kept = [digest for digest in digests(10) if cache.load(digest)]
    assert kept == digests(10)[2:]  # down to nine of ten
    assert cache.load(DIGEST) == IMAGE


def test_the_oldest_are_removed_by_size(tmp_path):
    cache = ObjectCache(str(tmp_path), most_bytes=8 * (len(IMAGE) + 92))
    for age, digest in enumerate(digests(20)):
        cache.store(digest, IMAGE)
        aged(cache, {digest: 1000 - age})
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert sum(sizes) <= 8 * (len(IMAGE) + 92)
    assert len(sizes) >= 7
    assert all(cache.load(digest) for digest in digests(20)[-7:])


def test_a_file_in_use_is_as_good_as_new(tmp_path):
    cache = ObjectCache(str(tmp_path), most_files=2)
    first, second, third = digests(3)
    cache.store(first, IMAGE)
    cache.store(second, IMAGE)
    aged(cache, {first: 50_000, second: 40_000})
    assert cache.load(first) == IMAGE
    cache.store(third, IMAGE)
    assert cache.load(first) == IMAGE
    assert cache.load(second) is None


def test_only_our_own_files_are_removed(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    (tmp_path / "summaries").mkdir()
    old = tmp_path / f"{OTHER}.123-0.unfinished"
    old.write_bytes(b"of a process that died")
    os.utime(old, (1, 1))
    young = tmp_path / f"{OTHER}.124-0.unfinished"
    young.write_bytes(b"of a process that is writing")
    cache = ObjectCache(str(tmp_path), most_files=1)
    for digest in digests(4):
        cache.store(digest, IMAGE)
    assert (tmp_path / "thesis.txt").read_text() == "precious"
    assert (tmp_path / "summaries").is_dir()
    assert young.exists()
    assert not old.exists()
    assert len(list(tmp_path.glob("*.object"))) == 1


def test_the_directory_is_not_measured_at_every_store(tmp_path, monkeypatch):
    scans, scan = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (scans.append(path), scan(path))[1])
    cache = ObjectCache(str(tmp_path))
    for digest in digests(100):
        cache.store(digest, IMAGE)
    assert len(scans) == 2


def test_a_directory_that_cannot_be_measured_still_serves(cache, monkeypatch):
    monkeypatch.setattr(os, "scandir", failing(errno.EACCES))
    cache.store(DIGEST, IMAGE)
    assert cache.load(DIGEST) == IMAGE


def test_a_directory_that_is_removed_is_made_again(cache):
    cache.store(DIGEST, IMAGE)
    cache.path(DIGEST).unlink()
    cache.path(DIGEST).parent.rmdir()
    assert cache.load(DIGEST) is None
    cache.store(DIGEST, IMAGE)
    assert cache.load(DIGEST) == IMAGE
