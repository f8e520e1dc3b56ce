/** The formula of the network, its constants, and the text of every export. */

import { ConstantsTable } from "./constants_table";
import { CodeView } from "./code_view";
import { FORMS, tab } from "./exports";
import { plural, shortTex, whole } from "./format";
import { edgeAt, select, selected, view } from "./store";
import { byId } from "./surroundings";
import { mark, Tex } from "./tex";
import type { Formula, View } from "./types";

const LONG = 160; // characters of LaTeX that are written smaller
const LONGEST = 700; // characters of LaTeX that are read at a glance; of a longer formula its structure is shown

export function FormulaPanel() {
  const now = view.value!;
  const splines = now.snapshot.edges.filter((edge) => edge.spline).length;
  const all: [string, string][] = [["formula", "Formula"], ...FORMS];
  return (
    <section class="pane" aria-label="Formula and exports" id="formula">
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
        <span class="quiet whole optional">{now.snapshot.edges.length < now.edges ? "" : splines ? `${plural(splines, "spline")} left` : "a closed form"}</span>
      </div>
      <div id="form" role="tabpanel" aria-labelledby={`tab-${tab.value}`} class="pane scroll" tabIndex={0}>
        {tab.value === "formula" ? (
          <>
            <div
              class="math"
              onClick={(event) => {
                const place = (event.target as HTMLElement).closest<HTMLElement>("[data-edge]")?.dataset.edge?.split("-").map(Number);
                const edge = place && edgeAt(place[0], place[1], place[2]);
                if (edge) select(edge.name);
              }}
            >
              {now.snapshot.formulas.slice(0, 12).map((one, q) => (
                <Written key={one.name} one={one} q={q} />
              ))}
              <Note />
              {now.snapshot.formulas.length > 12 && <p class="quiet">and {plural(now.snapshot.formulas.length - 12, "more formula")}</p>}
            </div>
            <ConstantsTable />
          </>
        ) : (
          <CodeView format={tab.value} />
        )}
      </div>
    </section>
  );
}

function Written({ one, q }: { one: Formula; q: number }) {
  const now = view.value!;
  const name = now.nodes[now.arity.length][q].latex;
  if (!one.latex) return q === 0 ? <p class="quiet">{one.trouble || "There is no formula."}</p> : null;
  if (one.latex.length <= LONGEST)
    return (
      <div class={`line ${one.latex.length > LONG ? "long" : ""}`} data-testid="formula" tabIndex={0} role="group" aria-label={`Formula of ${one.name}`}>
        <Tex marked tex={`\\widehat{${name}} = ${marked(one.latex)}`} label={`${one.name} = ${one.text}`} />
      </div>
    );
  return (
    <>
      {q === 0 && structure(now).map((line) => (
        <div class="line" tabIndex={0} role="group" aria-label="A hidden node">
          <Tex marked tex={line} label="" />
        </div>
      ))}
      <div class="line" data-testid="formula" tabIndex={0} role="group" aria-label={`Formula of ${one.name}`}>
        <span class="hidden">{`${one.name} = ${one.text}`}</span>
        <Tex marked tex={sum(now, now.arity.length, q)} />
      </div>
    </>
  );
}

/** What is not said above of the formulas whose structure alone is shown. */
function Note() {
  const length = Math.max(0, ...view.value!.snapshot.formulas.map((one) => one.latex.length));
  return length > LONGEST ? <p class="quiet">This is the structure. The whole formula has {whole(length)} characters and is under LaTeX.</p> : null;
}

/** The LaTeX with its constants tinted and its splines leading to their edges; what is in \text is left alone. */
function marked(latex: string): string {
  return latex.replace(/\\text\{(?:[^{}]|\{\})*\}|s_\{(\d+),(\d+),(\d+)\}|\d+\.\d+/g, (all, l, j, i) => {
    if (l !== undefined) return spline(Number(l) - 1, Number(j) - 1, Number(i) - 1);
    return all.startsWith("\\text") ? all : mark("k", "", Math.abs(Number(all)) < 1e-5 ? all : String(Number(Number(all).toPrecision(4))));
  });
}

function spline(l: number, j: number, i: number, inner = `s_{${l + 1},${j + 1},${i + 1}}`): string {
  return mark(edgeAt(l, j, i)?.name === selected.value ? "s chosen" : "s", `${l}-${j}-${i}`, inner);
}

const hidden = (name: string) => name.replace(/^h(\d+)$/, "h_{$1}").replace(/^h(\d+)\.(\d+)$/, "h_{$1.$2}");

/** The hidden nodes as sums of functions of the nodes before them. */
function structure(now: View): string[] {
  return now.arity.slice(0, -1).flatMap((_, depth) => now.nodes[depth + 1].map((_, q) => sum(now, depth + 1, q))).filter(Boolean).slice(0, 12);
}

function sum(now: View, depth: number, q: number): string {
  const layer = depth - 1;
  const offset = now.arity[layer].slice(0, q).reduce((total, count) => total + count, 0);
  const factors = [];
  for (let j = offset; j < offset + now.arity[layer][q]; j++) {
    const terms = now.snapshot.edges
      .filter((edge) => edge.place[0] === layer && edge.place[1] === j)
      .map((edge) => {
        const source = now.nodes[layer][edge.place[2]];
        const argument = layer ? hidden(source.name) : source.latex;
        if (edge.function && !edge.spline) {
          const tex = shortTex(edge.function).replace(/(?<![A-Za-z\\])x(?![A-Za-z])/, `(${argument})`);
          return mark("k", edge.place.join("-"), tex);
        }
        return `${spline(...edge.place, "s")}(${argument})`;
      });
    if (terms.length) factors.push(terms.join(" + "));
  }
  if (!factors.length) return "";
  const node = now.nodes[depth][q];
  const name = depth === now.arity.length ? `\\widehat{${node.latex}}` : hidden(node.name);
  return `${name} = ${factors.length === 1 ? factors[0] : factors.map((one) => `\\left(${one}\\right)`).join("")}`;
}
