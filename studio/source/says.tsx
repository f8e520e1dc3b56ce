/** What the network says, in words that lead to what they speak of; and the four steps from a table to a server. */

import { percent, plural } from "./format";
import { byShare, dialog, hovered, isShared, judged, keep, model, noise, ruler, select, view } from "./store";
import { first } from "./surroundings";

const MOST_NAMED = 5; // inputs
const LEAST_SHARE = 0.005;

/** The fewest edges that are as good as the best, as far as the held-out rows can tell. */
export function simplest(): { edges: number; change: number } | null {
  const now = view.value!;
  const points = (ruler.value ?? []).filter((point): point is { edges: number; loss: number; gone: string[] } => point.loss !== null);
  const whole = points.find((point) => point.edges === now.edges);
  if (!whole || model.value!.drawn || points.length < 2) return null;
  const root = (loss: number) => (model.value!.classes.length ? loss : Math.sqrt(loss));
  const best = Math.min(...points.map((point) => root(point.loss)));
  const good = points.filter((point) => root(point.loss) <= best * (1 + noise.value));
  const found = good.reduce((a, b) => (b.edges < a.edges ? b : a));
  return found.edges < now.edges ? { edges: found.edges, change: whole.loss > 0 ? root(found.loss) / root(whole.loss) - 1 : 0 } : null;
}

export function Says() {
  const now = view.value!;
  const depth = now.arity.length;
  const outputs = now.snapshot.outputs;
  const target = model.value!.classes.length ? "The class" : outputs.length === 1 ? now.nodes[depth][0].name : "The outputs";
  const inputs = now.nodes[0].map((node, i) => ({ ...node, i })).sort((a, b) => b.share - a.share);
  const read = new Set(now.snapshot.edges.filter((edge) => edge.place[0] === 0).map((edge) => edge.place[2]));
  const whole = now.snapshot.edges.length === now.edges;
  const used = inputs.filter((node) => (whole ? read.has(node.i) : true) && node.share >= LEAST_SHARE);
  const without = whole ? inputs.filter((node) => !used.includes(node)) : [];
  const named = used.slice(0, MOST_NAMED);
  const fewer = simplest();
  const accuracy = now.measure.accuracy;
  const show = (i: number) => {
    const edge = byShare.value.find((one) => one.place[0] === 0 && one.place[2] === i);
    if (edge) select(edge.name);
  };
  const light = (i: number) => (hovered.value = byShare.value.find((one) => one.place[0] === 0 && one.place[2] === i)?.name ?? "");
  const listed = (names: string[]) => (names.length > 4 ? `${names.slice(0, 3).join(", ")} and ${names.length - 3} more` : names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}` : names[0]);
  if (!named.length) return <p class="says">{target} {target === "The outputs" ? "depend" : "depends"} on none of the inputs.</p>;
  return (
    <p class="says" data-testid="says">
      {target} {target === "The outputs" ? "depend" : "depends"} on{" "}
      {named.map((node, n) => (
        <>
          {n > 0 && (n === named.length - 1 && used.length === named.length ? " and " : ", ")}
          <button type="button" class="linked" onClick={() => show(node.i)} onPointerEnter={() => light(node.i)} onPointerLeave={() => (hovered.value = "")}>
            {node.name}
          </button>{" "}
          ({percent(node.share)})
        </>
      ))}
      {used.length > named.length && ` and ${plural(used.length - named.length, "other")}`}.{" "}
      {without.length > 0 && `${listed(without.map((node) => node.name))} ${without.length === 1 ? "has" : "have"} ${without.some((node) => node.share > 0) ? "almost " : ""}no effect. `}
      {accuracy !== null && `It is right on ${percent(accuracy)} of the ${judged.value === "training" ? "training" : "held-out"} rows. `}
      {fewer && !isShared.value && (
        <>
          <button type="button" class="linked" onClick={() => void keep(fewer.edges)} title="Keep these edges: a step that can be undone">
            {plural(fewer.edges, "edge")}
          </button>{" "}
          {fewer.edges === 1 ? "does" : "do"} as well as {now.edges}
          {Math.abs(fewer.change) >= 5e-4 && ` (${fewer.change > 0 ? "+" : "−"}${(100 * Math.abs(fewer.change)).toFixed(1)}%)`}.
        </>
      )}
    </p>
  );
}

/** Fit, prune, name, ship: which are done, and which is next. */
export function Road() {
  const now = view.value!;
  const splines = now.snapshot.edges.filter((edge) => edge.spline);
  const pruned = simplest() === null && ruler.value !== null;
  const shipped = model.value!.published > 0 && model.value!.published >= model.value!.next_version - 1 && now.snapshot.history.length === 0;
  const done = [true, pruned, !splines.length, shipped];
  const next = done.findIndex((one) => !one);
  const go = [
    () => undefined,
    () => first(".ruler-track")?.focus(),
    () => splines.length && select([...splines].sort((a, b) => b.share - a.share)[0].name),
    () => (dialog.value = "publish"),
  ];
  const about = ["The network is fitted", "Prune: keep the edges that matter", "Name: replace curves by functions", "Ship: publish a version"];
  return (
    <ol class="road optional" aria-label="The steps from a table to a server">
      {["Fit", "Prune", "Name", "Ship"].map((name, n) => (
        <li key={name} class={n === next ? "next" : done[n] ? "done" : ""} aria-current={n === next ? "step" : undefined}>
          <button type="button" title={about[n]} onClick={go[n]}>
            <span class="hidden">{done[n] ? "Done: " : n === next ? "Next: " : ""}</span>
            {name}
          </button>
        </li>
      ))}
    </ol>
  );
}
