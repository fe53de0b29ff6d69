"""What is printed steers no terminal; what is printed or written holds no secret."""

import io
import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from tests.conftest import composed, write_list
from tests.test_commands import call
from tests.train import PRETRAIN, pretraining, train, video_list
from videomae.config import ConfigError
from videomae.lists.prepared import read_prepared
from videomae.run.console import Facts, SafeConsole, log_to_console, progress_bar, tell
from videomae.run.environment import write_environment
from videomae.run.text import redacted, redacted_settings, redacted_yaml, secrets_given, shown

HOSTILE = "\x1b]0;owned\x07\x1b[2Ja\rb\x9b31m\u202egpj.\udcff"
ORDINARY = "Zürich, 東京, עברית, 🎬\tand a\nline of [brackets] C:\\x"
SECRETS = {
    "hydra.job.env_set.WANDB_API_KEY=0123456789abcdef": "0123456789abcdef",
    "+hf_token=hf_AbCdEfGhIjKlMnOpQrStUvWxYz01234567": "hf_AbCd",
    "hydra.job.env_set={AWS_SECRET_ACCESS_KEY: abc/def+ghi}": "abc/def",
    "data.root=https://user:pa55w0rd@host/videos": "pa55w0rd",
    "data.root=https://user:pa@55w0rd@host/videos": "55w0rd",
    "note=no weights at https:/user:pa55w0rd@host/x.pth": "pa55w0rd",
    "data.root=s3://AKIAIOSFODNN7EXAMPLE@bucket/x": "AKIAIOSFODNN7EXAMPLE",
    "weights=https://host/w.pth?X-Amz-Credential=AKIAIOSFODNN7EXAMPLE/x": "AKIAIOSFODNN7EXAMPLE",
    "+password='two words'": "two words",
    "+password='no end": "no end",
    "+token=one,pa55w0rd": "pa55w0rd",
    "+db={user: me, password: pa55w0rd}": "pa55w0rd",
    "weights=https://user:pa55w0rd": "pa55w0rd",
    "note=ghp_0123456789abcdefghijABCDEFGHIJ456789": "ghp_0123456789",
}


@pytest.mark.parametrize("text", [HOSTILE, f"a {HOSTILE} name"])
def test_control_characters_are_shown_as_escapes(
    capsys: pytest.CaptureFixture[str], text: str
) -> None:
    logger = logging.getLogger("videomae.test")
    with log_to_console(), progress_bar(text, total=1) as bar:
        logger.info(text)
        logger.info(Facts(text, [(text, text, text)]))
        bar.advance()
    tell(text)
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text)
    SafeConsole(highlight=False, width=200).print(table)
    said = capsys.readouterr()
    assert "\\x1b]0;owned\\x07\\x1b[2Ja\\rb\\x9b31m\\u202egpj.\\udcff" in said.err
    assert "\\x1b]0;owned" in said.out
    for character in HOSTILE:
        assert character.isprintable() or character not in said.err + said.out


def test_a_terminal_still_gets_its_colours() -> None:
    file = io.StringIO()
    settings: Any = {"force_terminal": True, "width": 80, "color_system": "standard"}
    SafeConsole(file=file, highlight=False, **settings).print("[bold]x[/bold] \x1b(B")
    assert file.getvalue() == "\x1b[1mx\x1b[0m \\x1b(B\n"


def test_ordinary_text_stays_as_it_is() -> None:
    assert shown(ORDINARY) == ORDINARY
    for text in (
        "data.train_list=/data/keys/monkey=1/token.txt",
        "encoder.mask_token: (1, 1, 384) there, (1, 1, 192) here",
        "optim.base_lr=1e-3 hf_models/hf_vit https://host/a@b probe.k=20 keyint=32",
        "data.sources.X.KEY=.. give data.sources.X.KEY=VALUE",
        "as a list, use key=[value1,value2]; as string: key=\\'value1,value2\\'",
        "commit 2056955d0c3b7ac5a1f8a1b6c7d8e9f0a1b2c3d4",
        "tcp://node1:29500 http://[::1]:80/ file:///a:b https://host:8080/x:y",
    ):
        assert redacted(text) == text


@pytest.mark.parametrize("argument", SECRETS)
def test_secrets_are_masked(argument: str) -> None:
    masked = redacted(argument)
    assert SECRETS[argument] not in masked
    assert "***" in masked
    assert masked.partition("=")[0] == argument.partition("=")[0]


def test_secrets_are_masked_by_the_names_of_settings() -> None:
    tree = {"env": {"WANDB_API_KEY": "abc", "PATH": "/bin"}, "tokens": [1], "key": None, "k": 3}
    expected = {"env": {"WANDB_API_KEY": "***", "PATH": "/bin"}} | {"tokens": [1], "key": None}
    assert redacted_settings(tree) == expected | {"k": 3}


