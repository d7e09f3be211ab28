"""What is made of a study's cells: the file itself, the page, the table, a Markdown document."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import study_samples

from fuse_examples.imaging.oai_example.errors import DataError
from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap
from fuse_examples.imaging.oai_example.evaluation.study_cells import read_cells, write_cells
from fuse_examples.imaging.oai_example.evaluation.study_document import write_again
from fuse_examples.imaging.oai_example.evaluation.study_figures import score_figure
from fuse_examples.imaging.oai_example.evaluation.study_statistics import analyse

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "hippocampus.jsonl"
    write_cells(study_samples.segmentation_study({"n1": 0.1, "n4": 0.04, "all": 0.0}), path)
    return path


@pytest.mark.parametrize("results", [study_samples.segmentation_study({"n1": 0.1}), study_samples.classification_study(20)])
def test_cells_come_back_as_they_were(results: object, tmp_path: Path) -> None:
    write_cells(results, tmp_path / "cells.jsonl")  # type: ignore[arg-type]
    assert read_cells([tmp_path / "cells.jsonl"]) == results


def test_cells_of_one_study_are_put_together_and_of_two_refused(tmp_path: Path) -> None:
    whole = study_samples.segmentation_study({"n1": 0.1, "n4": 0.04})
    paths = [tmp_path / name for name in ("one.jsonl", "two.jsonl", "three.jsonl")]
    write_cells(replace(whole, cells=whole.cells[:5], budgets=("n1",)), paths[0])
    write_cells(replace(whole, cells=whole.cells[5:]), paths[1])
    assert read_cells(paths[:2]) == whole
    younger = replace(whole, protocol={"steps": 360, "downstream": {"new": 1}}, cells=whole.cells[5:])
    write_cells(younger, paths[2])
    assert read_cells([paths[0], paths[2]]).cells == whole.cells
    write_cells(replace(whole, protocol={"steps": 100}), paths[2])
    with pytest.raises(DataError, match=r"three.jsonl: is of another study than .*one.jsonl"):
        read_cells([paths[0], paths[2]])
    other = replace(whole.cells[0], scores=(0.5,) * 38)
    write_cells(replace(whole, cells=(other,)), paths[2])
    with pytest.raises(DataError, match=r"three.jsonl: has other scores of scratch_n1_0 than another of the files"):
        read_cells([paths[0], paths[2]])
    paths[2].write_text("{}\n")
    with pytest.raises(DataError, match=r"three.jsonl: cannot be read as the cells of a study"):
        read_cells(paths[2:])


def test_cells_of_other_weights_by_one_name_are_refused_and_what_files_tell_is_kept(tmp_path: Path) -> None:
    whole = study_samples.segmentation_study({"n1": 0.1, "n4": 0.04})
    first = {"steps": 360, "initialisations": {"scratch": {}, "dino": {"dino_weights": "here", "sha256": "aa"}}}
    moved = {"scratch": {}, "dino": {"dino_weights": "there", "sha256": "aa"}, "other": {"suprem_weights": "far", "sha256": "bb"}}
    paths = [tmp_path / name for name in ("one.jsonl", "two.jsonl")]
    write_cells(replace(whole, cells=whole.cells[:5], protocol=first, notes=("of one",)), paths[0])
    write_cells(replace(whole, cells=whole.cells[5:], protocol={"steps": 360, "initialisations": moved}, notes=("of two",)), paths[1])
    together = read_cells(paths)
    assert together.cells == whole.cells
    assert together.notes == ("of one", "of two")
    assert together.protocol == {"steps": 360, "initialisations": {**moved, **first["initialisations"]}}  # type: ignore[dict-item]
    for unlike in ({"dino_weights": "here", "sha256": "cc"}, {"dino_weights": "here", "sha256": "aa", "freeze_backbone": True}):
        changed = {"steps": 360, "initialisations": {"scratch": {}, "dino": unlike}}
        write_cells(replace(whole, cells=whole.cells[5:], protocol=changed), paths[1])
        with pytest.raises(DataError, match=r"two.jsonl: dino started from other weights or settings than in .*one.jsonl"):
            read_cells(paths)


def test_single_seeds_are_seen_on_the_line_of_their_interval() -> None:
    (axes,) = score_figure(analyse(study_samples.segmentation_study({"n1": 0.1}), Bootstrap(n_resamples=50))).axes
    for rings, name in zip(axes.collections, ("scratch", "dino"), strict=True):
        assert len(rings.get_offsets()) == 3, name
        assert rings.get_facecolor()[0].tolist() == [1, 1, 1, 1]


def test_the_page_holds_the_answer_and_refers_to_nothing_outside(cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_again([cells], tmp_path, None, 200)
    page = (tmp_path / "study.html").read_text()
    for text in ("With 1 and 4 labelled patients dino has a higher mean Dice", "paired by subset and seed", "Labels saved", "Protocol"):
        assert text in page
    assert page.count("data:image/png;base64,") == 3
    assert "http" not in page.replace("http-equiv", "")
    rows = list(csv.DictReader((tmp_path / "study.csv").open()))
    assert len(rows) == 18
    assert {path.name for path in tmp_path.iterdir()} == {"study.html", "study.csv", "scores.png", "differences.png", "curves.png"}
    assert "p (Holm)" in capsys.readouterr().out


def test_an_unfinished_study_and_one_without_comparison_have_a_page(tmp_path: Path) -> None:
    whole = study_samples.segmentation_study({"n1": 0.1, "n4": 0.04})
    alone = study_samples.segmentation_study({"n1": 0.0}, names=("scratch",))
    for number, results in enumerate((replace(whole, cells=whole.cells[:1]), alone)):
        write_cells(results, tmp_path / "cells.jsonl")
        write_again([tmp_path / "cells.jsonl"], tmp_path / str(number), None, 50)
        assert (tmp_path / str(number) / "study.html").exists()


def test_the_tables_of_a_document_are_made_anew_and_nothing_else(cells: Path, tmp_path: Path) -> None:
    document = tmp_path / "evidence.md"
    document.write_text("# Evidence\n\n<!-- study hippocampus -->\nold\n<!-- end -->\n\nafter\n")
    write_again([cells], None, document, 200)
    text = document.read_text()
    assert text.startswith("# Evidence\n\n<!-- study hippocampus -->\n\n* With 1 and 4 labelled patients")
    assert text.endswith("\n\n<!-- end -->\n\nafter\n")
    assert "| minus scratch | labelled patients | difference | 95 % interval | p | p (Holm) |" in text
    assert cells.with_suffix(".png").exists()
    write_again([cells], None, document, 200)
    assert document.read_text() == text
    document.write_text("nothing\n")
    with pytest.raises(DataError, match="has no lines '<!-- study hippocampus -->' and '<!-- end -->'"):
        write_again([cells], None, document, 50)


def test_the_command_is_told_what_is_missing(cells: Path) -> None:
    command = [sys.executable, "-m", "fuse_examples.imaging.oai_example.evaluation.study"]
    done = subprocess.run([*command, str(cells)], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, "give --output, --document or both" in done.stderr) == (2, True)


def test_the_file_is_small_and_names_cases_only(cells: Path) -> None:
    head, first, *_ = cells.read_text().splitlines()
    assert json.loads(head)["cases"][0] == ["case00", "patient00", None]
    assert len(first) < 1000
