"""GraphML: the typed graph for programs that draw or count graphs."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree as xml

from medaudit.review.graph import Edge, Node

_SPACE = "http://graphml.graphdrawing.org/xmlns"
_KEYS = (
    ("node", "kind"),
    ("node", "slug"),
    ("node", "title"),
    ("node", "type"),
    ("edge", "verb"),
    ("edge", "evidence"),
)


def export(nodes: Iterable[Node], edges: Iterable[Edge]) -> str:
    """Return a directed graph; nodes are called KIND:SLUG, edges go from subject to object and have a verb."""
    xml.register_namespace("", _SPACE)
    root = xml.Element(f"{{{_SPACE}}}graphml")
    for of, name in _KEYS:
        xml.SubElement(
            root, f"{{{_SPACE}}}key", {"id": f"{of}-{name}", "for": of, "attr.name": name, "attr.type": "string"}
        )
    graph = xml.SubElement(root, f"{{{_SPACE}}}graph", {"edgedefault": "directed"})
    names = {}
    for node in nodes:
        names[node.id] = f"{node.kind}:{node.slug}"
        element = xml.SubElement(graph, f"{{{_SPACE}}}node", {"id": names[node.id]})
        _data(element, "node", {"kind": node.kind, "slug": node.slug, "title": node.title, "type": node.type})
    for n, edge in enumerate(edges):
        ends = {"id": f"e{n}", "source": names[edge.subject], "target": names[edge.object]}
        _data(xml.SubElement(graph, f"{{{_SPACE}}}edge", ends), "edge", {"verb": edge.verb, "evidence": edge.evidence})
    return '<?xml version="1.0" encoding="utf-8"?>\n' + xml.tostring(root, encoding="unicode") + "\n"


def _data(element: xml.Element, of: str, values: dict[str, str]) -> None:
    for name, value in values.items():
        if value:
            xml.SubElement(element, f"{{{_SPACE}}}data", {"key": f"{of}-{name}"}).text = value
