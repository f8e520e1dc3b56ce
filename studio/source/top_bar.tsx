/** The top bar: which model this is, what is unsaved, what is served, how good it is; undo, redo, export, publish. */

import { share } from "./exports";
import { number, plural } from "./format";
import { busy, connected, dialog, judged, isShared, model, redo, served, snapshot, theme, toggleTheme, undo, view } from "./store";
import { Road } from "./says";

const icon = (path: string) => (
  <svg width="16" height="16" fill="none" stroke="currentColor" stroke-width="1.6" aria-hidden="true">
    <path d={path} />
  </svg>
);

export function TopBar() {
  const source = model.value!;
  const now = view.value;
  const unsaved = snapshot.value!.unsaved;
  const server = served.value;
  const serves = server?.version || source.served;
  return (
    <header class="top">
      <h1 class="brand">
        <svg width="22" height="22" viewBox="0 0 22 22" aria-hidden="true">
          <rect width="22" height="22" rx="6" fill="var(--ink)" />
          <path d="M4 15C8 15 7 6 11 6S14 15 18 8" fill="none" stroke="var(--paper)" stroke-width="2" stroke-linecap="round" />
        </svg>
        <span class="word">kanserve studio</span>
      </h1>
      {source.title && <span class="rule" />}
      <span class="title" title={source.title}>
        {source.title}
      </span>
      {now && (
        <span class="pill">
          {source.published > 0 && <b>v{source.published}</b>} [{now.snapshot.shape.join(", ")}]
        </span>
      )}
      {unsaved > 0 && <span class="pill open">{plural(unsaved, "unsaved step")}</span>}
      {(serves > 0 || server) && (
        <span class="pill" title={server?.error ?? server?.server}>
          <span class={`dot ${serves ? "" : "off"}`} />
          {serves ? (
            <>
              serving <b>v{serves}</b>
            </>
          ) : (
            "server not reached"
          )}
        </span>
      )}
      {busy.value && (
        <span class="pill" role="status">
          ≈ {busy.value.split(" ")[0].replace(/ped$|ed$/, (end) => (end === "ped" ? "ping" : "ing"))}
        </span>
      )}
      {!connected.value && <span class="pill open">not connected</span>}
      <span class="grow" />
      {now && !isShared.value && <Road />}
      <span class="grow" />
      {now && (
        <>
          <div class={`metric optional ${busy.value ? "waiting" : ""}`}>
            <span>{now.measure.accuracy !== null ? "accuracy" : source.drawn ? "R² against the original" : `${judged.value} R²`}</span>
            <b data-testid="r2">{r2(now.measure.accuracy ?? mean(now.measure.r2))}</b>
          </div>
          {!isShared.value && <>
          <span class="rule optional" />
          <button type="button" class="icon" aria-label="Undo" title="Undo (Ctrl+Z)" disabled={!now.snapshot.history.length || !!busy.value} onClick={() => undo()}>
            {icon("M5.500 3L2.500 6l3 3M3 6h6.500a4 4 0 010 8H7")}
          </button>
          <button type="button" class="icon" aria-label="Redo" title="Redo (Ctrl+Shift+Z)" disabled={!now.snapshot.undone || !!busy.value} onClick={() => redo()}>
            {icon("M10.500 3l3 3-3 3M13 6H6.500a4 4 0 000 8H9")}
          </button>
          </>}
        </>
      )}
      <button type="button" class="icon" aria-label={theme.value === "dark" ? "Light theme" : "Dark theme"} onClick={toggleTheme}>
        {icon("M13.500 9.500A6 6 0 016.500 2.500a6 6 0 107 7z")}
      </button>
      {!isShared.value && <button type="button" class="icon" title="Keys and words (?)" onClick={() => (dialog.value = "keys")}>
        <span class="hidden">Keys</span>
        <kbd aria-hidden="true">?</kbd>
      </button>}
      {isShared.value && <span class="quiet">kanserve {source.kanserve}</span>}
      {now && !isShared.value && (
        <>
          <button type="button" class="button" onClick={() => (dialog.value = "export")}>
            Export
          </button>
          <button type="button" class="button" title="One HTML file to mail: the network, its sliders and its formula; it works offline" onClick={() => void share()}>
            Share
          </button>
          <button type="button" class="button main" disabled={!!busy.value} onClick={() => (dialog.value = "publish")}>
            Publish v{source.next_version}
          </button>
        </>
      )}
    </header>
  );
}

const mean = (values: (number | null)[]) => {
  const found = values.filter((value): value is number => value !== null);
  return found.length ? found.reduce((sum, value) => sum + value, 0) / found.length : null;
};

/** R² with digits enough to tell it from 1. */
const r2 = (value: number | null) => {
  if (value === null) return "–";
  const digits = value >= 1 ? 4 : Math.min(8, Math.max(4, Math.ceil(-Math.log10(1 - value)) + 1));
  return Math.abs(value) > 1 ? number(value, 3) : value.toFixed(digits).replace("-", "−");
};
