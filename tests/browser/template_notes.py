"""What the note in each workflow template says: each model file, its folder, its size, and where it can be had."""

from typing import NamedTuple

WAN_2_2 = "https://huggingface.co/Comfy-Org/Wan_2.2_ComfyUI_Repackaged/resolve/main/split_files"
WAN_2_1 = "https://huggingface.co/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files"
FRAME_INTERPOLATION = "https://huggingface.co/Comfy-Org/frame_interpolation/resolve/main"
REAL_ESRGAN = "https://huggingface.co/Comfy-Org/Real-ESRGAN_repackaged/resolve/main"
DASIWA = "https://civitai.com/models/1981116"


class Download(NamedTuple):
    """One model file: the folder below models/, its size, and the file or the page where it can be had."""

    folder: str
    size: str
    url: str


def _files(root: str, folder: str, size: str, *names: str) -> dict[str, Download]:
    return {name: Download(folder, size, f"{root}/{folder}/{name}") for name in names}


DOWNLOADS: dict[str, Download] = {
    **_files(
        WAN_2_2,
        "diffusion_models",
        "14.3 GB",
        "wan2.2_i2v_high_noise_14B_fp8_scaled.safetensors",
        "wan2.2_i2v_low_noise_14B_fp8_scaled.safetensors",
        "wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors",
        "wan2.2_t2v_low_noise_14B_fp8_scaled.safetensors",
    ),
    **_files(WAN_2_2, "diffusion_models", "10.0 GB", "wan2.2_ti2v_5B_fp16.safetensors"),
    **_files(
        WAN_2_2,
        "loras",
        "1.2 GB",
        "wan2.2_i2v_lightx2v_4steps_lora_v1_high_noise.safetensors",
        "wan2.2_i2v_lightx2v_4steps_lora_v1_low_noise.safetensors",
        "wan2.2_t2v_lightx2v_4steps_lora_v1.1_high_noise.safetensors",
        "wan2.2_t2v_lightx2v_4steps_lora_v1.1_low_noise.safetensors",
    ),
    **_files(WAN_2_1, "text_encoders", "6.7 GB", "umt5_xxl_fp8_e4m3fn_scaled.safetensors"),
    **_files(WAN_2_2, "vae", "254 MB", "wan_2.1_vae.safetensors"),
    **_files(WAN_2_2, "vae", "1.4 GB", "wan2.2_vae.safetensors"),
    **_files(FRAME_INTERPOLATION, "frame_interpolation", "69 MB", "film_net_fp16.safetensors"),
    "RealESRGAN_x4plus.safetensors": Download(
        "upscale_models", "67 MB", f"{REAL_ESRGAN}/RealESRGAN_x4plus.safetensors"
    ),
    "DasiwaWAN22I2V14BLightspeed_synthseductionHighV9.safetensors": Download("diffusion_models", "14.5 GB", DASIWA),
    "DasiwaWAN22I2V14BLightspeed_synthseductionLowV9.safetensors": Download("diffusion_models", "14.5 GB", DASIWA),
}

ABOUT = {
    "wan22_i2v_4step": (
        "Image to video in 4 steps",
        "One image becomes 5 seconds of video with a merged 4-step pair: the speed-up is inside the files, so no LoRA "
        "is added. Any other merged pair works the same way. At cfg 1.0 the negative prompt has no effect.",
    ),
    "wan22_i2v_4step_lora": (
        "Image to video in 4 steps, with a LoRA pair",
        "The original experts and a 4-step LoRA on each. Do not add these LoRAs to a checkpoint that has the speed-up "
        "merged already: the node warns about it.",
    ),
    "wan22_i2v_4step_motion": (
        "Image to video in 4 steps, with more motion",
        "Three legs in one sampler run: the original high-noise expert takes the first step at cfg 3.5, without the "
        "4-step LoRA that slows motion down; then both experts with their LoRAs. NAG makes the negative prompt work at "
        "cfg 1. More motion still: 2 opening steps of 6, switch step 3.",
    ),
    "wan22_i2v_long": (
        "Image to video of ten seconds, in segments",
        "161 frames as two segments of 81 that share one frame, in one run and one file: Wan2.2 swings back after 81. "
        "Each line of prompts in Long Video is a segment of its own; without any the prompt of Encode Prompts goes on. "
        "With another last line only the last segment is made again.",
    ),
    "wan22_i2v_smooth": (
        "Image to video in 4 steps, larger and smoother",
        "The video twice as wide and high, at 32 frames a second in place of 16. It is made larger first: a frame "
        "costs the upscaler nearly ten times what it costs FILM, so it sees 81 of them and not 161. fps comes out of "
        "Interpolate Frames; without a model linked there FFmpeg makes the frames in between.",
    ),
    "wan22_i2v_reference": (
        "Image to video as the Wan2.2 reference does it",
        "40 steps, FlowUniPC, cfg 3.5, shift 5, and the experts change where the noise level crosses 0.9. Slow, and "
        "the quality to compare everything else with.",
    ),
    "wan22_flf2v_4step": (
        "First and last frame to video in 4 steps",
        "Two images become the first and the last frame. With the end image alone the video leads up to it.",
    ),
    "wan22_t2v_4step": (
        "Text to video in 4 steps",
        "No image: the T2V experts with their own 4-step LoRA pair. The I2V files do not work here, nor the other way "
        "round.",
    ),
    "wan22_ti2v_5b": (
        "Wan2.2 TI2V-5B: one model at 24 fps",
        "The small model has no experts: it goes into high_noise, low_noise is none, and it needs its own VAE. Take "
        "the image away for text to video.",
    ),
}

ASKED = {
    "wan22_t2v_4step": "Write what should be seen and what moves.",
    "wan22_flf2v_4step": "Choose the start and the end image and write what happens between them.",
}


def note_of(workflow: str, files: list[str]) -> str:
    """The note's Markdown for one of the bundled workflows and the model files that it names."""
    title, about = ABOUT[workflow]
    lines = [
        f"- `models/{DOWNLOADS[file].folder}` · {DOWNLOADS[file].size}\n  [{file}]({DOWNLOADS[file].url})"
        for file in files
    ]
    asked = ASKED.get(workflow, "Choose an image and write what should move.")
    steps = (
        "1. Put the files into their folders and press **R**.\n"
        f"2. {asked}\n"
        "3. Read the panels: amber is worth knowing, red will not run.\n"
        "4. Press **Run**."
    )
    return f"## {title}\n\n{about}\n\n" + "\n".join(lines) + f"\n\n{steps}\n"
