"""The table of results for the server, the plain client and the embedded store."""

import statistics


class Row:
    """One line of the table, with the ratios of all rounds."""

    def __init__(self, what, ours, theirs, embedded, ratios, number):
        self.what, self.values, self.ratios, self.number = what, (ours, theirs, embedded), ratios, number

    def cells(self):
        values = ["" if value is None else self.number.format(value) for value in self.values]
        ratio, between = ("", "") if not self.ratios else (
            f"{statistics.median(self.ratios):.2f}", f"{min(self.ratios):.2f}..{max(self.ratios):.2f}")
        return [self.what, *values, ratio, between]


def print_table(options, rows):
    print()
    print(f"{options.instances} instances, {options.connections} connections; medians of {options.rounds} rounds")
    head = ["", "cloudmap-dns", "plain client", "embedded store", "first / second: median", "range"]
    print_cells([head] + [row.cells() for row in rows])


def print_cells(cells):
    """Prints lines of cells as a Markdown table. The first line is the head."""
    widths = [max(len(line[at]) for line in cells) for at in range(len(cells[0]))]
    for at, line in enumerate(cells):
        aligned = [line[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:])]
        print("| " + " | ".join(aligned) + " |")
        if at == 0:
            print("| " + " | ".join("-" * width for width in widths) + " |")
