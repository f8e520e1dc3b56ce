/** The state of the page as signals, and what the user does as functions. */

import { batch, computed, signal } from "@preact/signals";
import { CallError, call, edgePath, listen } from "./api";
import { change, number, plural, spoken } from "./format";
import { focused, keepFocus } from "./surroundings";
import type { Candidate, Constant, Curve, Edge, Explained, Found, Measure, Num, Place, Predicted, Rows, RulerPoint, Simplifying, SmallTiles, Snapshot, StudioEvent } from "./types";

export const snapshot = signal<Snapshot | null>(null);
export const trouble = signal("");
export const busy = signal("");
export const said = signal("");
export const connected = signal(true);
export const mode = signal<"flow" | "matrix" | "table" | null>(null);
export const selected = signal("");
export const curve = signal<Curve | null>(null);
export const candidates = signal<Candidate[] | null>(null);
export const candidatesTrouble = signal("");
export const preview = signal(-1);
export const x = signal<number[]>([]);
export const predicted = signal<Predicted | null>(null);
export const predicting = signal(false);
export const ruler = signal<RulerPoint[] | null>(null);
/** What was measured for more edges than are left, so that the ruler keeps its axis and leads back. */
export const pruned = signal<RulerPoint[]>([]);
/** The edge under the pointer, of a tile or of a term of the formula. */
export const hovered = signal("");
/** A constant that is being dragged, and how well the network would then fit. `shift`: see `Constant`. */
export const tried = signal<{ edge: string; constant: "a" | "b" | "c" | "d"; value: number; shift: number } | null>(null);
export const trial = signal<{ measure: Measure; prediction: Num[][] } | null>(null);
/** The edges that go if the ruler is let go of now. */
export const fading = signal<ReadonlySet<string>>(new Set());
/** The contributions of the inputs at a row, and that row: it may be behind x for a moment. */
export const explained = signal<(Explained & { x: number[] }) | null>(null);
export const constants = signal<Constant[] | null>(null);
export const rows = signal<Rows | null>(null);
export const found = signal<Found[]>([]);
export const searching = signal("");
/** The changes of the last simplification, while the network is as it made it. */
export const changes = signal<(Simplifying & { at: number }) | null>(null);
export const simplifying = signal<Simplifying | null>(null);
export const fitting = signal<{ line: string; share: number; trace: number[] } | null>(null);
export const served = signal<{ version: number; server: string; error?: string } | null>(null);
export const dialog = signal<"" | "publish" | "own" | "keys" | "export">("");
export const theme = signal(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");

export const view = computed(() => (snapshot.value?.phase === "ready" ? snapshot.value.view : null));
export const model = computed(() => snapshot.value?.model ?? null);
/** Whether this is a page without a server, whose network is only looked at. */
export const isShared = computed(() => model.value?.shared === true);
/** Whether losses are on held-out rows. A classifier with few rows is judged on those it was trained on. */
export const judged = computed(() => (model.value?.held_apart === false && !model.value.drawn ? "training" : "validation"));
export const byShare = computed(() => [...(view.value?.snapshot.edges ?? [])].sort((a, b) => b.share - a.share));
/** A selected edge that is not among the largest, which alone the view has. */
export const other = signal<Edge | null>(null);
export const edge = computed(
  () => view.value?.snapshot.edges.find((one) => one.name === selected.value) ?? (other.value?.name === selected.value ? other.value : null),
);
/** The number of each free spline, by its edge, in the order of the layers: s_1, s_2. */
export const splines = computed(
  () => new Map((view.value?.snapshot.edges ?? []).filter((one) => one.spline).map((one, n) => [one.name, n + 1])),
);
export const tiles = signal<SmallTiles | null>(null);
export const previewed = computed(() => candidates.value?.[preview.value] ?? null);
export const most = { flow: 60, matrix: 500, canvas: 10_000 };
export const chosenMode = computed(() => mode.value ?? ((view.value?.edges ?? 0) > most.flow ? "matrix" : "flow"));

export const toggleTheme = () => (theme.value = theme.value === "dark" ? "light" : "dark");

/** Tell a screen reader, politely; the same text again is said again. */
export function say(text: string) {
  said.value = text === said.value ? `${text} ` : text;
}

export function fail(error: unknown) {
  if (error instanceof DOMException && error.name === "AbortError") return;
  trouble.value = error instanceof Error ? error.message : String(error);
  say(trouble.value);
  if (error instanceof CallError && error.code === "ConflictError") void refresh();
}

export async function refresh() {
  try {
    take(await call<Snapshot>("snapshot"));
  } catch (error) {
    fail(error);
  }
}

/** A new state: what was computed for the old one goes, and the selection stays where its edge is still there. */
function take(next: Snapshot) {
  const before = view.value;
  batch(() => {
    snapshot.value = next;
    if (next.phase !== "ready") return;
    fitting.value = null;
    if (next.simplifying) {
      busy.value = "Simplifying";
      simplifying.value ??= nothingYet;
    }
    const { view: now } = next;
    if (before && before.revision === now.revision) return;
    const wider = [...pruned.value, ...(ruler.value ?? [])].filter((point) => point.edges > now.edges);
    pruned.value = [...new Map(wider.map((point) => [point.edges, point])).values()].sort((a, b) => b.edges - a.edges);
    fading.value = new Set();
    ruler.value = constants.value = rows.value = tiles.value = other.value = null;
    if (!now.snapshot.edges.some((one) => one.name === selected.value))
      selected.value = [...now.snapshot.edges].sort((a, b) => b.share - a.share)[0]?.name ?? "";
    if (x.value.length !== now.nodes[0].length) x.value = now.nodes[0].map((node) => node.middle);
  });
  if (next.phase === "ready" && before?.revision !== next.view.revision) {
    void look();
    void predict();
    void load();
  }
}

/** What a step costs is seen in the panels: they are filled one after another. */
async function load() {
  if (isShared.value) return;
  const revision = view.value?.revision;
  const current = () => view.value?.revision === revision;
  const fill = async <T>(path: string, put: (found: T) => void) => {
    try {
      const got = await call<T>(path);
      if (current()) put(got);
    } catch (error) {
      if (current()) fail(error);
    }
  };
  await Promise.all([
    fill<Rows>("rows", (got) => (rows.value = got)),
    fill<{ constants: Constant[] }>("constants", (got) => (constants.value = got.constants)),
  ]);
  const count = view.value?.edges ?? 0;
  if (current() && count > view.value!.snapshot.edges.length && count <= most.canvas) await fill<SmallTiles>("tiles", (got) => (tiles.value = got));
  if (current() && count <= 2000)
    await fill<{ points: RulerPoint[] }>("ruler", (got) => (ruler.value = got.points));
}

let looking: AbortController | null = null;

/** One standard error of an RMSE of so many rows, as a share of it: a smaller change may be chance. */
export const noise = computed(() => 1 / Math.sqrt(2 * Math.max(model.value?.held_out ?? 1, 1)));

/** Whether a candidate is as good as the curve it replaces, as far as the rows can tell, and no difference of large numbers. */
export const isWorth = (one: Candidate | null) => one !== null && !cancels(one) && (one.change === null || one.change <= noise.value);

// Of a function's values, over the spread of the curve: two digits are lost. 0.001(x - 3000)^2 - 11000 is a line in disguise,
// and exports that add in another order would differ from the network by more than their check allows.
const MOST_CANCELLING = 100;

/** Whether the values c·f(a·x + b) are far larger than the curve, so that d takes nearly all of them away again. */
function cancels(one: Candidate): boolean {
  const values = one.curve.filter((value): value is number => value !== null);
  const factor = curve.value?.factor ?? 1;
  const spread = Math.abs(factor) * (Math.max(...values) - Math.min(...values));
  const d = one.suggestion.constants[3];
  return values.length > 1 && values.every((value) => Math.abs(value * factor - d) > MOST_CANCELLING * spread);
}

/** Of the candidates that are worth it the smallest, otherwise that which costs least: its place. */
function recommended(all: Candidate[]): number {
  const now = edge.value?.spline ? "" : edge.value?.function;
  const apart = all.filter((one) => one.suggestion.function !== now);
  const others = apart.some((one) => !cancels(one)) ? apart.filter((one) => !cancels(one)) : apart;
  const cost = (one: Candidate) => one.change ?? one.suggestion.loss;
  const size = (one: Candidate) => (isWorth(one) ? one.complexity : Infinity);
  const best = others.sort((a, b) => (isWorth(a) || isWorth(b) ? size(a) - size(b) : 0) || cost(a) - cost(b))[0];
  return best ? all.indexOf(best) : -1;
}

/**
 * The selected edge's curve, and its candidates, which take a moment. Both are asked for at once, unless an earlier edge
 * is still looked at: then candidates come after the curve, and whoever passes many edges asks for none of theirs.
 */
export async function look() {
  const passing = looking !== null;
  looking?.abort();
  const name = selected.value;
  const own = new AbortController();
  looking = name ? own : null;
  batch(() => {
    candidates.value = null;
    candidatesTrouble.value = "";
    preview.value = -1;
    if (curve.value?.name !== name) curve.value = null;
  });
  if (!name) return;
  const ask = () => call<{ candidates: Candidate[] }>(`${edgePath(name)}/candidates`, undefined, own.signal);
  const asked = passing ? null : ask();
  asked?.catch(() => {}); // what fails here is told below
  try {
    const shown = (curve.value = await call<Curve>(edgePath(name), undefined, own.signal));
    if (!edge.value) {
      const { function: named, spline, low, high, values, place } = shown;
      const n = tiles.value?.places.findIndex((other) => other.join() === place.join()) ?? -1;
      other.value = { name, function: named, spline, constants: [], share: tiles.value?.shares[n] ?? 0, low, high, curve: values, place };
    }
    const got = await (asked ?? ask());
    if (own.signal.aborted) return;
    batch(() => {
      candidates.value = got.candidates;
      preview.value = recommended(got.candidates);
    });
  } catch (error) {
    if (own.signal.aborted) return;
    candidates.value = [];
    candidatesTrouble.value = error instanceof Error ? error.message : String(error);
  } finally {
    if (looking === own) looking = null;
  }
}

export function select(name: string) {
  if (name === selected.value) return;
  selected.value = name;
  void look();
}

/** Select an edge by where it is: by its name if the view has it, otherwise by its position, which names any edge. */
export const selectPlace = ([l, j, i]: Place) => select(edgeAt(l, j, i)?.name ?? `s_${l + 1}_${j + 1}_${i + 1}`);

export function neighbour(by: number) {
  const order = byShare.value;
  if (!order.length) return;
  const at = order.findIndex((one) => one.name === selected.value);
  const next = order[(at + by + order.length) % order.length];
  select(next.name);
  say(`Edge ${spoken(next.name)}, ${next.function || "free spline"}.`);
}

const orders = {
  r2: (one: Candidate) => -one.suggestion.r2,
  change: (one: Candidate) => one.change ?? one.suggestion.loss,
  size: (one: Candidate) => one.complexity,
};

/** Sort the candidates of the edge; the previewed one stays it. */
export function sortCandidates(by: keyof typeof orders) {
  const chosen = previewed.value;
  batch(() => {
    candidates.value = [...(candidates.value ?? [])].sort((a, b) => orders[by](a) - orders[by](b));
    preview.value = chosen ? candidates.value.indexOf(chosen) : -1;
  });
}

export function previewBy(by: number) {
  const all = candidates.value;
  if (!all?.length) return;
  preview.value = (preview.value + by + all.length) % all.length;
}

async function act(what: string, path: string, body: object, told: (before: Snapshot, now: Snapshot) => string) {
  if (isShared.value) return;
  const before = snapshot.value;
  if (!before || before.phase !== "ready" || busy.value) return;
  busy.value = what;
  trouble.value = "";
  try {
    const had = focused();
    const now = await call<Snapshot>(path, { base: before.view.revision, ...body });
    take(now);
    say(told(before, now));
    if (had) requestAnimationFrame(keepFocus);
  } catch (error) {
    fail(error);
  } finally {
    busy.value = "";
  }
}

const effectOf = (before: Snapshot, now: Snapshot): string => {
  const [was, is] = [before.view.measure.value, now.view.measure.value];
  const by = was && is ? ` (${change(is / was - 1)})` : "";
  return `${judged.value === "training" ? "Training" : "Validation"} ${now.view.measure.kind} is now ${number(is)}${by}, ${plural(now.view.edges, "edge")}.`;
};

export function step(what: string, fields: object) {
  return act(what, "steps", { step: fields }, (before, now) => `${what}. ${effectOf(before, now)}`);
}
export const undo = (steps = 1) => act("Undoing", "undo", { steps }, (before, now) => `Undone. ${effectOf(before, now)}`);
export const redo = () => act("Redoing", "redo", {}, (before, now) => `Redone. ${effectOf(before, now)}`);
export const snap = (name = previewed.value?.suggestion.function) =>
  name && edge.value ? step(`Snapped ${spoken(selected.value)} to ${name}`, { kind: "snap", edge: selected.value, function: name }) : undefined;
export const free = () =>
  edge.value?.function ? step(`Freed ${spoken(selected.value)}`, { kind: "free", edge: selected.value }) : say("This edge is a free spline already.");
export const zero = () => edge.value && step(`Removed ${spoken(selected.value)}`, { kind: "zero", edge: selected.value });
/** Keep so many edges; more than there are: by going back to the last step that has them. */
export async function keepOrReturn(edges: number) {
  const { history } = view.value!.snapshot;
  const left = view.value!.edges;
  if (edges > left) {
    let back = 1;
    while (back < history.length && history[history.length - 1 - back].edges < edges) back++;
    await undo(back);
  }
  if (edges < view.value!.edges) await keep(edges);
}
export const keep = (edges: number) => step(`Kept ${plural(edges, "edge")}`, { kind: "keep", edges });
export const setConstant = (name: string, constant: string, value: number) =>
  step(`Set ${constant} of ${spoken(name)} to ${number(value)}`, { kind: "set", edge: name, [constant]: value });
export const takeFormula = (formula: string) => step("Took the formula", { kind: "take", formula });
export const refit = () => step("Refitted", { kind: "refit" });

export async function writeOwn(name: string, formula: string): Promise<string> {
  try {
    await call("functions", { name, formula });
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  await look();
  const at = candidates.value?.findIndex((one) => one.suggestion.function === name) ?? -1;
  if (at < 0) return `${name} cannot stand for this edge: it would leave its domain on the rows.`;
  preview.value = at;
  return "";
}

let asked = false;

/** The prediction at x; while one is asked for, only the last x waits. */
export async function predict() {
  if (predicting.value) {
    asked = true;
    return;
  }
  predicting.value = true;
  do {
    asked = false;
    try {
      predicted.value = await call<Predicted>("predict", { x: x.value });
    } catch (error) {
      fail(error);
    }
  } while (asked);
  predicting.value = false;
  void explain();
}

let explaining = false;
let explainAgain = false;

/** The contributions at x, once its prediction is there; while they are asked for, only the last x waits. */
async function explain() {
  explainAgain = true;
  if (explaining || (view.value?.edges ?? 0) > 2000) return;
  explaining = true;
  while (explainAgain) {
    explainAgain = false;
    const row = x.value;
    try {
      explained.value = { ...(await call<Explained>("explain", { x: row })), x: row };
    } catch {
      explained.value = null; // the prediction says what is wrong
    }
  }
  explaining = false;
}

export function setInput(i: number, value: number) {
  x.value = x.value.map((old, n) => (n === i ? value : old));
  void predict();
}

export function setRow(row: number[]) {
  x.value = [...row];
  void predict();
}

/** The values of the sliders as a client gives them: categories by name, missing values as null. */
export function clientRow(): (number | string | null)[] {
  return view.value!.nodes[0].map((node, i) => {
    const at = x.value[i];
    if (node.missing !== null && at === node.missing) return null;
    if (!node.categories.length) return Number(at.toPrecision(6));
    return node.categories.reduce((best, one) => (Math.abs(one[1] - at) < Math.abs(best[1] - at) ? one : best))[0];
  });
}

/** Copy the row at the sliders and what is predicted for it. */
export async function copyRow() {
  const now = view.value!;
  const names = model.value!.classes.length ? model.value!.classes : now.snapshot.outputs;
  const inputs = Object.fromEntries(clientRow().map((value, i) => [now.nodes[0][i].name, value]));
  const prediction = Object.fromEntries((predicted.value?.value ?? []).map((value, q) => [names[q], value]));
  try {
    await navigator.clipboard.writeText(JSON.stringify({ inputs, prediction }, null, 1));
    say("The row and its prediction are copied as JSON.");
  } catch (error) {
    fail(error);
  }
}

/** The class whose slopes and contributions are shown: the chosen one, otherwise the most probable. */
export const chosenClass = signal<number | null>(null);
export const shownOutput = computed(() => {
  const all = predicted.value?.value ?? [];
  if (!model.value?.classes.length) return 0;
  return chosenClass.value !== null && chosenClass.value < all.length ? chosenClass.value : all.reduce<number>((top, value, q) => ((value ?? 0) > (all[top] ?? 0) ? q : top), 0);
});

export async function search(seconds: number) {
  try {
    searching.value = "starting";
    found.value = [];
    await call("search", { seconds });
  } catch (error) {
    searching.value = "";
    fail(error);
  }
}
export const cancelSearch = () => {
  searching.value = "stopping; what it has found stays";
  return call("search/cancel", {}).catch(fail);
};
const nothingYet: Simplifying = { line: "", edges: 0, named: 0, losses: [], lines: [] };

/** Prune and name the edges; the steps are taken when it has ended. */
export async function simplify() {
  if (busy.value) return;
  busy.value = "Simplifying";
  trouble.value = "";
  simplifying.value = nothingYet;
  stopping = false;
  try {
    await call("simplify", { base: view.value?.revision });
    say("Simplifying the network.");
  } catch (error) {
    simplified();
    fail(error);
  }
}
let stopping = false;

export const cancelSimplify = () => {
  stopping = true;
  return call("simplify/cancel", {}).catch(fail);
};

function simplified() {
  fading.value = new Set();
  simplifying.value = null;
  busy.value = "";
}

async function takeSimplified(steps: number, error: string) {
  const stopped = stopping;
  stopping = false;
  const before = snapshot.value;
  const seen = simplifying.value;
  await refresh();
  simplified();
  if (steps && seen?.lines.length) changes.value = { ...seen, at: view.value!.revision };
  const now = snapshot.value;
  if (error) fail(new Error(error));
  else if (!steps) trouble.value = stopped
      ? "The network is unchanged: it was stopped before the first step was complete."
      : "Nothing was found to simplify: each change would cost too much.";
  else if (before?.phase === "ready" && now?.phase === "ready") say(`Simplified. ${effectOf(before, now)}`);
}

export async function chooseAgain() {
  trouble.value = "";
  await call("table/again", {}).catch(fail);
  await refresh();
}
/** Go on with what is kept of this table or network. */
export async function resume() {
  trouble.value = "";
  try {
    await call("resume", {});
    await refresh();
    say("This is where you left it.");
  } catch (error) {
    fail(error);
  }
}
export const cancelFit = () => call("fit/cancel", {}).catch(fail);

async function formulasFound() {
  found.value = (await call<{ formulas: Found[] }>("pareto")).formulas;
  say(`The search has found ${plural(found.value.length, "formula")}.`);
}

export async function publish(repository: string, name: string): Promise<string> {
  busy.value = "Publishing";
  try {
    const got = await call<{ version: number }>("publish", { base: view.value?.revision, repository, name });
    await refresh();
    say(`Published version ${got.version}.`);
    return "";
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  } finally {
    busy.value = "";
  }
}

function hear(event: StudioEvent | null) {
  if (event === null) {
    connected.value = false;
    return;
  }
  const again = !connected.value;
  connected.value = true;
  switch (event.kind) {
    case "connected":
      if (again && !busy.value) void refresh();
      break;
    case "changed":
      if (!busy.value && event.revision !== view.value?.revision) void refresh();
      break;
    case "published":
      if (!busy.value) void refresh();
      break;
    case "fit": {
      const trace = [...(fitting.value?.trace ?? []), event.loss as number].filter((loss) => loss !== null);
      fitting.value = { line: String(event.line), share: Number(event.share), trace };
      break;
    }
    case "fit_failed":
      trouble.value = String(event.error);
      break;
    case "search":
      searching.value = event.running ? String(event.line ?? "starting") : "";
      if (typeof event.complexity === "number" && typeof event.rmse === "number") found.value = grown(found.value, event);
      if (event.error) trouble.value = String(event.error);
      else if (!event.running) void formulasFound().catch(fail);
      break;
    case "simplify":
      if (!event.running) void takeSimplified(Number(event.steps ?? 0), String(event.error ?? ""));
      else if (typeof event.line === "string") {
        const losses = [...(simplifying.value?.losses ?? []), Number(event.loss)];
        const lines = [...(simplifying.value?.lines ?? []), event.line];
        simplifying.value = { line: event.line, edges: Number(event.edges), named: Number(event.named), losses, lines };
        fading.value = new Set((event.gone ?? []) as string[]);
      }
      break;
    case "served":
      served.value = { version: Number(event.version), server: String(event.server), error: event.error as string | undefined };
      if (served.value.version) say(`The server answers with version ${served.value.version}.`);
      break;
  }
}

/** The front with a formula more: those that a simpler one is as exact as go. It can be taken when the search has ended. */
function grown(front: Found[], event: StudioEvent): Found[] {
  const text = String(event.text);
  const one: Found = { text, latex: "", complexity: Number(event.complexity), rmse: Number(event.rmse), take: "", best: false };
  const all = [...front.filter((other) => !other.take), one].sort((a, b) => a.complexity - b.complexity || a.rmse - b.rmse);
  return all.filter((other, n) => all.slice(0, n).every((simpler) => simpler.rmse > other.rmse));
}

/** Read the state and listen; what it returns ends that. */
export function start(): () => void {
  void refresh().then(() => void call<{ formulas: Found[] }>("pareto").then((got) => (found.value = got.formulas), () => undefined));
  return listen(hear);
}

export const edgeAt = (l: number, j: number, i: number): Edge | undefined =>
  view.value?.snapshot.edges.find(({ place }) => place[0] === l && place[1] === j && place[2] === i);
