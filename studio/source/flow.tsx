/** The network as a flow from the inputs, which are sliders, through the edges to the prediction. */

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { number, percent, plural, state, whole } from "./format";
import { BARS, layout, type Layout } from "./layout";
import { area, clamp, linear, link } from "./shapes";
import { Slider } from "./slider";
import { byShare, chosenClass, copyRow, explained, fading, isShared, judged, model, most, predicted, predicting, selected, setInput, setRow, shownOutput, view, x } from "./store";
import { Tex } from "./tex";
import { Tile } from "./tile";
import type { Edge, Node, View } from "./types";

/** The size of an element, followed without measuring in loops. */
export function useSize<T extends HTMLElement>() {
  const place = useRef<T>(null);
  const [size, setSize] = useState<[number, number]>([0, 0]);
  useLayoutEffect(() => {
    const element = place.current!;
    const observer = new ResizeObserver(() => setSize([element.clientWidth, element.clientHeight]));
    observer.observe(element);
    setSize([element.clientWidth, element.clientHeight]);
    return () => observer.disconnect();
  }, []);
  return [place, size] as const;
}

/** Whether the inputs without an edge are shown. */
const unfolded = signal(false);

export function Flow() {
  const [place, [width, height]] = useSize<HTMLDivElement>();
  const now = view.value!;
  const edges = byShare.value.slice(0, most.flow);
  const plan = useMemo(() => (width ? layout(now, edges, width, height - 8, unfolded.value) : null), [now, width, height, unfolded.value]);
  return (
    <>
      {now.edges > edges.length && (
        <p class="note">
          Showing the {edges.length} largest of {whole(now.edges)} edges,{" "}
          {percent(edges.reduce((sum, edge) => sum + edge.share, 0) / now.arity.length)} of the signal.
        </p>
      )}
      <div class="canvas" ref={place} tabIndex={-1}>
        {plan && (
          <div class="stage" style={{ width: `${plan.width}px`, height: `${plan.height}px` }}>
            <Links plan={plan} view={now} edges={edges} />
            {plan.inputs.map((one) => (
              <Input key={now.nodes[0][one.i].name} i={one.i} left={16} y={one.y} height={one.height} width={plan.inputWidth} />
            ))}
            {edges.map((edge) => {
              const box = plan.tiles.get(edge.name)!;
              return (
                <Tile
                  key={edge.name}
                  edge={edge}
                  source={now.nodes[edge.place[0]][edge.place[2]]}
                  width={box.width}
                  height={box.height}
                  style={{ left: `${box.x}px`, top: `${box.y - box.height / 2}px` }}
                />
              );
            })}
            {plan.nodes.map((node) => (
              <Hidden key={`${node.depth}.${node.q}`} {...node} view={now} />
            ))}
            {plan.outputs.map((one) => (
              <Output key={one.q} plan={plan} {...one} />
            ))}
            {plan.folded > 0 && (
              <button type="button" class="folded" style={{ left: "16px", top: `${plan.foldedY}px`, width: `${plan.inputWidth}px` }} aria-expanded={unfolded.value} onClick={() => (unfolded.value = !unfolded.value)}>
                {unfolded.value ? "fold the inputs that are not used" : `${plan.folded} ${plan.folded === 1 ? "input" : "inputs"} not used`}
              </button>
            )}
            <Contributions plan={plan} />
          </div>
        )}
      </div>
    </>
  );
}

const LONGEST_BIG = 8; // characters of the prediction that are large: the others would be cut off

const offsetsOf = (arity: number[]) => arity.reduce<number[]>((sums, count) => [...sums, sums[sums.length - 1] + count], [0]);
export const nodeOf = (arity: number[], j: number) => offsetsOf(arity).findIndex((_, q, all) => j >= all[q] && j < (all[q + 1] ?? Infinity));

