/** Numbers, functions and sentences as the page writes them. */

import type { Candidate, Edge, Measure, Num } from "./types";

export const MINUS = "−";

/** A number with `digits` significant digits, a thin space between thousands, and a real minus. */
export function number(value: Num | undefined, digits = 4): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  let text: string;
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) {
    text = value.toExponential(Math.max(0, digits - 2)).replace("e+", "e");
  } else {
    const places = size === 0 ? 0 : Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
    text = value.toFixed(Math.min(places, 8));
    const [before, after] = text.split(".");
    text = before.replace(/\B(?=(\d{3})+$)/g, "\u2009") + (after ? `.${after}` : "");
  }
  return text.replace("-", MINUS).replace("e-", `e${MINUS}`);
}

/** A tick of an axis: no more digits than it needs. */
export const tick = (value: number): string => number(Number(value.toPrecision(6)), 6).replace(/(\.\d*?)0+(?=$|e)/, "$1").replace(/\.(?=$|e)/, "");

export const percent = (value: number): string =>
  value === 0 ? "0%" : value < 0.001 ? "<0.1%" : `${(100 * value).toFixed(value < 0.1 ? 1 : 0)}%`;

/** A relative change such as +2.1%. */
export function change(value: Num): string {
  if (value === null) return "–";
  const part = 100 * value;
  if (Math.abs(part) < 0.05) return "±0.0%";
  if (part >= 1e5) return `×${(1 + value).toExponential(0).replace("e+", "e")}`;
  const digits = Math.abs(part) >= 100 ? 0 : 1;
  return `${part > 0 ? "+" : MINUS}${Math.abs(part).toFixed(digits)}%`;
}

/** How a change is said: better or worse are an arrow too, not only a colour. */
export const changeMark = (value: Num): "better" | "same" | "worse" =>
  value === null || Math.abs(value) < 5e-4 ? "same" : value < 0 ? "better" : "worse";

/** Functions as they are typeset: a, b, c and d are their constants. */
const TEX: Record<string, [short: string, full: string]> = {
  x: ["a\\,x", "c\\,x + d"],
  "1/x": ["a/x", "\\tfrac{c}{x + b} + d"],
  sqrt: ["a\\sqrt{x}", "c\\sqrt{a x + b} + d"],
  "1/sqrt": ["a/\\sqrt{x}", "c/\\sqrt{a x + b} + d"],
  exp: ["a\\,e^{x}", "c\\,e^{a x} + d"],
  log: ["a \\ln x", "c \\ln(a x + b) + d"],
  abs: ["a\\,|x|", "c\\,|x + b| + d"],
  gaussian: ["a\\,e^{-x^2}", "c\\,e^{-(a x + b)^2} + d"],
};

const named = (name: string): [string, string] => {
  const power = /^(1\/)?x\^(.+)$/.exec(name);
  if (power) {
    const exponent = `{${power[1] ? "-" : ""}${power[2].replace(/[()]/g, "")}}`;
    return [`a\\,x^${exponent}`, `c\\,(x + b)^${exponent} + d`];
  }
  const plain = /^(sin|cos|tan|arcsin|arccos|arctan|sinh|cosh|tanh)$/.test(name);
  const head = plain ? `\\${name}` : `\\operatorname{${name.replace(/[^A-Za-z0-9]/g, "")}}`;
  return [`${head} x`, `c ${head}(a x + b) + d`];
};

export const shortTex = (name: string, spline = 0): string => (name ? (TEX[name] ?? named(name))[0] : spline ? `s_{${spline}}(x)` : "s(x)");
export const fullTex = (name: string): string => (TEX[name] ?? named(name))[1];

export const state = (edge: Edge): "snapped" | "spline" => (edge.function && !edge.spline ? "snapped" : "spline");

/** An edge as a sentence, the label of its tile. */
export function sentence(edge: Edge): string {
  const what =
    edge.function && edge.spline
      ? `a spline beside the function ${edge.function}`
      : edge.function
        ? `snapped to the function ${edge.function}`
        : "a free spline";
  return `Edge ${spoken(edge.name)}, ${what}, carries ${percent(edge.share)} of the signal.`;
}

export const spoken = (name: string): string => name.replace("->", " to ");

/** The error after a candidate as a share of the spread, where the error before it is rounding. */
export const share = (one: Candidate): string => percent(Math.sqrt(Math.max(one.suggestion.loss, 0)));

export function candidateSentence(one: Candidate, measure: Measure, judged: string): string {
  const cost = one.change === null ? `then ${share(one)} of the spread of the outputs` : change(one.change).replace("±0.0%", "unchanged");
  return (
    `${one.suggestion.function}: R squared to the edge ${one.suggestion.r2.toFixed(4)}, ${judged} ${measure.kind} ` +
    `${cost}, complexity ${one.complexity}.`
  );
}

/** A formula whose long numbers have five digits; what is taken has them all. */
export const shorter = (latex: string): string => latex.replace(/\d+\.\d{5,}/g, (found) => String(Number(Number(found).toPrecision(5))));

/** A whole number with a thin space between thousands. */
export const whole = (count: number): string => String(count).replace(/\B(?=(\d{3})+$)/g, "\u2009");

export const plural = (count: number, word: string, many = `${word}s`): string => `${whole(count)} ${count === 1 ? word : many}`;

export function bytes(count: number): string {
  return count < 1024 ? `${count} B` : count < 1e6 ? `${(count / 1024).toFixed(0)} KB` : `${(count / 1e6).toFixed(1)} MB`;
}
