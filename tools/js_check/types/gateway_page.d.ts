// What the gateway's page and /api/v1 say to each other: service/gateway/dialects/api.py declares the same.

interface ApiProblem {
  code: string;
  message: string;
  field: string | null;
}

interface VideoOrder {
  prompt: string;
  task_type: "i2v" | "t2v";
  image_url?: string;
  end_image_url?: string;
  negative_prompt?: string;
  duration: number;
  resolution: string;
  aspect_ratio: string;
  model: string;
  enable_prompt_expansion: boolean;
  seed: number;
  steps?: number;
  cfg?: number;
  shift?: number;
}

interface VideoFile {
  url: string | null;
  content_type: string;
  size: number;
  width: number;
  height: number;
  num_frames: number;
  fps: number;
  duration: number;
}

interface VideoProgress {
  percent: number;
  stage: string;
  step: number | null;
  steps: number | null;
  expert: "opening" | "high_noise" | "low_noise" | null;
  seconds_left: number | null;
}

interface VideoTask {
  id: string;
  status: "queued" | "running" | "succeeded" | "failed" | "cancelled";
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
  expires_at: string | null;
  queue_position: number | null;
  progress: VideoProgress | null;
  video: VideoFile | null;
  seed: number;
  prompt: string;
  expanded_prompt: string | null;
  settings: Record<string, string | number | null> | null;
  timings: Record<string, number | null> | null;
  warnings: string[];
  error: ApiProblem | null;
  logs: string[];
}
