/** Paths of SVG, scales and ticks. */

import type { Num } from "./types";

export type Scale = (value: number) => number;

export const linear = (from: [number, number], to: [number, number]): Scale => {
  const slope = from[1] === from[0] ? 0 : (to[1] - to[0]) / (from[1] - from[0]);
  return (value) => (slope ? to[0] + (value - from[0]) * slope : (to[0] + to[1]) / 2);
};

const f = (value: number) => value.toFixed(1);

/** A line through points; it breaks where a value is missing. */
export function line(x: number[], y: Num[], sx: Scale, sy: Scale): string {
  let path = "";
  let pen = "M";
  y.forEach((value, n) => {
    if (value === null) {
      pen = "M";
      return;
    }
    path += `${pen}${f(sx(x[n]))} ${f(sy(value))}`;
    pen = "L";
  });
  return path;
}

/** The curve of a tile in a box, over its own range of values. */
export function curve(y: Num[], width: number, height: number): string {
  const found = y.filter((value): value is number => value !== null);
  if (!found.length) return "";
  const low = Math.min(...found);
  const high = Math.max(...found);
  const flat = high - low <= 1e-9 * Math.max(Math.abs(low), Math.abs(high), 1e-300);
  const sy: Scale = flat ? () => height / 2 : linear([low, high], [height - 1, 1]);
  const sx = linear([0, y.length - 1], [1, width - 1]);
  return line(y.map((_, n) => n), y, sx, sy);
}

/** A histogram as an area on the ground of a box. */
export function area(bins: number[], width: number, height: number, x0 = 0): string {
  if (!bins.length) return "";
  const at = (n: number) => x0 + (n / Math.max(bins.length - 1, 1)) * width;
  return `M${f(x0)} ${height}${bins.map((bin, n) => `L${f(at(n))} ${f(height - bin * height)}`).join("")}L${f(x0 + width)} ${height}Z`;
}

export const link = (x1: number, y1: number, x2: number, y2: number): string => {
  const middle = (x1 + x2) / 2;
  return `M${f(x1)} ${f(y1)}C${f(middle)} ${f(y1)} ${f(middle)} ${f(y2)} ${f(x2)} ${f(y2)}`;
};

/** About `count` round numbers from low to high. */
export function ticks(low: number, high: number, count: number): number[] {
  if (!(high > low)) return [low];
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((part) => part * power >= rough) ?? 10);
  const found = [];
  for (let n = Math.ceil(low / step); n * step <= high + step * 1e-9; n++) found.push(n * step);
  return found;
}

export function logTicks(low: number, high: number): number[] {
  const found: number[] = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    for (const part of [1, 2, 5]) {
      const value = part * 10 ** power;
      if (value >= low && value <= high) found.push(value);
    }
  return found.length > 7 ? found.filter((value) => /^1/.test(value.toExponential())) : found;
}

export const clamp = (value: number, low: number, high: number) => Math.min(Math.max(value, low), high);
