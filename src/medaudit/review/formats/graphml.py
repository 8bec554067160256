"""GraphML: the typed graph for programs that draw or count graphs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree as xml

from medaudit.review.graph import Edge, Node

_SPACE = "http://graphml.graphdrawing.org/xmlns"
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold (its production 2), not even escaped."""
_KEYS = (
    ("node", "kind"),
    ("node", "slug"),
    ("node", "title"),
    ("node", "type"),
    ("edge", "verb"),
    ("edge", "evidence"),
)


def export(nodes: Iterable[Node], edges: Iterable[Edge]) -> str:
    """Return a directed graph; nodes are called KIND:SLUG, edges go from subject to object and have a verb.

    An edge with an end that is not among ``nodes`` is left out.
    """
    root = xml.Element("graphml", {"xmlns": _SPACE})
    for of, name in _KEYS:
        xml.SubElement(root, "key", {"id": f"{of}-{name}", "for": of, "attr.name": name, "attr.type": "string"})
    graph = xml.SubElement(root, "graph", {"edgedefault": "directed"})
    names = {}
    for node in nodes:
        names[node.id] = f"{node.kind}:{node.slug}"
        element = xml.SubElement(graph, "node", {"id": names[node.id]})
        _data(element, "node", {"kind": node.kind, "slug": node.slug, "title": node.title, "type": node.type})
    for n, edge in enumerate(edge for edge in edges if edge.subject in names and edge.object in names):
        ends = {"id": f"e{n}", "source": names[edge.subject], "target": names[edge.object]}
        _data(xml.SubElement(graph, "edge", ends), "edge", {"verb": edge.verb, "evidence": edge.evidence})
    return '<?xml version="1.0" encoding="utf-8"?>\n' + xml.tostring(root, encoding="unicode") + "\n"


def _data(element: xml.Element, of: str, values: dict[str, str]) -> None:
    for name, value in values.items():
        if value:
            xml.SubElement(element, "data", {"key": f"{of}-{name}"}).text = _NO_XML.sub("\ufffd", value)
