/** Mathematics by KaTeX. Its text is made of text nodes, so names cannot become markup. */

import katex from "katex";
import { useLayoutEffect, useRef } from "preact/hooks";

const ALLOWED = new Set(["\\htmlClass", "\\htmlData"]);

interface Props {
  tex: string;
  block?: boolean;
  /** Whether parts may be marked by \htmlClass and \htmlData, as only our own code does. */
  marked?: boolean;
  label?: string;
}

export function Tex({ tex, block = false, marked = false, label }: Props) {
  const place = useRef<HTMLSpanElement>(null);
  useLayoutEffect(() => {
    if (place.current)
      katex.render(tex, place.current, {
        throwOnError: false,
        displayMode: block,
        strict: false,
        maxExpand: 1000,
        output: "html",
        trust: (context) => marked && ALLOWED.has(context.command),
      });
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
