"""A small part of the fuzzing campaign, and that the harness notices what goes wrong."""

import json
import random
from pathlib import Path

import pytest

from tests.fuzzing import campaign, watch
from tests.fuzzing.archives import BY_SUFFIX
from tests.fuzzing.base import OUTCOMES
from tests.fuzzing.campaign import KINDS, Case, Row, all_attacks, all_mutations, told
from tests.fuzzing.documents import Bait, mutate_json
from tests.fuzzing.mutations import MUTATIONS, mutate_bytes
from tests.fuzzing.planted import WAYS
from tests.fuzzing.targets import TARGETS

BAIT = Bait("127.0.0.1:9", "/outside/secret.mp4")
NOTICED = {
    "traceback": "traceback",
    "no memory": "traceback",
    "crash": "SIGSEGV",
    "silence": "status 0",
    "memory": "memory",
    "endless memory": "killed",
    "call": "called",
    "outside": "outside",
    "code": "code was run",
    "no name": "wrong",
    "escape": "steers the terminal",
    "value": "wrong",
}
"""How the harness calls each thing that goes wrong on purpose."""


SEED = 1


def rows(cases: list[Case], folder: Path) -> list[Row]:
    """The answers to cases, one each."""
    found = campaign.run(cases, folder, SEED, workers=1)
    assert len(found) == len(cases)
    return found


@pytest.mark.long
def test_mutated_and_hostile_files_are_right_refused_by_name_or_bad(tmp_path: Path) -> None:
    """A mutation and an attack for every twelfth target of each kind.

    scripts/soak.py fuzz does many more.
    """
    counts = {kind: sum(target.kind == kind for target in TARGETS) for kind in KINDS}
    cases = [Case(kind, number) for kind in KINDS for number in range(0, counts[kind], 12)]
    targets = {case.target.name for case in cases}
    attacks = {case.target.name: case for case in all_attacks() if case.target.name in targets}
    found = rows([*cases, *attacks.values()], tmp_path)
    failed = [told(row, SEED) for row in found if row.answer.failed]
    assert not failed, "\n".join(failed)
    assert {row.answer.outcome for row in found} == set(OUTCOMES)
    assert {row.case.kind for row in found} == set(KINDS)
    assert all(row.watched for row in found) == watch.available()


@pytest.mark.long
@pytest.mark.soak
def test_what_goes_wrong_is_noticed(tmp_path: Path) -> None:
    cases = [Case("planted", -1 - number) for number in range(len(WAYS))]
    found = {row.case.target.name: row.answer for row in rows(cases, tmp_path)}
    expected = dict(NOTICED)
    if watch.available():
        assert "AF_INET" in found["call"].detail  # strace sees it, too
    else:
        expected["outside"] = "right"
    assert {name: answer.outcome for name, answer in found.items()} == expected
    assert all(answer.failed for name, answer in found.items() if expected[name] != "right")


def test_a_case_is_found_again_by_its_kind_and_number() -> None:
    every = [*all_attacks(), *all_mutations(400)]
    places = {(case.target.kind, case.target.name, case.own_number) for case in every}
    assert len(places) == len(every)
    assert {case.target.name for case in every} == {target.name for target in TARGETS}
    assert Case("packs", 3).repeated(7).endswith("fuzz --kinds packs --only=3 --seed 7")


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_mutation_follows_from_its_seed_and_takes_any_content(mutation: object) -> None:
    for content in (b"\x01", b"ab", bytes(range(256)) * 8):
        once, again = bytearray(content), bytearray(content)
        mutation(once, random.Random(3))  # type: ignore[operator]
        mutation(again, random.Random(3))  # type: ignore[operator]
        assert once == again
    changed = {mutate_bytes(b"some content " * 20, random.Random(seed))[0] for seed in range(50)}
    assert len(changed) > 45


def test_documents_stay_documents_most_of_the_time() -> None:
    document = json.dumps({"a": [1, {"b": "x"}], "c": None, "path": "y"}).encode()
    changed = [mutate_json(document, random.Random(seed), BAIT)[0] for seed in range(200)]
    assert changed == [mutate_json(document, random.Random(n), BAIT)[0] for n in range(200)]

    def parses(content: bytes) -> bool:
        try:
            json.loads(content)
        except (ValueError, RecursionError):
            return False
        return True

    assert 100 < sum(map(parses, changed)) < 200
    assert any(BAIT.outside.encode() in content for content in changed)
    assert any(BAIT.address.encode() in content for content in changed)


def test_every_kind_of_document_has_mutations_of_its_own() -> None:
    assert {".json", ".jsonl", ".safetensors", ".pth", ".metadata", ".arrow"} < set(BY_SUFFIX)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('openat(AT_FDCWD</own>, "x.mp4", O_RDONLY) = 3</own/x.mp4>', None),
        ('openat(AT_FDCWD</own>, "x.mp4", O_RDONLY) = 3</other/x.mp4>', "opened /other/x.mp4"),
        ('openat(AT_FDCWD</own>, "../a", O_RDONLY) = -1 ENOENT (No such file)', "'/own/../a'"),
        ('openat(AT_FDCWD</own>, "a/../b", O_RDONLY) = -1 ENOENT (No such file)', None),
        ('openat(5</own/a>, "b", O_RDONLY <unfinished ...>', None),
        ("<... openat resumed>) = 3</etc/shadow>", "opened /etc/shadow"),
        ('open("/etc/shadow", O_RDONLY) = -1 EACCES (Permission denied)', "'/etc/shadow'"),
        ('open("/usr/lib/x.so", O_RDONLY) = 3</usr/lib/x.so>', None),
        (r'open("/own/\33]0;a\7", O_RDONLY) = 3</own/\33]0;a\7>', None),
        ("connect(3<socket:[1]>, {sa_family=AF_INET, sin_port=htons(9)}, 16) = 0", "connect("),
        ("connect(3<socket:[1]>, {sa_family=AF_UNIX, sun_path=@a}, 16) = 0", None),
        ("+++ exited with 0 +++", None),
    ],
)
def test_the_log_of_strace_is_understood(line: str, told: str | None, tmp_path: Path) -> None:
    log = watch.Watch(tmp_path / "log", [Path("/own")])
    found = list(log.judge(f"123 {line}\n"))
    assert (told is None) == (not found), found
    if told is not None:
        assert told in found[0]
