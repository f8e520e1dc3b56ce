/** Where the page is: in a window of its own, or in the cell of a notebook, where it has a shadow root. */

export interface Surroundings {
  root: Document | ShadowRoot;
  element: HTMLElement;
}

let here: Surroundings | null = null;

export const settle = (surroundings: Surroundings) => (here = surroundings);
export const inNotebook = () => here?.root instanceof ShadowRoot;
export const byId = (id: string) => here?.root.getElementById(id) ?? null;
export const first = (selector: string) => here?.element.querySelector<HTMLElement>(selector) ?? null;
export const focused = () => (here?.root.activeElement ?? null) as HTMLElement | null;
/** Take the focus where the element that had it is gone: the keys of a cell reach only what is in it. */
export const keepFocus = () => here?.root.activeElement === null && here.element.focus();
export const colour = (name: string) => (here ? getComputedStyle(here.element).getPropertyValue(name) : "");