function Links({ plan, view: now, edges }: { plan: Layout; view: View; edges: Edge[] }) {
  const source = (edge: Edge): [number, number] | null => {
    const [depth, , i] = edge.place;
    if (depth === 0) {
      const input = plan.inputs.find((one) => one.i === i);
      return input ? [16 + plan.inputWidth, input.y] : null;
    }
    const node = plan.nodes.find((one) => one.depth === depth && one.q === i);
    return node ? [node.x + 14, node.y] : null;
  };
  const target = (edge: Edge): [number, number] | null => {
    const [depth, j] = edge.place;
    const q = nodeOf(now.arity[depth], j);
    if (depth === now.arity.length - 1) {
      const output = plan.outputs.find((one) => one.q === q);
      return output ? [plan.outputX, output.y] : null;
    }
    const node = plan.nodes.find((one) => one.depth === depth + 1 && one.q === q);
    return node ? [node.x - 14, node.y] : null;
  };
  const few = now.possible_edges <= 120;
  const alive = new Set(edges.map((edge) => edge.place.join(".")));
  const gone: [number, number, number, number][] = [];
  if (few)
    now.arity.forEach((arity, depth) => {
      const sums = arity.reduce((sum, count) => sum + count, 0);
      for (let j = 0; j < sums; j++)
        for (let i = 0; i < now.nodes[depth].length; i++) {
          if (alive.has(`${depth}.${j}.${i}`)) continue;
          const dead = { place: [depth, j, i] } as Edge;
          const [a, b] = [source(dead), target(dead)];
          if (a && b) gone.push([...a, ...b]);
        }
    });
  return (
    <svg width={plan.width} height={plan.height} aria-hidden="true">
      {gone.map((ends) => (
        <path class="link" d={link(...ends)} stroke="var(--ghost)" stroke-dasharray="1.5 4" />
      ))}
      {edges.map((edge) => {
        const box = plan.tiles.get(edge.name)!;
        const [a, b] = [source(edge), target(edge)];
        const strong = Math.sqrt(edge.share);
        const color =
          selected.value === edge.name ? "var(--candidate)" : state(edge) === "snapped" ? "var(--snapped)" : "var(--spline)";
        const paint = { stroke: color, "stroke-width": 1.2 + 8 * strong, opacity: fading.value.has(edge.name) ? 0.08 : 0.22 + 0.32 * strong };
        return (
          <g key={edge.name}>
            {a && <path class="link" d={link(a[0], a[1], box.x, box.y)} {...paint} />}
            {b && <path class="link" d={link(box.x + box.width, box.y, b[0], b[1])} {...paint} />}
          </g>
        );
      })}
    </svg>
  );
}

/** A point to compare with. */
const pinned = signal<{ x: number[]; value: number } | null>(null);

/** The prediction where it is always on screen: in the head of the network. */
export function Prediction() {
  const now = view.value!;
  const depth = now.arity.length;
  const classes = model.value!.classes;
  const all = predicted.value?.value ?? [];
  const best = shownOutput.value;
  const node = now.nodes[depth][best];
  const value = all[best] ?? null;
  const interval = now.interval[best];
  const away = (predicted.value?.inside ?? []).some((inside) => !inside);
  if (!classes.length && now.nodes[depth].length > 1) return null;
  return (
    <span class={`prediction ${predicting.value ? "waiting" : ""}`} data-testid="pinned" title={away ? "Outside the trained range" : "Inside the trained range on all inputs"}>
      {away && (
        <svg width="12" height="12" aria-label="outside the trained range" role="img">
          <path d="M1 11l5 -9l5 9z" fill="none" stroke="var(--outside)" stroke-width="1.7" />
        </svg>
      )}
      <Tex tex={classes.length ? node.latex : `\\widehat{${node.latex || "y"}}`} label={node.name} />
      <b>
        {classes.length ? percent(value ?? 0) : number(value)}
        {node.unit && <small>{node.unit}</small>}
      </b>
      {!classes.length && interval > 0 && !model.value!.drawn && <small>± {number(interval, 2)}</small>}
      {pinned.value ? (
        <button type="button" class="linked" title="Go back to the point A; Shift forgets it" onClick={(event) => (event.shiftKey ? (pinned.value = null) : setRow(pinned.value!.x))}>
          A {classes.length ? percent(pinned.value.value) : number(pinned.value.value)}
          {value !== null && value !== pinned.value.value && ` (${value > pinned.value.value ? "+" : "−"}${classes.length ? percent(Math.abs(value - pinned.value.value)) : number(Math.abs(value - pinned.value.value), 3)})`}
        </button>
      ) : (
        <button type="button" class="linked" title="Keep this point as A, to compare with" onClick={() => value !== null && (pinned.value = { x: [...x.value], value })}>
          pin
        </button>
      )}
      {!isShared.value && (
        <button type="button" class="linked" title="Copy the row at the sliders and its prediction as JSON" onClick={() => void copyRow()}>
          copy
        </button>
      )}
    </span>
  );
}

