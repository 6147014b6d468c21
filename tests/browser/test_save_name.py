"""What `%node.widget%` in a file name gives in the graph editor: for our node the same as for ComfyUI's own."""

from typing import Any

import pytest

pytest.importorskip("playwright")

# Two pictures of which the second lies in a subgraph, a note, and the picture saved by ComfyUI's node and by ours.
MAKE_GRAPH = """
app.rootGraph.clear();
const add = (type, title, widgets) => {
  const node = LiteGraph.createNode(type);
  app.rootGraph.add(node);
  if (title) node.title = title;
  for (const [name, value] of Object.entries(widgets)) node.widgets.find((w) => w.name === name).value = value;
  return node;
};
const size = { width: 64, height: 48, batch_size: 2 };
const renamed = add("EmptyImage", "A picture", { ...size, color: 7 });
renamed.properties["Node name for S&R"] = "my picture";
const inner = add("EmptyImage", "Inner", { ...size, color: 11 });
const text = add("PrimitiveString", "Scene / 1", { value: 'a/b: "c" \\\\ d|e*f' });
const preview = add("PreviewAny", "", {});
text.connect(0, preview, 0);
const batch = add("ImageBatch", "", {});
renamed.connect(0, batch, 0);
inner.connect(0, batch, 1);
for (const type of ["SaveImage", "WanRelay_SaveVideo"]) {
  const saver = add(type, "", { filename_prefix: argument });
  batch.connect(0, saver, 0);
}
app.rootGraph.convertToSubgraph(new Set([inner]));
"""


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("%my picture.color%_%A picture.width%_%Inner.color%_%EmptyImage.color%", "7_64_11_11"),
        ("x_%Scene / 1.value%", "x_a_b_ _c_ _ d_e_f"),
        ("%width%_%nobody.color%_%Inner.nothing%", "64_%nobody.color%_%Inner.nothing%"),
        ("%Inner.color%/%WanRelay_SaveVideo.crf%", "11/19"),
    ],
)
def test_our_node_saves_under_the_name_that_the_editor_gives_to_its_own(
    editor: Any, server: Any, prefix: str, name: str
) -> None:
    output = server.base / "output"
    before = set(output.rglob("*_.*"))
    editor.run(MAKE_GRAPH, prefix)
    assert editor.run("return await app.queuePrompt(0, 1);") is not False
    made: dict[str, set[str]] = {}
    while made.keys() < {".png", ".mp4"}:  # the test's own time limit ends it
        editor.settle(200)
        made = {}
        for path in set(output.rglob("*_.*")) - before:
            made.setdefault(path.suffix, set()).add(path.relative_to(output).as_posix().rsplit("_", 2)[0])
    assert made == {".png": {name}, ".mp4": {name}}
