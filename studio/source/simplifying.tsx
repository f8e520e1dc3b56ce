/** Simplifying while it runs: the loss after each change that is kept, the last one in words, and a way to stop. */

import { number, plural } from "./format";
import { useSize } from "./flow";
import { linear } from "./shapes";
import { cancelSimplify, model, simplifying, view } from "./store";

const HEIGHT = 40;

export function Simplifying() {
  const [place, [width]] = useSize<HTMLDivElement>();
  const now = simplifying.value!;
  const { measure, snapshot } = view.value!;
  const root = (loss: number) => (model.value!.classes.length ? loss : Math.sqrt(loss));
  const unit = measure.value && snapshot.loss ? measure.value / root(snapshot.loss) : 1;
  const losses = now.losses.filter((loss) => loss > 0).map(Math.log);
  const middle = losses.length ? (Math.min(...losses) + Math.max(...losses)) / 2 : 0;
  const reach = Math.max(0.15, ...losses.map((loss) => Math.abs(loss - middle)));
  const sx = linear([0, Math.max(losses.length - 1, 8)], [6, Math.max(width - 6, 7)]);
  const sy = linear([middle - reach, middle + reach], [HEIGHT - 6, 6]);
  const points = losses.map((loss, n) => [sx(n), sy(loss)]);
  const [x, y] = points[points.length - 1] ?? [6, HEIGHT / 2];
  return (
    <div class="simplifying">
      <div ref={place}>
        <svg width={width} height={HEIGHT} role="img" aria-label={losses.length ? `The loss after ${plural(losses.length, "change")}.` : "No change yet."}>
          <line x1="6" x2={Math.max(width - 6, 7)} y1={HEIGHT - 0.5} y2={HEIGHT - 0.5} stroke="var(--line)" />
          <path d={points.map(([px, py], n) => `${n ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`).join("")} fill="none" stroke="var(--snapped)" stroke-width="1.7" />
          {points.slice(0, -1).map(([px, py]) => (
            <circle cx={px} cy={py} r="2.2" fill="var(--paper)" stroke="var(--snapped)" stroke-width="1.3" />
          ))}
          <circle cx={x} cy={y} r="3.6" fill="var(--snapped)" />
        </svg>
        <p role="status" title={now.line}>
          {now.line ? (
            <>
              <b>
                ≈ {plural(now.edges, "edge")}, {now.named} named, {measure.kind} {number(root(now.losses[now.losses.length - 1]) * unit, 3)}
              </b>{" "}
              {now.line.replace(/: \d+ edges, loss .*$/, "")}
            </>
          ) : (
            "≈ looking for what the rows do not need"
          )}
        </p>
      </div>
      <button type="button" class="button small" onClick={() => cancelSimplify()} title="Keep the steps that are whole">
        Stop
      </button>
    </div>
  );
}
