/** An edge as a button with its curve, its function and its share. */

import { percent, sentence, shortTex, state } from "./format";
import { area, clamp, curve, linear } from "./shapes";
import { fading, hovered, predicted, select, selected, snap, splines } from "./store";
import { Tex } from "./tex";
import type { Edge, Node } from "./types";

interface Props {
  edge: Edge;
  source: Node;
  width: number;
  height: number;
  style?: Record<string, string | number>;
}

export function Tile({ edge, source, width, height, style }: Props) {
  const kind = state(edge);
  const chosen = selected.value === edge.name;
  const [w, h] = [width - 13, height - (height >= 36 ? 23 : 8)];
  const color = kind === "snapped" ? "var(--snapped)" : "var(--spline)";
  const sx = linear([edge.low, edge.high], [1, w - 1]);
  const at = predicted.value?.nodes[edge.place[0]]?.[edge.place[2]];
  const words = height >= 36;
  return (
    <button
      type="button"
      class={`tile ${kind} ${chosen ? "chosen" : ""} ${fading.value.has(edge.name) ? "fading" : ""} ${hovered.value === edge.name ? "lit" : ""}`}
      onPointerEnter={() => (hovered.value = edge.name)}
      onPointerLeave={() => (hovered.value = "")}
      style={{ width: `${width}px`, height: `${height}px`, ...style }}
      data-edge={edge.name}
      aria-pressed={chosen}
      title={edge.name.replace("->", " → ")}
      onClick={() => select(edge.name)}
      onKeyDown={(event) => {
        if (event.key === "Enter" && chosen) {
          event.preventDefault();
          void snap();
        }
      }}
    >
      <span class="hidden">{sentence(edge)}</span>
      {words && (
        <span class="name" aria-hidden="true">
          <Tex tex={shortTex(edge.function, splines.value.get(edge.name))} />
          {edge.function && edge.spline ? <Tex tex={`+ s_{${splines.value.get(edge.name)}}`} /> : ""}
        </span>
      )}
      {words && width >= 72 && <span class="part" aria-hidden="true">{percent(edge.share)}</span>}
      <svg width={w} height={h + 3} aria-hidden="true">
        <path d={area(source.density, w, Math.min(8, h / 3))} transform={`translate(0 ${h - Math.min(8, h / 3)})`} fill="var(--density)" />
        <path d={curve(edge.curve, w, h)} fill="none" stroke={color} stroke-width="1.9" stroke-linejoin="round" stroke-linecap="round" />
        {edge.spline &&
          source.knots
            .filter((knot) => knot >= edge.low && knot <= edge.high)
            .map((knot) => <line x1={sx(knot)} x2={sx(knot)} y1={h} y2={h + 3} stroke="var(--third)" />)}
        {typeof at === "number" && <path d={`M${clamp(sx(at), 0, w)} ${h + 2.5}l-3 -5.5h6z`} fill="var(--ink)" />}
      </svg>
    </button>
  );
}
