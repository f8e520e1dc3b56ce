/** What the network misses: residuals against predictions, their histogram, and rows outside the trained range. */

import { signal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { useSize } from "./flow";
import { number, plural, tick, whole } from "./format";
import { linear, ticks } from "./shapes";
import { model, rows, say, setRow, theme, trial, view } from "./store";
import { ResponsePane, wanted } from "./responses";
import type { Rows } from "./types";
import { colour } from "./surroundings";

const output = signal(0);
const chosen = signal(-1);
const LEFT = 44;
const FOOT = 22;
const SIDE = 40;

export function Residuals() {
  const [place, [width, height]] = useSize<HTMLDivElement>();
  const now = rows.value;
  const names = view.value!.snapshot.outputs;
  const q = Math.min(output.value, names.length - 1);
  const away = now ? now.outside.filter(Boolean).length : 0;
  const source = model.value!;
  const same = source.drawn && !view.value!.snapshot.history.length;
  return (
    <section class="pane" aria-label="Residuals">
      <div class="head">
        <div class="segments" role="group" aria-label="What is shown of the rows">
          <button type="button" aria-pressed={!wanted.value} onClick={() => (wanted.value = false)}>
            Residuals
          </button>
          <button type="button" aria-pressed={wanted.value} onClick={() => (wanted.value = true)}>
            Responses
          </button>
        </div>
        {names.length > 1 && (
          <select aria-label="The output whose residuals are shown" value={q} onChange={(event) => (output.value = Number(event.currentTarget.value))}>
            {names.map((name, n) => (
              <option value={n}>{name}</option>
            ))}
          </select>
        )}
        {now && !same && !wanted.value && now.x.length > 1 && (
          <span class="rows-buttons">
            <button type="button" class="button small" title="A row by chance goes to the sliders" onClick={() => take(Math.floor(Math.random() * now.x.length))}>
              Random
            </button>
            <button type="button" class="button small" title="The row with the largest residual goes to the sliders" onClick={() => take(worst(now, q))}>
              Worst
            </button>
          </span>
        )}
        <span class={`quiet ${names.length > 1 ? "optional" : ""}`} title={now && !source.drawn ? `${plural(away, "row")} of ${whole(now.x.length)} outside the trained range` : undefined}>
          {now &&
            !same &&
            (source.drawn
              ? `${plural(now.x.length, "drawn row")}, against the original network`
              : `${now.x.length < now.total ? `${whole(now.x.length)} of ${plural(now.total, "row")}, seed ${now.seed}` : plural(now.total, "row")}, ${away} outside`)}
        </span>
      </div>
      {wanted.value && (
        <div class="scroll" tabIndex={0} role="group" aria-label="Responses">
          <ResponsePane q={q} />
        </div>
      )}
      {same && !wanted.value && <p class="empty">There are no rows to compare with, so residuals are against the network as it was opened: they appear with the first step.</p>}
      <div class="plot" ref={place} hidden={wanted.value}>
        {now && !same && width > 60 && <Points width={width - 24} height={height - 8} q={q} />}
      </div>
    </section>
  );
}

function take(n: number) {
  chosen.value = n;
  setRow(rows.value!.x[n]);
}

const worst = (now: Rows, q: number) =>
  now.x.reduce((top, _, n) => (missed(now, n, q) > missed(now, top, q) ? n : top), 0);
const missed = (now: Rows, n: number, q: number) => (now.prediction[n][q] === null ? -1 : Math.abs(now.y[n][q] - now.prediction[n][q]!));

function Points({ width, height, q }: { width: number; height: number; q: number }) {
  const now = trial.value ? { ...rows.value!, prediction: trial.value.prediction } : rows.value!;
  const canvas = useRef<HTMLCanvasElement>(null);
  const points = now.x
    .map((_, n) => ({ n, at: now.prediction[n][q], missed: now.prediction[n][q] === null ? null : now.y[n][q] - now.prediction[n][q]!, away: now.outside[n] }))
    .filter((point): point is { n: number; at: number; missed: number; away: boolean } => point.at !== null && point.missed !== null);
  const sizes = points.map((point) => Math.abs(point.missed)).sort((a, b) => a - b);
  const reach = Math.max(sizes[Math.floor(0.998 * (sizes.length - 1))] ?? 1, 1e-300) * 1.12;
  const ats = points.map((point) => point.at);
  const [low, high] = [Math.min(...ats), Math.max(...ats)];
  const sx = linear([low, high], [LEFT + 4, width - SIDE - 6]);
  const below = [4, 3, 2, 1].map((count) => ticks(low, high, count)).find((all) => all.length === 1 || sx(all[1]) - sx(all[0]) > 44) ?? [];
  const sy = linear([-reach, reach], [height - FOOT - 4, 6]);
  const interval = view.value!.interval[q] ?? 0;
  const bins = new Array<number>(25).fill(0);
  for (const { missed } of points) bins[Math.min(24, Math.max(0, Math.floor(((missed + reach) / (2 * reach)) * 25)))]++;
  const most = Math.max(...bins, 1);
  useLayoutEffect(() => {
    const scale = devicePixelRatio || 1;
    const board = canvas.current!;
    board.width = width * scale;
    board.height = height * scale;
    const context = board.getContext("2d")!;
    context.scale(scale, scale);
    context.fillStyle = colour("--spline");
    context.globalAlpha = 0.42;
    for (const point of points) {
      if (point.away) continue;
      context.beginPath();
      context.arc(sx(point.at), sy(Math.max(-reach, Math.min(reach, point.missed))), 1.7, 0, 7);
      context.fill();
    }
    context.globalAlpha = 1;
    context.lineWidth = 1.5;
    context.strokeStyle = colour("--outside");
    for (const point of points) {
      if (!point.away) continue;
      const [px, py] = [sx(point.at), sy(Math.max(-reach, Math.min(reach, point.missed)))];
      context.beginPath();
      context.moveTo(px, py - 4);
      context.lineTo(px + 4, py + 3.5);
      context.lineTo(px - 4, py + 3.5);
      context.closePath();
      context.stroke();
    }
  }, [rows.value, trial.value, q, width, height, theme.value]);
  const order = [...points].sort((a, b) => Math.abs(b.missed) - Math.abs(a.missed));
  const pick = (n: number) => {
    chosen.value = n;
    setRow(now.x[n]);
    say(`Row ${n + 1} is at the sliders: predicted ${number(now.prediction[n][q])}, answer ${number(now.y[n][q])}.`);
  };
  const marked = points.find((point) => point.n === chosen.value);
  return (
    <div
      style={{ position: "relative", width: `${width}px`, height: `${height}px`, cursor: "crosshair" }}
      role="slider"
      tabIndex={0}
      aria-label="Rows by the size of their residual; the chosen row goes to the sliders"
      aria-valuemin={1}
      aria-valuemax={order.length}
      aria-valuenow={Math.max(order.findIndex((point) => point.n === chosen.value) + 1, 1)}
      aria-valuetext={marked ? `row ${marked.n + 1}, residual ${number(marked.missed, 3)}` : "no row is chosen"}
      onKeyDown={(event) => {
        const at = order.findIndex((point) => point.n === chosen.value);
        const moves: Record<string, number> = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: order.length - 1 };
        if (!(event.key in moves) || !order.length) return;
        event.preventDefault();
        event.stopPropagation();
        pick(order[Math.max(0, Math.min(order.length - 1, moves[event.key]))].n);
      }}
      onClick={(event) => {
        const box = event.currentTarget.getBoundingClientRect();
        const [px, py] = [event.clientX - box.left, event.clientY - box.top];
        let [best, distance] = [-1, 400];
        for (const point of points) {
          const away = (sx(point.at) - px) ** 2 + (sy(point.missed) - py) ** 2;
          if (away < distance) [best, distance] = [point.n, away];
        }
        if (best >= 0) pick(best);
      }}
    >
      <svg width={width} height={height} aria-hidden="true" style={{ position: "absolute" }}>
        {interval > 0 && interval < reach && (
          <rect x={LEFT} y={sy(interval)} width={width - LEFT - SIDE} height={sy(-interval) - sy(interval)} fill="var(--snapped-soft)" opacity=".75" />
        )}
        {ticks(-reach, reach, 5).map((value) => (
          <g>
            <line x1={LEFT} x2={width - SIDE} y1={sy(value)} y2={sy(value)} stroke="var(--line)" />
            <text x={LEFT - 6} y={sy(value) + 4} text-anchor="end">
              {value > 0 ? "+" : ""}
              {tick(value)}
            </text>
          </g>
        ))}
        {below.map((value) => (
          <text x={sx(value)} y={height - 6} text-anchor="middle">
            {tick(value)}
          </text>
        ))}
        {bins.map((count, n) => {
          const top = sy(-reach + (2 * reach * (n + 1)) / 25);
          return <rect x={width - SIDE + 6} y={top + 0.5} width={(count / most) * (SIDE - 8)} height={Math.max((height - FOOT - 10) / 25 - 1, 1)} fill="var(--density)" />;
        })}
      </svg>
      <canvas ref={canvas} style={{ left: 0, width: `${width}px`, height: `${height}px` }} aria-hidden="true" />
      <svg width={width} height={height} aria-hidden="true" style={{ position: "absolute" }}>
        {marked && <circle cx={sx(marked.at)} cy={sy(marked.missed)} r="6" fill="none" stroke="var(--ink)" stroke-width="1.8" />}
      </svg>
    </div>
  );
}
