"""Paths on the command line are what they say; a misspelt name is answered by the nearest."""

from pathlib import Path

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st

from videomae.config import (
    ConfigError,
    FinetuneConfig,
    PredictConfig,
    PretrainConfig,
    ReportConfig,
)
from videomae.run.overrides import check_names, check_readable, groups_of, literal, options_last

PATHS = (
    "a b.txt",
    "a,b.txt",
    "[a].txt",
    "a=b:c.txt",
    "{x}.mp4",
    "видео/猫.mp4",
    "it's.txt",
    'say "hi".txt',
    "back\\slash\\",
    "(1) !&$.mp4",
    "#dance/x.mp4",
    "  two  blanks ",
    "~/lists/x.txt",
    "back\\\n",
)


def value_of(word: str) -> object:
    """What Hydra makes of an override's value."""
    return OverridesParser.create().parse_override(word).value()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("key", ["data.train_list", "data.sources.mine.root", "weights"])
def test_a_path_is_taken_literally(key: str, path: str) -> None:
    (word,) = literal([f"{key}={path}"], PretrainConfig)
    assert value_of(word) == path


@given(
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).filter(
        lambda text: "${" not in text and text != "null" and text[0] not in "'\""
    )
)
@example("\\'")
@example("a\\\\'b\\")
@example("true")
@example("NULL")
@example("1_0")
@example("1e5")
def test_any_path_is_taken_literally(path: str) -> None:
    (word,) = literal([f"data.root={path}"], PretrainConfig)
    assert value_of(word) == path


@pytest.mark.parametrize(
    "word",
    [
        "data.root=${oc.env:HOME}/videos",
        "output_dir='outputs/a b'",
        'data.root="a, b"',
        "data.root=null",
        "augment.scales=[1,0.875]",
        "name=a b",
        "~data.sources.x",
        "--config-dir=a b",
        "-m",
    ],
)
def test_everything_else_stays_as_it_is(word: str) -> None:
    assert literal([word], PretrainConfig) == [word]


def test_a_list_of_globs_stays_a_list() -> None:
    assert literal(["runs=[a,b]"], ReportConfig) == ["runs=[a,b]"]


@pytest.mark.parametrize("path", PATHS)
def test_a_directory_among_the_runs_is_taken_literally(path: str) -> None:
    (word,) = literal([f"runs={path}"], ReportConfig)
    assert value_of(word) == path


def swept(*words: str) -> list[list[str]]:
    """The jobs of a sweep."""
    parsed = OverridesParser.create().parse_overrides(literal(["-m", *words], FinetuneConfig)[1:])
    (jobs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return [list(job) for job in jobs]


def test_under_m_commas_separate_values_unless_quoted() -> None:
    assert swept("weights=a b,c") == [["weights='a b'"], ["weights=c"]]
    assert swept("weights='a,b'") == [["weights='a,b'"]]
    assert swept("weights='a,b',c d") == [["weights='a,b'"], ["weights='c d'"]]
    assert swept("seed=1,2") == [["seed=1"], ["seed=2"]]
    assert literal(["-m", "weights=glob(*)"], FinetuneConfig) == ["-m", "weights=glob(*)"]


def test_the_sweep_of_the_docs_stays() -> None:
    word = "output_dir=outputs/ucf101-${optim.base_lr}"
    words = ["-m", "optim.base_lr=5e-4,1e-3", word]
    assert literal(words, FinetuneConfig) == words


@pytest.mark.parametrize(
    ("config_class", "word", "near"),
    [
        (PretrainConfig, "run.device_bach=4", "run.device_batch"),
        (PretrainConfig, "lr=1", "optim.lr"),
        (PretrainConfig, "global_batch=8", "optim.global_batch"),
        (PretrainConfig, "train_list=x", "data.train_list"),
        (PretrainConfig, "modell=vit_base", "model"),
        (PretrainConfig, "model=vit_bsae", "vit_base"),
        (PretrainConfig, "+exp=tiktok_vitgg", "tiktok_vitg"),
        (PretrainConfig, "data.sources.a.train_lst=x", "data.sources.NAME.train_list"),
        (PredictConfig, "vidoe=x.mp4", "video"),
    ],
)
def test_a_misspelt_name_is_answered_by_the_nearest(
    config_class: type, word: str, near: str
) -> None:
    with pytest.raises(ConfigError, match=rf"there is no .*; did you mean .*\b{near}\b.*\?"):
        check_names([word], config_class)


@pytest.mark.parametrize(
    "word",
    [
        "+exp=tiktok_vitg",
        "model=vit_base",
        "data.sources.any_name.train_list=x",
        "data.clip={frames: 8}",
        "~data.sources.x",
        "hydra.run.dir=x",
        "hydra/launcher=submitit_slurm",
        "model@model=vit_base",
        "++optim.base_lr=1",
        "model=vit_base,vit_large",
        "model=${oc.env:MODEL}",
    ],
)
def test_a_name_that_exists_is_let_through(word: str) -> None:
    check_names([word, "--cfg", "job", "--resolve"], PretrainConfig)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("optim.epochs=abc", "a whole number"),
        ("optim.epochs=1.5", "a whole number"),
        ("optim.epochs=", "a whole number"),
        ("seed=null", "a whole number"),
        ("max_steps=many", "a whole number"),
        ("optim.base_lr=fast", "a number"),
        ("run.compile=maybe", "true or false"),
        ("data.sampling=odd", "one of dense, segment"),
        ("++data.sampling=odd", "one of dense, segment"),
        ("data.sources.a.stride=x", "a whole number"),
    ],
)
def test_a_value_of_another_type_is_named_with_what_the_setting_means(
    word: str, expected: str
) -> None:
    key, _, value = word.lstrip("+").partition("=")
    with pytest.raises(ConfigError) as raised:
        check_names([word], PretrainConfig)
    said = str(raised.value)
    assert said.startswith(f"{key} must be {expected}, got {value or 'nothing'}: ")
    assert len(said.partition(": ")[2]) > 10


