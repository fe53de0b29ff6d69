"""Packs at addresses: the bytes, the order and the resume of a disk, whatever the network does."""

import errno
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import write_list, write_video
from tests.remote_servers import S3_KEYS, Faulty, nginx_server, s3_server, write_fakes
from tests.test_commands import call
from videomae.config import AugmentConfig, ClipConfig, CropKind, DataConfig
from videomae.data.dataset import TrainingClips
from videomae.data.loader import Batch, MicroBatches, TrainingOrder, training_loader
from videomae.lists.clips import read_clips
from videomae.lists.formats import Clip
from videomae.run import addresses
from videomae.run.addresses import AddressError, RemoteFolder, is_address
from videomae.video import fetching
from videomae.video.fetching import Fetcher
from videomae.video.interface import DecodeError
from videomae.video.opening import pack_at
from videomae.video.pack_target import PackTarget
from videomae.video.packs import Pack, PackError
from videomae.video.remote import RemoteShards
from videomae.video.shard_cache import ShardCache, Use, cache_directory

REMOTE = all(map(importlib.util.find_spec, ("fsspec", "s3fs", "aiohttp", "moto", "flask_cors")))
pytestmark = [
    pytest.mark.skipif(not REMOTE, reason="the packages of videomae[remote] are not installed"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]
COUNT = 12


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 12 videos, and list.txt of them."""
    root = tmp_path_factory.mktemp("sources")
    names = [f"{number}.mp4" for number in range(COUNT)]
    for number, name in enumerate(names):
        write_video(root / name, seed=number)
    write_list(root / "list.txt", names)
    return root


@pytest.fixture(scope="module")
def pack(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """A pack of the videos in 6 shards, in a folder that the servers serve."""
    out = tmp_path_factory.mktemp("served") / "packs" / "one"
    given = (f"list={sources / 'list.txt'}", f"root={sources}", f"out={out}", "shard_mb=0.01")
    assert call("pack", *given, "preset=ultrafast", "workers=1") == 0
    found = Pack(out)
    assert len(found.shards) >= 6
    return found


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a certificate that the processes of this module trust."""
    folder = tmp_path_factory.mktemp("certificates")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(folder / "cert.pem"))
        yield folder


@pytest.fixture
def served(pack: Pack, certificates: Path, tmp_path: Path) -> Iterator[Faulty]:
    """A copy of the pack, served by a server that does as it should until it is told otherwise."""
    folder = tmp_path / "copy"
    shutil.copytree(pack.root, folder)
    with Faulty(folder).serving(certificates) as server:
        yield server


@pytest.fixture(autouse=True)
def no_packs_kept() -> Iterator[None]:
    yield
    pack_at.cache_clear()


def frames_of(found: Pack, number: int) -> np.ndarray:
    return found.open(Clip(f"{number}.mp4", 1)).read(range(12))


def same_frames(far: Pack, near: Pack) -> bool:
    return all(np.array_equal(frames_of(far, n), frames_of(near, n)) for n in range(COUNT))


# Every kind of address


@pytest.fixture(params=["s3", "https", "gs", "hf"])
def address(
    request: pytest.FixtureRequest, pack: Pack, certificates: Path, tmp_path: Path
) -> Iterator[str]:
    """The address of the pack at a server of each kind."""
    store = pack.root.parents[1]
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        if request.param == "s3":
            patch.setenv("AWS_ENDPOINT_URL", stack.enter_context(s3_server()))
            for key, value in S3_KEYS.items():
                patch.setenv(key, value)
            script = "import sys, fsspec; f = fsspec.filesystem('s3'); f.mkdir('bucket')\n"
            script += "f.put(sys.argv[1] + '/', 'bucket/packs/one/', recursive=True)"
            subprocess.run([sys.executable, "-c", script, str(pack.root)], check=True)
            yield "s3://bucket/packs/one"
        elif request.param == "https":
            if shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin") is None:
                pytest.skip("nginx is not installed: apt-get install nginx-light")
            shutil.copytree(certificates, tmp_path / "nginx", dirs_exist_ok=True)
            yield stack.enter_context(nginx_server(certificates, store)) + "/packs/one/"
        else:
            fakes = str(write_fakes(tmp_path / "fakes"))
            patch.setenv("FAKE_STORE", str(store.parent))
            patch.setenv("PYTHONPATH", os.pathsep.join([fakes, os.environ.get("PYTHONPATH", "")]))
            yield f"{request.param}://{store.name}/packs/one"


