/** The prediction over each input with the others at the sliders: what would be if one of them changed. */

import { effect, signal } from "@preact/signals";
import { call } from "./api";
import { number } from "./format";
import { clamp, line, linear } from "./shapes";
import { isShared, model, predicted, setInput, view, x } from "./store";
import type { Num } from "./types";

interface Responses {
  inputs: number[];
  u: number[][];
  values: Num[][][];
}

const WIDTH = 128;
const HEIGHT = 66;
export const wanted = signal(false);
const responses = signal<Responses | null>(null);

let asking = false;
effect(() => {
  const at = x.value;
  const now = view.value;
  if (!wanted.value || !now || !at.length || isShared.value || asking) return;
  asking = true;
  void (async () => {
    try {
      for (let asked: number[] | null = null; asked !== x.peek(); ) {
        asked = x.peek();
        responses.value = await call<Responses>("responses", { x: asked });
      }
    } catch {
      responses.value = null; // the prediction says what is wrong
    } finally {
      asking = false;
    }
  })();
});

export function ResponseCurves({ q }: { q: number }) {
  const now = responses.value;
  if (!now) return <p class="empty">≈ computing the curves</p>;
  const nodes = view.value!.nodes[0];
  const all = now.values.flatMap((curve) => curve.map((row) => row[q])).filter((value): value is number => value !== null);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const sy = linear([low, high], [HEIGHT - 6, 6]);
  const value = predicted.value?.value[q] ?? null;
  const classes = model.value!.classes;
  return (
    <div class="responses">
      {now.inputs.map((i, n) => {
        const sx = linear([now.u[n][0], now.u[n][now.u[n].length - 1]], [4, WIDTH - 4]);
        const at = clamp(sx(x.value[i]), 0, WIDTH);
        return (
          <figure key={nodes[i].name}>
            <figcaption title={nodes[i].name}>{nodes[i].name}</figcaption>
            <svg
              width={WIDTH}
              height={HEIGHT}
              role="img"
              aria-label={`${classes[q] ?? "The prediction"} over ${nodes[i].name}: from ${number(now.values[n][0][q])} to ${number(now.values[n][now.values[n].length - 1][q])}.`}
              onClick={(event) => {
                const box = event.currentTarget.getBoundingClientRect();
                const part = clamp((event.clientX - box.left - 4) / (WIDTH - 8), 0, 1);
                if (!nodes[i].categories.length) setInput(i, now.u[n][0] + part * (now.u[n][now.u[n].length - 1] - now.u[n][0]));
              }}
            >
              <rect x="0.5" y="0.5" width={WIDTH - 1} height={HEIGHT - 1} fill="none" stroke="var(--line)" />
              <path d={line(now.u[n], now.values[n].map((row) => row[q]), sx, sy)} fill="none" stroke="var(--snapped)" stroke-width="1.8" />
              {value !== null && <circle cx={at} cy={clamp(sy(value), 0, HEIGHT)} r="3.4" fill="var(--ink)" />}
            </svg>
          </figure>
        );
      })}
      <p class="quiet">
        from {number(low, 3)} to {number(high, 3)}, the other inputs at the sliders
      </p>
    </div>
  );
}
