/** The formula as its terms: one for each edge, whose numbers are the constants of the table. */

import { call } from "./api";
import { number, percent, shortTex } from "./format";
import { edgeAt, hovered, rows, select, selected, setConstant, splines, trial, tried, view } from "./store";
import { mark, Tex } from "./tex";
import type { Edge, Measure, Num, View } from "./types";

const MOST_TERMS = 60; // that are read: of a larger network the largest
const MOST_LINES = 14;
const STACKED = 14; // terms in all that are written one below another

interface Line {
  name: string;
  factors: { terms: Edge[]; scale: number; offset: number }[];
  scale: number;
  offset: number;
}

export const hidden = (name: string) => name.replace(/^h(\d+)$/, "h_{$1}").replace(/^h(\d+)\.(\d+)$/, "h_{$1.$2}");

/** A number of four digits in LaTeX, and whether it is negative. */
function digits(value: number): string {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) {
    const [mantissa, exponent] = size.toExponential(2).split("e");
    return `${Number(mantissa)}{\\cdot}10^{${Number(exponent)}}`;
  }
  return String(Number(size.toPrecision(4)));
}

/** The names of the outputs and hidden nodes with what each is, the outputs first. */
export function lines(now: View): Line[] {
  const found: Line[] = [];
  for (let layer = now.arity.length - 1; layer >= 0; layer--) {
    const last = layer === now.arity.length - 1;
    let offset = 0;
    now.arity[layer].forEach((count, q) => {
      const node = now.nodes[layer + 1][q];
      const affine = now.affine[layer];
      const factors = [];
      for (let j = offset; j < offset + count; j++) {
        const terms = now.snapshot.edges.filter((edge) => edge.place[0] === layer && edge.place[1] === j).sort((a, b) => b.share - a.share);
        factors.push({ terms, scale: affine.sums[j][0], offset: affine.sums[j][1] });
      }
      offset += count;
      const read = last || now.snapshot.edges.some((edge) => edge.place[0] === layer + 1 && edge.place[2] === q);
      if (read && (last || factors.some((factor) => factor.terms.length)))
        found.push({ name: last ? `\\widehat{${node.latex || "y"}}` : hidden(node.name), factors, scale: affine.products[q][0], offset: affine.products[q][1] });
    });
  }
  return found.slice(0, MOST_LINES);
}

/** A constant of an edge as LaTeX, to click and to drag where it can be set. */
function constant(edge: Edge, name: "a" | "b" | "c" | "d", value: number): string {
  const kind = tried.value?.edge === edge.name && tried.value.constant === name ? "k chosen" : "k";
  return edge.spline ? digits(value) : mark(kind, edge.place.join("-"), digits(value), name);
}

/** a·x + b. */
function inner(edge: Edge, source: string, atom: boolean): string {
  const [a, b] = values(edge);
  const lead = a === 1 ? source : a === -1 ? `-${source}` : `${a < 0 ? "-" : ""}${constant(edge, "a", a)}\\,${source}`;
  if (!b) return atom && lead !== source ? `\\left(${lead}\\right)` : lead;
  const sum = `${lead} ${b < 0 ? "-" : "+"} ${constant(edge, "b", b)}`;
  return atom ? `\\left(${sum}\\right)` : sum;
}

const CALLS: Record<string, string> = { log: "\\ln", arctanh: "\\operatorname{artanh}", arcsinh: "\\operatorname{arsinh}", j0: "J_0", gamma: "\\Gamma", sign: "\\operatorname{sgn}" };
const PLAIN = /^(sin|cos|tan|arcsin|arccos|arctan|sinh|cosh|tanh)$/;

/** The edge's own constants, with what is being dragged. */
function values(edge: Edge): [number, number, number, number] {
  const own = [...edge.constants] as [number, number, number, number];
  const now = tried.value;
  if (now?.edge === edge.name) own["abcd".indexOf(now.constant)] = now.value - now.shift;
  return own;
}

