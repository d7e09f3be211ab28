"""The tools as an MCP server on standard input and output, for agents and for the programs between hospital systems.

The protocol has standard output to itself: the SDK sends whatever else is printed to standard error.
"""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from fuse_examples.imaging.oai_example.errors import UserError
from fuse_examples.imaging.oai_example.service.tools import Tools

try:
    from mcp.server.mcpserver import MCPServer
except ImportError as error:  # an optional extra
    raise UserError("The MCP server needs the package mcp, which is not installed: pip install 'mcp>=2.3,<3'.") from error

INSTRUCTIONS = (
    "Segments and classifies 3D medical scans (DICOM series, NIfTI files) with the models of one folder. For research; not a medical "
    "device. Paths are relative to the server's root folder. Every answer has `ok`; where it is false, `problems` says why."
)
Models = Annotated[list[str], Field(description="Names from list_models; the probabilities of several are averaged.", min_length=1)]
Scans = Annotated[str, Field(description="A NIfTI file, a DICOM folder, or a folder of those, relative to the root.")]


def build_server(root: Path, models: Path) -> MCPServer:
    """Return the server for one folder of scans and results and one folder of models. Raises UserError where one is no folder."""
    tools = Tools(root, models)
    server = MCPServer("oai-pretraining", instructions=INSTRUCTIONS, version=_version())

    @server.tool()
    def list_models() -> dict[str, Any]:
        """List the models with what each predicts: structures of a segmenter, targets and classes of a classifier."""
        return tools.list_models()

    @server.tool()
    def check_scan(scan: Annotated[str, Field(description="A NIfTI file or a DICOM folder, relative to the root.")]) -> dict[str, Any]:
        """Read one scan in full and say what it is: kind, shape, spacing, orientation; or why it cannot be used."""
        return tools.check_scan(scan)

    @server.tool()
    def classify(models: Models, scans: Scans) -> dict[str, Any]:
        """Give the probability of each class of each target, for one scan or for all scans of a folder. Leaves no files."""
        return tools.classify(models, scans)

    @server.tool()
    def segment(
        models: Models,
        scans: Scans,
        output: Annotated[str, Field(description="Folder for masks, pictures and tables, relative to the root.")],
        overwrite: Annotated[bool, Field(description="Whether an earlier prediction in that folder may be replaced.")] = False,
    ) -> dict[str, Any]:
        """Write masks as NIfTI, and for DICOM series as DICOM-SEG, and give the volume of each structure in ml."""
        return tools.segment(models, scans, output, overwrite)

    return server


def _version() -> str:
    try:
        return version("oai-pretraining")
    except PackageNotFoundError:  # run from a checkout
        return "unreleased"
