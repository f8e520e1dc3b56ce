/** A slider of one input: its density, its trained range and its value. */

import { useRef } from "preact/hooks";
import { number } from "./format";
import { area, clamp, linear } from "./shapes";
import type { Node } from "./types";

export const sliderRange = (node: Node): [number, number] => {
  const low = Math.min(node.low, node.trained?.[0] ?? node.low);
  const high = Math.max(node.high, node.trained?.[1] ?? node.high);
  const more = 0.06 * (high - low || 1);
  return [low - more, high + more];
};

interface Props {
  node: Node;
  value: number;
  width: number;
  change: (value: number) => void;
}

export function Slider({ node, value, width, change }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const [low, high] = sliderRange(node);
  const scale = linear([low, high], [0, width]);
  const trained = node.trained ?? [node.low, node.high];
  const outside = value < trained[0] || value > trained[1];
  const at = scale(clamp(value, low, high));
  const set = (event: PointerEvent) => {
    const box = place.current!.getBoundingClientRect();
    change(low + clamp((event.clientX - box.left) / box.width, 0, 1) * (high - low));
  };
  const key = (event: KeyboardEvent) => {
    const step = (high - low) / 100;
    const moves: Record<string, number> = {
      ArrowRight: value + step, ArrowUp: value + step, ArrowLeft: value - step, ArrowDown: value - step,
      PageUp: value + 10 * step, PageDown: value - 10 * step, Home: trained[0], End: trained[1],
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    event.stopPropagation();
    change(clamp(moves[event.key], low, high));
  };
  return (
    <div
      ref={place}
      class={`slider ${outside ? "away" : ""}`}
      role="slider"
      tabIndex={0}
      aria-label={`${node.name}${node.unit ? ` in ${node.unit}` : ""}`}
      aria-valuemin={low}
      aria-valuemax={high}
      aria-valuenow={value}
      aria-valuetext={`${number(value)}${outside ? ", outside the trained range" : ""}`}
      onKeyDown={key}
      onPointerDown={(event) => {
        place.current!.setPointerCapture(event.pointerId);
        set(event);
      }}
      onPointerMove={(event) => place.current!.hasPointerCapture(event.pointerId) && set(event)}
    >
      <svg viewBox={`0 0 ${width} 24`} preserveAspectRatio="none" aria-hidden="true">
        <path d={area(node.density, scale(node.high) - scale(node.low), 15, scale(node.low))} fill="var(--density)" />
        <line x1="0" x2={width} y1="15.5" y2="15.5" stroke="var(--frame)" />
        <line x1={scale(trained[0])} x2={scale(trained[1])} y1="15.5" y2="15.5" stroke="var(--second)" stroke-width="1.6" />
        <line x1={at} x2={at} y1="0" y2="15" stroke="var(--ink)" stroke-width="1.3" />
        {outside ? (
          <path d={`M${at - 6} 21l6 -10l6 10z`} fill="var(--paper)" stroke="var(--outside)" stroke-width="1.8" />
        ) : (
          <circle cx={at} cy="15.5" r="5" fill="var(--paper)" stroke="var(--ink)" stroke-width="1.6" />
        )}
      </svg>
    </div>
  );
}
