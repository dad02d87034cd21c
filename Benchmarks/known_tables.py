"""Tables of images that are known in part, from their result file."""

from __future__ import annotations

from cohort_tables import markdown_table, read


def known_table() -> str:
    """Errors with lesions, cut fields of view and electrodes."""
    data = read("partly_known")
    columns = {
        "lesion": {"volume": "volume, share of the healthy run's", "within_10_mm": "mean mm within 10 mm"},
        "slab": {"mean_mm": "mean mm", "p99_mm": "99th percentile mm", "elsewhere_max_mm": "most elsewhere mm"},
        "electrodes": {"head_percent": "share of the head %", "mean_mm": "mean mm", "max_mm": "most mm"},
    }
    tables = []
    for kind, headings in columns.items():
        lines = [
            [row["case"], *(f"{row[name]:.2f}" for name in headings), row["verdict"], f"{row['cpu_s']:.0f}"]
            for row in data.get(kind, [])
        ]
        if lines:
            tables.append(markdown_table(["case", *headings.values(), "verdict", "CPU s"], lines))
    return "\n\n".join(tables)
