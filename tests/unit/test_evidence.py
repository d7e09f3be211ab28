"""The tables of docs/evidence.md are those of the committed cells."""

import re
from pathlib import Path

import pytest

from fuse_examples.imaging.oai_example.evaluation.resampling import Bootstrap
from fuse_examples.imaging.oai_example.evaluation.study_cells import read_cells
from fuse_examples.imaging.oai_example.evaluation.study_document import as_markdown
from fuse_examples.imaging.oai_example.evaluation.study_statistics import analyse

DOCS = Path(__file__).parents[2] / "docs"
STUDIES = sorted((DOCS / "evidence").glob("*.jsonl"))


@pytest.mark.parametrize("cells", STUDIES, ids=lambda path: path.stem)
def test_the_tables_are_made_of_the_cells(cells: Path) -> None:
    found = re.search(rf"<!-- study {cells.stem} -->\n(.*?)<!-- end -->", (DOCS / "evidence.md").read_text(), re.S)
    assert found
    assert found[1] == as_markdown(analyse(read_cells([cells]), Bootstrap(n_resamples=2000)))
    assert cells.with_suffix(".png").is_file()


def test_every_study_of_the_document_has_its_cells() -> None:
    named = re.findall(r"<!-- study (\w+) -->", (DOCS / "evidence.md").read_text())
    assert sorted(named) == [cells.stem for cells in STUDIES] != []