/** A term without its sign and constant: c·f(a·x + b), and a spline s_n(x). */
function term(edge: Edge, source: string): { negative: boolean; tex: string } {
  const parts: { negative: boolean; tex: string }[] = [];
  if (edge.function) {
    const [, , c] = values(edge);
    const factor = Math.abs(c) === 1 ? "" : `${constant(edge, "c", c)}\\,`;
    const power = /^(1\/)?(x\^(.+)|x|sqrt)$/.exec(edge.function);
    let tex: string;
    if (edge.function === "x") tex = `${factor}${source}`;
    else if (power?.[1]) {
      const below = power[2] === "sqrt" ? `\\sqrt{${inner(edge, source, false)}}` : power[3] ? `${inner(edge, source, true)}^{${exponent(power[3])}}` : inner(edge, source, false);
      tex = `\\dfrac{${Math.abs(c) === 1 ? "1" : constant(edge, "c", c)}}{${below}}`;
    } else if (edge.function === "sqrt") tex = `${factor}\\sqrt{${inner(edge, source, false)}}`;
    else if (power) tex = `${factor}${inner(edge, source, true)}^{${exponent(power[3])}}`;
    else if (edge.function === "exp") tex = `${factor}\\exp\\left(${inner(edge, source, false)}\\right)`;
    else if (edge.function === "gaussian") tex = `${factor}\\exp\\left(-${inner(edge, source, true)}^2\\right)`;
    else if (edge.function === "abs") tex = `${factor}\\left|${inner(edge, source, false)}\\right|`;
    else {
      const name = CALLS[edge.function] ?? (PLAIN.test(edge.function) ? `\\${edge.function}` : `\\operatorname{${edge.function.replace(/[^A-Za-z0-9]/g, "")}}`);
      tex = `${factor}${name}\\left(${inner(edge, source, false)}\\right)`;
    }
    parts.push({ negative: c < 0, tex });
  }
  if (edge.spline) parts.push({ negative: false, tex: `${mark(edge.name === selected.value ? "s chosen" : "s", edge.place.join("-"), `s_{${splines.value.get(edge.name)}}`)}(${source})` });
  const [first, second] = parts;
  if (!first) return { negative: false, tex: shortTex(edge.function) };
  return { negative: first.negative, tex: second ? `${first.tex} ${first.negative ? "-" : "+"} ${second.tex}` : first.tex };
}

const exponent = (text: string) => text.replace(/[()]/g, "");

/** The constant term of a sum: the d of its first named edge has it all (`constants_view`). */
function constantTerm(terms: Edge[], offset: number): { value: number; edge: Edge | null } {
  const named = terms.filter((edge) => edge.function);
  const value = named.reduce((sum, edge) => sum + values(edge)[3], offset);
  const settable = [...named].sort((a, b) => a.place[2] - b.place[2]).find((edge) => !edge.spline);
  return { value, edge: settable ?? null };
}

const sign = (negative: boolean, first: boolean) => (negative ? "-" : first ? "" : "+");

function Term({ edge, negative, tex, first }: { edge: Edge | null; negative: boolean; tex: string; first: boolean }) {
  const lit = edge && hovered.value === edge.name;
  return (
    <span
      class={`term ${lit ? "lit" : ""} ${edge && edge.name === selected.value ? "on" : ""}`}
      title={edge ? `${edge.name.replace("->", " → ")}, ${percent(edge.share)} of the signal` : undefined}
      onPointerEnter={() => edge && (hovered.value = edge.name)}
      onPointerLeave={() => (hovered.value = "")}
    >
      <Tex marked tex={`${first && !negative ? "" : `${sign(negative, first)}\\;`}${tex}`} />
    </span>
  );
}

/** The terms of a sum and, unless the sum is scaled, its constant term. */
function sumOf(now: View, factor: Line["factors"][0]) {
  const plain = factor.scale === 1;
  const shown: { edge: Edge | null; negative: boolean; tex: string }[] = factor.terms.map((edge) => {
    const [depth, , i] = edge.place;
    const node = now.nodes[depth][i];
    return { edge, ...term(edge, depth ? hidden(node.name) : node.latex || "x") };
  });
  const rest = constantTerm(factor.terms, plain ? factor.offset : 0);
  if (rest.value || !shown.length)
    shown.push({ edge: rest.edge, negative: rest.value < 0, tex: rest.edge ? constant(rest.edge, "d", rest.value) : digits(rest.value) });
  return { shown, plain };
}