/** The sliders where the flow is not shown, and on small screens. */
export function Sliders() {
  const now = view.value!;
  const used = new Set(now.snapshot.edges.filter((edge) => edge.place[0] === 0).map((edge) => edge.place[2]));
  const all = now.nodes[0].map((_, i) => i).filter((i) => used.has(i) || now.nodes[0].length <= 4);
  return (
    <div class="sliders" role="group" aria-label="Inputs" tabIndex={-1}>
      {all.slice(0, MOST_SLIDERS).map((i) => (
        <Input key={now.nodes[0][i].name} i={i} height={56} width={SLIDER_WIDTH} />
      ))}
    </div>
  );
}

const MOST_SLIDERS = 40;
const SLIDER_WIDTH = 176;
const COMPACT = 44; // pixels of height below which a card has one line

function Input({ i, left, y, height, width }: { i: number; left?: number; y?: number; height: number; width: number }) {
  const now = view.value!;
  const node = now.nodes[0][i];
  const dead = !now.snapshot.edges.some((edge) => edge.place[0] === 0 && edge.place[2] === i);
  const slope = predicted.value?.gradient[shownOutput.value]?.[i];
  const output = now.nodes[now.arity.length][shownOutput.value].name;
  const bar = (height - 8) * Math.sqrt(node.share);
  const at = x.value[i] ?? node.middle;
  const change = (to: number) => setInput(i, to);
  const compact = height < COMPACT;
  const placed = y === undefined ? { height: `${height}px` } : { left: `${left}px`, top: `${y - height / 2}px`, width: `${width}px`, height: `${height}px` };
  return (
    <div
      class={`input ${dead ? "dead" : ""} ${compact ? "compact" : ""}`}
      role="group"
      aria-label={`Input ${node.name}, ${dead ? "pruned, without effect" : `${percent(node.share)} of the signal`}`}
      style={placed}
    >
      <span class={`name ${isWord(node) ? "spelled" : ""}`} title={node.name}>
        {isWord(node) ? node.name : <Tex tex={node.latex || "x"} />}
      </span>
      {compact && height >= 26 && (node.categories.length ? <Categories node={node} value={at} change={change} /> : <Slider node={node} value={at} width={SHORT_SLIDER} change={change} />)}
      {!(compact && node.categories.length) && (
        <span class="value">
          {node.categories.length && height >= COMPACT ? "" : <Value node={node} value={at} change={change} />}
          {node.unit && <small>{node.unit}</small>}
        </span>
      )}
      {!compact && (node.categories.length ? <Categories node={node} value={at} change={change} /> : <Slider node={node} value={at} width={width - 22} change={change} />)}
      {height >= 62 && (
        <>
          <span class="slope" title={node.categories.length ? "" : `The slope of ${output} here`}>
            {dead ? (
              "pruned, no effect"
            ) : (
              <>
                <span>{node.categories.length ? plural(node.categories.length, "category", "categories") : "slope"}</span>
                {!node.categories.length && <span>{slope === undefined ? "–" : number(slope, width < 200 ? 2 : 3)}</span>}
                {node.missing !== null && !node.categories.length && (
                  <button type="button" class="missing" aria-pressed={at === node.missing} onClick={() => setInput(i, at === node.missing ? node.middle : node.missing!)}>
                    missing
                  </button>
                )}
              </>
            )}
          </span>
          <span class="share">{dead ? "" : percent(node.share)}</span>
        </>
      )}
      {!dead && <span class="bar" style={{ height: `${bar}px`, top: `${(height - bar) / 2 - 1}px` }} />}
    </div>
  );
}