def test_a_pack_at_any_address_gives_the_frames_of_a_disk(
    address: str, pack: Pack, tmp_path: Path
) -> None:
    far = Pack.at(address, str(tmp_path / "cache"))
    assert same_frames(far, pack)
    assert far.name == address.rstrip("/")
    manifests = [(place / "manifest.json").read_bytes() for place in (far.root, pack.root)]
    assert manifests[0] == manifests[1]  # whose hash is in a run's identity: either may go on
    shards = list(far.root.glob("shard-*.tar"))
    assert sorted(path.read_bytes() for path in shards) == sorted(
        path.read_bytes() for path in pack.root.glob("shard-*.tar")
    )
    assert not far.damage(thorough=True)


# One server, looked at closely


def test_each_file_is_fetched_once_and_by_one_of_several_processes(
    served: Faulty, pack: Pack, tmp_path: Path
) -> None:
    names = [shard["name"] for shard in pack.shards]
    script = (
        "import json, os, sys, zlib\n"
        "from videomae.video.remote import FetchRequest, RemoteShards\n"
        "far = RemoteShards(FetchRequest(sys.argv[1], 'manifest.json', sys.argv[2], None))\n"
        "for number, name in enumerate(sys.argv[3:]):\n"
        "    print(zlib.crc32(os.pread(far.open(number, name), 10**6, 0)))\n"
    )
    served.pause_s = 0.02
    line = [sys.executable, "-c", script, served.address, str(tmp_path / "cache"), *names]
    others = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    sums = "".join(f"{zlib.crc32((pack.root / name).read_bytes())}\n" for name in names)
    assert {other.communicate()[0] for other in others} == {sums}
    assert [served.gets(name) for name in names] == [1] * len(names)
    before = len(served.asked)
    assert same_frames(Pack.at(served.address, str(tmp_path / "cache")), pack)
    assert {line.split()[1] for line in served.asked[before:]} == {"/manifest.json"}


def batches(root: str, source: Path, **more: Any) -> list[Batch]:
    """The batches of three epochs from a pack, by two decoding processes."""
    clip = ClipConfig(frames=4, stride=2, size=32)
    data = replace(DataConfig(clip=clip, root=root, repeats=2), **more)
    lines = read_clips(source, data, labelled=False)
    augment = AugmentConfig(CropKind.multi_scale, antialias=True)
    clips = TrainingClips(lines, data, augment, None, seed=0)
    order = TrainingOrder(len(lines), 4, seed=0)
    items = MicroBatches(order, rank=0, world=1, size=4, first=1, last=9)
    return list(training_loader(clips, items, size=4, workers=2, pin=False))