export function FormulaLines() {
  const now = view.value!;
  const all = lines(now);
  const count = now.snapshot.edges.length;
  if (count > MOST_TERMS)
    return (
      <p class="quiet">
        {now.edges} terms are too many to read. Prune the network, or see the whole formula under Text and LaTeX.
      </p>
    );
  const stacked = count <= STACKED;
  return (
    <div class={`formula-lines ${stacked ? "stacked" : ""}`}>
      {all.map((line) => {
        const single = line.factors.length === 1;
        return (
          <div class="formula-line" key={line.name}>
            <span class="lhs">
              <Tex tex={`${line.name} =`} />
            </span>
            <span class="rhs">
              {!single && line.scale !== 1 && <Tex tex={`${line.scale < 0 ? "-" : ""}${digits(line.scale)}`} />}
              {line.factors.map((factor, n) => {
                const { shown, plain } = sumOf(now, factor);
                const bracket = !single || !plain;
                return (
                  <span class={bracket ? "bracketed" : "sum"} key={n}>
                    {!plain && <Tex tex={`${factor.scale < 0 ? "-" : ""}${digits(factor.scale)}`} />}
                    {bracket && <Tex tex="\big(" />}
                    {shown.map((one, at) => (
                      <Term key={`${one.edge?.name} ${at}`} {...one} first={at === 0} />
                    ))}
                    {bracket && <Tex tex="\big)" />}
                    {!plain && factor.offset !== 0 && <Tex tex={`${factor.offset < 0 ? "-" : "+"} ${digits(factor.offset)}`} />}
                  </span>
                );
              })}
              {!single && line.offset !== 0 && <Tex tex={`${line.offset < 0 ? "-" : "+"} ${digits(line.offset)}`} />}
            </span>
          </div>
        );
      })}
    </div>
  );
}

let asking = false;

/** A constant while it is dragged: what the network would then predict, from the server, the last value asked for only. */
async function attempt() {
  if (asking) return;
  asking = true;
  try {
    for (let last: number | undefined; tried.value && tried.value.value !== last; ) {
      const { edge, constant: name, value, shift } = tried.value;
      last = value;
      const got = await call<{ measure: Measure; prediction: Num[][] }>("constants/try", { edge, constant: name, value: value - shift });
      if (tried.value && rows.value) trial.value = got;
    }
  } catch {
    trial.value = null; // outside the function's domain; letting go says so
  } finally {
    asking = false;
  }
}

/** A drag of a constant: 200 pixels double it; a click without a drag selects its edge. */
export function dragConstant(event: PointerEvent) {
  const place = (event.target as HTMLElement).closest<HTMLElement>("[data-edge]");
  const at = place?.dataset.edge?.split("-").map(Number);
  const edge = at && edgeAt(at[0], at[1], at[2]);
  if (!place || !edge) return;
  const name = place.dataset.constant as "a" | "b" | "c" | "d" | undefined;
  const own = edge.constants["abcd".indexOf(name ?? "")];
  if (!name || own === undefined) {
    select(edge.name);
    return;
  }
  event.preventDefault();
  const terms = view.value!.snapshot.edges.filter((other) => other.place[0] === edge.place[0] && other.place[1] === edge.place[1]);
  const [scale, offset] = view.value!.affine[edge.place[0]].sums[edge.place[1]];
  const shift = name === "d" ? constantTerm(terms, scale === 1 ? offset : 0).value - own : 0;
  const start = own + shift;
  const from = event.clientX;
  const box = (event.currentTarget as HTMLElement);
  const move = (now: PointerEvent) => {
    const by = now.clientX - from;
    if (!tried.value && Math.abs(by) < 4) return;
    tried.value = { edge: edge.name, constant: name, value: Number((start + (Math.abs(start) * by) / 200).toPrecision(4)), shift };
    void attempt();
  };
  const end = (now: PointerEvent) => {
    box.removeEventListener("pointermove", move);
    box.removeEventListener("pointerup", end);
    box.removeEventListener("pointercancel", end);
    const found = tried.value;
    if (!found) select(edge.name);
    else if (now.type === "pointerup" && found.value !== start) void setConstant(edge.name, name, found.value - shift).finally(forget);
    if (!found || now.type !== "pointerup" || found.value === start) forget();
  };
  box.setPointerCapture(event.pointerId);
  box.addEventListener("pointermove", move);
  box.addEventListener("pointerup", end);
  box.addEventListener("pointercancel", end);
}

function forget() {
  tried.value = null;
  trial.value = null;
}

export const trialText = () => (trial.value ? `≈ ${trial.value.measure.kind} ${number(trial.value.measure.value, 3)}` : "");
