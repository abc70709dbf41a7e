"""Run as a program: read a workbook within a bound on memory, and write its cells to stdout.

A damaged workbook can ask calamine for all memory of a machine, which ends the process that reads
it; so it is read in one of its own.  Nothing of ours is imported, to begin quickly.
"""

from __future__ import annotations

import pickle
import sys

from python_calamine import CalamineWorkbook, SheetTypeEnum, SheetVisibleEnum


def main(path: str, most: int) -> None:
    """Write a list of (name, what it is, whether it is hidden, its first row, its rows).

    Parameters
    ----------
    path
        The workbook.
    most
        Bytes of memory that the process may take.
    """
    try:
        import resource
    except ImportError:
        pass  # On Windows there is no such bound.
    else:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sheets: list[tuple[str, str, bool, int, list[list[object]]]] = []
    with CalamineWorkbook.from_path(path) as book:
        for about in book.sheets_metadata:
            name, hidden = about.name, about.visible != SheetVisibleEnum.Visible
            if about.typ != SheetTypeEnum.WorkSheet:
                is_chart = about.typ == SheetTypeEnum.ChartSheet
                sheets.append((name, "a chart" if is_chart else "no cells", hidden, 0, []))
                continue
            sheet = book.get_sheet_by_name(name)
            if sheet.start is None:
                sheets.append((name, "empty", hidden, 0, []))
            else:
                rows: list[list[object]] = [list(row) for row in sheet.to_python()]
                sheets.append((name, "", hidden, sheet.start[0] + 1, rows))
    pickle.dump(sheets, sys.stdout.buffer, pickle.HIGHEST_PROTOCOL)


if __name__ == "__main__":
    try:
        main(sys.argv[1], int(sys.argv[2]))
    except Exception as error:  # noqa: BLE001  whoever waits for it is told
        sys.exit(str(error) or type(error).__name__)
