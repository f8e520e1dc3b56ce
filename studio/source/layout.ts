/** Where everything of the flow view is. */

import type { Edge, View } from "./types";

export interface Box {
  x: number;
  y: number;
}

export interface Layout {
  width: number;
  height: number;
  inputs: { i: number; y: number; height: number }[];
  tiles: Map<string, Box & { width: number; height: number }>;
  nodes: { depth: number; q: number; x: number; y: number }[];
  outputs: { q: number; y: number; height: number }[];
  inputWidth: number;
  /** Inputs that no edge reads, which are one line below the others. */
  folded: number;
  foldedY: number;
  outputX: number;
  outputWidth: number;
}

const PAD = 16;
const NODE = 28;
const LEAST_ROW = 32; // of an input: more of them scroll
const BESIDE_NAME = 92; // pixels of an input's card that its name has not
const LETTER = 8;
const WIDEST = 300; // an input's card, for a long name
const FOLD = 30; // of the line that says how many inputs are not used
/** Below a prediction: its note on the trained range, and the contributions of up to six inputs. */
const BELOW = 40;
export const BARS = { most: 6, height: 19, head: 24 };

/** Centres in order, at least `gap` apart if there is room, as near as that allows to where they are wanted. */
export function apart(wanted: number[], gap: number, low: number, high: number): number[] {
  const order = wanted.map((_, n) => n).sort((a, b) => wanted[a] - wanted[b]);
  const at = order.map((n) => wanted[n]);
  const room = Math.min(gap, (high - low) / Math.max(at.length - 1, 1));
  at.forEach((_, n) => (at[n] = Math.max(at[n], n ? at[n - 1] + room : low)));
  for (let n = at.length - 1; n >= 0; n--) at[n] = Math.min(at[n], n < at.length - 1 ? at[n + 1] - room : high);
  const found: number[] = [];
  order.forEach((n, k) => (found[n] = at[k]));
  return found;
}

