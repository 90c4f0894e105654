"""Whether the values of a model's inputs may decide how long a run takes."""

from typing import Final

from inference_server.adapters.onnx_messages import AttributeProto, ModelProto

# By operator, the inputs whose values say how large the output becomes. Those of an output that is never
# larger than the inputs are left out: TopK, Compress, Slice, NonMaxSuppression and the like.
SIZES: Final = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "DFT": (1,),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),
    "STFT": (1, 3),
    "Tile": (1,),
    "Upsample": (1,),
}
# What they answer follows from the sizes of their inputs, not from the values.
MEASURING: Final = frozenset({"Shape", "Size"})
WITH_GRAPHS: Final = frozenset({AttributeProto.GRAPH, AttributeProto.GRAPHS})


def is_steady(model: ModelProto) -> bool:
    """Tell whether only the sizes of the inputs decide how long a run takes, as far as the graph shows.

    Never so with a graph in a node (Loop, If, Scan), nor with functions of the file's own. Otherwise the
    inputs' values are followed through the nodes, which ONNX has in order: they must not become a size.
    """
    if model.functions:
        return False
    of_values = {value.name for value in model.graph.input}
    for node in model.graph.node:
        if any(attribute.type in WITH_GRAPHS for attribute in node.attribute):
            return False
        if any(
            place < len(node.input) and node.input[place] in of_values
            for place in SIZES.get(node.op_type, ())
        ):
            return False
        if node.op_type not in MEASURING and not of_values.isdisjoint(node.input):
            of_values.update(node.output)
    return True
