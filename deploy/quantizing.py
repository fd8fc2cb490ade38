"""``edgeport quantize`` behind its options: plainly, or within a budget, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from deploy.console import Output, ProgressCallback
from deploy.quantization_text import tell
from exporters.errors import EXIT_OK, EXIT_VERDICT_FAIL, UserError
from exporters.modelfile import ModelFile

if TYPE_CHECKING:
    from calibration import QuantizeOptions, QuantizeResult, Statistics
    from calibration.samples import Samples
    from deploy.budgeting import SearchOptions


@dataclass
class Quantizing:
    """One command line, with or without a budget."""

    out: Output
    model: Path
    samples: str
    output: Path
    options: QuantizeOptions
    statistics: Path | None
    report: Path | None

    @cached_property
    def file(self) -> ModelFile:
        return ModelFile(self.model)

    def plainly(self, evaluation: str | None) -> None:
        from calibration import open_samples, quantize

        self._check_report()
        source = open_samples(self.samples, self.file.spec)
        judges = None if evaluation is None else open_samples(evaluation, self.file.spec)
        with self.out.progress("Quantize") as progress:
            result = quantize(
                self.file,
                source,
                self.output,
                self.options,
                statistics=self._seen(source, progress),
                evaluation=judges,
                measure_layers=self.report is not None,
                progress=progress,
            )
        self.out.result(self._told(result))

    def within(
        self,
        budget: str | None,
        validate: str | None,
        evaluation: str | None,
        search: SearchOptions,
    ) -> None:
        """Quantize to a budget; its verdict is the exit code."""
        from calibration import open_samples
        from deploy.budget_text import tell_budget
        from deploy.budgeting import quantize_to_budget

        if budget is None or validate is None:
            raise UserError(
                "--budget and --validate belong together",
                fix='Give both: --budget "metric>=0.99" --validate DIR',
            )
        if evaluation is not None:
            raise UserError(
                "with --budget the calibration set is compared with the samples of --validate",
                fix="Drop --evaluation; judge the result with: edgeport verify",
            )
        self._check_report()
        source = open_samples(self.samples, self.file.spec)
        with self.out.progress("Quantize") as progress:
            result = quantize_to_budget(
                self.file,
                source,
                self.output,
                budget=budget,
                validation=open_samples(validate, self.file.spec),
                options=self.options,
                search=search,
                statistics=self._seen(source, progress),
                measure_layers=self.report is not None,
                progress=progress,
            )
        made = {} if result.result is None else self._told(result.result)
        tell_budget(self.out, result.report, written=result.result is not None)
        self.out.result({**made, "budget": result.report})
        raise typer.Exit(EXIT_OK if result.holds else EXIT_VERDICT_FAIL)

    def _check_report(self) -> None:
        from deploy.report.quantization import check_report_path

        if self.report is not None:
            check_report_path(self.report, overwrite=self.options.overwrite)

    def _told(self, result: QuantizeResult) -> dict[str, Any]:
        from deploy.report.quantization import write_quantization_report

        made = {"path": str(result.model.path), "sha256": result.model.sha256, **result.report}
        tell(self.out, str(result.model.path), made)
        if self.report is not None:
            write_quantization_report(made, self.report, overwrite=self.options.overwrite)
            self.out.say(f"report: {self.report}")
        return made

    def _seen(self, samples: Samples, progress: ProgressCallback) -> Statistics | None:
        """Statistics from their file if they are of these samples, else from a pass, then kept."""
        from calibration import Statistics, observe
        from calibration.samples.rolling import rolled

        if self.statistics is None:
            return None
        if not self.statistics.exists():
            seen = observe(
                self.file,
                samples,
                min_samples=self.options.min_samples,
                i_know=self.options.i_know,
                progress=progress,
            )
            seen.save(self.statistics)
            return seen
        seen = Statistics.load(self.statistics)
        if seen.samples_sha256 != rolled(samples, self.file).sha256:
            raise UserError(
                f"{self.statistics} holds statistics of other samples than these",
                fix="Give the samples it was made with, or another --statistics file",
            )
        return seen