def same_batches(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) == 9 and all(
        torch.equal(a.clip, b.clip) and torch.equal(a.video, b.video) and a.bad == b.bad == []
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("room", [None, 2.5e-5], ids=["room for all", "room for two shards"])
def test_training_sees_the_batches_of_a_disk_though_every_tenth_request_is_dropped(
    served: Faulty, pack: Pack, tmp_path: Path, room: float | None
) -> None:
    served.drop_every = 10
    cache = tmp_path / "cache"
    far = batches(served.address, pack.root / "list.txt", cache_dir=str(cache), cache_gb=room)
    assert same_batches(far, batches(str(pack.root), pack.root / "list.txt"))
    assert len(served.asked) > 20
    kept = sum(path.stat().st_size for path in cache.glob("*/shard-*.tar"))
    assert room is None or kept < pack.shards[0]["bytes"] * 4


def test_shards_are_fetched_ahead_of_their_use(served: Faulty, pack: Pack, tmp_path: Path) -> None:
    far = Pack.at(served.address, str(tmp_path / "cache"))
    far.ask(Clip(f"{number}.mp4", 1) for number in range(COUNT))
    until = time.monotonic() + 20
    while len(list(far.root.glob("shard-*.tar"))) < len(pack.shards):
        assert time.monotonic() < until
        time.sleep(0.02)
    before = len(served.asked)
    assert same_frames(far, pack)
    assert len(served.asked) == before


def test_a_fetch_that_was_killed_goes_on_where_it_was(
    served: Faulty, pack: Pack, tmp_path: Path
) -> None:
    first = pack.shards[0]
    far = Pack.at(served.address, str(tmp_path / "cache"))
    part = far.root / f"{first['name']}.{first['bytes']}.part"
    part.write_bytes((pack.root / first["name"]).read_bytes()[:1000])
    assert same_frames(far, pack)
    assert f"GET /{first['name']} bytes=1000-{first['bytes'] - 1}" in served.asked
    assert not part.exists()


def test_a_fetching_program_that_dies_is_started_again(
    served: Faulty, pack: Pack, tmp_path: Path
) -> None:
    far = Pack.at(served.address, str(tmp_path / "cache"))
    assert far.remote is not None
    far.remote.program.kill()
    far.remote.program.wait()
    assert same_frames(far, pack)


def test_a_pack_that_changes_during_a_run_is_named(
    served: Faulty, pack: Pack, tmp_path: Path
) -> None:
    far = Pack.at(served.address, str(tmp_path / "cache"))
    assert far.remote is not None
    manifest = served.folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"num_left_out": 0', '"num_left_out": 1'))
    far.remote.program.kill()
    far.remote.program.wait()
    with pytest.raises(AddressError, match=f"{served.address} has become another pack"):
        frames_of(far, 0)


# Bad input


def test_other_bytes_at_the_far_end_cost_the_videos_that_they_are_of(
    served: Faulty, pack: Pack, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = served.folder / pack.shards[0]["name"]
    content = bytearray(path.read_bytes())
    content[700] ^= 1  # in the first video, after the header of 512 bytes
    path.write_bytes(content)
    far = Pack.at(served.address, str(tmp_path / "cache"))
    with pytest.raises(DecodeError, match="are not those of"):
        frames_of(far, 0)
    assert all(np.array_equal(frames_of(far, n), frames_of(pack, n)) for n in range(1, COUNT))
    assert served.gets(path.name) == 2
    said = capfd.readouterr().err
    assert f"{served.address}/{path.name} holds other bytes than its pack's manifest says" in said
    assert far.damage(thorough=True) == [f"{path.name} holds other bytes than were written"]


@pytest.mark.parametrize("cut", [None, 1000], ids=["missing", "cut short"])
def test_a_shard_that_is_missing_or_cut_short_is_named(
    served: Faulty, pack: Pack, tmp_path: Path, cut: int | None
) -> None:
    path = served.folder / pack.shards[0]["name"]
    if cut is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:cut])
    far = Pack.at(served.address, str(tmp_path / "cache"))
    expected = "does not exist" if cut is None else "has 1000 bytes, where its pack's manifest"
    with pytest.raises(DecodeError, match=f"{served.address}/{path.name} {expected}"):
        frames_of(far, 0)
    assert np.array_equal(frames_of(far, COUNT - 1), frames_of(pack, COUNT - 1))


def test_an_index_of_another_pack_is_refused(served: Faulty, tmp_path: Path) -> None:
    path = served.folder / "index.arrow"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"index\.arrow holds other bytes than were written"):
        Pack.at(served.address, str(tmp_path / "cache"))


def test_an_index_that_is_shorter_or_larger_than_it_may_be_is_refused(
    served: Faulty, tmp_path: Path
) -> None:
    manifest = json.loads((served.folder / "manifest.json").read_text())
    for size, words in ((2**25, "is shorter than"), (2**61, "is larger than data.cache_gb")):
        manifest["index"]["bytes"] = size
        (served.folder / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(PackError, match=words):
            Pack.at(served.address, str(tmp_path / "cache"))


def test_a_folder_without_a_manifest_is_no_pack(served: Faulty, tmp_path: Path) -> None:
    with pytest.raises(AddressError, match=r"is no pack: .*nothing/manifest\.json does not exist"):
        Pack.at(f"{served.address}/nothing", str(tmp_path / "cache"))


def test_a_server_without_ranges_is_named(served: Faulty, tmp_path: Path) -> None:
    served.ranges = False
    far = Pack.at(served.address, str(tmp_path / "cache"))
    assert frames_of(far, 0).shape[0] == 12  # small shards come whole at once


def test_a_bucket_that_is_not_there_and_missing_credentials_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server() as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store)
        for key, value in S3_KEYS.items():
            monkeypatch.setenv(key, value)
        with pytest.raises(
            AddressError, match=r"s3://nowhere/p is no pack: .*bucket does not exis"
        ):
            Pack.at("s3://nowhere/p", str(tmp_path / "cache"))
        for key in S3_KEYS:
            monkeypatch.delenv(key)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("HOME", str(tmp_path))
        with pytest.raises(AddressError, match=r"may not be .* these credentials.*AWS_ACC"):
            Pack.at("s3://nowhere/p", str(tmp_path / "cache"))


