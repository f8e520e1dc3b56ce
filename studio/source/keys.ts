/** Keys that work wherever the focus is in the studio, except in fields, sliders and lists that have their own. */

import { dialog, free, neighbour, previewBy, redo, snap, undo, view, zero } from "./store";

export function listenForKeys(place: Document | HTMLElement): () => void {
  const heard = (event: Event) => {
    if (event instanceof KeyboardEvent) press(event, event.target as HTMLElement);
  };
  place.addEventListener("keydown", heard);
  return () => place.removeEventListener("keydown", heard);
}

function press(event: KeyboardEvent, target: HTMLElement) {
  if (!view.value || dialog.value || event.altKey || target.closest("input, select, textarea, dialog")) return;
  if (event.ctrlKey || event.metaKey) {
    if (event.key.toLowerCase() !== "z") return;
    own(event);
    void (event.shiftKey ? redo() : undo());
    return;
  }
  const scrolls = target.closest("pre, [role=tab], [role=region]");
  const actions: Record<string, () => unknown> = {
    j: () => neighbour(1),
    k: () => neighbour(-1),
    Backspace: free,
    "0": zero,
    "?": () => (dialog.value = "keys"),
  };
  if (!scrolls) {
    actions.ArrowDown = () => previewBy(1);
    actions.ArrowUp = () => previewBy(-1);
  }
  if (!target.closest("button, a, [tabindex='0']")) actions.Enter = snap;
  const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action) return;
  own(event);
  void action();
}

function own(event: KeyboardEvent) {
  event.preventDefault();
  event.stopPropagation();
}
