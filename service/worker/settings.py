"""What the operator can set: environment variables only, read once."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field

from ..contract.seeds import MAX_VIDEOS
from ..environment_settings import FROM_JSON, EnvironmentSettings, Hosts
from ..media.addresses import TrustedHosts
from ..media.bucket import Bucket
from ..media.images import ImageLimits
from .url_loras.access import LoraAccess, Tokens

PACKAGE = Path(__file__).resolve().parents[2]
VOLUME = Path("/runpod-volume")

Megabytes = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


def folders_of(text: str) -> list[Path]:
    """The absolute folders of a comma-separated list. Raises ValueError."""
    folders = [Path(part.strip()) for part in text.split(",") if part.strip()]
    if wrong := next((folder for folder in folders if not folder.is_absolute()), None):
        raise ValueError(f"must be absolute folders, comma-separated; got {wrong}")
    return list(dict.fromkeys(folders))


def _checked_folders(text: str) -> str:
    folders_of(text)
    return text


FolderList = Annotated[str, AfterValidator(_checked_folders)]


class Settings(EnvironmentSettings):
    """The declaration of every variable: name, default, range and meaning (worker/README.md prints it)."""

    comfyui_path: Path = Field(Path("/comfyui"), alias="COMFYUI_PATH", description="ComfyUI's source folder")
    comfyui_python: str = Field(
        "/opt/comfyui/bin/python",
        alias="COMFYUI_PYTHON",
        description="the Python of ComfyUI's environment (with torch)",
    )
    comfyui_port: int = Field(
        8188,
        ge=0,
        le=65535,
        alias="COMFYUI_PORT",
        description="a free port is taken in its place if it is 0, or in use",
    )
    comfyui_args: str = Field("", alias="COMFYUI_ARGS", description="more arguments for ComfyUI, such as --lowvram")
    base_directory: Path = Field(
        Path("/comfyui"), alias="COMFYUI_BASE", description="folder with ComfyUI's custom_nodes, models and user"
    )
    models_directory: Path | None = Field(
        None, alias="WAN_RELAY_MODELS", description="a models folder in place of the one in COMFYUI_BASE"
    )
    extra_model_paths: Path | None = Field(
        PACKAGE / "service" / "worker" / "extra_model_paths.yaml",
        alias="WAN_RELAY_EXTRA_MODEL_PATHS",
        description="the extra_model_paths.yaml that names a volume's folders",
    )
    model_roots: FolderList = Field(
        str(VOLUME),
        alias="WAN_RELAY_MODEL_ROOTS",
        description="volumes with model files, comma-separated, in the order of search",
    )
    hashes_models: bool = Field(
        True,
        alias="WAN_RELAY_HASH_MODELS",
        description="read model files between jobs for the answer's sha256; else only what is known without reading",
    )
    workflows: Path = Field(
        PACKAGE / "workflows" / "api", alias="WAN_RELAY_WORKFLOWS", description="folder of the API-format workflows"
    )
    run_directory: Path = Field(
        Path("/tmp/wan_relay"),
        alias="WAN_RELAY_RUN_DIR",
        description="this worker's own input, output and temp folders",
    )
    volume: Path = Field(VOLUME, alias="WAN_RELAY_VOLUME", description="the only folder that image_path may point into")

    high_noise: str | None = Field(None, alias="WAN_RELAY_HIGH_NOISE", description="high-noise expert's file name")
    low_noise: str | None = Field(None, alias="WAN_RELAY_LOW_NOISE", description="low-noise expert's file name")
    text_encoder: str | None = Field(None, alias="WAN_RELAY_TEXT_ENCODER", description="text encoder's file name")
    vae: str | None = Field(None, alias="WAN_RELAY_VAE", description="VAE's file name")
    film: str | None = Field(
        None, alias="WAN_RELAY_FILM", description="FILM's file name; else the first that has `film` in its name"
    )
    rife: str | None = Field(
        None, alias="WAN_RELAY_RIFE", description="RIFE's file name; else the first that has `rife` in its name"
    )
    upscale_model: str | None = Field(
        None,
        alias="WAN_RELAY_UPSCALE_MODEL",
        description="the file of `upscale_factor`, in `upscale_models`; else the first by name",
    )
    model_files: Annotated[dict[str, str], FROM_JSON] = Field(
        {},
        alias="WAN_RELAY_MODEL_FILES",
        description="JSON object: a file name in a bundled workflow, and the one to use in its place",
    )

    boot_timeout_s: Seconds = Field(300, alias="WAN_RELAY_BOOT_TIMEOUT_S", description="for ComfyUI's start")
    job_timeout_s: Seconds = Field(
        570, alias="WAN_RELAY_JOB_TIMEOUT_S", description="one job's budget; keep it under the endpoint's own"
    )
    endpoint_type: Literal["queue", "LB"] = Field(
        "queue",
        alias="WAN_RELAY_ENDPOINT_TYPE",
        description="queue: jobs by RunPod's SDK; LB: HTTP of its own, for an endpoint of type Load Balancer",
    )
    port: int = Field(80, ge=0, le=65535, alias="PORT", description="of that HTTP; RunPod sets it")
    health_port: int | None = Field(
        None, ge=0, le=65535, alias="PORT_HEALTH", description="of its /ping, if that is another one; RunPod sets it"
    )
    load_balancer_host: str = Field(
        "0.0.0.0", alias="WAN_RELAY_LB_HOST", description="the address that it listens on; nobody is asked for a key"
    )
    load_balancer_timeout_s: float = Field(
        300,
        gt=0,
        lt=330,
        alias="WAN_RELAY_LB_TIMEOUT_S",
        description="one request's budget there; RunPod cuts the connection after 330 s",
    )
    download_timeout_s: Seconds = Field(30, alias="WAN_RELAY_DOWNLOAD_TIMEOUT_S", description="one image, in total")
    upload_timeout_s: Seconds = Field(
        60, alias="WAN_RELAY_UPLOAD_TIMEOUT_S", description="one video to the bucket, in total"
    )
    trusted_hosts: Hosts = Field(
        TrustedHosts(),
        alias="WAN_RELAY_TRUSTED_HOSTS",
        description="`host[:port], …` that URLs and a job's s3Config may name although they are not public",
    )
    lora_hosts: Hosts = Field(
        TrustedHosts(),
        alias="WAN_RELAY_LORA_HOSTS",
        description="`host[:port], …` that a LoRA's URL may name, such as huggingface.co; empty: none by URL",
    )
    lora_tokens: Tokens = Field(
        {},
        alias="WAN_RELAY_LORA_TOKENS",
        description="JSON object: one of those hosts, and the bearer token that it gets",
        repr=False,
    )
    lora_timeout_s: Seconds = Field(
        300, alias="WAN_RELAY_LORA_TIMEOUT_S", description="the download of one LoRA, in total"
    )
    max_lora_mb: Megabytes = Field(2500, alias="WAN_RELAY_MAX_LORA_MB", description="bytes of one downloaded LoRA")
    lora_cache: Path | None = Field(
        None,
        alias="WAN_RELAY_LORA_CACHE",
        description="folder of downloaded LoRAs; else `wan_relay/loras` on the volume where that can be written, or in "
        "the run folder",
    )
    lora_cache_mb: Megabytes = Field(
        20_000,
        alias="WAN_RELAY_LORA_CACHE_MB",
        description="bytes of all downloaded LoRAs; those that were used longest ago are removed",
    )
    max_image_mb: Megabytes = Field(30, alias="WAN_RELAY_MAX_IMAGE_MB", description="bytes of one image")
    max_image_megapixels: int = Field(
        50, ge=1, alias="WAN_RELAY_MAX_IMAGE_MEGAPIXELS", description="pixels of one image, checked before decoding"
    )
    max_video_pixels: int = Field(
        1280 * 720 * 161, ge=1, alias="WAN_RELAY_MAX_PIXELS", description="width x height x length of one job"
    )
    max_saved_pixels: int = Field(
        1280 * 720 * 161 * 5,
        ge=1,
        alias="WAN_RELAY_MAX_SAVED_PIXELS",
        description="width x height x frames after upscaling and interpolation; each takes 12 bytes of memory",
    )
    max_videos: int = Field(
        8,
        ge=1,
        le=MAX_VIDEOS,
        alias="WAN_RELAY_MAX_VIDEOS",
        description="videos of one job, all within its budget of time",
    )
    min_free_disk_mb: Megabytes = Field(
        500, alias="WAN_RELAY_MIN_FREE_DISK_MB", description="free disk that a job asks for before it starts"
    )
    sync_result_mb: float = Field(
        20, gt=0, alias="WAN_RELAY_SYNC_RESULT_MB", description="the platform's cap on a /runsync answer"
    )
    async_result_mb: float = Field(
        10, gt=0, alias="WAN_RELAY_ASYNC_RESULT_MB", description="the platform's cap on a /run answer"
    )
    lean_boot: bool = Field(
        True,
        alias="WAN_RELAY_LEAN_BOOT",
        description="start ComfyUI without what no bundled workflow asks for, until a workflow needs it",
    )
    takes_graphs: bool = Field(
        True, alias="WAN_RELAY_GRAPHS", description="run workflows that come with a request, as API-format JSON"
    )
    graph_nodes: str = Field(
        "*",
        alias="WAN_RELAY_GRAPH_NODES",
        description="node classes in them: `WanRelay_*, VAE*` are all, `*, !CheckpointSave` all but one",
    )
    graph_models: str = Field(
        "*", alias="WAN_RELAY_GRAPH_MODELS", description="model file names in them, as such a list"
    )
    read_ahead: bool = Field(True, alias="WAN_RELAY_READ_AHEAD", description="read model files while ComfyUI boots")

    bucket_endpoint_url: str | None = Field(None, alias="BUCKET_ENDPOINT_URL", description="S3 endpoint")
    bucket_name: str | None = Field(
        None, alias="BUCKET_NAME", description="bucket, when its name is not part of the endpoint's host"
    )
    bucket_region: str | None = Field(
        None, alias="BUCKET_REGION", description="region to sign for, when it is not part of the endpoint's host"
    )
    bucket_access_key_id: str | None = Field(None, alias="BUCKET_ACCESS_KEY_ID", description="S3 key id")
    bucket_secret_access_key: str | None = Field(
        None, alias="BUCKET_SECRET_ACCESS_KEY", description="S3 secret", repr=False
    )

    @property
    def load_balancer_ports(self) -> tuple[int, int]:
        """Of requests, and of the health check."""
        return self.port, self.port if self.health_port is None else self.health_port

    def for_load_balancer(self) -> Self:
        """The same with a request's budget for a job's."""
        return self.model_copy(update={"job_timeout_s": min(self.job_timeout_s, self.load_balancer_timeout_s)})

    @property
    def input_directory(self) -> Path:
        return self.run_directory / "input"

    @property
    def output_directory(self) -> Path:
        return self.run_directory / "output"

    @property
    def temp_directory(self) -> Path:
        return self.run_directory / "temp"

    @property
    def roots(self) -> list[Path]:
        return folders_of(self.model_roots)

    @property
    def hubs(self) -> list[Path]:
        """The roots' Hugging Face caches, where RunPod puts cached models."""
        return [root / "huggingface-cache" / "hub" for root in self.roots]

    @property
    def model_paths_config(self) -> Path:
        """The extra_model_paths.yaml that shows ComfyUI every place."""
        return self.run_directory / "model_paths.yaml"

    @property
    def cached_models(self) -> Path:
        """Links to the model files of Hugging Face caches."""
        return self.run_directory / "cached_models"

    @property
    def own_workflows(self) -> Path:
        """The operator's exported workflows."""
        return self.volume / "workflows"

    @property
    def shared_input(self) -> Path:
        """Pictures that a workflow may name besides the job's own."""
        return self.volume / "input"

    @property
    def image_limits(self) -> ImageLimits:
        return ImageLimits(
            self.max_image_mb * 1_000_000,
            self.max_image_megapixels * 1_000_000,
            self.download_timeout_s,
            self.volume,
            self.trusted_hosts,
        )

    @property
    def lora_cache_folder(self) -> Path:
        return self.lora_cache or self._kept / "loras"

    @property
    def model_hashes(self) -> Path:
        """The file of known sha256."""
        return self._kept / "model_hashes.json"

    @property
    def _kept(self) -> Path:
        """What other workers, and the next one, can use."""
        return self.volume / "wan_relay" if os.access(self.volume, os.W_OK) else self.run_directory

    @property
    def lora_access(self) -> LoraAccess:
        return LoraAccess(
            self.lora_hosts,
            self.trusted_hosts,
            self.lora_tokens,
            self.max_lora_mb * 1_000_000,
            self.lora_timeout_s,
        )

    def bucket(self, s3_config: Any = None) -> Bucket | None:
        """The job's own `s3Config` if the platform handed it on and it is whole, else the worker's, else None.

        A client names the first, so it must lie at a public or trusted host; the second is dialled wherever it lies.
        """
        if isinstance(s3_config, dict):
            keys = ("endpointUrl", "accessId", "accessSecret", "bucketName")
            url, key_id, secret, name = (_short_text(s3_config.get(key)) for key in keys)
            if url and key_id and secret:
                return Bucket(url, key_id, secret, name, trusted_hosts=self.trusted_hosts)
        url, key_id, secret = self.bucket_endpoint_url, self.bucket_access_key_id, self.bucket_secret_access_key
        if url and key_id and secret:
            return Bucket(url, key_id, secret, self.bucket_name, self.bucket_region, TrustedHosts.of(url))
        return None

    def result_budget(self, job_id: str) -> int:
        """Bytes that the platform takes for this job's answer (10^6 a megabyte, the stricter reading)."""
        megabytes = self.sync_result_mb if job_id.startswith("sync-") else self.async_result_mb
        return int(megabytes * 1_000_000)


def _short_text(value: Any) -> str | None:
    return value if isinstance(value, str) and len(value) <= 2000 else None
