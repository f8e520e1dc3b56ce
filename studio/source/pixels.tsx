/** Inputs that are the pixels of an image: one draws on it, and sees beside it what each pixel contributes. */

import { computed } from "@preact/signals";
import { useState } from "preact/hooks";
import { number, percent } from "./format";
import { clamp } from "./shapes";
import { chosenClass, explained, model, predicted, setRow, shownOutput, view, x } from "./store";
import type { Node } from "./types";

const SIDE = 152; // pixels of the screen, of the longer side of an image
const LEAST_SIDE = 5; // of an image whose names have rows and columns
const LEAST_NUMBERED = 7; // of one whose pixels are only numbered: as many numbered sensors are rare
const MOST_MISSING = 0.25; // share of the pixels that are no inputs, as those that are the same in each row
const MOST_LINES = 7; // of classes in a column, as high as the image
const SOFT = 0.5; // ink beside the line that is drawn, as scanned strokes have it

interface Image {
  rows: number;
  columns: number;
  /** The input of each cell, row by row; null where the network has none. */
  inputs: (number | null)[];
}

const rangeOf = (node: Node) => node.trained ?? [node.low, node.high];

/** The image that the inputs are, by their names: pixel_0_7 has row and column, p7 a number; null if they are none. */
function imageOf(nodes: Node[]): Image | null {
  const names = nodes.map((node) => /^(.*?)(\d+)(?:\D+(\d+))?\D*$/.exec(node.name));
  if (nodes.length < LEAST_SIDE ** 2 || names.some((name) => !name || name[1] !== names[0]![1] || !name[3] !== !names[0]![3])) return null;
  const lows = nodes.map((node) => rangeOf(node)[0]);
  const ground = Math.min(...lows); // of paper: most images have it in most pixels
  if (nodes.some((node) => node.categories.length || node.missing !== null) || lows.filter((low) => low === ground).length < lows.length / 2) return null;
  const [first, second] = [2, 3].map((group) => names.map((name) => Number(name![group])));
  if (names[0]![3]) return arranged(first, second, LEAST_SIDE);
  const top = Math.max(...first);
  const start = Number.isInteger(Math.sqrt(top)) && Math.min(...first) > 0 ? 1 : 0;
  const side = Math.ceil(Math.sqrt(top - start + 1));
  return arranged(first.map((n) => Math.floor((n - start) / side)), first.map((n) => (n - start) % side), LEAST_NUMBERED, side);
}

function arranged(row: number[], column: number[], least: number, side?: number): Image | null {
  const [rows, columns] = [row, column].map((all) => side ?? Math.max(...all) - Math.min(...all) + 1);
  const [top, left] = side ? [0, 0] : [Math.min(...row), Math.min(...column)];
  if (Math.min(rows, columns) < least || row.length < (1 - MOST_MISSING) * rows * columns) return null;
  const inputs = Array<number | null>(rows * columns).fill(null);
  row.forEach((r, i) => (inputs[(r - top) * columns + column[i] - left] = i));
  return inputs.filter((i) => i !== null).length === row.length ? { rows, columns, inputs } : null;
}

/** The image that the inputs of the network are, or null. */
export const image = computed(() => (view.value ? imageOf(view.value.nodes[0]) : null));

