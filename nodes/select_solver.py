"""The node that gives the reference's solvers as SAMPLER objects."""

from __future__ import annotations

from comfy_api.latest import io

from .engine.relay.flow_solvers import FLOW_SOLVERS, make_sampler


class SelectSolver(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanRelay_SelectSolver",
            display_name="Wan Relay: Select Solver",
            category="wan relay",
            description="The Wan2.2 reference's own solvers for SamplerCustomAdvanced and other sampler nodes.",
            search_aliases=["unipc", "flow unipc", "dpm++", "ksampler select", "sampler"],
            inputs=[
                io.Combo.Input(
                    "solver",
                    options=list(FLOW_SOLVERS),
                    default="flow_unipc",
                    tooltip="flow_unipc (order 2, bh2) is the reference's default; flow_dpm++ is its DPM-Solver++ 2M.",
                )
            ],
            outputs=[io.Sampler.Output("sampler", tooltip="For SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(cls, solver) -> io.NodeOutput:
        return io.NodeOutput(make_sampler(solver), ui={"wan_relay": [{"solver": solver, "warnings": []}]})