@pytest.mark.parametrize(
    "word",
    [
        "optim.epochs=3",
        "optim.epochs=1_0",
        "optim.epochs=1,2",  # a sweep
        "optim.epochs=${seed}",
        "optim.lr=null",
        "optim.lr=NULL",
        "optim.lr=1e-3",
        "optim.lr=nan",  # its bounds are looked at later
        "run.compile=yes",
        "run.compile=0",
        "data.sampling=segment",
        "+data.sampling=segment",
        "max_steps=null",
        "data.sources.a.stride=2",
        "name=3",
    ],
)
def test_values_that_hydra_reads_are_let_through(word: str) -> None:
    check_names([word], PretrainConfig)


@pytest.mark.parametrize(
    "words",
    [
        ["--config-dir", "{}"],
        ["--config-dir={}"],
        ["hydra.searchpath=[{}]"],
        ["hydra.searchpath=['file://{}']"],
    ],
)
def test_configs_in_other_folders_are_known(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / "mine.yaml").write_text("# @package _global_\n")
    placed = [word.format(tmp_path) for word in words]
    check_names([*placed, "+exp=mine"], PretrainConfig)
    with pytest.raises(ConfigError, match="did you mean mine"):
        check_names([*placed, "+exp=mime"], PretrainConfig)


def test_a_search_path_may_hold_blanks(tmp_path: Path) -> None:
    for folder in ("a b", "c,d"):
        (tmp_path / folder / "exp").mkdir(parents=True)
        (tmp_path / folder / "exp" / f"{folder[0]}.yaml").touch()
    path = f"hydra.searchpath=[file://{tmp_path}/a b, 'file://{tmp_path}/c,d']"
    check_names([path, "+exp=a", "+exp=c"], PretrainConfig)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("+exp=", "there is no exp="),
        ("model=", "there is no model="),
        ("exp=small", "exp=small needs a plus: \\+exp=small"),
        ("+exp=../exp/small", "there is no exp=../exp/small; did you mean small"),
        ("output_dir=", "output_dir= is empty: give a path"),
        ("data.sources.a.root=", "data.sources.a.root= is empty: give a path"),
    ],
)
def test_an_empty_or_misplaced_name_is_told(word: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_names([word], PretrainConfig)


def test_configs_of_another_package_are_left_to_hydra() -> None:
    check_names(["hydra.searchpath=[pkg://mine.configs]", "+exp=mine"], PretrainConfig)


def test_the_groups_of_a_command_are_its_sections() -> None:
    assert set(groups_of(PretrainConfig)) == {
        *("augment", "data", "exp", "mask", "model", "optim", "run")
    }
    assert set(groups_of(PredictConfig)) == {"run"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("a=1 -m b=2", "a=1 b=2 -m"),
        ("--cfg job a=1 --resolve b=2", "a=1 b=2 --cfg job --resolve"),
        ("-cd x=y a=1", "a=1 -cd x=y"),
        ("a=1 --info b=2", "a=1 b=2 --info"),
        ("--info config b=2", "b=2 --info config"),
        ("a=1 ~b", "a=1 ~b"),
    ],
)
def test_options_may_stand_anywhere(words: str, expected: str) -> None:
    assert options_last(words.split()) == expected.split()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("=1", "=1 names no setting: give KEY=VALUE"),
        ("optim=null", "there is no optim=null; there are finetune pretrain"),
        ("optim=1", "there is no optim=1"),
    ],
)
def test_what_hydra_answers_with_a_traceback_is_an_error(word: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_names([word], PretrainConfig)


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("name=a=[1] b", """put the value in quotes, 'name="a=[1] b"'"""),
        ("seed=a=b", "put the value in quotes"),
        ("output_dir=x/${name", "put the value in quotes"),
    ],
)
def test_what_hydra_cannot_read_is_named_with_the_next_step(word: str, advice: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        check_readable(["seed=3", word, "--cfg", "job"])
    assert str(caught.value).startswith(f"{word} cannot be read (")
    assert advice in str(caught.value)


def test_a_word_that_may_be_a_secret_is_not_repeated() -> None:
    with pytest.raises(ConfigError, match=r"^setting 2 has no =: give KEY=VALUE$"):
        check_readable(["seed=3", "pa55w0rd"])


def test_what_hydra_can_read_passes() -> None:
    check_readable([*literal(["data.root=a [b], c=d", "~data.sources.x"], PretrainConfig), "-m"])
    check_readable(
        ["seed=1,2", "optim.betas=[0.9,0.95]", "data.root=${oc.env:HOME}/x", "+exp=k400"]
    )