@pytest.mark.long
def test_nothing_that_a_run_writes_or_prints_holds_a_secret(
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("SECRET", "0123456789abcdef")
    weights = train(pretraining(videos, tmp_path / "hf_AbCdEfGhIjKlMnOpQrStUvWxYz0", max_steps=1))
    given = (
        *PRETRAIN,
        f"data.root={videos}",
        f"data.train_list={video_list(tmp_path / 'list.txt')}",
        f"weights={weights}",
        "run.wandb=project",
        "max_steps=1",
        "output_dir=run",
        "+hydra.job.env_set.MY_TOKEN=0123456789abcdef",
    )
    assert call("pretrain", *given) == 0
    assert call("pretrain", *given[:-1], given[-1].removeprefix("+")) == 2  # Hydra's own message
    assert call("report", "runs=run", "out=page") == 0
    said = capfd.readouterr()
    found = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert any(path.suffix == ".wandb" for path in found)
    found = {path: each for path, each in found.items() if path.parts[0] in ("run", "page")}
    environment = json.loads(Path("run/environment.json").read_text())
    assert "+hydra.job.env_set.MY_TOKEN=***" in environment["command"]
    for secret in ("0123456789abcdef", weights.name):
        assert secret not in said.out + said.err
        assert [path for path, each in found.items() if secret.encode() in each] == []


def test_the_report_masks_what_an_earlier_commit_wrote(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(pretraining(videos, tmp_path / "run", max_steps=1))
    environment = json.loads((run / "environment.json").read_text())
    environment["command"] += ["+hf_token=abcdef123"]
    (run / "environment.json").write_text(json.dumps(environment))
    assert call("report", f"runs={run}", f"out={tmp_path / 'page'}") == 0
    pages = "".join(path.read_text() for path in (tmp_path / "page").glob("*.html"))
    assert "+hf_token=***" in pages
    assert "abcdef123" not in pages


def test_errors_and_tracebacks_are_shown_safely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("predict", f"weights='{HOSTILE[:8]}'", "video=x") == 2
    assert "\\x1b]0;owned" not in capsys.readouterr().out
    source = write_list(tmp_path / "list.txt", ["a\x1b[2J.mp4", "b.mp4"])
    assert call("pretrain", *PRETRAIN, f"data.train_list={source}", f"data.root={tmp_path}") == 2
    said = capsys.readouterr().err
    assert "a\\x1b[2J.mp4" in said
    assert "\x1b" not in said

    def fail(_: object) -> None:
        raise RuntimeError(HOSTILE)

    monkeypatch.setattr("videomae.video.opening.check_decoder", fail)
    monkeypatch.setattr("videomae.run.checks.require", fail)
    assert call("predict", "weights=x", "video=x") == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "\x1b" not in said


def test_a_command_is_masked_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(sys, "argv", ["finetune.py", *SECRETS])
    write_environment(tmp_path, torch.device("cpu"), {})
    text = (tmp_path / "environment.json").read_text()
    assert not [secret for secret in SECRETS.values() if secret in text]


MALFORMED = (
    ("+password=[pa55w0rd,b",),
    ("password pa55w0rd",),
    ("+token='pa55w0rd",),
    ('+token="pa55w0rd pa55w0rd',),
    ("+db={password:pa55w0rd",),
    ("+db={password:pa55w0rd}x",),
    ("+token=a,pa55w0rd]",),
    ("weights=https://user:pa55w0rd@host/x y]",),
    ("nosuch.token=pa55w0rd",),
    ("--hf_token=pa55w0rd",),
    ("--hf-token", "pa55w0rd"),
    ("--hf_token pa55w0rd",),
    ("--weights=https://user:pa55w0rd@host/x",),
    ("--cfg=pa55", "+token=pa55w0rd"),
)


@pytest.mark.parametrize("given", MALFORMED, ids=" ".join)
def test_what_cannot_be_parsed_is_repeated_without_secrets(
    given: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("pretrain", *given) != 0
    said = capsys.readouterr()
    assert said.err
    assert "pa55w0rd" not in said.err + said.out


@pytest.mark.parametrize("what", ["job", "hydra", "all"])
def test_a_config_is_printed_without_secrets(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["data.root=https://user:pa55w0rd@host/x", "+hydra.job.env_set.MY_TOKEN=0123456789ab"]
    given += ["+hydra.job.env_set.PASSWORD='two words'", "name=shown"]
    assert call("pretrain", *given, "--cfg", what) == 0
    said = capsys.readouterr()
    for secret in ("pa55w0rd", "0123456789ab", "two words"):
        assert secret not in said.out + said.err
    assert ("root: https://***@host/x" in said.out) == (what != "hydra")
    assert ("MY_TOKEN: ***" in said.out) == (what != "job")
    assert "shown" in said.out


def test_values_of_settings_named_like_secrets_are_known() -> None:
    given = ["+hf_token=abcdef", "key=abc", "k=20", "--password", "secret 1", "+API_KEY: two words"]
    assert secrets_given(given) == ["two words", "secret 1", "abcdef"]
    text = "job:\n  my_token: abc def\n  key: null\n  tokens: 3\n- +password=x\nmonkey: 1\n"
    masked = "job:\n  my_token: ***\n  key: null\n  tokens: 3\n- +password=***\nmonkey: 1\n"
    assert redacted_yaml(text) == masked


@pytest.mark.parametrize("command", ["pretrain", "finetune", "evaluate", "probe"])
@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "..", ".", "''", "a/", "'..\\x'"])
def test_a_name_that_leads_out_of_the_outputs_is_refused(command: str, name: str) -> None:
    with pytest.raises(ConfigError, match=r"name=.* would not lie below outputs/: give a name"):
        composed(command, f"name={name}")


@pytest.mark.parametrize("name", ["x", "a/b", "..x", "'<i>tiny</i> | run'", "'Zürich'"])
def test_other_names_are_taken(name: str) -> None:
    assert composed("pretrain", f"name={name}").output_dir == f"outputs/{name.strip(chr(39))}"


@pytest.mark.parametrize("change", [{"split": "/../../x"}, {"part": "../x"}])
def test_prepared_lists_of_others_name_no_other_directory(
    tmp_path: Path, change: dict[str, str]
) -> None:
    one = {"split": 1, "part": "train", "videos": 1, "published": None, "sha256": ""} | change
    facts = {"dataset": "ucf101", "root": "x", "classes": 3, "list_format": "auto"}
    facts |= {"frame_template": None, "first_frame": 1, "annotations": {}, "settings": {}}
    (tmp_path / "prepared.json").write_text(json.dumps(facts | {"lists": [one]}))
    with pytest.raises(ConfigError, match="name no list"):
        read_prepared(tmp_path)