def test_refused_credentials_are_named_at_once_with_the_way_to_give_others(
    certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin") is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    shutil.copytree(certificates, tmp_path / "nginx", dirs_exist_ok=True)
    (tmp_path / "store" / "private").mkdir(parents=True)
    (tmp_path / "store" / "private" / "a").write_text("content")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(addresses, "ATTEMPTS", 1)  # another one would not be at once
    with nginx_server(certificates, tmp_path / "store") as server:
        for given in (server, server.replace("://", "://user:wrong@")):
            with pytest.raises(
                AddressError, match=r"may not be .*\(.*401.*\): .* ~/\.netrc"
            ) as raised:
                RemoteFolder(f"{given}/private").read("a", 100)
            assert "wrong" not in str(raised.value)
        right = server.replace("://", "://user:password@")
        assert RemoteFolder(f"{right}/private").read("a", 100) == b"content"
        netrc = tmp_path / ".netrc"
        netrc.write_text("machine 127.0.0.1 login user password password\n")
        netrc.chmod(0o600)
        assert RemoteFolder(f"{server}/private").read("a", 100) == b"content"


def test_keys_that_the_object_store_refuses_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "ATTEMPTS", 1)
    monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0)  # it looks at keys
    with s3_server() as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store)
        for key, value in (S3_KEYS | {"AWS_ACCESS_KEY_ID": "another"}).items():
            monkeypatch.setenv(key, value)
        folder = RemoteFolder("s3://bucket/pack")
        with pytest.raises(AddressError, match=r"a may not be looked at with .* AWS_ACCESS_KEY"):
            folder.read("a", 100)
        with pytest.raises(AddressError, match=r"may not be written with .*Id you provided does"):
            folder.try_writing()


def test_a_lost_connection_is_tried_again_and_then_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(addresses, "FIRST_PAUSE_S", 0.0)
    folder = RemoteFolder("https://user:secret@127.0.0.1:1/pack")
    with pytest.raises(AddressError) as raised:
        folder.read("manifest.json", 1000)
    said = str(raised.value)
    assert "https://***@127.0.0.1:1/pack/manifest.json" in said
    assert "10 attempts failed" in said
    assert "secret" not in said + caplog.text
    assert "attempt 10 of 10" in caplog.text


def test_a_connection_that_stays_lost_ends_training_and_makes_no_bad_files(
    served: Faulty, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: RemoteShards, line: str) -> None:
        for name in [shard["name"] for shard in pack.shards]:
            failed = {"kind": fetching.STOPPED, "error": f"{self.name}/{name}: 10 attempts failed"}
            self.cache.beside(name, ".failed").write_text(json.dumps(failed))

    monkeypatch.setattr(RemoteShards, "_send", refused)
    with pytest.raises(AddressError, match=f"{served.address}/shard-.*: 10 attempts failed"):
        batches(served.address, pack.root / "list.txt", cache_dir=str(tmp_path / "cache"))


@pytest.mark.long
def test_waiting_for_a_shard_does_not_count_towards_the_time_limit_of_a_video(
    served: Faulty, pack: Pack, tmp_path: Path
) -> None:
    served.pause_s, served.paused = 4.5, pack.shards[1]["name"]
    given = {"cache_dir": str(tmp_path / "cache"), "timeout_s": 3.0}
    far = batches(served.address, pack.root / "list.txt", **given)
    assert same_batches(far, batches(str(pack.root), pack.root / "list.txt"))


