/** The data of the server's answers, as `kanserve.studio.page_views` and `workspace` make them. */

export type Num = number | null;
export type Place = [number, number, number];

export interface Edge {
  name: string;
  function: string;
  spline: boolean;
  constants: number[];
  share: number;
  low: number;
  high: number;
  curve: Num[];
  place: Place;
}

export interface Node {
  name: string;
  latex: string;
  unit: string;
  low: number;
  high: number;
  middle: number;
  density: number[];
  knots: number[];
  trained: [number, number] | null;
  share: number;
  categories: [name: string, value: number][];
  missing: number | null;
}

export interface Formula {
  name: string;
  text: string;
  latex: string;
  closed_form: boolean;
  domain: string[];
  trouble: string;
}

export interface Done {
  step: string;
  edges: number;
  loss: Num;
}

export interface Measure {
  kind: string;
  value: Num;
  r2: Num[];
  accuracy: number | null;
}

export interface LayerMap {
  inputs: number;
  sums: number;
  cells: number[][];
}

export interface View {
  revision: number;
  snapshot: {
    shape: number[];
    inputs: string[];
    outputs: string[];
    edges: Edge[];
    loss: Num;
    formulas: Formula[];
    history: Done[];
    undone: number;
  };
  nodes: Node[][];
  arity: number[][];
  affine: { sums: [scale: number, offset: number][]; products: [scale: number, offset: number][] }[];
  measure: Measure;
  first: Measure;
  interval: number[];
  edges: number;
  possible_edges: number;
  shown_share: number;
  complexity: number | null;
  maps: LayerMap[];
  python: string;
}

export interface Model {
  title: string;
  name: string;
  version: number;
  next_version: number;
  published: number;
  served: number;
  repository: string;
  drawn: boolean;
  held_out: number;
  held_apart: boolean;
  total_rows: number;
  unseen_rows: number;
  classes: string[];
  formats: string[];
  load: string;
  has_table: boolean;
  /** Whether this is a page without a server, to look at. */
  shared?: boolean;
  kanserve: string;
}

export interface Snapshot {
  phase: "choosing" | "fitting" | "ready";
  model: Model;
  unsaved: number;
  simplifying: boolean;
  own_functions: string[];
  saved?: Saved | null;
  trouble?: string;
  view: View;
}

export interface Column {
  name: string;
  kind: "numbers" | "categories" | "dates" | "text" | "constant";
  missing: number;
  different: number;
  samples: string[];
  density: number[];
  low: number;
  high: number;
  note: string;
  use: boolean;
  classes: boolean;
}

export interface Table {
  title: string;
  rows: number;
  columns: Column[];
  more_columns: number;
  target: string;
}

/** What was done before with a table or a network, and is kept. */
export interface Saved {
  title: string;
  path: string;
  target?: string;
  inputs?: string[];
  when: number;
  steps: number;
  edges: number;
}

export interface Curve {
  name: string;
  source: string;
  source_latex: string;
  target_latex: string;
  unit: string;
  u: number[];
  values: Num[];
  low: number;
  high: number;
  knots: number[];
  knot_values: Num[];
  intervals: number;
  density: number[];
  factor: number;
  function: string;
  spline: boolean;
  place: Place;
}

/** The loss with so many edges, and the edges that the point before still has. */
export interface RulerPoint {
  edges: number;
  loss: Num;
  gone: string[];
}

export interface SmallTiles {
  points: number;
  places: Place[];
  shares: number[];
  snapped: boolean[];
  curves: string;
}

export interface Candidate {
  suggestion: { function: string; r2: number; loss: number; change: number; constants: number[] };
  complexity: number;
  change: Num;
  curve: Num[];
  formula: string;
}

export interface Constant {
  edge: string;
  constant: string;
  value: number;
  error: Num;
  nice: string;
  nice_value: Num;
  nice_change: Num;
  /** What the constant term of the sum has beside the d of this edge. */
  shift: number;
}

export interface Predicted {
  value: Num[];
  gradient: Num[][];
  inside: boolean[];
  nodes: Num[][];
}

export interface Explained {
  outputs: string[];
  base: Num[];
  values: Num[][];
  errors: Num[][];
}

export interface Rows {
  seed: number;
  total: number;
  x: number[][];
  y: number[][];
  prediction: Num[][];
  outside: boolean[];
}

export interface Found {
  text: string;
  latex: string;
  complexity: number;
  rmse: number;
  take: string;
  best: boolean;
}

export interface ExportFile {
  path: string;
  bytes: number;
  text: string | null;
  base64?: string;
}

export interface Exported {
  format: string;
  files: ExportFile[];
  largest_gap: Num;
  microseconds: Num;
  note: string;
}

/** How far simplifying is: what it has kept last, and the losses after each change. */
export interface Simplifying {
  line: string;
  edges: number;
  named: number;
  losses: number[];
  /** What each change was, for whoever looks back. */
  lines: string[];
}

export interface StudioEvent {
  kind: string;
  [key: string]: unknown;
}
