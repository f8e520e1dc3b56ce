/** The edge inspector: the selected edge, the functions that may replace it, and what each would cost. */

import { useEffect, useRef } from "preact/hooks";
import { EdgeChart } from "./edge_chart";
import { candidateSentence, change, changeMark, fullTex, percent, plural, share, spoken } from "./format";
import {
  busy, byShare, candidates, candidatesTrouble, curve, dialog, edge, free, isShared, isWorth, judged, neighbour, noise, preview, previewBy, previewed, selected, snap, sortCandidates, view, zero,
} from "./store";
import { Tex } from "./tex";

export function Inspector() {
  const one = edge.value;
  const now = curve.value;
  const at = byShare.value.findIndex((other) => other.name === selected.value);
  if (!one)
    return (
      <section aria-label="Edge inspector">
        <div class="head">
          <h2>Edge</h2>
        </div>
        <p class="empty">{view.value!.edges ? "≈ reading the edge" : "No edge is left to inspect. Undo brings the last ones back."}</p>
      </section>
    );
  const kind = one.function ? `${one.function}${one.spline ? " + spline" : ""}` : "spline";
  const roomy = one.name.length + String(byShare.value.length).length <= 10;
  const name = previewed.value?.suggestion.function;
  const cost = previewed.value && !isWorth(previewed.value) ? `It costs more than the noise of the rows, ±${percent(noise.value)}.` : undefined;
  return (
    <section aria-label="Edge inspector">
      <div class="head">
        <h2>Edge</h2>
        <span class="edge-name" title={one.name}>
          {now ? <Tex tex={`${now.source_latex} \\to ${now.target_latex}`} label={spoken(one.name)} /> : one.name.replace("->", " → ")}
        </span>
        <span class="pill">
          {kind}
          {!one.function && now && roomy && <span class="optional">, {plural(now.intervals, "interval")}</span>}
        </span>
        <span class="grow" />
        <span class="quiet whole">
          {at < 0 ? "" : `${at + 1} of ${byShare.value.length}`}
        </span>
        <button type="button" class="icon" title="Next edge (J)" style={{ marginLeft: "-6px" }} onClick={() => neighbour(1)}>
          <span class="hidden">Next edge</span>
          <kbd aria-hidden="true">J</kbd>
        </button>
        <button type="button" class="icon" title="Edge before (K)" style={{ marginLeft: "-12px", marginRight: "-6px" }} onClick={() => neighbour(-1)}>
          <span class="hidden">Edge before</span>
          <kbd aria-hidden="true">K</kbd>
        </button>
      </div>
      <EdgeChart />
      {!isShared.value && <Choices />}
      {!isShared.value && <div class="row">
        <button type="button" class={`button ${cost ? "" : "take"}`} title={cost} disabled={!name || !!busy.value} onClick={() => snap()}>
          {name ? `Snap to ${name}` : "Snap"} <span aria-hidden="true">↵</span>
        </button>
        {one.function && (
          <button type="button" class="button" disabled={!!busy.value} onClick={() => free()} title="Backspace">
            Back to the curve
          </button>
        )}
        <button type="button" class="button" disabled={!!busy.value} onClick={() => zero()} title="Remove the edge (0)">
          Remove
        </button>
        <button type="button" class="button" onClick={() => (dialog.value = "own")}>
          Write a function…
        </button>
      </div>}
    </section>
  );
}

/** A head of the list that sorts it; the keys of the list do without. */
function Sort({ by, name }: { by: "r2" | "change" | "size"; name: string }) {
  return (
    <button type="button" tabIndex={-1} class={by === "r2" ? "" : "right"} title={`Sort by ${name}`} onClick={() => sortCandidates(by)}>
      {name}
    </button>
  );
}

function Choices() {
  const all = candidates.value;
  const measure = view.value!.measure;
  const list = useRef<HTMLDivElement>(null);
  useEffect(() => {
    list.current?.querySelector(".on")?.scrollIntoView({ block: "nearest" });
  }, [preview.value, all]);
  const key = (event: KeyboardEvent) => {
    if (event.key === "ArrowDown") previewBy(1);
    else if (event.key === "ArrowUp") previewBy(-1);
    else if (event.key === "Enter") void snap();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  if (!all?.length)
    return (
      <p class="empty" role="status">
        {all === null ? "≈ trying functions, each with a short refit" : candidatesTrouble.value || "No function of the library can stand for this edge. Write your own, or set it to zero."}
      </p>
    );
  return (
    <>
      <div class="choice-head" aria-hidden="true">
        <span>candidate</span>
        <Sort by="r2" name="R²" />
        {all[0].change === null ? (
          <span class="right" title="The error against the original network, as a share of the spread of its outputs">
            RMSE, of sd
          </span>
        ) : (
          <Sort by="change" name={`Δ ${judged.value === "training" ? "" : "val "}${measure.kind === "RMSE" ? "RMSE" : "loss"}`} />
        )}
        <Sort by="size" name="size" />
      </div>
      <div
        ref={list}
        class="choices"
        role="listbox"
        tabIndex={0}
        aria-label={`Candidate functions for the edge ${spoken(selected.value)}`}
        aria-activedescendant={preview.value >= 0 ? `choice-${preview.value}` : undefined}
        onKeyDown={key}
      >
        {all.map((one, n) => (
          <div
            key={one.suggestion.function}
            id={`choice-${n}`}
            class={`choice ${n === preview.value ? "on" : ""}`}
            role="option"
            aria-selected={n === preview.value}
            onClick={() => (preview.value = n)}
            onDblClick={() => snap(one.suggestion.function)}
          >
            <span class="hidden">{candidateSentence(one, measure, judged.value)}</span>
            <span class="fn" aria-hidden="true" title={one.formula || one.suggestion.function}>
              {one.formula ? `${one.suggestion.function}: ${one.formula}` : <Tex tex={fullTex(one.suggestion.function)} />}
            </span>
            <span aria-hidden="true">
              {one.suggestion.r2.toFixed(4)}
              <span class="meter">
                <i style={{ width: percent(Math.max(0.03, (one.suggestion.r2 - 0.9) / 0.1)) }} />
              </span>
            </span>
            <span aria-hidden="true" class={`right ${changeMark(one.change)}`}>{one.change === null ? share(one) : change(one.change)}</span>
            <span aria-hidden="true" class="right">
              {one.complexity}
            </span>
          </div>
        ))}
      </div>
    </>
  );
}
