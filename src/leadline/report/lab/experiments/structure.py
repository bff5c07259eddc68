"""The page of `leadline theory run structure`: P2's Figure 2, as `leadline theory denoisers` has it."""

from dataclasses import replace

from leadline.records import TheoryResult
from leadline.report.lab.denoisers import page as denoisers_page
from leadline.report.lab.experiments.shared import facts
from leadline.report.lab.page import PAGES, LabPage

ONE_RUN = (
    "One training run: another seed may move every number of the trained denoiser and of the linear one distilled from "
    "it (--seeds 0,1,2 puts replicates side by side)."
)


@PAGES.register("experiment-structure")
def page(result: TheoryResult) -> LabPage:
    """The page of the four denoisers, of the experiment's model."""
    found = denoisers_page(result)
    findings = list(found.findings)
    caveats = list(found.caveats)
    if result.settings["runs_per_point"] == 1:
        findings = [replace(f, headline=f"{f.headline} One training run: another seed may move it.") for f in findings]
        caveats = [ONE_RUN, *caveats]
    return replace(
        found,
        title="A trained denoiser beside the linear, the Gaussian and the multi-delta one",
        findings=findings,
        caveats=caveats,
        facts=[*facts(result), *found.facts],
    )
