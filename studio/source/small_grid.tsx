/** A layer of a large network on a canvas: every edge as a small tile, inputs across, sums down, the largest share first. */

import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { useSize } from "./flow";
import { percent } from "./format";
import { edge, selectPlace, theme, view } from "./store";
import { colour } from "./surroundings";
import type { Place, SmallTiles } from "./types";

const MISSING = 255;
const LEAST = 14;
const LARGEST = 44;

export function SmallGrid({ depth, all }: { depth: number; all: SmallTiles }) {
  const [place, [width]] = useSize<HTMLDivElement>();
  const board = useRef<HTMLCanvasElement>(null);
  const [hint, setHint] = useState("");
  const bytes = useMemo(() => Uint8Array.from(atob(all.curves), (letter) => letter.charCodeAt(0)), [all]);
  const grid = useMemo(() => arranged(all, depth), [all, depth]);
  const wide = Math.floor(Math.min(LARGEST, Math.max(LEAST, (width - 34) / Math.max(grid.columns.length, 1))));
  const high = Math.round(wide * 0.6);
  const name = ([l, j, i]: Place) => `${view.value!.nodes[l][i].name} → sum ${j + 1}`;

  useLayoutEffect(() => {
    const scale = devicePixelRatio || 1;
    const canvas = board.current!;
    [canvas.width, canvas.height] = [grid.columns.length * wide * scale, grid.rows.length * high * scale];
    const context = canvas.getContext("2d")!;
    context.scale(scale, scale);
    const [spline, snapped, chosen] = [colour("--spline"), colour("--snapped"), colour("--candidate")];
    const largest = Math.max(...grid.cells.map(({ n }) => all.shares[n]), 1e-300);
    for (const { n, column, row } of grid.cells) {
      const [x, y, w, h] = [column * wide + 1, row * high + 1, wide - 2, high - 2];
      const strong = Math.sqrt(all.shares[n] / largest);
      context.strokeStyle = context.fillStyle = all.snapped[n] ? snapped : spline;
      context.globalAlpha = 0.04 + 0.14 * strong;
      context.fillRect(x, y, w, h);
      context.globalAlpha = 0.3 + 0.7 * strong;
      context.lineWidth = all.snapped[n] ? 1.4 : 1;
      context.beginPath();
      for (let p = 0, pen = false; p < all.points; p++) {
        const value = bytes[n * all.points + p];
        const at: [number, number] = [x + 1 + (p / (all.points - 1)) * (w - 2), y + h - 1 - (value / (MISSING - 1)) * (h - 2)];
        if (value !== MISSING) pen ? context.lineTo(...at) : context.moveTo(...at);
        pen = value !== MISSING;
      }
      context.stroke();
      if (edge.value?.place.join() === all.places[n].join()) {
        context.globalAlpha = 1;
        context.strokeStyle = chosen;
        context.lineWidth = 2;
        context.strokeRect(x, y, w, h);
      }
    }
  }, [grid, bytes, wide, theme.value, edge.value]);

  const under = (event: MouseEvent): number | undefined => {
    const box = board.current!.getBoundingClientRect();
    return grid.at.get(`${Math.floor((event.clientY - box.top) / high)}.${Math.floor((event.clientX - box.left) / wide)}`);
  };
  return (
    <div class="small-grid" ref={place}>
      <p class="quiet">
        Layer {depth + 1}: {grid.cells.length.toLocaleString("en")} edges, inputs across, sums down, the largest share first. {hint}
      </p>
      <div class="sideways" tabIndex={0} role="region" aria-label={`The edges of layer ${depth + 1}`}>
        <canvas
          ref={board}
          role="img"
          aria-label={`The curves of the ${grid.cells.length} edges of layer ${depth + 1}; the largest are buttons below.`}
          style={{ width: `${grid.columns.length * wide}px`, height: `${grid.rows.length * high}px` }}
          onMouseMove={(event) => {
            const n = under(event);
            setHint(n === undefined ? "" : `${name(all.places[n])}, ${percent(all.shares[n])}`);
          }}
          onMouseLeave={() => setHint("")}
          onClick={(event) => {
            const n = under(event);
            if (n !== undefined) selectPlace(all.places[n]);
          }}
        />
      </div>
    </div>
  );
}

/** Which edge is in which cell. */
function arranged(all: SmallTiles, depth: number) {
  const own = all.places.map((place, n) => ({ n, j: place[1], i: place[2] })).filter(({ n }) => all.places[n][0] === depth);
  const sorted = (key: "j" | "i") => {
    const sums = new Map<number, number>();
    for (const one of own) sums.set(one[key], (sums.get(one[key]) ?? 0) + all.shares[one.n]);
    return [...sums].sort((a, b) => b[1] - a[1]).map(([index]) => index);
  };
  const [columns, rows] = [sorted("i"), sorted("j")];
  const [columnOf, rowOf] = [columns, rows].map((indices) => new Map(indices.map((index, n) => [index, n])));
  const cells = own.map(({ n, j, i }) => ({ n, column: columnOf.get(i)!, row: rowOf.get(j)! }));
  return { columns, rows, cells, at: new Map(cells.map(({ n, column, row }) => [`${row}.${column}`, n])) };
}
