/** The prune ruler: the track of the slider is the curve of validation loss over edges kept. */

import { signal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { useSize } from "./flow";
import { change, changeMark, number, plural, whole } from "./format";
import { clamp, linear } from "./shapes";
import { Simplifying } from "./simplifying";
import { busy, fading, judged, keepOrReturn, model, noise, pruned, ruler, simplify, simplifying, view } from "./store";
import type { RulerPoint } from "./types";

const DECADES = 5; // of error below the largest that the ruler shows
const wanted = signal<number | null>(null);
type Measured = RulerPoint & { loss: number };
const isMeasured = (point: RulerPoint): point is Measured => point.loss !== null;

/** Want so many edges: the tiles of the others fade meanwhile. */
function want(edges: number | null) {
  wanted.value = edges;
  const going = edges === null ? [] : (ruler.value ?? []).filter((point) => point.edges >= edges).flatMap((point) => point.gone);
  fading.value = new Set(going);
}

export function Ruler() {
  const [place, [width]] = useSize<HTMLDivElement>();
  const dragging = useRef(false);
  const now = view.value!;
  const points = (ruler.value ?? []).filter(isMeasured);
  const before = now.snapshot.history.length ? pruned.value.filter((point) => isMeasured(point) && point.edges > now.edges) : [];
  const all = [...(before as Measured[]), ...points];
  const largest = Math.max(now.edges, before[0]?.edges ?? 0);
  const kept = clamp(wanted.value ?? now.edges, 1, largest);
  const root = (loss: number) => (model.value!.classes.length ? loss : Math.sqrt(loss));
  const start = points.find((point) => point.edges === now.edges);
  const best = points.reduce<Measured | null>((a, b) => (!a || b.loss <= a.loss ? b : a), null);
  const within = best && points.filter((point) => root(point.loss) <= root(best.loss) * (1 + noise.value));
  const simplest = within?.reduce((a, b) => (b.edges < a.edges ? b : a));
  const shown = all.reduce<Measured | null>((a, b) => (!a || Math.abs(b.edges - kept) < Math.abs(a.edges - kept) ? b : a), null);
  const relative = start && shown && start.loss > 0 ? root(shown.loss) / root(start.loss) - 1 : null;
  const value = now.measure.value !== null && relative !== null ? now.measure.value * (1 + relative) : now.measure.value;

  const pad = 12;
  const height = 44;
  const sx = linear([largest, 1], [pad, Math.max(width - pad, pad + 1)]);
  const floor = Math.max(...all.map((point) => root(point.loss)), 1e-300) / 10 ** DECADES; // less is rounding
  const logged = (loss: number) => Math.log(Math.max(root(loss), floor));
  const losses = all.map((point) => logged(point.loss));
  const low = Math.min(...losses);
  const sy = linear([low, Math.max(...losses, low + 0.5)], [height - 4, 8]);
  const line = (some: Measured[]) => some.map((point, n) => `${n ? "L" : "M"}${sx(point.edges).toFixed(1)} ${sy(logged(point.loss)).toFixed(1)}`).join("");
  const path = line(points);

  const commit = () => {
    const edges = wanted.value;
    want(null);
    if (edges !== null && edges !== now.edges) void keepOrReturn(edges);
  };
  const at = (event: PointerEvent) => {
    const box = place.current!.getBoundingClientRect();
    const part = clamp((event.clientX - box.left - pad) / (box.width - 2 * pad), 0, 1);
    want(Math.round(largest - part * (largest - 1)));
  };
  const key = (event: KeyboardEvent) => {
    const jump = Math.max(1, Math.round(now.edges / 10));
    const moves: Record<string, number> = {
      ArrowRight: kept - 1, ArrowDown: kept - 1, ArrowLeft: kept + 1, ArrowUp: kept + 1,
      PageDown: kept - jump, PageUp: kept + jump, Home: largest, End: 1,
    };
    if (event.key in moves) want(clamp(moves[event.key], 1, largest));
    else if (event.key === "Enter") commit();
    else if (event.key === "Escape") want(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const live = points.length > 1 && !busy.value;
  const text = `${plural(kept, "edge")} kept of ${now.edges}, ${judged.value} ${now.measure.kind} about ${number(value)}${kept < now.edges ? ", press Enter to keep these" : kept > now.edges ? ", press Enter to go back to these" : ""}`;
  return (
    <section class="ruler" aria-label="Prune">
      <div>
        <div class="prune">
          <h2>Prune</h2>
          <button
            type="button"
            class="button small"
            disabled={!!busy.value}
            title="Prune the network and name its edges by functions, as far as the rows allow; it can be stopped, and undone"
            onClick={() => simplify()}
          >
            Simplify
          </button>
        </div>
        <span class="quiet whole">
          <b style={{ color: "var(--ink)" }}>{whole(kept)}</b> of {now.edges < 1e4 ? plural(now.edges, "edge") : whole(now.edges)}
        </span>
      </div>
      {simplifying.value && <Simplifying />}
      <div
        ref={place}
        hidden={!!simplifying.value}
        class={`ruler-track ${live ? "" : "off"}`}
        role="slider"
        tabIndex={0}
        aria-label="Edges kept, the largest shares of the signal"
        aria-valuemin={1}
        aria-valuemax={largest}
        aria-valuenow={kept}
        aria-valuetext={text}
        aria-disabled={!live}
        onKeyDown={(event) => live && key(event)}
        onPointerDown={(event) => {
          if (!live) return;
          dragging.current = true;
          place.current!.setPointerCapture(event.pointerId);
          at(event);
        }}
        onPointerMove={(event) => dragging.current && at(event)}
        onPointerUp={() => {
          if (dragging.current) commit();
          dragging.current = false;
        }}
        onPointerCancel={() => {
          dragging.current = false;
          want(null);
        }}
      >
        {points.length > 1 ? (
          <svg width={width} height="66" aria-hidden="true">
            <path d={`${path}L${sx(points[points.length - 1].edges)} ${height}L${sx(points[0].edges)} ${height}Z`} fill="var(--density)" opacity=".6" />
            <path d={path} fill="none" stroke="var(--second)" stroke-width="1.6" />
            {before.length > 0 && <path d={line([...(before as Measured[]), ...points.slice(0, 1)])} fill="none" stroke="var(--third)" stroke-dasharray="1.5 3" stroke-width="1.4" />}
            <line x1={pad} x2={width - pad} y1={height} y2={height} stroke="var(--frame)" />
            {points.length < 70 && points.map((point) => <line x1={sx(point.edges)} x2={sx(point.edges)} y1={height} y2={height + 3} stroke="var(--frame)" />)}
            {[...new Set([largest, Math.round(largest * 0.75), Math.round(largest / 2), Math.round(largest / 4), 1])].map((count) => (
              <text x={sx(count)} y={height + 18} text-anchor="middle">
                {count}
              </text>
            ))}
            {best && !model.value!.drawn && (
              <g transform={`translate(${sx(best.edges)} ${sy(logged(best.loss))})`}>
                <path d="M0 -5l4.500 5l-4.500 5l-4.500 -5z" fill="var(--good)" />
                <text
                  x={sx(best.edges) < 90 ? 10 : Math.abs(sx(kept) - sx(best.edges)) < 60 ? -10 : 0}
                  y="-8"
                  text-anchor={sx(best.edges) < 90 ? "start" : sx(best.edges) > width - 90 || Math.abs(sx(kept) - sx(best.edges)) < 60 ? "end" : "middle"}
                  style="fill: var(--good); font-weight: 560"
                >
                  best: {plural(best.edges, "edge")}
                </text>
              </g>
            )}
            {simplest && best && simplest.edges < best.edges && !model.value!.drawn && (
              <g transform={`translate(${sx(simplest.edges)} ${sy(logged(simplest.loss))})`}>
                <circle r="4" fill="var(--paper)" stroke="var(--good)" stroke-width="1.8" />
                {Math.abs(sx(simplest.edges) - sx(best.edges)) > 190 && (
                  <text x="0" y="-8" text-anchor={sx(simplest.edges) > width - 130 ? "end" : "middle"} style="fill: var(--good); font-weight: 560">
                    simplest within noise: {simplest.edges}
                  </text>
                )}
              </g>
            )}
            <line x1={sx(kept)} x2={sx(kept)} y1="4" y2={height} stroke="var(--ink)" stroke-width="1.4" />
            <rect x={sx(kept) - 6} y={height - 8} width="12" height="14" rx="4" fill="var(--ink)" />
          </svg>
        ) : (
          <p class="quiet" style={{ paddingTop: "22px" }}>
            {now.edges < 2
              ? "One edge is left."
              : now.edges > 2000 && ruler.value === null
                ? "Too many edges to measure every number of them. “Simplify” prunes such a network."
                : "≈ measuring what each number of edges costs"}
          </p>
        )}
      </div>
      <div class="metric">
        <span>
          {judged.value} {now.measure.kind}
        </span>
        <b>
          {kept !== now.edges && "≈ "}
          {number(value)} {relative !== null && kept !== now.edges && <small class={changeMark(relative)}>{change(relative)}</small>}
        </b>
        <span>{model.value!.drawn ? "against the original" : `on ${plural(model.value!.held_out, judged.value === "training" ? "training row" : "held-out row")}`}</span>
      </div>
    </section>
  );
}
