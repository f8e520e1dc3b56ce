/** The calls of a page without a server: what it was saved with, and predictions by the network's own JavaScript. */

import type { Transport } from "./api";
import type { Curve, Num, Predicted, Snapshot } from "./types";

export interface Shared {
  snapshot: Snapshot;
  edges: Record<string, Curve>;
  constants: { constants: unknown[] };
  predict: string;
}

type Predict = (rows: number[][]) => number[][];

const STEP = 1e-5; // of an input's range, for its slope: the middle between rounding and curvature

export function shared(data: Shared): Transport {
  const loaded = import(`data:text/javascript;charset=utf-8,${encodeURIComponent(data.predict)}`) as Promise<{ predict: Predict }>;

  const ask: Transport["ask"] = async (path, body) => {
    const edge = /^edges\/(.+?)(\/candidates)?$/.exec(path);
    if (path === "snapshot") return { status: 200, data: data.snapshot };
    if (path === "constants") return { status: 200, data: data.constants };
    if (path === "pareto") return { status: 200, data: { formulas: [] } };
    if (path === "predict") return { status: 200, data: predicted(data, (await loaded).predict, (body as { x: number[] }).x) };
    if (edge?.[2]) return { status: 200, data: { candidates: [] } };
    const curve = edge && data.edges[decodeURIComponent(edge[1])];
    if (curve) return { status: 200, data: curve };
    return { status: 404, data: { error: "This page has no more than what it was saved with.", code: "missing" } };
  };
  return {
    ask,
    listen: (hear) => {
      hear({ kind: "connected" });
      return () => undefined;
    },
  };
}

function predicted(data: Shared, predict: Predict, x: number[]): Predicted {
  const { view, model } = data.snapshot;
  const inputs = view.nodes[0];
  const rows = [x];
  const steps = inputs.map((node) => STEP * (node.high - node.low || 1));
  steps.forEach((step, i) => [1, -1].forEach((sign) => rows.push(x.map((value, n) => (n === i ? value + sign * step : value)))));
  const answers = predict(rows).map((scores) => (model.classes.length ? softmax(scores) : scores));
  const value = answers[0];
  return {
    value,
    gradient: value.map((_, q) => steps.map((step, i) => (answers[1 + 2 * i][q] - answers[2 + 2 * i][q]) / (2 * step))),
    inside: inputs.map((node, i) => !node.trained || (x[i] >= node.trained[0] && x[i] <= node.trained[1])),
    nodes: nodes(data.snapshot, x, value),
  };
}

function softmax(scores: number[]): number[] {
  const largest = Math.max(...scores);
  const all = scores.map((score) => Math.exp(score - largest));
  const sum = all.reduce((a, b) => a + b, 0);
  return all.map((one) => one / sum);
}

/** The values of the hidden nodes, read off the curves: they only mark places on tiles. */
function nodes({ view }: Snapshot, x: number[], value: number[]): Num[][] {
  const found: Num[][] = [x];
  view.arity.slice(0, -1).forEach((arity, depth) => {
    const { sums, products } = view.affine[depth];
    const totals = sums.map(() => 0);
    for (const edge of view.snapshot.edges) {
      const [layer, j, i] = edge.place;
      const at = found[depth][i];
      if (layer !== depth || at === null) continue;
      const part = ((at - edge.low) / (edge.high - edge.low || 1)) * (edge.curve.length - 1);
      const n = Math.max(0, Math.min(edge.curve.length - 2, Math.floor(part)));
      const [a, b] = [edge.curve[n] ?? 0, edge.curve[n + 1] ?? 0];
      totals[j] += a + (b - a) * (part - n);
    }
    let j = 0;
    found.push(
      arity.map((count, q) => {
        let product = 1;
        for (const end = j + count; j < end; j++) product *= sums[j][0] * totals[j] + sums[j][1];
        return products[q][0] * product + products[q][1];
      }),
    );
  });
  found.push(value);
  return found;
}
