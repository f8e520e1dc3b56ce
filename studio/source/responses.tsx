/** The prediction over each input with the others at the sliders: what would be if one of them changed. */

import { computed, effect, signal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { call } from "./api";
import { number, percent } from "./format";
import { clamp, line, linear, type Scale } from "./shapes";
import { isShared, judged, model, predicted, setInput, setRow, theme, view, x } from "./store";
import { colour } from "./surroundings";
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

/** Ask for what is drawn at the sliders while it is wanted; only the last of their values waits. */
function follow<T>(isWanted: () => boolean, path: string, more: () => object, answer: { value: T | null }) {
  let asking = false;
  const body = () => ({ x: x.value, ...more() });
  effect(() => {
    const first = body();
    if (!isWanted() || !view.value || !first.x.length || isShared.value || asking) return;
    asking = true;
    void (async () => {
      try {
        for (let asked = ""; asked !== JSON.stringify(body()); ) {
          asked = JSON.stringify(body());
          answer.value = await call<T>(path, body());
        }
      } catch {
        answer.value = null; // the prediction says what is wrong
      } finally {
        asking = false;
      }
    })();
  });
}

/** Inputs of numbers, the largest share first. */
const numeric = computed(() => {
  const nodes = view.value?.nodes[0] ?? [];
  return nodes.map((_, i) => i).filter((i) => nodes[i].share > 0 && !nodes[i].categories.length).sort((a, b) => nodes[b].share - nodes[a].share);
});

interface ValueMap {
  u: number[];
  v: number[];
  values: Num[][][];
}

const mapped = signal(false);
const axes = signal<[number, number] | null>(null);
const shownAxes = computed<[number, number]>(() => {
  const [first, second] = axes.value ?? [];
  const all = numeric.value;
  return first !== undefined && second !== undefined && all.includes(first) && all.includes(second) ? [first, second] : [all[0] ?? 0, all[1] ?? 0];
});
const valueMap = signal<ValueMap | null>(null);
const canMap = computed(() => numeric.value.length > 1);

follow<Responses>(() => wanted.value, "responses", () => ({}), responses);
follow<ValueMap>(() => wanted.value && mapped.value && canMap.value, "map", () => ({ across: shownAxes.value[0], down: shownAxes.value[1] }), valueMap);

/** The prediction over one input after another, or over two at once. */
export function ResponsePane({ q }: { q: number }) {
  return (
    <>
      {canMap.value && (
        <div class="segments curves-or-map" role="group" aria-label="One input or two">
          <button type="button" aria-pressed={!mapped.value} onClick={() => (mapped.value = false)}>
            One input
          </button>
          <button type="button" aria-pressed={mapped.value} onClick={() => (mapped.value = true)}>
            Two inputs
          </button>
        </div>
      )}
      {mapped.value && canMap.value ? <ResponseMap q={q} /> : <ResponseCurves q={q} />}
    </>
  );
}

const MAP = { width: 250, height: 128 };

function ResponseMap({ q }: { q: number }) {
  const place = useRef<HTMLCanvasElement>(null);
  const now = valueMap.value;
  const nodes = view.value!.nodes[0];
  const [across, down] = shownAxes.value;
  const all = now?.values.flatMap((line) => line.map((values) => values[q])).filter((value): value is number => value !== null) ?? [];
  const [low, high] = [Math.min(...all), Math.max(...all)];
  useLayoutEffect(() => {
    const context = place.current?.getContext("2d");
    if (!context || !now) return;
    context.clearRect(0, 0, now.u.length, now.v.length);
    context.fillStyle = colour("--snapped");
    now.values.forEach((line, row) =>
      line.forEach((values, column) => {
        const value = values[q];
        context.globalAlpha = value === null ? 0 : 0.04 + (0.92 * (value - low)) / (high - low || 1);
        context.fillRect(column, now.v.length - 1 - row, 1, 1);
      }),
    );
  }, [now, q, theme.value]);
  if (!now) return <p class="empty">≈ computing the map</p>;
  const sx = linear([now.u[0], now.u[now.u.length - 1]], [0, MAP.width]);
  const sy = linear([now.v[0], now.v[now.v.length - 1]], [MAP.height, 0]);
  const choose = (which: 0 | 1, label: string) => (
    <select
      aria-label={label}
      value={shownAxes.value[which]}
      onChange={(event) => {
        const to = Number(event.currentTarget.value);
        const other = shownAxes.value[1 - which];
        axes.value = to === other ? [down, across] : which ? [across, to] : [to, down];
      }}
    >
      {numeric.value.map((i) => (
        <option key={i} value={i}>
          {nodes[i].name}
        </option>
      ))}
    </select>
  );
  const classes = model.value!.classes;
  const show = (value: number) => (classes.length ? percent(value) : number(value, 3));
  return (
    <div class="value-map">
      <div class="map-board">
        <canvas
          ref={place}
          width={now.u.length}
          height={now.v.length}
          style={{ width: `${MAP.width}px`, height: `${MAP.height}px` }}
          role="img"
          aria-label={`${classes[q] ?? "The prediction"} over ${nodes[across].name} and ${nodes[down].name}: from ${show(low)} to ${show(high)}, darker is more.`}
          onClick={(event) => {
            const box = event.currentTarget.getBoundingClientRect();
            const part = (length: number, at: number) => clamp(at / length, 0, 1);
            const to = [...x.value];
            to[across] = now.u[0] + part(box.width, event.clientX - box.left) * (now.u[now.u.length - 1] - now.u[0]);
            to[down] = now.v[0] + part(box.height, box.bottom - event.clientY) * (now.v[now.v.length - 1] - now.v[0]);
            setRow(to);
          }}
        />
        <svg width={MAP.width} height={MAP.height} aria-hidden="true">
          <circle cx={clamp(sx(x.value[across]), 0, MAP.width)} cy={clamp(sy(x.value[down]), 0, MAP.height)} r="4.5" fill="var(--paper)" stroke="var(--ink)" stroke-width="1.8" />
        </svg>
      </div>
      <div class="map-key">
        <label>up {choose(1, "The input upwards")}</label>
        <label>across {choose(0, "The input across")}</label>
        <p>
          <i aria-hidden="true" /> {show(low)} to {show(high)}
        </p>
        <p class="quiet">A click moves the point.</p>
      </div>
    </div>
  );
}

function ResponseCurves({ q }: { q: number }) {
  const now = responses.value;
  if (!now) return <p class="empty">≈ computing the curves</p>;
  const nodes = view.value!.nodes[0];
  const all = now.values.flatMap((curve) => curve.map((row) => row[q])).filter((value): value is number => value !== null);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const interval = model.value!.drawn ? 0 : (view.value!.interval[q] ?? 0);
  const band = (n: number, sx: Scale) =>
    [1, -1].flatMap((side) => {
      const points = now.u[n].map((u, k) => [u, now.values[n][k][q]] as const).filter((point): point is readonly [number, number] => point[1] !== null);
      return (side > 0 ? points : points.reverse()).map(([u, value]) => `${sx(u).toFixed(1)} ${clamp(sy(value + side * interval), 1, HEIGHT - 1).toFixed(1)}`);
    });
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
              {interval > 0 && !nodes[i].categories.length && <path d={`M${band(n, sx).join("L")}Z`} fill="var(--snapped-soft)" />}
              {nodes[i].categories.length ? (
                nodes[i].categories.map(([name, at]) => {
                  const k = Math.round(((at - now.u[n][0]) / (now.u[n][now.u[n].length - 1] - now.u[n][0] || 1)) * (now.u[n].length - 1));
                  const value = now.values[n][clamp(k, 0, now.u[n].length - 1)][q];
                  return (
                    value !== null && (
                      <circle key={name} cx={sx(at)} cy={sy(value)} r="3.2" fill="var(--paper)" stroke="var(--snapped)" stroke-width="1.8">
                        <title>{`${name}: ${number(value)}`}</title>
                      </circle>
                    )
                  );
                })
              ) : (
                <path d={line(now.u[n], now.values[n].map((row) => row[q]), sx, sy)} fill="none" stroke="var(--snapped)" stroke-width="1.8" />
              )}
              {value !== null && <circle cx={at} cy={clamp(sy(value), 0, HEIGHT)} r="3.4" fill="var(--ink)" />}
            </svg>
          </figure>
        );
      })}
      <p class="quiet">
        from {number(low, 3)} to {number(high, 3)}, the other inputs at the sliders
        {interval > 0 && `; 19 of 20 ${judged.value === "training" ? "training" : "held-out"} rows are within the band`}
      </p>
    </div>
  );
}
