"""Every text of the nodes' schemas, in the shape of locales/<language>/nodeDefs.json.

`python3 dev.py run tests.repo.node_texts` writes locales/en/nodeDefs.json: the schemas are the English source.
"""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def node_texts() -> dict[str, Any]:
    """node id -> display name, description, and the name and tooltip of every input and output.

    Of an input that brings further ones, the last choice brings all of them.
    """
    from comfy_api.latest import io
    from wan_relay.nodes.node_list import NODES

    texts: dict[str, Any] = {}
    for schema in (node.define_schema() for node in NODES):
        inputs: dict[str, Any] = {}
        for declared in schema.inputs:
            inputs[declared.id] = {"name": declared.display_name or declared.id, "tooltip": declared.tooltip}
            for further in declared.options[-1].inputs if isinstance(declared, io.DynamicCombo.Input) else ():
                key = f"{declared.id}_{further.id}"  # the editor's key for the input `pairs.high_noise_lora_2`
                inputs[key] = {"name": further.display_name or further.id, "tooltip": further.tooltip}
            if isinstance(declared, io.Int.Input) and declared.control_after_generate:
                inputs["control_after_generate"] = {"name": "control after generate"}
        texts[schema.node_id] = {
            "display_name": schema.display_name,
            "description": schema.description,
            "inputs": inputs,
            "outputs": {
                str(index): {"name": output.display_name or output.id, "tooltip": output.tooltip}
                for index, output in enumerate(schema.outputs)
            },
        }
    return texts


if __name__ == "__main__":
    path = ROOT / "locales" / "en" / "nodeDefs.json"
    path.write_text(json.dumps(node_texts(), ensure_ascii=False, indent=2) + "\n")
