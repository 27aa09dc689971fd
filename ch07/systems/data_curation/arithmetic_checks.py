"""Rows whose answer contains wrong arithmetic, found by computing it again.

The one idea: only what can be read in exactly one way is judged; everything else counts as right.
AlpacaDataCleaned lists wrong answers among Alpaca's ten defects and estimates that four in five of
its mathematical answers are wrong. Handles sums, differences, products, quotients, means and
medians of written numbers; no units, percentages, equations with unknowns, or word problems.
"""

import ast
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from math import prod
from statistics import mean, median
from typing import Any

from ch07.utils.errors import InputError

NUMBER = r"-?(?:\d{1,3}(?:,\d{3}){1,9}|\d{1,30})(?:\.\d{1,30})?"
NUMBER_WITHOUT_COMMAS = r"-?\d+(?:\.\d+)?"
MAX_EXPRESSION_CHARACTERS = 200
MAX_PROMPT_CHARACTERS = 1000  # a longer prompt asks for more than one calculation
# Multiplication sign, middle dot, division sign, minus sign, en dash.
OPERATOR_SIGNS = str.maketrans("\u00d7\u00b7\u00f7\u2212\u2013", "**/--")
OPERATOR_WORDS = {"plus": "+", "minus": "-", "times": "*", "multiplied by": "*", "divided by": "/"}
OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
# Few words may stand between the question and its numbers: "the number between 3 and 7" is no
# calculation.
EXPRESSION_QUESTION = re.compile(
    r"(?:(?:what|which number)(?:'s| is| does)|how much is|calculate|compute|evaluate|solve"
    r"|work out|simplify|find)\b(?: (?:the|this|following|result|value|answer|sum|product"
    r"|expression|equation|problem|of))*[:.,]?\s*(?P<expression>[^?:]*?)(?: equal)?\s*[?.=:]*",
    re.IGNORECASE,
)
LIST_QUESTION = re.compile(
    r"\b(?P<aggregate>sum|total|mean|average|median|product|difference|add)\b"
    r"(?: (?:up|of|between|the|these|following|given|two|three|numbers?|integers?|values?|data|set"
    rf"|list|together))*[:.]?\s*(?P<numbers>{NUMBER_WITHOUT_COMMAS}"
    rf"(?:(?:,? and |, ?| ){NUMBER_WITHOUT_COMMAS})+)\s*[?.]*$",
    re.IGNORECASE,
)
AGGREGATES: dict[str, Callable[[list[Fraction]], Fraction | int]] = {
    "sum": sum,
    "add": sum,
    "total": sum,
    "mean": mean,
    "average": mean,
    "median": median,
    "product": prod,
}
EXPRESSION = re.compile(r"[\d.+*/() -]*[\d)]\s*[-+*/]\s*[\d.+*/() -]*")
NUMERIC_ANSWER = re.compile(rf"(?:[^\d=]{{0,60}}[\s:=$€£])?[$€£]?(?P<number>{NUMBER})\s*[.!]?")
STATED_EQUATION = re.compile(
    r"(?<![\w.,^%$€£)\]])(?P<expression>[(\d][\d.+*/() -]{0,200}[\d)])\s{0,3}"
    rf"=\s*(?P<number>{NUMBER})"
    r"(?!\s*[-+*/^%(!=]|[.,]?\d|\s*(?:r|rem|remainder|mod)\b|[^\W\d])",
    re.IGNORECASE,
)
# What stands before an expression that continues to the left, or is the argument of a function.
CONTINUES_TO_THE_LEFT = re.compile(
    r"(?:[-+*/^%]|\b(?:sqrt|root|log|ln|sin|cos|tan|of|from|mod))\s*$", re.IGNORECASE
)
# Words for another number system or an approximation: such rows are not judged.
OTHER_ARITHMETIC = re.compile(
    r"\b(?:binary|hex\w*|octal|base|mod|modul\w+|clock|about|approx\w*|round\w*|nearest|whole"
    r"|integer division|estimate\w*|quotient|remainder)\b",
    re.IGNORECASE,
)


