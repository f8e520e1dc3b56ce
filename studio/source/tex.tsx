/** Mathematics by KaTeX. Its text is made of text nodes, so names cannot become markup. */

import katex from "katex";
import { useLayoutEffect, useRef } from "preact/hooks";
import { inNotebook } from "./surroundings";

const ALLOWED = new Set(["\\htmlClass", "\\htmlData"]);
const MARK = /^#mark,([ks](?: chosen)?),([\d-]*),([abcd]?)$/;

interface Props {
  tex: string;
  block?: boolean;
  /** Whether parts may be marked by `mark`, as only our own code does. */
  marked?: boolean;
  label?: string;
}

/** LaTeX with a class, the place of an edge and, of a number, its name there. In MathML only a link keeps such marks. */
export function mark(kind: string, edge: string, tex: string, constant = ""): string {
  if (inNotebook()) return `\\href{\\#mark,${kind},${edge},${constant}}{${tex}}`;
  return `\\htmlData{edge=${edge}${constant && `,constant=${constant}`}}{\\htmlClass{${kind}}{${tex}}}`;
}

/** What was typeset, by its LaTeX: a network of 200 tiles has few different names. */
const kept = new Map<string, DocumentFragment>();
const KEPT = 500;

function typeset(place: HTMLElement, props: Props) {
  const key = JSON.stringify([props.tex, props.block, props.marked]);
  let made = kept.get(key);
  if (!made) {
    const fresh = document.createElement("span");
    write(fresh, props);
    made = document.createDocumentFragment();
    made.append(...fresh.childNodes);
    if (kept.size < KEPT) kept.set(key, made);
  }
  place.replaceChildren(made.cloneNode(true));
}

/** A notebook has no fonts of ours, and the browser typesets MathML with its own. */
function write(place: HTMLElement, { tex, block, marked }: Props) {
  const plain = inNotebook();
  katex.render(tex, place, {
    throwOnError: false,
    displayMode: block,
    strict: false,
    maxExpand: 1000,
    output: plain ? "mathml" : "html",
    trust: (context) => !!marked && (ALLOWED.has(context.command) || (context.command === "\\href" && MARK.test(context.url))),
  });
  if (!plain) return;
  for (const one of place.querySelectorAll<MathMLElement>("[href]")) {
    const [, kind, edge, constant] = MARK.exec(one.getAttribute("href") ?? "") ?? [];
    one.removeAttribute("href");
    if (kind) one.setAttribute("class", kind);
    if (edge) one.dataset.edge = edge;
    if (constant) one.dataset.constant = constant;
  }
}

export function Tex(props: Props) {
  const { tex, block = false, marked = false, label } = props;
  const place = useRef<HTMLSpanElement>(null);
  useLayoutEffect(() => {
    if (place.current) typeset(place.current, props);
  }, [tex, block, marked]);
  return label === undefined ? (
    <span ref={place} aria-hidden="true" />
  ) : (
    <>
      <span ref={place} aria-hidden="true" />
      <span class="hidden">{label}</span>
    </>
  );
}
