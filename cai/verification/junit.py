"""The verdicts as JUnit XML, as Jenkins and GitLab read it: a test case a probe."""

from xml.etree import ElementTree

from cai.verification.diagnosis import Diagnosis
from cai.verification.verification import Verification

OUTCOMES = {
    "fail": "failure",
    "error": "error",
    "out of time": "error",
    "undecided": "skipped",
    "left out": "skipped",
    "not run": "skipped",
}
"""What a verdict is in JUnit; "pass" has no element."""


def junit_xml(found: Verification, name: str = "learner") -> str:
    """Return the verdicts as JUnit XML: what is undecided, left out or not run counts as skipped.

    Args:
        found: what ``cai.verify`` returned.
        name: of the learner, for the name of the suite.
    """
    told = [OUTCOMES.get(one.verdict, "") for one in found.verdicts]
    counts = {"tests": len(told), "failures": told.count("failure"), "errors": told.count("error")}
    numbers = {key: str(n) for key, n in counts.items()} | {"time": f"{found.seconds:.3f}"}
    suites = ElementTree.Element("testsuites", numbers)
    title = {"name": f"cai verify {name}", "skipped": str(told.count("skipped"))}
    suite = ElementTree.SubElement(suites, "testsuite", title | numbers)
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in (("rule", found.rule), ("seeds", ", ".join(map(str, found.seeds))), ("summary", found.summary)):
        ElementTree.SubElement(properties, "property", {"name": key, "value": _legal(value)})
    for one in found.verdicts:
        _case(suite, one)
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def _case(suite: ElementTree.Element, one: Diagnosis) -> None:
    """Write a probe: its verdict in words, and the nats from each answer."""
    times = {"classname": "cai.probes", "name": one.probe, "time": f"{one.seconds:.3f}"}
    case = ElementTree.SubElement(suite, "testcase", times)
    outcome = OUTCOMES.get(one.verdict)
    if outcome is not None:
        kind = {} if outcome == "skipped" else {"type": ", ".join(one.causes) or one.verdict}
        said = ElementTree.SubElement(case, outcome, {"message": _legal(one.words)} | kind)
        said.text = None if outcome == "skipped" else _legal(one.words)
    if one.distances:
        nats = sorted((average.value, name) for name, average in one.distances.items())
        out = ElementTree.SubElement(case, "system-out")
        out.text = "nats from each answer\n" + "\n".join(f"{value:.6g} {name}" for value, name in nats)


def _legal(text: str) -> str:
    """Return a text without the characters that XML 1.0 cannot hold, as an error of somebody's code may have them."""
    return "".join(
        letter if letter in "\t\n" or " " <= letter < "\ufffe" or letter > "\uffff" else "�" for letter in text
    )
