"""`key=value` words of the command line."""

import pytest

from fuse_examples.imaging.oai_example.configuration.draft import Draft
from fuse_examples.imaging.oai_example.configuration.origin import Origin
from fuse_examples.imaging.oai_example.configuration.overrides import lay_over, parse_words
from fuse_examples.imaging.oai_example.configuration.segmentation_config import SegmentationConfig
from fuse_examples.imaging.oai_example.configuration.yaml_source import read_text


@pytest.mark.parametrize(
    ("word", "path", "value"),
    [
        ("seed=3", ("seed",), 3),
        ("learning_rate=1e-4", ("learning_rate",), 1e-4),
        ("train_folds=[0, a]", ("train_folds",), [0, "a"]),
        ("crops.n_local=6", ("crops", "n_local"), 6),
        ("test_ckpt=", ("test_ckpt",), None),
        ("csv_path=a=b.csv", ("csv_path",), "a=b.csv"),
        ("positive_class.V00COHORT='1: Progression'", ("positive_class", "V00COHORT"), "1: Progression"),
        ("positive_class.my column=x", ("positive_class", "my column"), "x"),
    ],
)
def test_a_word_is_a_key_and_a_yaml_value(word: str, path: tuple[str, ...], value: object) -> None:
    (found,), problems = parse_words([word])
    assert (found.path, found.value, problems) == (path, value, [])


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["seed"], "command line: seed: not of the form key=value"),
        (["=3"], "command line: =3: not of the form key=value"),
        (["a..b=3"], "command line: a..b=3: not of the form key=value"),
        (["seed=[1"], "command line: seed=[1: the value is not valid YAML: while parsing a flow sequence expected ',' or ']', but got "
         "'<stream end>'"),
        (["seed=!!python/x y"], "command line: seed=!!python/x y: the tag !!python/x is not allowed; write a plain value"),
        (["seed={a: 1, a: 2}"], "command line: seed={a: 1, a: 2}: the key 'a' is repeated; it was set on line 1 already"),
        (["--batch-size=4"], "command line: --batch-size=4: not a flag of this program (--config, --check, --help); settings are words: "
         "batch_size=4"),
        (["seed=1", "seed=2"], "command line: seed=2: 'seed' was set by 'seed=1' already"),
        (["store.path=a", "store={}"], "command line: store={}: 'store' was set by 'store.path=a' already"),
    ],
)  # fmt: skip
def test_a_word_that_cannot_be_read_is_told(words: list[str], problem: str) -> None:
    overrides, problems = parse_words(words)
    assert ([str(found) for found in problems], len(overrides)) == ([problem], len(words) - 1)


def laid_over(text: str, *words: str) -> Draft:
    source = read_text(text)
    origins = {path: Origin("file", f"cfg.yaml:{line}", line) for path, line in source.lines.items()}
    draft = Draft(SegmentationConfig, Origin("file", "cfg.yaml"), source.value, origins)
    lay_over(draft, parse_words(words)[0])
    return draft


def test_words_reach_into_blocks_and_replace_whole_values() -> None:
    draft = laid_over("a: {b: 1, c: 2}\nd: [1,\n 2]\n", "a.b=7", "d=[3]", "e.f=4")
    assert draft.values == {"a": {"b": 7, "c": 2}, "d": [3], "e": {"f": 4}}
    assert {key: draft.origin(tuple(key.split("."))).text for key in ("a.b", "a.c", "d.1", "e.f", "e")} == {
        "a.b": "command line: a.b=7",
        "a.c": "cfg.yaml:1",
        "d.1": "command line: d=[3]",
        "e.f": "command line: e.f=4",
        "e": "command line: e.f=4",
    }


def test_a_block_given_as_a_word_replaces_the_block() -> None:
    draft = laid_over("a: {b: 1, c: 2}\n", "a={c: 3}")
    assert draft.values == {"a": {"c": 3}}
    assert draft.source("a.c").text == "command line: a={c: 3}"
    assert draft.source("a.b").kind == "default"
