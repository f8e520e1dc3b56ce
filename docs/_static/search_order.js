// How hits of the search are ranked, in place of Sphinx's own numbers: titles and names first, then pages that explain,
// then settings, one attribute each, and last what only records: the changelog and the tables of the benchmarks.
var Scorer = {
  score: ([page, title, anchor, , score]) => {
    if (/^(project\/changelog|benchmarks\/tables|paper)$/.test(page)) return score / 10;
    if (/Settings\./.test(title)) return score / 10;
    return score;
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