def wrong_arithmetic(row: dict[str, Any]) -> bool:
    """Whether the output states a wrong equation, or a wrong result of the calculation asked for.

    >>> wrong_arithmetic({"instruction": "What is 12 * 5?", "input": "", "output": "65"})
    True
    >>> wrong_arithmetic({"instruction": "What is 10 / 3?", "input": "", "output": "3.33"})
    False
    """
    prompt = f"{row['instruction'].strip()} {row.get('input') or ''}".strip()
    if OTHER_ARITHMETIC.search(prompt) or OTHER_ARITHMETIC.search(row["output"]):
        return False
    output = row["output"].translate(OPERATOR_SIGNS)
    if _states_wrong_equation(output):
        return True
    answer = NUMERIC_ANSWER.fullmatch(output.strip())
    if answer is None:
        return False
    right_values = _right_values(prompt)
    if right_values is None:
        return False
    return not any(_matches(answer["number"], value) for value in right_values)


def evaluate_expression(text: str) -> Fraction | None:
    """The exact value of an arithmetic expression; None if the text is not one.

    >>> evaluate_expression("2 + 3 * (1/2)")
    Fraction(7, 2)
    >>> evaluate_expression("2020-13-x") is evaluate_expression("7") is None
    True
    """
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text.strip().translate(OPERATOR_SIGNS))
    for word, sign in OPERATOR_WORDS.items():
        text = re.sub(rf"(?<=[\d)])\s+{word}\s+(?=[\d(])", sign, text, flags=re.IGNORECASE)
    text = re.sub(r"(?<=\d)\s*x\s*(?=\d)", "*", text)
    if len(text) > MAX_EXPRESSION_CHARACTERS or not EXPRESSION.fullmatch(text):
        return None
    try:
        return _evaluate(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError, RecursionError):
        return None


def _evaluate(node: ast.expr) -> Fraction:
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_evaluate(node.left), _evaluate(node.right))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_evaluate(node.operand)
    if isinstance(node, ast.Constant):
        return Fraction(repr(node.value))  # 0.1 as it was written, not as it is stored
    raise InputError("not an arithmetic expression")


def _states_wrong_equation(output: str) -> bool:
    for equation in STATED_EQUATION.finditer(output):
        before = output[max(0, equation.start() - 20) : equation.start()]
        if CONTINUES_TO_THE_LEFT.search(before):
            continue
        value = evaluate_expression(equation["expression"])
        if value is not None and not _matches(equation["number"], value):
            return True
    return False


def _right_values(prompt: str) -> list[Fraction | int] | None:
    """The values that would be right answers; None if it is unclear what is asked."""
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        return None
    question = LIST_QUESTION.search(prompt)
    if question:
        return _right_values_of_list(prompt, question)
    question = EXPRESSION_QUESTION.fullmatch(prompt)
    value = evaluate_expression(question["expression"]) if question else None
    return None if value is None else [value]


def _right_values_of_list(prompt: str, question: re.Match[str]) -> list[Fraction | int] | None:
    if re.search(r"\d,\d{3}(?!\d)", prompt):
        return None  # "1,200" may be one number or two
    found = re.findall(NUMBER_WITHOUT_COMMAS, question["numbers"])
    numbers = [Fraction(number) for number in found]
    aggregate = question["aggregate"].lower()
    if aggregate != "difference":
        return [AGGREGATES[aggregate](numbers)]
    if len(numbers) != 2:
        return None
    first, second = numbers
    return [first - second, second - first]


def _matches(number: str, value: Fraction | int) -> bool:
    """Whether a written number is the value, exactly or rounded or cut to its decimals."""
    number = number.replace(",", "")
    decimals = len(number.partition(".")[2])
    if value.denominator == 1 or not decimals:
        return Fraction(number) == value
    return abs(Fraction(number) - value) < Fraction(1, 10**decimals)
