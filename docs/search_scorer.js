// Order of the site's search results: how-to pages and tutorials, then what was measured, then the API, then the log of changes.
// Within each, a page whose own title contains the query comes first.
// A query that looks like a name in Python (read_cohort, Model.load, TrainingSettings) keeps the order of Sphinx.
const MEASURED = /^(benchmark|real_|report_faults|study|cards\/|segmenter_trials|stager_trials)/;
const REFERENCE = /^(api\/|_modules\/)/;
const LOG = /^(changelog|contributing)$/;
const PYTHON_NAME = /[_.]|[a-z][A-Z]/;

function group(page) {
  if (LOG.test(page)) return 0;
  if (REFERENCE.test(page)) return 1;
  return MEASURED.test(page) ? 2 : 3;
}

var Scorer = {
  score: ([page, title, anchor, description, score, file, kind]) => {
    const query = new URLSearchParams(window.location.search).get("q") || "";
    if (PYTHON_NAME.test(query)) return score;
    const pageTitle = kind === "title" && !anchor ? 100 : 0;
    return score + pageTitle + 1000 * group(page);
  },
  // What follows is as in Sphinx.
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
