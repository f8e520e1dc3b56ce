/** The edges as a grid of tiles, sorted by share; of a large network, a map of each layer and the largest edges. */

import { signal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { useSize } from "./flow";
import { percent, whole } from "./format";
import { SmallGrid } from "./small_grid";
import { byShare, select, tiles, view } from "./store";
import { colour } from "./surroundings";
import { Tile } from "./tile";
import type { Edge, LayerMap, View } from "./types";

const wanted = signal("");

export function Matrix() {
  const now = view.value!;
  const [place, [width]] = useSize<HTMLDivElement>();
  const all = now.snapshot.edges.length === now.edges;
  const grids = all && now.edges <= 250 && width ? now.arity.map((_, depth) => arranged(now, depth, width)) : [];
  const wide = Math.floor(Math.min(grids.some((grid) => grid.turned) ? WORDED : LARGEST, ...grids.map((grid) => Math.max(LEAST, room(grid, width))))); // one width for all layers
  return (
    <div class="canvas" tabIndex={-1} ref={place}>
      {all && now.edges <= 250 ? grids.map((grid, depth) => <Grid key={depth} view={now} depth={depth} grid={grid} wide={wide} />) : <Wall view={now} />}
    </div>
  );
}

/** Tiles as wide as the pane allows, within limits. */
const LEAST = 44;
const WORDED = 96; // on which the function is read
const LARGEST = 152;
const HEADS = { sums: 64, inputs: 132 }; // pixels of the names at the left

/** A layer as a grid, inputs across; or sums across where so many inputs would be too narrow. */
interface Arranged {
  edges: Edge[];
  inputs: number[];
  sums: number[];
  turned: boolean;
}

const room = ({ inputs, sums, turned }: Arranged, width: number) =>
  (width - 36 - (turned ? HEADS.inputs : HEADS.sums)) / Math.max(turned ? sums.length : inputs.length, 1) - 4;

function arranged(now: View, depth: number, width: number): Arranged {
  const edges = now.snapshot.edges.filter((edge) => edge.place[0] === depth);
  const total = (end: 1 | 2) => {
    const shares = new Map<number, number>();
    for (const { place, share } of edges) shares.set(place[end], (shares.get(place[end]) ?? 0) + share);
    return [...shares].sort((a, b) => b[1] - a[1]).map(([n]) => n);
  };
  const grid = { edges, inputs: total(2), sums: total(1), turned: false };
  return { ...grid, turned: room(grid, width) < WORDED && grid.sums.length < grid.inputs.length };
}

function Grid({ view: now, depth, grid, wide }: { view: View; depth: number; grid: Arranged; wide: number }) {
  const { edges, turned } = grid;
  const byPlace = new Map(edges.map((edge) => [`${edge.place[1]}.${edge.place[2]}`, edge]));
  const size = { width: wide, height: Math.round(wide / 2) };
  const named = {
    inputs: now.nodes[depth].map((node) => node.name),
    sums: now.arity[depth].flatMap((count, q) => {
      const name = now.nodes[depth + 1][q].name;
      return count === 1 ? [name] : Array.from({ length: count }, (_, n) => `${name}:${n + 1}`);
    }),
  };
  const [across, down] = turned ? (["sums", "inputs"] as const) : (["inputs", "sums"] as const);
  return (
    <div role="group" aria-label={`Layer ${depth + 1}`}>
      <p class="note">
        Layer {depth + 1}: {edges.length} edges, {across} across, {down} down, the largest share first
      </p>
      <div class="matrix" style={{ gridTemplateColumns: `${HEADS[down]}px repeat(${grid[across].length}, ${wide}px)` }}>
        <span />
        {grid[across].map((n) => (
          <span class="colhead" title={named[across][n]}>
            {named[across][n]}
          </span>
        ))}
        {grid[down].map((row) => (
          <>
            <span class="rowhead" title={named[down][row]}>
              {named[down][row]}
            </span>
            {grid[across].map((column) => {
              const [j, i] = turned ? [column, row] : [row, column];
              const edge = byPlace.get(`${j}.${i}`);
              return edge ? (
                <Tile key={edge.name} edge={edge} source={now.nodes[depth][i]} {...size} />
              ) : (
                <span class="gone" style={{ width: `${size.width}px`, height: `${size.height}px` }} />
              );
            })}
          </>
        ))}
      </div>
    </div>
  );
}

function Wall({ view: now }: { view: View }) {
  const text = wanted.value.trim().toLowerCase();
  const edges = byShare.value.filter((edge) => edge.name.toLowerCase().includes(text));
  return (
    <>
      <p class="note">
        {tiles.value
          ? `All ${whole(now.edges)} edges. Below: the ${byShare.value.length} largest, ${percent(now.shown_share)} of the signal.`
          : `Showing ${byShare.value.length} of ${whole(now.edges)} edges, ${percent(now.shown_share)} of the signal.`}{" "}
        <input
          class="find"
          type="search"
          placeholder="edge by name"
          aria-label="Show only edges whose name has this text"
          value={wanted.value}
          onInput={(event) => (wanted.value = event.currentTarget.value)}
          onKeyDown={(event) => {
            event.stopPropagation();
            if (event.key === "Enter" && wanted.value.trim()) select(edges[0]?.name ?? wanted.value.trim().replace(" → ", "->"));
          }}
        />
      </p>
      {tiles.value && now.arity.map((_, depth) => <SmallGrid key={depth} depth={depth} all={tiles.value!} />)}
      {now.maps.length > 0 && !tiles.value && (
        <div class="heat">
          {now.maps.map((map, depth) => (
            <Heat key={depth} map={map} depth={depth} />
          ))}
        </div>
      )}
      <div class="wall">
        {edges.map((edge) => (
          <div class="item" key={edge.name}>
            <Tile edge={edge} source={now.nodes[edge.place[0]][edge.place[2]]} width={96} height={48} />
            <p title={edge.name}>{edge.name.replace("->", " → ")}</p>
          </div>
        ))}
      </div>
    </>
  );
}

/** The share of the signal of a layer's edges: darker is more, by the square root. */
function Heat({ map, depth }: { map: LayerMap; depth: number }) {
  const place = useRef<HTMLCanvasElement>(null);
  const rows = map.cells.length;
  const columns = map.cells[0]?.length ?? 0;
  useLayoutEffect(() => {
    const context = place.current?.getContext("2d");
    if (!context) return;
    const largest = Math.max(...map.cells.flat(), 1e-300);
    context.clearRect(0, 0, columns, rows);
    context.fillStyle = colour("--spline");
    map.cells.forEach((cells, r) =>
      cells.forEach((share, c) => {
        context.globalAlpha = Math.sqrt(share / largest);
        context.fillRect(c, r, 1, 1);
      }),
    );
  });
  return (
    <figure>
      <canvas
        ref={place}
        width={columns}
        height={rows}
        role="img"
        aria-label={`The share of the signal of the ${map.inputs * map.sums} possible edges of layer ${depth + 1}, darker is more.`}
      />
      <figcaption class="quiet">
        layer {depth + 1}: {map.inputs} inputs across, {map.sums} sums down
      </figcaption>
    </figure>
  );
}
