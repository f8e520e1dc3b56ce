/** The selected edge: its curve with knots, the candidate under it, where rows are, and the gap between the two. */

import { useSize } from "./flow";
import { number, percent, tick } from "./format";
import { area, line, linear, ticks } from "./shapes";
import { curve, previewed } from "./store";

const HEIGHT = 178;
const LEFT = 46;
const RIGHT = 6;
const GROUND = HEIGHT - 26;

export function EdgeChart() {
  const [place, [width]] = useSize<HTMLDivElement>();
  const now = curve.value;
  return (
    <div class="chart">
      <div ref={place} style={{ height: `${HEIGHT + 46}px` }}>
        {now && width > 0 && <Drawing width={width} />}
      </div>
    </div>
  );
}

function Drawing({ width }: { width: number }) {
  const now = curve.value!;
  const candidate = previewed.value;
  const [low, high] = [Math.min(now.low, now.high), Math.max(now.low, now.high)];
  const within = now.u.map((u) => u >= low - 1e-9 * Math.abs(low) && u <= high + 1e-9 * Math.abs(high));
  const own = now.values.filter((value, n): value is number => value !== null && within[n]);
  const extent = Math.max(...own) - Math.min(...own) || Math.abs(own[0] ?? 1) || 1;
  const [bottom, top] = [Math.min(...own) - 0.12 * extent, Math.max(...own) + 0.12 * extent];
  const ends: [number, number] = [Math.min(now.u[0], now.u[now.u.length - 1]), Math.max(now.u[0], now.u[now.u.length - 1])];
  const sx = linear(ends, [LEFT, width - RIGHT]);
  const raw = linear([bottom, top], [GROUND - 4, 8]);
  const sy = (value: number) => Math.min(Math.max(raw(value), -20), GROUND + 20);
  const falling = (own[0] ?? 0) > (own[own.length - 1] ?? 0);
  const gap = now.values.map((value, n) => {
    const other = candidate?.curve[n] ?? null;
    return value === null || other === null || !within[n] ? null : other - value;
  });
  const largest = Math.max(...gap.filter((value): value is number => value !== null).map(Math.abs), 0);
  const gy = linear([-largest || -1, largest || 1], [20, 2]);
  const zones: [number, number][] = [
    [sx(ends[0]), sx(low)],
    [sx(high), sx(ends[1])],
  ];
  return (
    <svg
      width={width}
      height={HEIGHT + 46}
      role="img"
      aria-label={
        `The edge from ${now.source}, from ${number(now.low)} to ${number(now.high)}` +
        (candidate ? `, with the candidate ${candidate.suggestion.function}; their largest gap is ${number(largest, 2)}.` : ".")
      }
    >
      <defs>
        <pattern id="hatch" width="5" height="5" patternTransform="rotate(45)" patternUnits="userSpaceOnUse">
          <line y2="5" stroke="var(--outside)" stroke-width="1.2" opacity=".6" />
        </pattern>
        <clipPath id="frame">
          <rect x={LEFT} y="2" width={Math.max(width - LEFT - RIGHT, 0)} height={GROUND - 2} />
        </clipPath>
      </defs>
      {ticks(bottom, top, 4).map((value) => (
        <g>
          <line x1={LEFT} x2={width - RIGHT} y1={raw(value)} y2={raw(value)} stroke="var(--line)" />
          <text x={LEFT - 6} y={raw(value) + 4} text-anchor="end">
            {tick(value)}
          </text>
        </g>
      ))}
      {zones.map(([from, to]) => (
        <rect x={from} y="2" width={Math.max(to - from, 0)} height={GROUND - 2} fill="url(#hatch)" />
      ))}
      {[low, high].map((end) => (
        <line x1={sx(end)} x2={sx(end)} y1="2" y2={GROUND} stroke="var(--outside)" />
      ))}
      <path d={area(now.density, sx(high) - sx(low), 24, sx(low))} transform={`translate(0 ${GROUND - 24})`} fill="var(--density)" />
      <line x1={LEFT} x2={width - RIGHT} y1={GROUND} y2={GROUND} stroke="var(--frame)" />
      <g clip-path="url(#frame)">
        <path d={line(now.u, now.values.map((value, n) => (within[n] ? value : null)), sx, sy)} fill="none" stroke="var(--spline)" stroke-width="5" opacity=".32" stroke-linecap="round" />
        <path d={line(now.u, now.values.map((value, n) => (within[n] ? null : value)), sx, sy)} fill="none" stroke="var(--spline)" stroke-width="1.2" opacity=".6" />
        {candidate && <path d={line(now.u, candidate.curve, sx, sy)} fill="none" stroke="var(--candidate)" stroke-width="2.2" stroke-dasharray="6 4" />}
        {now.knots.map((knot, n) => {
          const value = now.knot_values[n];
          return value === null || knot < ends[0] || knot > ends[1] ? null : (
            <circle cx={sx(knot)} cy={sy(value)} r="3" fill="var(--paper)" stroke="var(--spline)" stroke-width="1.5" />
          );
        })}
      </g>
      {ticks(ends[0], ends[1], 4).map((value) => (
        <text x={sx(value)} y={GROUND + 15} text-anchor="middle">
          {tick(value)}
        </text>
      ))}
      <text x={sx(high) - 5} y="13" text-anchor="end" style="fill: var(--outside-ink)">
        no training rows ▸
      </text>
      {candidate && (
        <g class="key" transform={falling ? `translate(${sx(high) - 8} 31)` : `translate(${sx(low) + 8} 17)`}>
          <line x1={falling ? -18 : 0} x2={falling ? 0 : 18} y1="-4" y2="-4" stroke="var(--spline)" stroke-width="5" opacity=".32" />
          <line x1={falling ? -18 : 0} x2={falling ? 0 : 18} y1="11" y2="11" stroke="var(--candidate)" stroke-width="2.2" stroke-dasharray="6 4" />
          {["this edge", "candidate"].map((word, n) => (
            <text x={falling ? -24 : 24} y={15 * n} text-anchor={falling ? "end" : "start"}>
              {word}
            </text>
          ))}
        </g>
      )}
      {candidate && (
        <g transform={`translate(0 ${HEIGHT})`}>
          <text x={LEFT - 6} y="15" text-anchor="end">
            gap
          </text>
          <line x1={sx(low)} x2={sx(high)} y1="11" y2="11" stroke="var(--frame)" />
          <path d={line(now.u, gap, sx, gy)} fill="none" stroke="var(--candidate)" stroke-width="1.3" />
          <text x={width - RIGHT} y="38" text-anchor="end">
            largest gap {number(largest, 2)}, {percent(largest / extent)} of the edge's range
          </text>
        </g>
      )}
    </svg>
  );
}
