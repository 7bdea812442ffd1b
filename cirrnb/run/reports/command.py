"""`cirrnb report`: its options. Nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    cohort: Annotated[Path, typer.Argument(help="Folder in the published layout, or a CSV table of scans.")],
    model: Annotated[str, typer.Option(help="Folder of a trained stager, or the model of the package.")] = "shipped",
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the report.")] = Path("reports/nightly"),
    patients: Annotated[
        list[str] | None, typer.Option("--patients", metavar="NAME", help="Only this one (cirrhotic/12); repeatable.")
    ] = None,
    prepared: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Prepared scans. [default: prepared/ and the cohort's name]")
    ] = None,
    explanations: Annotated[Path, typer.Option(metavar="FOLDER", help="Where maps are kept.")] = Path("explanations"),
    method: Annotated[str, typer.Option(help="How the maps are made.")] = "grad_cam",
    sequences: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Sequences in the table (T1W,T2W,DWI). [default: the model's]")
    ] = None,
    plugin: Annotated[
        list[Path] | None, typer.Option(metavar="FILE.py", help="Registers heads, backbones or maps; repeatable.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Notebooks at a time. [default: one a processor]")] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="tcp://...", help="Dask scheduler whose workers run the notebooks.")
    ] = None,
    limit: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="How long one patient may take.")] = 1800,
    fresh: Annotated[bool, typer.Option("--fresh", help="Make every page anew.")] = False,
    single_file: Annotated[
        bool, typer.Option("--single-file", help="No page needs a file beside it; that of the cohort is 5 MB larger.")
    ] = False,
    json_lines: Annotated[bool, typer.Option("--json", help="Tell what happens as JSON, an object a line.")] = False,
) -> None:
    """Report every patient of a cohort: a page each, an index, tables. Goes on where an earlier run stopped.

    Exit code 0: all made; 3: some failed, see failures.csv; 4: none made.
    """
    from cirrnb.run.home import require_home

    require_home()
    from cirrnb.data.workers import processors
    from cirrnb.run.reports.order import IMPORTED, Order
    from cirrnb.run.warm import warm_kernels

    order = Order(
        cohort=cohort,
        model=model,
        out=out,
        patients=tuple(name for text in patients or [] for name in text.split(",") if name),
        prepared=prepared,
        explanations=explanations,
        method=method,
        jobs=jobs,
        cluster=cluster,
        fresh=fresh,
        single_file=single_file,
        limit=limit,
        sequences=sequences,
        plugin=tuple(plugin or ()),
    )
    at_a_time = jobs or processors()
    # Begun before this process loads the same, so that both are ready at one time.
    with warm_kernels(IMPORTED if cluster is None else (), max(1, processors() // at_a_time)) as kernels:
        from cirrnb.run.reports.nightly import make_report
        from cirrnb.run.reports.telling import Teller

        raise typer.Exit(make_report(order, Teller(json_lines), kernels))
