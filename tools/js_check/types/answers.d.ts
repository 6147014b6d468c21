// What the pack's own server answers (nodes/editor/routes.py) and what its nodes report of a run (`wan_relay`).

interface Remarks {
  warnings?: string[];
  error?: string;
  refused?: string;
}

/** A refusal or an error brings none of the facts. */
type Answer<Facts> = Remarks & (Facts | { [Name in keyof Facts]?: undefined });

type ScheduleAnswer = Answer<Schedule>;
type SizeAnswer = Answer<Size>;

interface Schedule {
  sigmas: number[];
  n_opening: number[];
  n_high: number;
  n_low: number;
  switch: string;
  boundary: number;
  switch_step: number;
  notes: { note: string; shift: number }[];
}

interface Size {
  image_width: number | null;
  image_height: number | null;
  width: number;
  height: number;
  fit: string;
  length: number;
  batch_size: number;
  duration_s: number;
  fps: number;
  timeline: Span[];
  /** Frames of each segment of a long video, which share `overlap`; else empty. */
  segments: number[];
  overlap: number;
  budgets: Record<string, [width: number, height: number]>;
  /** Left, top, width and height of what stays of the image, in percent; null where nothing is cut off. */
  crop: number[] | null;
  changes: SizeChange[];
  mistakes: Mistake[];
}

/** Frames of the clip, both ends included. */
interface Span {
  kind: string;
  first: number;
  last: number;
  /** From 1, of a long video. */
  segment?: number;
}

interface SizeChange {
  change: string;
  asked?: number;
  used?: number;
  multiple?: number;
  percent?: number;
}

interface ExpertsAnswer extends Remarks {
  offers?: Offer[];
  high_noise?: ExpertFacts | null;
  low_noise?: ExpertFacts | null;
}

/** The file that belongs into an input. */
interface Offer {
  input: string;
  file: string;
}

interface LorasAnswer extends Remarks {
  pairs?: LoraPair[];
  offers?: Offer[];
  trigger_words?: string[];
}

/** The key of a sentence, and what stands in it. */
interface Mistake {
  mistake: string;
  [name: string]: string | number;
}

interface AdviceAnswer extends Remarks {
  mistakes?: Mistake[];
  file?: string;
  settings?: Record<string, string | number>;
  also_good?: Record<string, (string | number)[]>;
}

interface LoraPair {
  high_noise: LoraFacts | null;
  low_noise: LoraFacts | null;
}

interface ExpertFacts {
  kind: string;
  precision: string;
  bytes: number;
  file: string;
}

interface LoraFacts {
  kind?: undefined;
  layers: number;
  applied: number;
  unmatched: number;
}

interface RunOutput<Report extends Remarks = Remarks> {
  wan_relay?: [Report];
  images?: SavedFile[];
}

/** What SaveVideo says of a file; `duration` in seconds. */
interface SavedFile {
  filename: string;
  subfolder: string;
  width: number;
  height: number;
  frame_count: number;
  duration: number;
  fps: number;
  seed: number | null;
}

interface Picture {
  filename: string;
  subfolder: string;
  type: string;
}

interface SavedReport extends Remarks {
  bytes: number;
  last_frame?: Picture;
}

interface SampleReport extends Remarks {
  seconds: Record<string, number>;
  load_seconds: Record<string, number>;
  found: string[];
}

/** `cached`: both prompts came from disk. */
interface PromptsReport extends Remarks {
  cached?: boolean;
}

interface SizeReport extends Remarks, Omit<Size, "fps" | "changes" | "mistakes" | "budgets" | "crop" | "segments" | "overlap"> {
  found: string[];
}
