"""GSM8K's solutions (Cobbe et al., arXiv 2110.14168), with its sums, annotated as `<<48/2=24>>`, as calls."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from tutelage.sources.practice.rows import Row, row_hash
from tutelage.sources.rows import RowRefused
from tutelage.tools.calculator import CalculationError, calculate
from tutelage.tools.calls import ToolCall
from tutelage.tools.toolbox import calculator

ANNOTATION = re.compile(r"<<([^<>=]*)=([^<>]*)>>")
_FINAL = re.compile(r"\s*####\s*(.+?)\s*$")


def annotated_conversation(row: Mapping[str, Any]) -> Row:
    """A row `{question, answer}` as a conversation: where a sum is annotated, the assistant stops and calls.

    RowRefused if there is no annotation, or one that the calculator does not confirm.
    """
    question, answer = row.get("question"), row.get("answer")
    if not isinstance(question, str) or not isinstance(answer, str) or not ANNOTATION.search(answer):
        raise RowRefused("no annotated sum", 'write {"question": "…", "answer": "… <<48/2=24>>24 …"}')
    final = _FINAL.search(answer)
    body = answer[: final.start()] if final else answer
    parts = ANNOTATION.split(body)  # text, expression, stated result, text, …, text
    messages: list[Row] = [{"role": "user", "content": question}]
    for said, expression, stated in zip(parts[::3], parts[1::3], parts[2::3], strict=False):
        call = ToolCall("calculator", {"expression": expression.strip()})
        messages.append({"role": "assistant", "content": said.strip(), "tool_calls": [call.to_json()]})
        messages.append({"role": "tool", "content": _confirmed(expression, stated)})
    end = f"\nThe answer is {final[1]}." if final else ""
    messages.append({"role": "assistant", "content": f"{parts[-1].strip()}{end}"})
    tools = [calculator().to_json()]
    name = row_hash(messages, tools)
    return {"id": name, "messages": messages, "tools": tools, "source": "gsm8k", "tags": ["calculator", "gsm8k"]}


def _confirmed(expression: str, stated: str) -> str:
    """What the calculator gives, if it is what the annotation states (to the digits that this has)."""
    try:
        result = calculate(expression)
        wanted, got = Fraction(stated.strip().replace(",", "")), Fraction(result)
    except (CalculationError, ValueError, ZeroDivisionError) as error:
        raise RowRefused("a sum that cannot be calculated", f"<<{expression}={stated}>>: {error}") from error
    digits = len(stated.strip().partition(".")[2])
    if abs(wanted - got) > Fraction(1, 2 * 10**digits) * (digits > 0):
        raise RowRefused("a sum with another result", f"<<{expression}={stated}>>: it is {result}")
    return result
