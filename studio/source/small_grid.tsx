/** A layer of a large network on a canvas: every edge as a small tile, inputs across, sums down, the largest share first.
 *
 * It is a list box of which one edge is present at a time: arrows move it, Enter selects it, so keys and screen readers
 * reach each of ten thousand edges. */

import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { useSize } from "./flow";
import { percent, whole } from "./format";
import { edge, selectPlace, theme, view } from "./store";
import { colour } from "./surroundings";
import type { Place, SmallTiles } from "./types";

const MISSING = 255;
const LEAST = matchMedia("(pointer: coarse)").matches ? 28 : 14; // for a finger, or for a mouse
const LARGEST = 44;
const PAGE = 10; // tiles that Page Up and Page Down go

export function SmallGrid({ depth, all }: { depth: number; all: SmallTiles }) {
  const [place, [width]] = useSize<HTMLDivElement>();
  const canvas = useRef<HTMLCanvasElement>(null);
  const mark = useRef<HTMLSpanElement>(null);
  const [hint, setHint] = useState("");
  const bytes = useMemo(() => Uint8Array.from(atob(all.curves), (letter) => letter.charCodeAt(0)), [all]);
  const grid = useMemo(() => arranged(all, depth), [all, depth]);
  const [current, setCurrent] = useState(0);
  const at = grid.cells[Math.min(current, grid.cells.length - 1)];
  const wide = Math.floor(Math.min(LARGEST, Math.max(LEAST, (width - 34) / Math.max(grid.columns.length, 1))));
  const high = Math.max(Math.round(wide * 0.6), LEAST > 14 ? 24 : 0);
  const name = ([l, j, i]: Place) => `${view.value!.nodes[l][i].name} → sum ${j + 1}`;
  const told = (n: number) => `${name(all.places[n])}, ${all.snapped[n] ? "snapped" : "free spline"}, ${percent(all.shares[n])}`;

  useLayoutEffect(() => {
    const scale = devicePixelRatio || 1;
    const board = canvas.current;
    if (!board) return;
    [board.width, board.height] = [grid.columns.length * wide * scale, grid.rows.length * high * scale];
    const context = board.getContext("2d")!;
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
        const to: [number, number] = [x + 1 + (p / (all.points - 1)) * (w - 2), y + h - 1 - (value / (MISSING - 1)) * (h - 2)];
        if (value !== MISSING) pen ? context.lineTo(...to) : context.moveTo(...to);
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
  }, [grid, bytes, wide, high, theme.value, edge.value]);

  const under = (event: MouseEvent): Cell | undefined => {
    const box = canvas.current!.getBoundingClientRect();
    return grid.at.get(`${Math.floor((event.clientY - box.top) / high)}.${Math.floor((event.clientX - box.left) / wide)}`);
  };
  const go = (to: Cell) => {
    setCurrent(to.index);
    setHint(told(to.n));
    requestAnimationFrame(() => mark.current?.scrollIntoView({ block: "nearest", inline: "nearest" }));
  };
  const key = (event: KeyboardEvent) => {
    if (event.key === "Enter" || event.key === " ") selectPlace(all.places[at.n]);
    else {
      const to = moved(grid, at, event.key);
      if (!to) return;
      go(to);
    }
    event.preventDefault();
    event.stopPropagation();
  };
  if (!at) return <p class="note">Layer {depth + 1}: no edge is left.</p>;
  const [posinset, id] = [at.index + 1, `small-${depth}-${at.n}`];
  return (
    <div class="small-grid" ref={place}>
      <p class="quiet">
        Layer {depth + 1}: {whole(grid.cells.length)} edges, inputs across, sums down, the largest share first. {hint}
      </p>
      <div class="sideways">
        <div
          class="board"
          role="listbox"
          tabIndex={0}
          aria-label={`The edges of layer ${depth + 1}: arrows move, Enter selects`}
          aria-activedescendant={id}
          onKeyDown={key}
          onFocus={() => setHint(told(at.n))}
          onBlur={() => setHint("")}
        >
          <canvas
            ref={canvas}
            aria-hidden="true"
            style={{ width: `${grid.columns.length * wide}px`, height: `${grid.rows.length * high}px` }}
            onMouseMove={(event) => {
              const cell = under(event);
              setHint(cell ? told(cell.n) : "");
            }}
            onMouseLeave={() => setHint("")}
            onClick={(event) => {
              const cell = under(event);
              if (!cell) return;
              go(cell);
              selectPlace(all.places[cell.n]);
            }}
          />
          <span
            ref={mark}
            key={id}
            id={id}
            class="at"
            role="option"
            aria-selected={edge.value?.place.join() === all.places[at.n].join()}
            aria-posinset={posinset}
            aria-setsize={grid.cells.length}
            style={{ left: `${at.column * wide}px`, top: `${at.row * high}px`, width: `${wide}px`, height: `${high}px` }}
          >
            <span class="hidden">{told(at.n)} of the signal</span>
          </span>
        </div>
      </div>
    </div>
  );
}

interface Cell {
  /** Among the cells of the layer, row by row. */
  index: number;
  /** Among all edges. */
  n: number;
  column: number;
  row: number;
}

type Grid = ReturnType<typeof arranged>;

/** The cell that a key leads to: the next one that is there in its direction; undefined for other keys. */
function moved(grid: Grid, from: Cell, key: string): Cell | undefined {
  const own = (row: number) => grid.cells.filter((cell) => cell.row === row);
  const along = (columns: number, rows: number, steps: number) => {
    let found = from;
    for (let [c, r, left] = [from.column, from.row, steps]; left > 0; ) {
      [c, r] = [c + columns, r + rows];
      if (c < 0 || r < 0 || c >= grid.columns.length || r >= grid.rows.length) break;
      const cell = grid.at.get(`${r}.${c}`);
      if (cell) [found, left] = [cell, left - 1];
    }
    return found;
  };
  switch (key) {
    case "ArrowRight":
      return along(1, 0, 1);
    case "ArrowLeft":
      return along(-1, 0, 1);
    case "ArrowDown":
      return along(0, 1, 1);
    case "ArrowUp":
      return along(0, -1, 1);
    case "PageDown":
      return along(0, 1, PAGE);
    case "PageUp":
      return along(0, -1, PAGE);
    case "Home":
      return own(from.row)[0];
    case "End":
      return own(from.row).at(-1);
  }
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
  const cells: Cell[] = own
    .map(({ n, j, i }) => ({ index: 0, n, column: columnOf.get(i)!, row: rowOf.get(j)! }))
    .sort((a, b) => a.row - b.row || a.column - b.column);
  cells.forEach((cell, index) => (cell.index = index));
  return { columns, rows, cells, at: new Map(cells.map((cell) => [`${cell.row}.${cell.column}`, cell])) };
}
