// What js/ may use of ComfyUI's graph editor: its public members alone, alike in frontend 1.47 and 1.58. Anything else
// is an error in the check, so a private field cannot slip in.

interface ComfyApp {
  readonly rootGraph: ComfyGraph;
  readonly canvas?: ComfyCanvas;
  readonly extensionManager: {
    readonly setting: { get(id: string): any };
    readonly workflow: { readonly activeWorkflow: { readonly changeTracker?: ComfyHistory | null } | null };
  };
  registerExtension(extension: ComfyExtension): void;
}

interface ComfyExtension {
  name: string;
  setup?(): void;
  nodeCreated?(node: ComfyNode): Promise<void>;
  refreshComboInNodes?(): Promise<void>;
}

interface ComfyApi {
  addEventListener(name: string, heard: (event: CustomEvent) => void): void;
  removeEventListener(name: string, heard: (event: CustomEvent) => void): void;
  fetchApi(route: string, options?: RequestInit): Promise<Response>;
  apiURL(route: string): string;
}

interface ComfyCanvas {
  setDirty(foreground: boolean, background: boolean): void;
}

/** The root graph or a subgraph. */
interface ComfyGraph {
  readonly id: string;
  readonly nodes: ComfyNode[];
  readonly links: ReadonlyMap<unknown, ComfyLink>;
  readonly subgraphs: ReadonlyMap<string, ComfyGraph>;
  getNodeById(id: ComfyNodeId): ComfyNode | null;
  setDirtyCanvas(foreground: boolean, background: boolean): void;
}

type ComfyNodeId = number | string;
type ComfySize = [width: number, height: number];
type ComfyHook = (this: ComfyNode, ...args: any[]) => any;

interface ComfyNode {
  readonly id: ComfyNodeId;
  readonly type: string;
  /** The id of the node in Python. */
  readonly comfyClass?: string;
  readonly mode: number;
  /** null before the node is added, and after it is removed. */
  readonly graph: ComfyGraph | null;
  /** Of a node that stands for a subgraph. */
  readonly subgraph?: ComfyGraph;
  readonly inputs: ComfyInput[];
  readonly widgets?: ComfyWidget[];
  readonly size: ComfySize;
  onAdded?: ComfyHook;
  onRemoved?: ComfyHook;
  onExecuted?: ComfyHook;
  getInputLink(slot: number): ComfyLink | null;
  getWidgetFromSlot(input: ComfyInput): ComfyWidget | undefined;
  addDOMWidget(name: string, type: string, element: HTMLElement, options: ComfyDomOptions): ComfyWidget;
  computeSize(): ComfySize;
  setSize(size: ComfySize): void;
}

interface ComfyInput {
  readonly name: string;
  readonly type: string | number;
  readonly label?: string;
  readonly localized_name?: string;
}

interface ComfyLink {
  /** No node's id where the link comes from the border of a subgraph. */
  readonly origin_id: ComfyNodeId;
  readonly origin_slot: number;
  readonly target_id: ComfyNodeId;
  readonly target_slot: number;
}

interface ComfyWidget {
  readonly name: string;
  disabled?: boolean;
  value?: any;
  /** Whether the workflow keeps the value. */
  serialize?: boolean;
  /** What the user sees in place of the name. */
  readonly label?: string;
  /** `values`: the choices of a combo. */
  readonly options: { values?: string[] };
  callback?(value: any, canvas: ComfyCanvas | undefined, node: ComfyNode): void;
}

interface ComfyDomOptions {
  /** Whether the prompt sends the value. */
  serialize: boolean;
  hideOnZoom: boolean;
  hideInPanel: boolean;
  margin: number;
  getMinHeight(): number;
  getMaxHeight(): number;
}

/** The editor's steps of undo: the graph as it was saved last, and when it was opened. */
interface ComfyHistory {
  readonly activeState: ComfySavedGraph;
  readonly initialState: ComfySavedGraph;
}

interface ComfySavedGraph {
  readonly id?: string;
  readonly nodes: { readonly id: ComfyNodeId; size: ComfySize }[];
  readonly definitions?: { readonly subgraphs?: ComfySavedGraph[] };
}

declare const LiteGraph: { isValidConnection(a: string | number, b: string | number): boolean };