export function Pixels() {
  const { rows, columns, inputs } = image.value!;
  const nodes = view.value!.nodes[0];
  const [at, setAt] = useState(Math.floor((rows * columns + columns) / 2));
  const [erasing, setErasing] = useState(false);
  const cell = SIDE / Math.max(rows, columns);
  const [width, height] = [columns * cell, rows * cell];
  const largest = Math.max(...nodes.map((node) => rangeOf(node)[1]));
  const name = (n: number) => (inputs[n] === null ? "not an input" : `${nodes[inputs[n]!].name} is ${number(x.value[inputs[n]!], 3)}`);

  const draw = (n: number, erase: boolean) => {
    const next = [...x.value];
    const put = (cell: number, ink: number) => {
      const i = inputs[cell];
      if (i === null) return;
      const [low, high] = rangeOf(nodes[i]);
      next[i] = erase ? low : Math.max(next[i], low + ink * (high - low));
    };
    put(n, 1);
    const [r, c] = [Math.floor(n / columns), n % columns];
    if (!erase)
      for (const [down, right] of [[0, 1], [1, 0], [0, -1], [-1, 0]])
        if (r + down >= 0 && r + down < rows && c + right >= 0 && c + right < columns) put((r + down) * columns + c + right, SOFT);
    if (next.some((value, i) => value !== x.value[i])) setRow(next);
  };
  const under = (event: PointerEvent) => {
    const box = (event.currentTarget as Element).getBoundingClientRect();
    const [c, r] = [(event.clientX - box.left) / cell, (event.clientY - box.top) / cell].map(Math.floor);
    return clamp(r, 0, rows - 1) * columns + clamp(c, 0, columns - 1);
  };
  const stroke = (event: PointerEvent) => {
    const n = under(event);
    setAt(n);
    draw(n, erasing || event.shiftKey || event.buttons === 2);
  };
  const key = (event: KeyboardEvent) => {
    const [r, c] = [Math.floor(at / columns), at % columns];
    const moves: Record<string, [number, number]> = { ArrowRight: [r, c + 1], ArrowLeft: [r, c - 1], ArrowDown: [r + 1, c], ArrowUp: [r - 1, c] };
    if (event.key in moves) setAt(clamp(moves[event.key][0], 0, rows - 1) * columns + clamp(moves[event.key][1], 0, columns - 1));
    else if (event.key === " " || event.key === "Enter") draw(at, erasing || event.shiftKey);
    else if (event.key === "Backspace" || event.key === "Delete") draw(at, true);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <div class="pixels" role="group" aria-label="The inputs as an image">
      <figure>
        <div
          class="drawing"
          role="application"
          tabIndex={0}
          aria-label={`An image of ${rows} by ${columns} pixels: arrows move, Space draws, Backspace erases`}
          aria-describedby="pixel"
          onKeyDown={key}
          onContextMenu={(event) => event.preventDefault()}
          onPointerDown={(event) => {
            event.currentTarget.setPointerCapture(event.pointerId);
            stroke(event);
          }}
          onPointerMove={(event) => event.currentTarget.hasPointerCapture(event.pointerId) && stroke(event)}
        >
          <svg width={width} height={height} aria-hidden="true">
            {inputs.map((i, n) => (
              <rect
                key={n}
                x={(n % columns) * cell}
                y={Math.floor(n / columns) * cell}
                width={cell}
                height={cell}
                fill="var(--ink)"
                fill-opacity={i === null ? 0 : clamp((x.value[i] - rangeOf(nodes[i])[0]) / (largest - rangeOf(nodes[i])[0] || 1), 0, 1)}
              />
            ))}
            <rect class="cursor" x={(at % columns) * cell} y={Math.floor(at / columns) * cell} width={cell} height={cell} fill="none" stroke="var(--candidate)" stroke-width="1.5" />
          </svg>
        </div>
        <figcaption>
          <button type="button" class="button small" onClick={() => setRow(nodes.map((node) => rangeOf(node)[0]))}>
            Clear
          </button>
          <button type="button" class="button small" aria-pressed={erasing} title="Draw with paper instead of ink, as Shift does" onClick={() => setErasing(!erasing)}>
            Erase
          </button>
        </figcaption>
      </figure>
      <Contributions cell={cell} />
      <Chances />
      <p class="hidden" id="pixel" aria-live="polite">
        {name(at)}
      </p>
    </div>
  );
}

/** What each pixel adds to the answer or takes from it, where this is known. */
function Contributions({ cell }: { cell: number }) {
  const { rows, columns, inputs } = image.value!;
  const found = explained.value;
  const k = found && found.outputs.length > 1 ? shownOutput.value : 0;
  const values = found?.values[k];
  if (!found || !values) return null;
  const largest = Math.max(...values.map((value) => Math.abs(value ?? 0)), 1e-300);
  const shown = found.outputs[k];
  return (
    <figure>
      <svg width={columns * cell} height={rows * cell} role="img" aria-label={`What each pixel contributes to ${shown}`}>
        {inputs.map((i, n) => {
          const value = i === null ? 0 : (values[i] ?? 0);
          return (
            <rect
              key={n}
              x={(n % columns) * cell}
              y={Math.floor(n / columns) * cell}
              width={cell}
              height={cell}
              fill={value < 0 ? "var(--outside)" : "var(--snapped)"}
              fill-opacity={Math.sqrt(Math.abs(value) / largest)}
            />
          );
        })}
      </svg>
      <figcaption class="quiet">
        <b class="more">for</b> and <b class="less">against</b> {shown}
      </figcaption>
    </figure>
  );
}

/** The classes with their probabilities, where one draws: a click chooses the class whose contributions are shown. */
function Chances() {
  const classes = model.value!.classes;
  return (
    <ul class="chances" style={{ gridTemplateRows: `repeat(${clamp(Math.ceil(classes.length / 2), 1, MOST_LINES)}, 24px)` }}>
      {classes.map((name, q) => {
        const value = predicted.value?.value[q] ?? 0;
        return (
          <li key={name}>
            <button type="button" class={shownOutput.value === q ? "shown" : ""} aria-pressed={chosenClass.value === q} onClick={() => (chosenClass.value = chosenClass.value === q ? null : q)}>
              <span>{name}</span>
              <span class="track">
                <i style={{ width: `${100 * value}%` }} />
              </span>
              <b>{percent(value)}</b>
            </button>
          </li>
        );
      })}
    </ul>
  );
}
