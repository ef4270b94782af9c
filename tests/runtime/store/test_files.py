import os

from attngraph.runtime.store.files import LocalFiles


def test_contents_are_those_of_each_file(tmp_path):
    files, names = LocalFiles(tmp_path), ["short", "long", "empty"]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(bytes([number]) * (10, 10_000, 0)[number])
    for name in (*names, *names[::-1]):
        with files.contents(name) as contents:
            assert bytes(contents) == (tmp_path / name).read_bytes() == files.read(name)


def test_contents_may_be_read_inside_of_others(tmp_path):
    files = LocalFiles(tmp_path)
    (tmp_path / "one").write_bytes(b"1" * 50)
    (tmp_path / "two").write_bytes(b"2" * 60)
    with files.contents("one") as one, files.contents("two") as two:
        assert (bytes(one), bytes(two)) == (b"1" * 50, b"2" * 60)


def test_what_a_read_gives_in_pieces_is_put_together(tmp_path, monkeypatch):
    (tmp_path / "one").write_bytes(bytes(range(100)))
    files, whole, into = LocalFiles(tmp_path), os.pread, os.preadv
    monkeypatch.setattr(os, "pread", lambda descriptor, size, start: whole(descriptor, min(size, 7), start))
    monkeypatch.setattr(os, "preadv", lambda descriptor, rooms, start, *_: into(descriptor, [rooms[0][:7]], start))
    assert files.read("one") == bytes(range(100))
    assert files.read("one", 5, 50) == bytes(range(5, 50))
    assert files.read("one", 90, 200) == bytes(range(90, 100))
    with files.contents("one") as contents:
        assert bytes(contents) == bytes(range(100))


def test_the_next_file_is_asked_for_where_one_was_waited_for(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"1" * 5000)
    files, asked, waits = LocalFiles(tmp_path), [], [True, False]
    into = os.preadv

    def read(descriptor, rooms, start, flags=0):
        if flags and waits.pop(0):
            raise BlockingIOError
        return into(descriptor, rooms, start)

    monkeypatch.setattr(os, "preadv", read)
    monkeypatch.setattr(LocalFiles, "_ask_for", lambda _, name: asked.append(name))
    for name, following in (("one", "two"), ("two", "three")):
        with files.contents(name, following) as contents:
            assert bytes(contents) == b"1" * 5000
    assert asked == ["two", "three"]
    monkeypatch.undo()
    files._ask_for("two")
    files._ask_for("nowhere")