const SHORT_SLIDER = 70;
/** Whether a name is typeset as it is spelled, so that it can be cut with an ellipsis. */
const isWord = (node: Node) => /^\\(text|mathrm)\{/.test(node.latex) && node.latex.endsWith("}") && !node.latex.includes("}_");

/** A value to read, and to type: a click makes it a field. */
function Value({ node, value, change }: { node: Node; value: number; change: (value: number) => void }) {
  const [typing, setTyping] = useState(false);
  if (!typing || node.categories.length)
    return (
      <button type="button" class="typed" onClick={() => setTyping(true)}>
        <span class="hidden">{`Type a value of ${node.name}, which is `}</span>
        {given(node, value)}
      </button>
    );
  return (
    <input
      class="typed"
      aria-label={`Value of ${node.name}`}
      inputMode="decimal"
      defaultValue={String(Number(value.toPrecision(6)))}
      ref={(field) => field?.select()}
      onKeyDown={(event) => {
        event.stopPropagation();
        if (event.key === "Enter") event.currentTarget.blur();
        if (event.key === "Escape") setTyping(false);
      }}
      onBlur={(event) => {
        const wanted = Number(event.currentTarget.value.replace(",", ".").replace("−", "-"));
        if (event.currentTarget.value.trim() && Number.isFinite(wanted)) change(wanted);
        setTyping(false);
      }}
    />
  );
}

/** The value of an input as it is given: a category by its name. */
function given(node: Node, value: number) {
  if (value === node.missing) return "missing";
  if (node.categories.length) return nearest(node, value)[0];
  return number(Math.abs(value) < ROUNDING * (node.high - node.low) ? 0 : value);
}

const ROUNDING = 1e-9; // of an input's range: a value that near to 0 is 0

const nearest = (node: Node, value: number) =>
  node.categories.reduce((best, one) => (Math.abs(one[1] - value) < Math.abs(best[1] - value) ? one : best));

function Categories({ node, value, change }: { node: Node; value: number; change: (value: number) => void }) {
  const missing = value === node.missing;
  return (
    <select
      aria-label={node.name}
      value={missing ? "" : nearest(node, value)[0]}
      onChange={(event) => change(node.categories.find(([name]) => name === event.currentTarget.value)?.[1] ?? node.missing!)}
    >
      {node.categories.map(([name]) => (
        <option key={name} value={name}>
          {name}
        </option>
      ))}
      {node.missing !== null && <option value="">missing</option>}
    </select>
  );
}

function Hidden({ depth, q, x: left, y, view: now }: { depth: number; q: number; x: number; y: number; view: View }) {
  const node = now.nodes[depth][q];
  const product = now.arity[depth - 1][q] > 1;
  const dead = !now.snapshot.edges.some((edge) => edge.place[0] === depth && edge.place[2] === q);
  const name = /^h(\d+)\.(\d+)$/.exec(node.name);
  const tex = name ? `h_{${name[1]}.${name[2]}}` : node.name.replace(/^h(\d+)$/, "h_{$1}");
  return (
    <>
      <span class={`node ${dead ? "dead" : ""}`} style={{ left: `${left - 14}px`, top: `${y - 14}px` }} title={`${node.name}, ${percent(node.share)} of the signal`}>
        {product ? "Π" : "Σ"}
      </span>
      <span class="node-name" style={{ left: `${left - 30}px`, top: `${y + 14}px` }}>
        <Tex tex={tex} />
      </span>
    </>
  );
}

interface SmallProps {
  class: string;
  style: Record<string, string>;
  choose: (() => void) | null;
  pressed: boolean;
  children: ComponentChildren;
}

/** One of several outputs; a class is chosen by a click, to see its slopes and contributions. */
function Small({ class: kind, style, choose, pressed, children }: SmallProps) {
  if (!choose)
    return (
      <div class={kind} style={style}>
        {children}
      </div>
    );
  return (
    <button type="button" class={kind} style={style} aria-pressed={pressed} title="Show the slopes of this class, and what contributes to it" onClick={choose}>
      {children}
    </button>
  );
}

function Output({ plan, q, y, height }: { plan: Layout; q: number; y: number; height: number }) {
  const now = view.value!;
  const node = now.nodes[now.arity.length][q];
  const value = predicted.value?.value[q] ?? null;
  const classes = model.value!.classes;
  const interval = now.interval[q];
  const waiting = predicting.value;
  const away = (predicted.value?.inside ?? []).map((inside, i) => (inside ? -1 : i)).filter((i) => i >= 0);
  const box = { left: `${plan.outputX}px`, top: `${y - height / 2}px`, width: `${plan.outputWidth}px`, height: `${height}px` };
  if (plan.outputs.length > 1)
    return (
      <Small class={`output small ${classes.length && shownOutput.value === q ? "shown" : ""}`} style={box} choose={classes.length ? () => (chosenClass.value = chosenClass.value === q ? null : q) : null} pressed={chosenClass.value === q}>
        <Tex tex={node.latex} label={node.name} />
        {classes.length > 0 && <i class="chance" style={{ width: `${100 * (value ?? 0)}%` }} />}
        <b class={waiting ? "waiting" : ""}>{classes.length ? percent(value ?? 0) : number(value)}</b>
      </Small>
    );
  const width = plan.outputWidth - 30;
  const within = interval > 0 && !model.value!.drawn && (
    <small title={`19 of 20 ${judged.value === "training" ? "training" : "held-out"} rows are within this of their prediction`}>± {number(interval, 2)} (95%)</small>
  );
  const long = number(value).length + node.unit.length > LONGEST_BIG;
  const scale = linear([node.low, node.high], [0, width]);
  const mark = value === null ? null : clamp(scale(value), 0, width);
  return (
    <>
      <div class="output" style={box} role="group" aria-label={`Prediction of ${node.name}`}>
        <Tex tex={`\\widehat{${node.latex}}`} label={node.name} /> <span class="quiet">{within || "at this point"}</span>
        <div class={`big ${long ? "long" : ""} ${waiting ? "waiting" : ""}`} data-testid="prediction">
          {number(value)}
          {node.unit && <small>{node.unit}</small>}
        </div>
        <svg width={width} height="26" aria-hidden="true">
          <path d={area(node.density, width, 17)} fill="var(--density)" />
          <line x2={width} y1="17.5" y2="17.5" stroke="var(--frame)" />
          {mark !== null && <path d={`M${mark} 0V17M${mark - 4} 23l4 -5l4 5z`} stroke="var(--ink)" stroke-width="1.3" fill="var(--ink)" />}
        </svg>
      </div>
      <div class="inside" style={{ left: `${plan.outputX}px`, top: `${y + height / 2 + 8}px`, width: `${plan.outputWidth}px` }}>
        {away.length ? (
          <svg width="12" height="12" style={{ flex: "none" }} aria-hidden="true">
            <path d="M1 11l5 -9l5 9z" fill="none" stroke="var(--outside)" stroke-width="1.7" />
          </svg>
        ) : (
          <span class="dot" style={{ marginTop: "4px" }} />
        )}
        <span>
          {away.length
            ? `outside the trained range: ${away.slice(0, 3).map((i) => now.nodes[0][i].name).join(", ")}${away.length > 3 ? ` and ${plural(away.length - 3, "more")}` : ""}`
            : "inside the trained range on all inputs"}
        </span>
      </div>
    </>
  );
}

/** How much each input contributes to the prediction: the largest first, in the units of the output. */
function Contributions({ plan }: { plan: Layout }) {
  const found = explained.value;
  const last = plan.outputs[plan.outputs.length - 1];
  const top = last.y + last.height / 2 + (plan.outputs.length > 1 ? 8 : 42);
  const k = found && found.outputs.length > 1 ? shownOutput.value : 0;
  const values = found?.values[k] ?? [];
  const room = Math.min(BARS.most, Math.floor((plan.height - top - BARS.head) / BARS.height));
  const order = values.map((_, i) => i).filter((i) => values[i]).sort((a, b) => Math.abs(values[b]!) - Math.abs(values[a]!));
  if (!found || !order.length || room < 2) return null;
  const alone = order.slice(0, order.length > room ? room - 1 : room);
  const rest = order.slice(alone.length).reduce((sum, i) => sum + values[i]!, 0);
  const largest = Math.abs(values[order[0]]!);
  const nodes = view.value!.nodes[0];
  const line = (name: string, value: number, title: string) => (
    <li key={name} title={title}>
      <span class="name">{name}</span>
      <span class="track" aria-hidden="true">
        <i class={value < 0 ? "less" : ""} style={{ width: `${(50 * Math.abs(value)) / largest}%` }} />
      </span>
      <b>{signed(value)}</b>
    </li>
  );
  return (
    <div class="contributions" style={{ left: `${plan.outputX}px`, top: `${top}px`, width: `${plan.outputWidth}px` }} role="group" aria-label={`Contributions to ${found.outputs[k]}`}>
      <p title="The mean over the rows; the contributions add up to the prediction">
        {found.outputs[k]}: {number(found.base[k], 3)} on average, and
      </p>
      <ul>
        {alone.map((i) => {
          const name = `${nodes[i].name} = ${given(nodes[i], found.x[i])}`;
          const error = found.errors[k][i];
          return line(name, values[i]!, `${name}: ${signed(values[i]!)}${error ? ` ± ${number(error, 2)}` : ""}`);
        })}
        {alone.length < order.length && line(plural(order.length - alone.length, "more input"), rest, "")}
      </ul>
    </div>
  );
}

const signed = (value: number) => `${value > 0 ? "+" : ""}${number(value, 3)}`;
