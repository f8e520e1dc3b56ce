/** The page: one screen, made of panes that each show the same state. */

import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { Classes } from "./classes_pane";
import { ChooseTable, told } from "./choose_table";
import { Dialogs } from "./dialogs";
import { ExportCheck } from "./export_check";
import { FirstFit } from "./first_fit";
import { Flow, Prediction, Sliders } from "./flow";
import { FormulaPanel } from "./formula_panel";
import { Inspector } from "./inspector";
import { Matrix } from "./matrix";
import { NetworkTable } from "./network_table";
import { image, Pixels } from "./pixels";
import { Residuals } from "./residuals";
import { Ruler } from "./ruler";
import { Says } from "./says";
import { Staircase } from "./staircase";
import { Steps } from "./steps";
import { savePicture } from "./pictures";
import { chosenMode, isShared, mode, model, resume, said, snapshot, trouble, view } from "./store";
import { first, inNotebook } from "./surroundings";
import { TopBar } from "./top_bar";

function Network() {
  const shown = chosenMode.value;
  return (
    <section class="net" aria-label="Network" id="main">
      <div class="head">
        <h2>Network</h2>
        <div class="segments" role="group" aria-label="View of the network">
          {(["flow", "matrix", "table"] as const).map((one) => (
            <button type="button" key={one} aria-pressed={shown === one} onClick={() => (mode.value = one)}>
              {one[0].toUpperCase() + one.slice(1)}
            </button>
          ))}
        </div>
        <span class="grow" />
        <Prediction />
        {!isShared.value && <span class="pictures" role="group" aria-label="Save the picture">
          {(["svg", "png"] as const).map((kind) => (
            <button type="button" key={kind} class="button small" title={`Save the picture as ${kind.toUpperCase()}`} onClick={() => savePicture(kind)}>
              <span class="hidden">Save the picture as </span>
              {kind.toUpperCase()}
            </button>
          ))}
        </span>}
        <span class="legend" aria-hidden="true">
          <span>
            <i style={{ borderTop: "3px solid var(--snapped)" }} />
            snapped
          </span>
          <span>
            <i style={{ borderTop: "3px solid var(--spline)" }} />
            free spline
          </span>
          <span>
            <i style={{ borderTop: "1.5px dotted var(--third)" }} />
            pruned
          </span>
          <span>width = share of the signal</span>
        </span>
      </div>
      <Says />
      {image.value ? <Pixels /> : shown !== "flow" && <Sliders />}
      {shown === "flow" ? <Flow /> : shown === "matrix" ? <Matrix /> : <NetworkTable />}
    </section>
  );
}

const dismissed = signal(false);

/** What was done before with this network, offered until a step is made. */
function Kept() {
  const saved = snapshot.value!.saved;
  if (!saved || dismissed.value || trouble.value || isShared.value) return null;
  return (
    <div class="notice plain" role="group" aria-label="Kept from before">
      <span>Kept from before: {told(saved)}</span>
      <button type="button" class="button small" onClick={() => void resume()}>
        Resume
      </button>
      <button type="button" class="button small" onClick={() => (dismissed.value = true)}>
        Close
      </button>
    </div>
  );
}

export function Page() {
  useEffect(() => {
    if (!trouble.value) return;
    const timer = setTimeout(() => (trouble.value = ""), 12_000);
    return () => clearTimeout(timer);
  }, [trouble.value]);
  const ready = view.value;
  const Main = inNotebook() ? "div" : "main"; // a notebook has a main of its own
  return (
    <>
      <button type="button" class="skip" onClick={() => first("#main button, #main [tabindex]")?.focus()}>
        Skip to the network
      </button>
      <div class="hidden" aria-live="polite" role="status" data-testid="said">
        {said.value}
      </div>
      {!snapshot.value ? (
        <Main class="empty">{trouble.value || "≈ opening the network"}</Main>
      ) : !ready ? (
        <>
          <TopBar />
          {snapshot.value.phase === "choosing" ? <ChooseTable /> : <FirstFit />}
        </>
      ) : (
        <div class="frame">
          <div class={`app ${isShared.value ? "shared" : ""}`}>
            <TopBar />
            <Main class="content" style={{ display: "contents" }}>
              <Network />
              {!isShared.value && <Ruler />}
              <FormulaPanel />
              {!isShared.value && <>
              <aside class="side" aria-label="Inspector, steps and export check" tabIndex={-1}>
                <Inspector />
                <Steps />
                <span class="grow" />
                <ExportCheck />
              </aside>
              <div class="dock">
                {model.value!.classes.length ? <Classes /> : <Staircase />}
                <Residuals />
              </div>
              </>}
            </Main>
          </div>
        </div>
      )}
      {trouble.value && snapshot.value && (
        <div class="notice" role="alert">
          <span>{trouble.value}</span>
          <button type="button" class="button small" onClick={() => (trouble.value = "")}>
            Close
          </button>
        </div>
      )}
      {ready && <Kept />}
      {ready && <Dialogs />}
    </>
  );
}
