"""`metarl report`: reads runs and writes the page, with its figures and tables in a folder next to it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from metarl.errors import UserError
from metarl.reports.comparison import compare
from metarl.reports.drawing import Picture
from metarl.reports.page import render, sections
from metarl.reports.reading import read
from metarl.reports.sections import Comparison, Section
from metarl.reports.tables import Table
from metarl.system.confinement import confined
from metarl.system.console import say
from metarl.system.counts import plural
from metarl.system.file_names import file_name
from metarl.system.files import write_atomically, writing


@dataclass(frozen=True)
class Report:
    """Write a page that opens offline: verdicts, curves, maps of goals or confusions, videos or examples, settings, cost.

    Works at any moment of a run, with the data that exist so far. Also writes the figures (PNG, SVG) and tables (CSV,
    Markdown) to a folder next to the page. Several runs are also compared, with the seeds of each agent grouped.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories. Name a checkpoint's folder in one to show the evaluation of that checkpoint."""
    out: Path | None = None
    """The page to write. Default: report.html in the run directory; for several runs, in the current directory."""
    quiet: bool = False
    """Print nothing but errors."""
    debug: bool = False
    """Show a traceback with an error."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise UserError("name at least one run")

    def main(self) -> int:
        """Run the command."""
        if self.out is not None and self.out.suffix.lower() not in (".html", ".htm"):
            raise UserError(f"the page is an HTML file: --out {self.out}.html")
        named = [path.resolve() for path in self.runs]
        if len(set(named)) < len(named):
            raise UserError("the same run is named twice")
        runs = [read(path) for path in self.runs]
        page = self.out or (runs[0].path if len(runs) == 1 else Path()) / "report.html"
        sections_of_runs = sections(runs, page)
        comparisons = compare(sections_of_runs)
        folder = page.with_suffix("")
        with writing(str(page)):
            write_atomically(page, render(sections_of_runs, comparisons, folder.name).encode())
        count = write_assets(folder, sections_of_runs, comparisons)
        if not self.quiet:
            say(f"written: {page} ({page.stat().st_size / 1e6:.1f} MB)")
            say(f"         {folder}/ ({plural(count, 'figure')} as PNG and SVG, tables as CSV and Markdown)")
        return 0


def write_assets(folder: Path, sections: Sequence[Section], comparisons: Sequence[Comparison]) -> int:
    """Write the figures and tables; returns the number of figures.

    Raises:
        UserError: a link would lead them out of the folder, or they cannot be written.
    """
    count = 0
    confined(folder.parent, folder.name)
    with writing(str(folder)):
        for prefix, pictures, tables in _assets(sections, comparisons):
            files = [
                (f"{picture.name}.{kind}", content)
                for picture in pictures
                for kind, content in (("svg", picture.svg.encode()), ("png", picture.png))
            ]
            files += [
                (f"{table.name}.{kind}", content.encode())
                for table in tables
                for kind, content in (("csv", table.csv()), ("md", table.markdown()))
            ]
            for name, content in files:
                write_atomically(confined(folder, prefix + name), content, durable=False)
            count += len(pictures)
    return count


def _assets(
    sections: Sequence[Section], comparisons: Sequence[Comparison]
) -> Iterator[tuple[str, Sequence[Picture], Sequence[Table]]]:
    """Yield the prefix of the files' names, the pictures and the tables of each section and comparison."""
    for i, section in enumerate(sections):
        prefix = "" if len(sections) == 1 else f"{i + 1:02d}_{file_name(section.run.name)}_"
        pictures = [picture for part in section.parts for picture in part.pictures]
        tables = [table for part in section.parts for table in part.tables]
        yield prefix, pictures, [*tables, *section.results, *section.details]
    with_tables = [comparison for comparison in comparisons if comparison.tables]
    for i, comparison in enumerate(with_tables):
        prefix = "comparison_" if i == 0 else f"comparison{i + 1}_"
        yield prefix, comparison.pictures, comparison.tables