export function layout(view: View, edges: Edge[], width: number, height: number, unfolded = false): Layout {
  const depths = view.arity.length;
  const outputWidth = width < 860 ? 138 : 186;
  const sources = new Set(edges.filter((edge) => edge.place[0] === 0).map((edge) => edge.place[2]));
  const folded = sources.size ? view.nodes[0].length - sources.size : 0;
  const all = unfolded || !sources.size;
  const single = view.arity.filter((_, depth) => edges.some((edge) => edge.place[0] === depth)).length === 1;
  const shown = view.nodes[0].map((_, i) => i).filter((i) => all || sources.has(i));
  const layers = view.arity.map((_, depth) => edges.filter((edge) => edge.place[0] === depth));
  const outputs = view.nodes[depths].map((_, q) => q).slice(0, 24);
  const columns = layers.map((own) => Math.min(single && width > 860 ? 6 : 3, Math.max(1, Math.ceil((own.length * 54) / Math.max(height, 1)))));
  const fold = folded ? FOLD : 0;
  const tallest = Math.max(
    shown.length * Math.max(LEAST_ROW, Math.min(70, (height - fold) / Math.max(shown.length, 1))) + fold,
    ...layers.map((own, depth) => (own.length * 54) / columns[depth]),
    outputs.length > 1 ? outputs.length * 46 : 0,
  );
  const tall = Math.max(height, tallest + 8);
  const narrow = width < 860;
  const tileWidth = narrow ? 76 : Math.max(...columns) > 1 || width < 1000 ? 82 : 96;
  const least = narrow ? 15 : 34;
  const few = (depth: number) => depth + 1 < depths && view.nodes[depth + 1].length <= 12;
  const drawn = layers.map((own, depth) => own.length > 0 || few(depth)); // a layer with nothing to show takes no room
  const layersDrawn = drawn.filter(Boolean).length;
  const needed = columns.reduce((sum, count, depth) => sum + (drawn[depth] ? count * (tileWidth + 10) + (depth + 1 < depths ? NODE : 0) : 0), 0) + layersDrawn * 2 * least;
  const longest = Math.max(0, ...shown.map((i) => view.nodes[0][i].name.length));
  const room = Math.min(WIDEST, width - outputWidth - 2 * PAD - needed);
  const inputWidth = !shown.length ? 0 : narrow ? 164 : Math.max(206, Math.min(room, BESIDE_NAME + LETTER * longest));
  const wide = Math.max(width, inputWidth + outputWidth + 2 * PAD + needed);
  const left = PAD + inputWidth;
  const free = wide - left - outputWidth - PAD;
  const gap = (free - needed + layersDrawn * 2 * least) / (2 * layersDrawn);

  const inputGap = Math.min(74, (tall - fold) / Math.max(shown.length, 1));
  const inputTop = (tall - fold - inputGap * shown.length) / 2;
  const inputs = shown.map((i, n) => ({ i, y: inputTop + (n + 0.5) * inputGap, height: Math.min(66, inputGap - (inputGap < 50 ? 4 : 6)) }));
  const at = new Map<string, number>(inputs.map(({ i, y }) => [`0.${i}`, y]));
  const tiles: Layout["tiles"] = new Map();
  const nodes: Layout["nodes"] = [];
  let x = left;
  for (let depth = 0; depth < depths; depth++) {
    if (!drawn[depth]) continue;
    const own = [...layers[depth]];
    const from = (edge: Edge) => at.get(`${depth}.${edge.place[2]}`) ?? tall / 2;
    own.sort((a, b) => from(a) - from(b) || a.place[1] - b.place[1]);
    const room = own.length ? Math.min(62, (tall - 4) / (own.length / columns[depth])) : 62;
    const tileHeight = Math.max(24, Math.min(50, room - 5));
    const ys = apart(own.map(from), room / columns[depth], tileHeight / 2 + 3, tall - tileHeight / 2 - 3);
    x += gap;
    own.forEach((edge, n) => {
      tiles.set(edge.name, {
        x: x + (n % columns[depth]) * (tileWidth + 10),
        y: ys[n],
        width: tileWidth,
        height: tileHeight,
      });
    });
    x += columns[depth] * (tileWidth + 10) - 10 + gap;
    if (depth < depths - 1) {
      const offsets = view.arity[depth].reduce<number[]>((sums, count) => [...sums, sums[sums.length - 1] + count], [0]);
      const used = view.nodes[depth + 1]
        .map((_, q) => q)
        .filter((q) => few(depth) || own.some((edge) => edge.place[1] >= offsets[q] && edge.place[1] < offsets[q + 1]));
      const wanted = used.map((q) => {
        const into = own.filter((edge) => edge.place[1] >= offsets[q] && edge.place[1] < offsets[q + 1]);
        const weight = into.reduce((sum, edge) => sum + edge.share + 1e-6, 0);
        if (!into.length) return tall - 20 + q;
        return into.reduce((sum, edge) => sum + tiles.get(edge.name)!.y * (edge.share + 1e-6), 0) / weight;
      });
      apart(wanted, Math.min(104, Math.max(58, tall / (used.length + 1))), 24, tall - 34).forEach((y, n) => {
        at.set(`${depth + 1}.${used[n]}`, y);
        nodes.push({ depth: depth + 1, q: used[n], x: x + NODE / 2, y });
      });
      x += NODE;
    }
  }
  const one = outputs.length === 1;
  const last = [...layers[depths - 1]];
  const middle = last.length ? last.reduce((sum, edge) => sum + tiles.get(edge.name)!.y, 0) / last.length : tall / 2;
  const below = BARS.head + BARS.height * Math.min(view.nodes[0].length, BARS.most);
  const above = outputs.length * 46 + below <= tall ? tall - below : tall; // for several outputs
  const outputYs = one ? [Math.max(84, Math.min(middle, tall - 60 - BELOW - below))] : apart(outputs.map((q) => ((q + 0.5) / outputs.length) * above), 46, 24, above - 24);
  return {
    width: wide,
    height: tall,
    inputs,
    tiles,
    nodes,
    outputs: outputs.map((q, n) => ({ q, y: outputYs[n], height: one ? 104 : 40 })),
    inputWidth,
    folded,
    foldedY: inputTop + inputGap * shown.length + 3,
    outputX: wide - PAD - outputWidth,
    outputWidth,
  };
}
