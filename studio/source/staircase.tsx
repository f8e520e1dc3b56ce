/** Simpler formulas: the error over the complexity of what a search found, and the network's own. */

import { signal } from "@preact/signals";
import { useSize } from "./flow";
import { number, plural, shorter, tick } from "./format";
import { linear, logTicks } from "./shapes";
import { busy, cancelSearch, found, model, search, searching, takeFormula, view } from "./store";
import { Tex } from "./tex";

const chosen = signal(-1);
const LEFT = 46;
const FOOT = 22;

export function Staircase() {
  const [place, [width, height]] = useSize<HTMLDivElement>();
  const all = found.value;
  const one = all[chosen.value] ?? null;
  const possible = !model.value!.classes.length && view.value!.snapshot.outputs.length === 1;
  return (
    <section class="pane" aria-label="Simpler formulas">
      <div class="head">
        <h2>Simpler formulas</h2>
        <span class="grow" />
        {searching.value ? (
          <button type="button" class="button small" onClick={() => cancelSearch()}>
            Stop
          </button>
        ) : (
          possible && (
            <button
              type="button"
              class="button small"
              title="Search for at most 60 seconds"
              onClick={() => {
                chosen.value = -1;
                void search(60);
              }}
            >
              Search
            </button>
          )
        )}
      </div>
      {searching.value && (
        <p class="empty told" role="status" title={searching.value}>
          ≈ {searching.value}
        </p>
      )}
      {!all.length && !searching.value && (
        <p class="empty">
          {possible
            ? "A search over small formulas shows which simpler ones are nearly as good as this network, or better. It stops by itself when a law leaves only noise."
            : "Formulas are searched for networks with one numeric output."}
        </p>
      )}
      <div class="plot" ref={place} style={all.length ? {} : { display: "none" }}>
        {all.length > 0 && width > 60 && <Stairs width={width - 24} height={height - (one ? 74 : 8)} />}
        {one && (
          <div class="row" style={{ padding: "2px 4px 0", rowGap: "2px" }}>
            <div style={{ flex: "1 1 160px", overflow: "auto hidden", minWidth: 0 }} tabIndex={0} role="group" aria-label="The chosen formula">
              {one.take ? <Tex tex={shorter(one.latex)} label={one.text} /> : <code class="mono">{one.text}</code>}
            </div>
            <button type="button" class="button small take" disabled={!!busy.value || !one.take} onClick={() => takeFormula(one.take)}>
              Take
            </button>
          </div>
        )}
      </div>
    </section>
  );
}

function Stairs({ width, height }: { width: number; height: number }) {
  const all = found.value;
  const now = view.value!;
  const own = now.measure.value;
  const errors = [...all.map((one) => one.rmse), ...(own ? [own] : [])].filter((value) => value > 0);
  const floor = Math.max(...errors, 1e-300) * 1e-12;
  const safe = (value: number) => Math.log10(Math.max(value, floor));
  const [low, high] = [Math.min(...errors.map(safe)) - 0.12, Math.max(...errors.map(safe)) + 0.12];
  const sizes = [...all.map((one) => one.complexity), ...(now.complexity ? [now.complexity] : [])];
  const [least, largest] = [Math.min(...sizes), Math.max(...sizes)];
  const sx = linear([Math.log2(least) - 0.2, Math.log2(largest) + 0.25], [LEFT, width - 6]);
  const sy = linear([low, high], [height - FOOT - 4, 8]);
  const points = all.map((one) => [sx(Math.log2(one.complexity)), sy(safe(one.rmse))]);
  const steps = points.map(([px, py], n) => `${n ? `H${px.toFixed(1)}V${py.toFixed(1)}` : `M${px.toFixed(1)} ${py.toFixed(1)}`}`).join("") + `H${width - 6}`;
  const powers = [];
  for (let power = Math.ceil(Math.log2(least)); power <= Math.log2(largest) + 0.1; power++) powers.push(2 ** power);
  const every = powers.length > 6 ? 2 : 1;
  return (
    <div
      style={{ position: "relative", width: `${width}px`, height: `${height}px`, cursor: "pointer" }}
      onClick={(event) => {
        // the point that is nearest: points of nearly equal size would cover one another
        const box = event.currentTarget.getBoundingClientRect();
        const away = points.map(([px, py]) => Math.hypot(px - event.clientX + box.left, py - event.clientY + box.top));
        const nearest = away.indexOf(Math.min(...away));
        if (away[nearest] < 30) chosen.value = nearest;
      }}
    >
      <svg width={width} height={height} aria-hidden="true">
        <text x={width - 6} y="10" text-anchor="end">
          RMSE over size
        </text>
        {logTicks(10 ** low, 10 ** high).map((value) => (
          <g>
            <line x1={LEFT} x2={width - 6} y1={sy(Math.log10(value))} y2={sy(Math.log10(value))} stroke="var(--line)" />
            <text x={LEFT - 6} y={sy(Math.log10(value)) + 4} text-anchor="end">
              {tick(value)}
            </text>
          </g>
        ))}
        {powers.filter((_, n) => n % every === 0).map((value) => (
          <text x={sx(Math.log2(value))} y={height - 6} text-anchor="middle">
            {value}
          </text>
        ))}
        <path d={steps} fill="none" stroke="var(--snapped)" stroke-width="1.7" />
        {own && (
          <g>
            <line x1={LEFT} x2={width - 6} y1={sy(safe(own))} y2={sy(safe(own))} stroke="var(--ink)" stroke-dasharray="1.5 3" stroke-width="1.5" />
            <text x={width - 6} y={sy(safe(own)) + (sy(safe(own)) < 34 ? 16 : -8)} text-anchor="end" class="key">
              {width < 220 ? "" : "this network, "}
              {number(own, 3)}
            </text>
          </g>
        )}
        {now.complexity && own && <rect x={sx(Math.log2(now.complexity)) - 4} y={sy(safe(own)) - 4} width="8" height="8" fill="var(--ink)" />}
      </svg>
      {all.map((one, n) => (
        <button
          type="button"
          key={n}
          aria-pressed={chosen.value === n}
          aria-label={`Formula of complexity ${number(one.complexity, 3)}, RMSE ${number(one.rmse, 3)}${one.best ? ", recommended" : ""}: ${one.text.slice(0, 200)}`}
          title={`${one.text.slice(0, 200)}\nRMSE ${number(one.rmse, 3)}, ${plural(Math.round(one.complexity), "unit")} of size`}
          style={{ position: "absolute", left: `${points[n][0] - 12}px`, top: `${points[n][1] - 12}px`, width: "24px", height: "24px", pointerEvents: "none" }}
          onKeyDown={(event) => {
            if (event.key !== "Enter" && event.key !== " ") return;
            event.preventDefault();
            event.stopPropagation();
            if (chosen.value === n && event.key === "Enter" && one.take) void takeFormula(one.take);
            else chosen.value = n;
          }}
        >
          <svg width="24" height="24" aria-hidden="true">
            <circle
              cx="12"
              cy="12"
              r={chosen.value === n ? 6 : 4.5}
              fill={chosen.value === n ? "var(--candidate)" : one.best ? "var(--snapped)" : "var(--paper)"}
              stroke={chosen.value === n ? "var(--candidate)" : "var(--snapped)"}
              stroke-width="1.8"
            />
          </svg>
        </button>
      ))}
    </div>
  );
}