def test_a_password_in_the_address_reaches_no_log(
    served: Faulty, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    address = served.address.replace("https://", "https://user:secret@")
    with pytest.raises(AddressError):
        Pack.at(f"{address}/nothing", str(tmp_path / "cache"))
    far = Pack.at(address, str(tmp_path / "cache"))
    assert frames_of(far, 0).shape[0] == 12
    assert "user:***" not in far.name
    assert "***@" in far.name
    assert "secret" not in "".join(capfd.readouterr())
    assert b"secret" not in b"".join(
        path.read_bytes() + str(path).encode() for path in tmp_path.rglob("*") if path.is_file()
    )


def test_an_address_is_refused_where_a_file_or_a_folder_of_videos_is_needed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_list(tmp_path / "list.txt", ["a.mp4"])
    listed = f"list={tmp_path / 'list.txt'}"
    assert call("scan", listed, "root=s3://b/p", f"out={tmp_path / 'out'}") == 2
    assert "root=s3://b/p is an address" in capsys.readouterr().err
    assert call("scan", "list=s3://b/l", "root=s3://b/p", f"out={tmp_path / 'out'}") == 2
    assert "list=s3://b/l is an address, where a file here is needed" in capsys.readouterr().err


def test_what_an_address_is() -> None:
    assert all(map(is_address, ("s3://b/p", "gs://b", "hf://datasets/a/b", "https://h/p")))
    assert not any(map(is_address, ("http://h/p", "s3:/b", "/s3://b", "S3://b", None)))


# Writing


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The file system of an object store that has a bucket."""
    import fsspec

    with s3_server() as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store)
        for key, value in S3_KEYS.items():
            monkeypatch.setenv(key, value)
        files = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)
        files.mkdir("bucket")
        yield files


def there(files: Any) -> dict[str, bytes]:
    return {path.rpartition("/")[2]: files.cat_file(path) for path in files.ls("bucket/p")}


@pytest.mark.long
def test_a_pack_that_is_written_to_an_address_goes_on_after_a_break_to_the_bytes_of_a_disk(
    bucket: Any,
    sources: Path,
    pack: Pack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    listed = sources / "list.txt"
    staging = tmp_path / "staging"
    line = [
        *("pack", f"list={listed}", f"root={sources}", "out=s3://bucket/p", "shard_mb=0.01"),
        *("preset=ultrafast", "workers=1", f"staging={staging}"),
    ]
    put = PackTarget.put

    def breaks(self: PackTarget, path: Path) -> None:
        put(self, path)
        if path.name == "shard-000002.tar":
            raise AddressError("the connection is lost")

    monkeypatch.setattr(PackTarget, "put", breaks)
    assert call(*line) == 2
    assert "the connection is lost" in capsys.readouterr().err
    assert sorted(there(bucket)) == [f"shard-{number:06}.tar" for number in range(3)]
    assert [path.name for path in staging.glob("shard-*")] == ["shard-000002.tar"]
    assert call(*line, "crf=30") == 2
    assert "begun with other settings" in capsys.readouterr().err
    bucket.rm_file("bucket/p/shard-000001.tar")  # somebody removes it meanwhile

    written: list[str] = []
    monkeypatch.setattr(PackTarget, "put", lambda s, p: (written.append(p.name), put(s, p))[1])
    assert call(*line) == 0
    assert f"data.train_list={listed} data.root=s3://bucket/p" in (capsys.readouterr().err)
    assert "shard-000000.tar" not in written
    assert written[-1] == "manifest.json"
    assert there(bucket) == {path.name: path.read_bytes() for path in pack.root.iterdir()}
    assert not list(staging.iterdir())

    assert call(*line) == 0
    assert "s3://bucket/p is complete" in capsys.readouterr().err
    assert call(*line, "crf=30") == 2
    assert "s3://bucket/p holds a pack of another list" in capsys.readouterr().err
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # below which the cache is by default
    assert call("pack", "out=s3://bucket/p", "check=true") == 0
    assert list(tmp_path.glob(f"videomae-{os.getuid()}/*/shard-*.tar"))
    assert "s3://bucket/p: every byte is as it was written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("https://127.0.0.1:1/p", "packs are written to s3://, gs://, hf:// and to folders"),
        ("s3://nowhere/p", "The specified bucket does not exist"),
    ],
    ids=["https", "no bucket"],
)
def test_an_address_that_no_pack_can_be_written_to_is_refused_before_anything_is_done(
    bucket: Any,
    sources: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    out: str,
    words: str,
) -> None:
    given = (f"list={sources / 'list.txt'}", f"root={sources}", f"staging={tmp_path / 's'}")
    assert call("pack", *given, f"out={out}", "workers=1") == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


# The cache


def cache_of(directory: Path, limit: int) -> ShardCache:
    (directory / "key").mkdir(parents=True)
    return ShardCache(directory, "key", limit)


def put(cache: ShardCache, number: int, *, used: float | None, asked: float) -> str:
    """A shard of 100 bytes in the cache, used and asked for so many seconds ago."""
    name = f"shard-{number:06}.tar"
    cache.path(name).write_bytes(bytes(100))
    if used is not None:
        Use(cache, name).release(used=True)
        os.utime(cache.beside(name, ".use"), (time.time() - used,) * 2)
    os.utime(cache.path(name), (time.time() - asked,) * 2)
    return name


def test_least_recently_used_shards_go_first_and_those_in_use_never(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, limit=400)
    oldest, old, new = (put(cache, n, used=100 - n, asked=500) for n in range(3))
    ahead = put(cache, 3, used=None, asked=200)
    held = Use(cache, oldest)
    assert cache.make_room(100, urgent=False)
    assert [cache.path(n).exists() for n in (oldest, old, new, ahead)] == [True, False, True, True]
    assert cache.make_room(200, urgent=False)
    assert not cache.path(new).exists()
    assert not cache.make_room(300, urgent=False)  # what was fetched ahead stays for its reader
    assert cache.path(ahead).exists()
    assert cache.make_room(300, urgent=True)
    assert not cache.path(ahead).exists()
    assert cache.path(oldest).exists()
    assert cache.make_room(400, urgent=True)  # beyond the limit rather than that nothing goes on
    assert cache.path(oldest).exists()
    held.release(used=True)
    assert cache.make_room(400, urgent=True)
    assert not cache.path(oldest).exists()


def fetcher(pack: Pack, cache: ShardCache, monkeypatch: pytest.MonkeyPatch) -> Fetcher:
    """A fetcher of the pack within this process, from a folder in the place of a bucket."""
    from fsspec.implementations.local import LocalFileSystem
    from fsspec.registry import _registry

    class Local(LocalFileSystem):
        protocol = "gs"

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return str(path).removeprefix("gs:/")

    monkeypatch.setitem(_registry, "gs", Local)
    return Fetcher(RemoteFolder(f"gs:/{pack.root}".replace("gs:/", "gs://", 1)), cache, pack.shards)


def test_a_full_disk_goes_on_with_fewer_shards_and_is_named_where_it_cannot(
    pack: Pack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache = cache_of(tmp_path, limit=10**9)
    room = pack.shards[0]["bytes"] + pack.shards[1]["bytes"]
    write = os.write

    def limited(file: int, content: bytes) -> int:
        has = sum(path.stat().st_size for path in tmp_path.glob("key/shard-*"))
        if has + len(content) > room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, content)

    monkeypatch.setattr(fetching.os, "write", limited)
    monkeypatch.setattr(fetching, "RETRY_S", 0.0)
    fetch = fetcher(pack, cache, monkeypatch)
    for number, shard in enumerate(pack.shards):
        assert fetch.fetch(number, urgent=True)
        assert cache.path(shard["name"]).read_bytes() == (pack.root / shard["name"]).read_bytes()
    assert caplog.text.count("the cache goes on with less than its limit") == 1
    there = [shard["name"] for shard in pack.shards if cache.path(shard["name"]).exists()]
    held = [Use(cache, name) for name in there]
    missing = next(n for n, shard in enumerate(pack.shards) if shard["name"] not in there)
    assert fetch.fetch(missing, urgent=True)
    failed = cache.beside(pack.shards[missing]["name"], ".failed")
    assert "give data.cache_dir= on a larger disk" in json.loads(failed.read_text())["error"]
    for use in held:
        use.release(used=True)
    assert fetch.fetch(missing, urgent=True)
    assert cache.path(pack.shards[missing]["name"]).exists()


def test_a_cache_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / f"videomae-{os.getuid()}").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"belongs to another user: give data\.cache_dir="):
        cache_directory(None)
