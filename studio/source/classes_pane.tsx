/** How well a classifier tells its classes apart: who is taken for whom, and whether its probabilities are what they say. */

import { percent, plural } from "./format";
import { linear } from "./shapes";
import { judged, model, rows, setRow, view } from "./store";

const MOST_CLASSES = 12; // of a table that is read at a glance
const BINS = 5; // of probabilities
const SIDE = 96; // pixels of the plot of probabilities

const largest = (values: (number | null)[]) => values.reduce<number>((top, value, n) => ((value ?? -1) > (values[top] ?? -1) ? n : top), 0);

export function Classes() {
  const now = rows.value;
  const classes = model.value!.classes;
  const accuracy = view.value!.measure.accuracy;
  const pairs = now?.y.map((y, n) => [largest(y), largest(now.prediction[n]), n] as const) ?? [];
  return (
    <section class="pane" aria-label="Classes">
      <div class="head">
        <h2>Classes</h2>
        <span class="quiet">
          {accuracy !== null && `right on ${percent(accuracy)} of the ${judged.value === "training" ? "training" : "held-out"} rows`}
          {now && `; below, ${plural(now.x.length, "row")}`}
        </span>
      </div>
      <div class="scroll classes" tabIndex={0} role="group" aria-label="Who is taken for whom">
        {now && classes.length <= MOST_CLASSES ? <Confusion pairs={pairs} /> : now && <p class="empty">{classes.length} classes are too many for a table.</p>}
        {now && <Calibration pairs={pairs} />}
      </div>
    </section>
  );
}

type Pairs = readonly (readonly [given: number, said: number, row: number])[];

function Confusion({ pairs }: { pairs: Pairs }) {
  const classes = model.value!.classes;
  const of = (given: number, said: number) => pairs.filter((pair) => pair[0] === given && pair[1] === said);
  return (
    <table class="confusion">
      <caption class="hidden">Rows of each class, by the class that the network says</caption>
      <thead>
        <tr>
          <th scope="col">is, said to be</th>
          {classes.map((name) => (
            <th scope="col" class="right" title={name}>
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {classes.map((name, given) => (
          <tr key={name}>
            <th scope="row" title={name}>
              {name}
            </th>
            {classes.map((_, said) => {
              const found = of(given, said);
              return (
                <td class={`right ${given === said ? "same" : ""}`}>
                  {found.length ? (
                    <button type="button" title="Put one of these rows at the sliders" onClick={() => setRow(rows.value!.x[found[0][2]])}>
                      {found.length}
                    </button>
                  ) : (
                    <span class="quiet">0</span>
                  )}
                </td>
              );
            })}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** Of the rows whose class is said with such a probability, the share that is right. */
function Calibration({ pairs }: { pairs: Pairs }) {
  const now = rows.value!;
  const least = 1 / Math.max(model.value!.classes.length, 2);
  const bins = Array.from({ length: BINS }, () => ({ sum: 0, right: 0, count: 0 }));
  for (const [given, said, n] of pairs) {
    const chance = now.prediction[n][said];
    if (chance === null) continue;
    const bin = bins[Math.min(BINS - 1, Math.max(0, Math.floor(((chance - least) / (1 - least)) * BINS)))];
    bin.sum += chance;
    bin.right += Number(given === said);
    bin.count++;
  }
  const scale = linear([least, 1], [8, SIDE - 8]);
  const points = bins.filter((bin) => bin.count > 0).map((bin) => ({ said: bin.sum / bin.count, right: bin.right / bin.count, count: bin.count }));
  return (
    <figure class="calibration">
      <svg width={SIDE} height={SIDE} role="img" aria-label={points.map((point) => `said with ${percent(point.said)}, right on ${percent(point.right)} of ${plural(point.count, "row")}`).join("; ")}>
        <rect x="0.5" y="0.5" width={SIDE - 1} height={SIDE - 1} fill="none" stroke="var(--line)" />
        <line x1={scale(least)} y1={SIDE - scale(least)} x2={scale(1)} y2={SIDE - scale(1)} stroke="var(--frame)" stroke-dasharray="2 3" />
        {points.map((point) => (
          <circle cx={scale(point.said)} cy={SIDE - scale(Math.max(point.right, least))} r={2 + 4 * Math.sqrt(point.count / pairs.length)} fill="var(--snapped)" />
        ))}
      </svg>
      <figcaption class="quiet">how often it is right, over the probability that it says: on the line they agree</figcaption>
    </figure>
  );
}
