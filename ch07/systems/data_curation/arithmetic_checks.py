"""Wrong sums, found by doing them again: where a row's arithmetic can be computed, and isn't right.

The one idea: only what can be read in one way is judged; all else gets the benefit of the doubt.
AlpacaDataCleaned counts wrong answers among Alpaca's ten defects, and guesses that four in five of
its mathematical answers are wrong. Knows sums, differences, products, quotients, means and medians
of written numbers; nothing of units, percentages, equations with unknowns, or word problems.
"""

import ast
import operator
import re
from fractions import Fraction
from math import prod
from statistics import mean, median

NUMBER = r"-?(?:\d{1,3}(?:,\d{3}){1,9}|\d{1,30})(?:\.\d{1,30})?"
PLAIN = r"-?\d+(?:\.\d+)?"
LONGEST = 200  # characters of an expression
LONGEST_PROMPT = 1000  # characters; what is longer asks for more than a sum
# Multiplication sign, middle dot, division sign, minus sign, en dash.
SIGNS = str.maketrans("\u00d7\u00b7\u00f7\u2212\u2013", "**/--")
WORDS = {"plus": "+", "minus": "-", "times": "*", "multiplied by": "*", "divided by": "/"}
OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
# Few words may stand between the task and its numbers: "the number between 3 and 7" is no sum.
ASKED = re.compile(
    r"(?:(?:what|which number)(?:'s| is| does)|how much is|calculate|compute|evaluate|solve"
    r"|work out|simplify|find)\b(?: (?:the|this|following|result|value|answer|sum|product"
    r"|expression|equation|problem|of))*[:.,]?\s*(?P<sum>[^?:]*?)(?: equal)?\s*[?.=:]*",
    re.IGNORECASE,
)
LISTED = re.compile(
    r"\b(?P<what>sum|total|mean|average|median|product|difference|add)\b"
    r"(?: (?:up|of|between|the|these|following|given|two|three|numbers?|integers?|values?|data|set"
    rf"|list|together))*[:.]?\s*(?P<list>{PLAIN}(?:(?:,? and |, ?| ){PLAIN})+)\s*[?.]*$",
    re.IGNORECASE,
)
FOLDED = {
    "sum": sum, "add": sum, "total": sum, "mean": mean, "average": mean, "median": median,
    "product": prod,
}  # fmt: skip
EXPRESSION = re.compile(r"[\d.+*/() -]*[\d)]\s*[-+*/]\s*[\d.+*/() -]*")
ANSWERED = re.compile(rf"(?:[^\d=]{{0,60}}[\s:=$€£])?[$€£]?(?P<said>{NUMBER})\s*[.!]?")
STATED = re.compile(
    rf"(?<![\w.,^%$€£)\]])(?P<sum>[(\d][\d.+*/() -]{{0,200}}[\d)])\s{{0,3}}=\s*(?P<said>{NUMBER})"
    r"(?!\s*[-+*/^%(!=]|[.,]?\d|\s*(?:r|rem|remainder|mod)\b|[^\W\d])",
    re.IGNORECASE,
)
# Before an expression: it goes on to the left, or a function is taken of what follows.
OPEN_LEFT = re.compile(r"(?:[-+*/^%]|\b(?:sqrt|root|log|ln|sin|cos|tan|of|from|mod))\s*$", re.I)
# Where a number counts otherwise, or is only near: not judged.
OTHER_RULES = re.compile(
    r"\b(?:binary|hex\w*|octal|base|mod|modul\w+|clock|about|approx\w*|round\w*|nearest|whole"
    r"|integer division|estimate\w*|quotient|remainder)\b",
    re.IGNORECASE,
)


def wrong_arithmetic(row):
    """Whether the answer states a sum that is wrong, or answers a written sum wrongly.

    >>> wrong_arithmetic({"instruction": "What is 12 * 5?", "input": "", "output": "65"})
    True
    >>> wrong_arithmetic({"instruction": "What is 10 / 3?", "input": "", "output": "3.33"})
    False
    """
    prompt = f"{row['instruction'].strip()} {row.get('input') or ''}".strip()
    if OTHER_RULES.search(prompt) or OTHER_RULES.search(row["output"]):
        return False
    output = row["output"].translate(SIGNS)
    for stated in STATED.finditer(output):
        value = computed(stated["sum"])
        closed = not OPEN_LEFT.search(output[max(0, stated.start() - 20) : stated.start()])
        if closed and value is not None and not _agrees(value, stated["said"]):
            return True
    answered = ANSWERED.fullmatch(output.strip())
    asked = None if answered is None else _asked(prompt)
    return asked is not None and not any(_agrees(value, answered["said"]) for value in asked)


def computed(text):
    """The value of an arithmetic expression as a Fraction; None if it is none.

    >>> computed("2 + 3 * (1/2)")
    Fraction(7, 2)
    >>> computed("2020-13-x") is computed("7") is None
    True
    """
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text.strip().translate(SIGNS))
    for word, sign in WORDS.items():
        text = re.sub(rf"(?<=[\d)])\s+{word}\s+(?=[\d(])", sign, text, flags=re.IGNORECASE)
    text = re.sub(r"(?<=\d)\s*x\s*(?=\d)", "*", text)
    if len(text) > LONGEST or not EXPRESSION.fullmatch(text):
        return None
    try:
        return _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError, RecursionError):
        return None


def _value(node):
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.Constant):
        return Fraction(repr(node.value))  # 0.1 as it was written, not as it is stored
    raise ValueError("no arithmetic of two numbers")


def _asked(prompt):
    """The values that would be right answers; None if it isn't known what is asked."""
    if len(prompt) > LONGEST_PROMPT:
        return None
    listed = LISTED.search(prompt)
    if listed and re.search(r"\d,\d{3}(?!\d)", prompt):
        return None  # "1,200" may be one number or two
    if listed:
        numbers = [Fraction(number) for number in re.findall(PLAIN, listed["list"])]
        if listed["what"].lower() != "difference":
            return [FOLDED[listed["what"].lower()](numbers)]
        return [numbers[0] - numbers[1], numbers[1] - numbers[0]] if len(numbers) == 2 else None
    asked = ASKED.fullmatch(prompt)
    value = computed(asked["sum"]) if asked else None
    return None if value is None else [value]


def _agrees(value, said):
    """Whether a number as written is the value, or the value rounded or cut to its decimals."""
    said = said.replace(",", "")
    digits = len(said.partition(".")[2])
    if value.denominator == 1 or not digits:
        return Fraction(said) == value
    return abs(Fraction(said) - value) < Fraction(1, 10**digits)
