"""The toy encoder's tokenizer: a real sentencepiece model with UMT5's special ids (pad 0, end 1, unknown 2).

Its pieces come from the captions and a little plain English; every other character is spelled out in bytes, so a
prompt in any language encodes.
"""

import io
from pathlib import Path

from . import captions
from .sizes import TEXT

TOKENIZER_FILE = Path(__file__).parent / "weights" / "toy_umt5.spiece.model"

_PLAIN_ENGLISH = """
A short video of people walking in the park while the wind moves the trees and the light changes on the water.
The old man looks at the river, then turns his head and smiles. Her hair and her red dress blow in the breeze.
Cinematic, realistic, high quality, detailed, soft light, morning, evening, night, city, mountain, beach, forest.
Bright colours, blurry, overexposed, static, low quality, worst quality, ugly, watermark, subtitles, extra fingers.
The dog runs across the field and jumps over a fence. A car drives along the road in the rain. Clouds drift by.
Smoke rises from the chimney. Waves roll onto the sand. Birds fly above the roofs. Snow falls slowly at dawn.
She opens the door, walks into the room and sits down at the table. He lifts the cup and drinks some tea.
""".strip().splitlines()


def train_tokenizer() -> bytes:
    """Train the sentencepiece model; one thread, so that the same bytes come out every time."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(captions.all_captions() + _PLAIN_ENGLISH * 8),
        model_writer=model,
        model_type="bpe",
        vocab_size=TEXT.vocab_size,
        hard_vocab_limit=False,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


if __name__ == "__main__":
    TOKENIZER_FILE.write_bytes(train_tokenizer())
    print(TOKENIZER_FILE)
