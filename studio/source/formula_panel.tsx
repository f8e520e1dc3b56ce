/** The formula of the network over the full width, its constants, and the text of every export. */

import { ConstantsTable } from "./constants_table";
import { CodeView } from "./code_view";
import { FORMS, tab } from "./exports";
import { plural } from "./format";
import { dragConstant, FormulaLines, trialText } from "./formula_terms";
import { Inspector } from "./inspector";
import { constants, isShared, trial, view } from "./store";
import { byId } from "./surroundings";

export function FormulaPanel() {
  const now = view.value!;
  const splines = now.snapshot.edges.filter((edge) => edge.spline).length;
  const all: [string, string][] = [["formula", "Formula"], ["text", "Text"], ...(isShared.value ? [] : FORMS)];
  return (
    <section class="pane formula" aria-label="Formula and exports" id="formula">
      <div class="head">
        <div class="segments" role="tablist" aria-label="Forms of the network">
          {all.map(([key, name], n) => (
            <button
              type="button"
              role="tab"
              key={key}
              id={`tab-${key}`}
              aria-selected={tab.value === key}
              aria-controls="form"
              tabIndex={tab.value === key ? 0 : -1}
              onClick={() => (tab.value = key)}
              onKeyDown={(event) => {
                const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
                if (!by) return;
                event.preventDefault();
                tab.value = all[(n + by + all.length) % all.length][0];
                byId(`tab-${tab.value}`)?.focus();
              }}
            >
              {name}
            </button>
          ))}
        </div>
        <span class="grow" />
        {trial.value && <span class="pill">{trialText()}</span>}
        <span class="quiet whole">{now.snapshot.edges.length < now.edges ? "" : splines ? `${plural(splines, "spline")} left` : "a closed form"}</span>
      </div>
      <div id="form" role="tabpanel" aria-labelledby={`tab-${tab.value}`} class={`pane ${tab.value !== "formula" ? "scroll" : constants.value?.length || isShared.value ? "hero beside" : "hero"}`} tabIndex={0}>
        {tab.value === "formula" ? (
          <>
            <div class="math" tabIndex={0} role="group" aria-label="The formula" onPointerDown={isShared.value ? undefined : dragConstant}>
              <span class="hidden" data-testid="formula">
                {now.snapshot.formulas.map((one) => (one.text ? `${one.name} = ${one.text}` : one.trouble)).join("\n") || "There is no formula."}
              </span>
              <FormulaLines />
            </div>
            {isShared.value ? <Inspector /> : <ConstantsTable />}
          </>
        ) : tab.value === "text" ? (
          <pre class="code wrapped mono" tabIndex={0} aria-label="The formula as text">
            {now.snapshot.formulas.map((one) => (one.text ? `${one.name} = ${one.text}` : one.trouble)).join("\n\n")}
          </pre>
        ) : (
          <CodeView format={tab.value} />
        )}
      </div>
    </section>
  );
}
