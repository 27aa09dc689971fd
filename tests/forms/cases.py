"""Files as people have them: the form, and the rows or the words that every command must give.

A case is (name of the file, its bytes, what is expected): a list of (instruction, input, output),
or the words of an error. The forms are those of public datasets, services and tools; each is here
in its smallest size.
"""

import bz2
import csv
import datetime
import gzip
import io
import json
import lzma
import zipfile

A = ("Name a fruit.", "", "Kumquat")
B = ("Make it plural.", "kumquat", "Kumquats")
C = ('Say "A", then B.', "", "A, B")
FIELDS = ("instruction", "input", "output")
USER = {"role": "user", "content": A[0]}
ANSWER = {"role": "assistant", "content": A[2]}
ROWS = [dict(zip(FIELDS, row, strict=True)) for row in (A, B, C)]
ALL = [A, B, C]


def text(value, **options):
    return json.dumps(value, **options).encode()


def jsonl(*rows, between=b"\n"):
    return between.join(text(row) for row in rows) + b"\n"


def zipped(*files, mode=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", mode) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return file.getvalue()


def delimited(delimiter, rows=ROWS, names=FIELDS, **options):
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, **options)
    writer.writerow(names)
    writer.writerows([row.get(name) for name in names] for row in rows)
    return file.getvalue()


def columnar(kind, rows=ROWS):
    import pyarrow
    import pyarrow.parquet

    table, file = pyarrow.Table.from_pylist(rows), io.BytesIO()
    if kind == "parquet":
        pyarrow.parquet.write_table(table, file)
    else:
        new = pyarrow.ipc.new_file if kind == "file" else pyarrow.ipc.new_stream
        with new(file, table.schema) as writer:
            writer.write_table(table)
    return file.getvalue()


def workbook(*sheets):
    import openpyxl

    book, file = openpyxl.Workbook(), io.BytesIO()
    book.remove(book.active)
    for i, cells in enumerate(sheets):
        sheet = book.create_sheet(f"sheet {i}")
        for row in cells:
            sheet.append(row)
    book.save(file)
    return file.getvalue()


def zstd(content):
    import pyarrow

    return bytes(pyarrow.Codec("zstd").compress(content))


CELLS = [list(FIELDS), *[list(row) for row in ALL]]
LINES = jsonl(*ROWS)
LIST = text(ROWS)

FILE_FORMS = {
    "a JSON list": ("rows.json", LIST, ALL),
    "a JSON list, indented": ("rows.json", text(ROWS, indent=2), ALL),
    "a JSON list without a suffix": ("rows", LIST, ALL),
    "JSONL": ("rows.jsonl", LINES, ALL),
    "JSONL that is called JSON": ("rows.json", LINES, ALL),
    "JSONL, CRLF and blank lines": ("rows.jsonl", b"\r\n" + jsonl(*ROWS, between=b"\r\n\r\n"), ALL),
    "JSONL with a comma after each line": ("rows.jsonl", jsonl(*ROWS, between=b",\n"), ALL),
    "JSONL with a comma after the last line": ("a", jsonl(*ROWS, between=b",\n")[:-1] + b",", ALL),
    "objects one after the other": ("rows.json", b"".join(map(text, ROWS)), ALL),
    "two objects on a line": ("rows.jsonl", b" ".join(map(text, ROWS)), ALL),
    "objects over several lines": (
        "rows.json",
        b"\n".join(text(row, indent=2) for row in ROWS),
        ALL,
    ),
    "objects over several lines, commas between": (
        "rows.json",
        b",\n".join(text(row, indent=2) for row in ROWS),
        ALL,
    ),
    "one object": ("row.json", text(ROWS[0]), [A]),
    "one object over several lines": ("row.json", text(ROWS[0], indent=1), [A]),
    "gzip": ("rows.jsonl.gz", gzip.compress(LINES), ALL),
    "gzip of a list": ("rows.json.gz", gzip.compress(LIST), ALL),
    "gzip in two parts": ("rows.gz", gzip.compress(LINES[:50]) + gzip.compress(LINES[50:]), ALL),
    "bzip2": ("rows.jsonl.bz2", bz2.compress(LINES), ALL),
    "bzip2 in two parts": ("rows.bz2", bz2.compress(LINES[:50]) + bz2.compress(LINES[50:]), ALL),
    "xz": ("rows.json.xz", lzma.compress(LIST), ALL),
    "xz in two parts": ("rows.xz", lzma.compress(LINES[:50]) + lzma.compress(LINES[50:]), ALL),
    "zstd": ("rows.jsonl.zst", zstd(LINES), ALL),
    "a zip of one file": ("rows.zip", zipped(("rows.json", LIST)), ALL),
    "a zip of one file, from a Mac": (
        "rows.zip",
        zipped(("d/rows.csv", delimited(",")), ("__MACOSX/d/._rows.csv", "x")),
        ALL,
    ),
    "a gzip of a zip": ("rows.zip.gz", gzip.compress(zipped(("rows.json", LIST))), ALL),
    "UTF-8 with a mark": ("rows.json", b"\xef\xbb\xbf" + LIST, ALL),
    "UTF-16, little end first": ("rows.jsonl", LINES.decode().encode("utf-16"), ALL),
    "UTF-16, big end first": ("rows.json", b"\xfe\xff" + LIST.decode().encode("utf-16-be"), ALL),
    "UTF-16 without a mark": ("rows.json", LIST.decode().encode("utf-16-le"), ALL),
    "UTF-16, big end first, without a mark": ("a", LINES.decode().encode("utf-16-be"), ALL),
    "UTF-32": ("rows.json", LIST.decode().encode("utf-32"), ALL),
    "UTF-16 CSV, as Excel writes it": ("rows.csv", delimited("\t").encode("utf-16"), ALL),
    "gzip of UTF-16": ("rows.gz", gzip.compress(LINES.decode().encode("utf-16")), ALL),
    "Parquet": ("rows.parquet", columnar("parquet"), ALL),
    "Parquet without a suffix": ("rows", columnar("parquet"), ALL),
    "Parquet in gzip": ("rows.parquet.gz", gzip.compress(columnar("parquet")), ALL),
    "an Arrow file": ("rows.arrow", columnar("file"), ALL),
    "an Arrow stream, as datasets writes it": ("rows.arrow", columnar("stream"), ALL),
    "CSV": ("rows.csv", delimited(",").encode(), ALL),
    "CSV, all quoted": ("rows.csv", delimited(",", quoting=csv.QUOTE_ALL).encode(), ALL),
    "CSV with a mark": ("rows.csv", b"\xef\xbb\xbf" + delimited(",").encode(), ALL),
    "CSV with semicolons": ("rows.csv", delimited(";").encode(), ALL),
    "CSV with Excel's sep line": ("rows.csv", b"sep=;\r\n" + delimited(";").encode(), ALL),
    "CSV without a suffix": ("rows", delimited(",").encode(), ALL),
    "CSV in gzip": ("rows.csv.gz", gzip.compress(delimited(",").encode()), ALL),
    "CSV with spaces after commas": (
        "rows.csv",
        b'instruction, input, output\n"Name a fruit.", "", "Kumquat"\n',
        [A],
    ),
    "CSV with a line end in a cell": (
        "rows.csv",
        b'instruction,output\r\n"Two\r\nlines","a\n\nb"\r\n',
        [("Two\nlines", "", "a\n\nb")],
    ),
    "CSV with pandas' index": (
        "rows.csv",
        b",instruction,output\n0,Name a fruit.,Kumquat\n",
        [A],
    ),
    "CSV of cells that look like something else": (
        "rows.csv",
        b"instruction,input,output\nSay it.,NULL,None\nSay it.,007,NA\nSay it.,1e3,true\n",
        [("Say it.", "NULL", "None"), ("Say it.", "007", "NA"), ("Say it.", "1e3", "true")],
    ),
    "messages as JSON in a cell": (
        "rows.csv",
        delimited(
            ",",
            [
                {
                    "messages": json.dumps(
                        [{"role": "user", "content": A[0]}, {"role": "assistant", "content": A[2]}]
                    )
                }
            ],
            ["messages"],
        ).encode(),
        [A],
    ),
    "CSV with the line ends of an old Mac": (
        "rows.csv",
        delimited(",", lineterminator="\r").encode(),
        ALL,
    ),
    "CSV whose blank cells are of another form": (
        "rows.csv",
        b"instruction,output,question,answer\nName a fruit.,Kumquat,,\n,,x,y\n",
        [A, ("x", "", "y")],
    ),
    "a table of Markdown": (
        "rows",
        b"| instruction | output |\n|---|:-:|\n| Name a fruit. | Kumquat |\n",
        [A],
    ),
    "files that were joined, each with a mark": (
        "rows.jsonl",
        b"".join(b"\xef\xbb\xbf" + text(row) + b"\n" for row in ROWS),
        ALL,
    ),
    "NaN where a table has nothing": (
        "rows.jsonl",
        b'{"instruction": "Name a fruit.", "input": NaN, "output": "Kumquat", "history": NaN}\n',
        [A],
    ),
    "columns of messages": (
        "rows.json",
        text({"id": [1, 2], "messages": [[USER, ANSWER], [USER, ANSWER]]}),
        [A, A],
    ),
    "CSV with empty columns at the end": (
        "rows.csv",
        b"instruction,output,,\nName a fruit.,Kumquat,,\n",
        [A],
    ),
    "CSV with a cell of 200,000 characters": (
        "rows.csv",
        b"instruction,output,page\nName a fruit.,Kumquat," + 50_000 * b"nut " + b"\n",
        [A],
    ),
    "TSV": ("rows.tsv", delimited("\t").encode(), ALL),
    "TSV that is called text": ("rows.txt", delimited("\t").encode(), ALL),
    "a workbook": ("rows.xlsx", workbook(CELLS, [["other"], ["sheet"]]), ALL),
    "a workbook with a number": (
        "rows.xlsx",
        workbook([["question", "answer"], ["What is 2 + 2?", 4], ["And half?", 2.5]]),
        [("What is 2 + 2?", "", "4"), ("And half?", "", "2.5")],
    ),
    "a workbook with truth values and carriage returns": (
        "rows.xlsx",
        workbook([["question", "answer"], ["Is it?", True], ["Two lines?", "a_x000D_\nb"]]),
        [("Is it?", "", "TRUE"), ("Two lines?", "", "a\nb")],
    ),
    "a workbook with dates": (
        "rows.xlsx",
        workbook(
            [
                ["question", "answer"],
                ["When was it?", datetime.date(2024, 2, 29)],
                ["And exactly?", datetime.datetime(2024, 2, 29, 7, 30)],
            ]
        ),
        [("When was it?", "", "2024-02-29"), ("And exactly?", "", "2024-02-29T07:30:00")],
    ),
    "a list under data": ("rows.json", text({"version": 1, "data": ROWS}), ALL),
    "a list under train": ("rows.json", text({"train": ROWS}), ALL),
    "a list under rows": ("rows.json", text({"rows": ROWS}, indent=2), ALL),
    "a list under another key": ("rows.json", text({"examples": ROWS, "n": 3}), ALL),
    "rows of the dataset viewer": (
        "rows.json",
        text({"features": [], "rows": [{"row_idx": i, "row": row} for i, row in enumerate(ROWS)]}),
        ALL,
    ),
    "pandas' records": ("rows.json", text(ROWS), ALL),
    "pandas' columns": (
        "rows.json",
        text({name: {str(i): row[name] for i, row in enumerate(ROWS)} for name in FIELDS}),
        ALL,
    ),
    "pandas' columns under other names": (
        "rows.json",
        text({"question": {"0": A[0]}, "answer": {"0": A[2]}}),
        [A],
    ),
    "pandas' index": ("rows.json", text({str(i): row for i, row in enumerate(ROWS)}), ALL),
    "pandas' split": (
        "rows.json",
        text({"columns": FIELDS, "index": [0, 1, 2], "data": [list(row) for row in ALL]}),
        ALL,
    ),
    "pandas' table": (
        "rows.json",
        text({"schema": {"fields": []}, "data": [{"index": 0, **row} for row in ROWS]}),
        ALL,
    ),
    "a list of values for each column": (
        "rows.json",
        text({name: [row[name] for row in ROWS] for name in FIELDS}),
        ALL,
    ),
}


def one(row, *more):
    return jsonl(row, *more)


PLAIN = {"instruction": A[0], "output": A[2]}
FRUIT = ("Name a fruit.", "", "Kumquat")
WITH_INPUT = ("Make it plural.", "kumquat", "Kumquats")
ROW_FORMS = {
    "Alpaca": (one({**PLAIN, "input": "", "text": "Below is ..."}), [FRUIT]),
    "Dolly": (
        one({"instruction": B[0], "context": B[1], "response": B[2], "category": "closed_qa"}),
        [WITH_INPUT],
    ),
    "MetaMath": (
        one({"query": A[0], "response": A[2], "original_question": "?", "type": "GSM"}),
        [FRUIT],
    ),
    "FLAN": (one({"inputs": A[0], "targets": A[2], "task": "x"}), [FRUIT]),
    "Super-NaturalInstructions": (
        one({"definition": B[0], "inputs": B[1], "targets": B[2], "id": "task1-1"}),
        [WITH_INPUT],
    ),
    "a task of Super-NaturalInstructions": (
        text(
            {
                "Definition": B[0],
                "Positive Examples": [{"input": "x", "output": "y"}],
                "Instances": [
                    {"id": "1", "input": B[1], "output": [B[2]]},
                    {"id": "2", "input": "lime", "output": ["Limes", "limes"]},
                ],
            }
        ),
        [WITH_INPUT, (B[0], "lime", "Limes")],
    ),
    "a task whose definition is a list": (
        text({"Definition": [B[0]], "Instances": [{"input": B[1], "output": [B[2]]}]}),
        [WITH_INPUT],
    ),
    "Self-Instruct's seeds": (
        one(
            {
                "id": "seed_task_0",
                "name": "plural",
                "instruction": B[0],
                "instances": [{"input": B[1], "output": B[2]}],
                "is_classification": False,
            }
        ),
        [WITH_INPUT],
    ),
    "Unnatural Instructions": (
        one({"instruction": B[0], "instances": [{"input": B[1], "output": B[2], "x": 1}]}),
        [WITH_INPUT],
    ),
    "GPTeacher": (one({"instruction": B[0], "input": B[1], "response": B[2]}), [WITH_INPUT]),
    "upper case": (one({"INSTRUCTION": A[0], "RESPONSE": A[2], "SOURCE": "x"}), [FRUIT]),
    "capitals": (one({"Question": A[0], "Answer": A[2]}), [FRUIT]),
    "LLaMA-Factory": (one({"prompt": B[0], "query": B[1], "response": B[2]}), [WITH_INPUT]),
    "prompt and completion": (one({"prompt": A[0], "completion": A[2]}), [FRUIT]),
    "prompt and generation": (one({"prompt": A[0], "generation": A[2]}), [FRUIT]),
    "problem and solution": (one({"problem": A[0], "solution": A[2], "answer": "K"}), [FRUIT]),
    "Firefly": (one({"kind": "x", "input": A[0], "target": A[2]}), [FRUIT]),
    "SQuAD": (
        one(
            {
                "id": "1",
                "title": "t",
                "context": B[1],
                "question": B[0],
                "answers": {"text": [B[2], "others"], "answer_start": [0, 4]},
            }
        ),
        [WITH_INPUT],
    ),
    "SQuAD as published": (
        text(
            {
                "version": "1.1",
                "data": [
                    {
                        "title": "t",
                        "paragraphs": [
                            {
                                "context": B[1],
                                "qas": [
                                    {
                                        "question": B[0],
                                        "id": "1",
                                        "answers": [{"text": B[2], "answer_start": 0}],
                                    }
                                ],
                            }
                        ],
                    }
                ],
            }
        ),
        [WITH_INPUT],
    ),
    "input and output": (one({"input": A[0], "output": A[2]}, {"input": "x", "output": "y"}),
                         [FRUIT, ("x", "", "y")]),
    "nulls, as a table fills them": (
        one({**PLAIN, "input": None, "split": None, "family": None, "system": None}),
        [FRUIT],
    ),
    "two forms in one table": (
        one(
            {"instruction": A[0], "output": A[2], "question": None, "answer": None},
            {"instruction": None, "output": None, "question": "x", "answer": "y"},
        ),
        [FRUIT, ("x", "", "y")],
    ),
    "a context where the input is null": (
        one({"instruction": B[0], "input": None, "context": B[1], "output": B[2]}),
        [WITH_INPUT],
    ),
    "a prompt that holds the whole text": (
        one({**PLAIN, "prompt": "Below is an instruction ..."}),
        [FRUIT],
    ),
    "KTO": (
        one(
            {"prompt": A[0], "completion": A[2], "label": True},
            {"prompt": A[0], "completion": "Go away.", "label": False},
        ),
        [FRUIT],
    ),
    "KTO in CSV": (
        b"prompt,completion,label\nName a fruit.,Kumquat,True\nName a fruit.,No.,False\n",
        [FRUIT],
    ),
    "KTO with messages": (
        one({"messages": [USER, ANSWER], "label": True},
            {"messages": [USER, {**ANSWER, "content": "Go away."}], "label": False},
            {"prompt": [USER], "completion": [{**ANSWER, "content": "No."}], "label": False}),
        [FRUIT],
    ),
    "KTO of LLaMA-Factory": (
        one({**PLAIN, "kto_tag": True}, {**PLAIN, "output": "Go away.", "kto_tag": False}),
        [FRUIT],
    ),
    "KTO in CSV, with labels as pandas writes them": (
        b"prompt,completion,label\nName a fruit.,Kumquat,1.0\nName a fruit.,No.,0.0\n",
        [FRUIT],
    ),
    "a label that is something else": (one({**PLAIN, "label": "fruit"}), [FRUIT]),
    "messages": (
        one({"messages": [{"role": "user", "content": A[0]},
                          {"role": "assistant", "content": A[2]}]}),
        [FRUIT],
    ),
    "messages and the prompt": (
        one({"prompt": A[0], "prompt_id": "1",
             "messages": [{"role": "user", "content": A[0]},
                          {"role": "assistant", "content": A[2]}]}),
        [FRUIT],
    ),
    "messages in parts": (
        one({"messages": [{"role": "user", "content": [{"type": "text", "text": A[0]}]},
                          {"role": "assistant", "content": [{"type": "text", "text": A[2]}]}]}),
        [FRUIT],
    ),
    "ShareGPT": (
        one({"id": "1", "conversations": [{"from": "human", "value": A[0]},
                                          {"from": "gpt", "value": A[2]}]}),
        [FRUIT],
    ),
    "LIMA": (one({"conversations": [A[0], A[2]], "source": "x"}), [FRUIT]),
    "UltraChat": (one({"id": "0", "data": [A[0], A[2]]}), [FRUIT]),
    "messages as JSON in a text": (
        one({"messages": json.dumps([USER, ANSWER])}),
        [FRUIT],
    ),
    "one message as an object": (one({"prompt": [USER], "completion": ANSWER}), [FRUIT]),
    "two messages as objects": (one({"prompt": USER, "completion": ANSWER}), [FRUIT]),
    "messages and a response": (one({"prompt": [USER], "response": A[2]}), [FRUIT]),
    "messages as an object of lists": (
        one({"messages": {"role": ["user", "assistant"], "content": [A[0], A[2]]}}),
        [FRUIT],
    ),
    "Capybara": (one({"conversation": [{"input": A[0], "output": A[2]}]}), [FRUIT]),
    "LangChain": (
        one({"messages": [{"role": "human", "content": A[0]}, {"role": "ai", "content": A[2]}]}),
        [FRUIT],
    ),
    "Gemini": (
        one({"contents": [{"role": "user", "parts": [{"text": A[0]}]},
                          {"role": "model", "parts": [{"text": A[2]}]}]}),
        [FRUIT],
    ),
    "an empty last answer": (
        one({"messages": [USER, ANSWER, USER, {**ANSWER, "content": " "}]}),
        [FRUIT],
    ),
    "an output that is blank beside a response": (one({**PLAIN, "output": "", "response": A[2]}),
                                                  [FRUIT]),
    "an empty first one of several answers": (one({"question": A[0], "answers": ["", A[2]]}),
                                              [FRUIT]),
    "Nectar": (one({"question": A[0], "answers": [{"answer": A[2], "rank": 1}]}), [FRUIT]),
    "no pictures": (one({**PLAIN, "images": [], "image": ""}), [FRUIT]),
    "a blank system prompt": (
        one({"messages": [{"role": "system", "content": " "}, USER, ANSWER]}),
        [FRUIT],
    ),
    "pairs in a list": (
        one({"conversation": [{"human": A[0], "assistant": A[2]}], "category": "x"}),
        [FRUIT],
    ),
    "a conversational prompt and completion": (
        one({"prompt": [{"role": "user", "content": A[0]}],
             "completion": [{"role": "assistant", "content": A[2]}]}),
        [FRUIT],
    ),
    "a tree of OpenAssistant": (
        text(
            {
                "message_tree_id": "1",
                "prompt": {
                    "role": "prompter",
                    "text": A[0],
                    "replies": [
                        {"role": "assistant", "text": A[2], "replies": []},
                        {"role": "assistant", "text": "Lime", "replies": []},
                    ],
                },
            }
        ),
        [FRUIT, (A[0], "", "Lime")],
    ),
    "Guanaco": (one({"text": f"### Human: {A[0]}### Assistant: {A[2]}"}), [FRUIT]),
    "ChatML in a text": (
        one({"text": f"<|im_start|>user\n{A[0]}<|im_end|>\n"
                     f"<|im_start|>assistant\n{A[2]}<|im_end|>\n"}),
        [FRUIT],
    ),
    "Alpaca's template in a text": (
        one({"text": "Below is an instruction that describes a task.\n\n### Instruction:\n"
                     f"{B[0]}\n\n### Input:\n{B[1]}\n\n### Response:\n{B[2]}"}),
        [WITH_INPUT],
    ),
    "Alpaca's template without an input": (
        one({"text": f"### Instruction:\n{A[0]}\n\n### Response:\n{A[2]}\n"}),
        [FRUIT],
    ),
    "Llama 3 in a text": (
        one({"text": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
                     f"{A[0]}<|eot_id|>"
                     f"<|start_header_id|>assistant<|end_header_id|>\n\n{A[2]}<|eot_id|>"}),
        [FRUIT],
    ),
    "Gemma in a text": (
        one({"text": f"<bos><start_of_turn>user\n{A[0]}<end_of_turn>\n"
                     f"<start_of_turn>model\n{A[2]}<end_of_turn>\n"}),
        [FRUIT],
    ),
    "Phi-3 in a text": (one({"text": f"<|user|>\n{A[0]}<|end|>\n<|assistant|>\n{A[2]}<|end|>"}),
                        [FRUIT]),
    "Zephyr in a text": (one({"text": f"<|user|>\n{A[0]}</s>\n<|assistant|>\n{A[2]}</s>"}),
                         [FRUIT]),
    "Vicuna in a text": (one({"text": f"USER: {A[0]} ASSISTANT: {A[2]}</s>"}), [FRUIT]),
    "HH-RLHF in a text": (one({"text": f"\n\nHuman: {A[0]}\n\nAssistant: {A[2]}"}), [FRUIT]),
    "ChatML within the marks of another tokenizer": (
        one({"text": f"<s><|im_start|>user\n{A[0]}<|im_end|>\n"
                     f"<|im_start|>assistant\n{A[2]}<|im_end|></s>"}),
        [FRUIT],
    ),
    "Guanaco with an end mark": (one({"text": f"### Human: {A[0]}### Assistant: {A[2]}\n</s>"}),
                                 [FRUIT]),
    "Llama 2 with padding": (
        one({"text": f"<s> [INST] {A[0]} [/INST] {A[2]} </s><pad><pad>"}),
        [FRUIT],
    ),
    "Llama 2 with another end": (one({"text": f"[INST]{A[0]}[/INST]{A[2]}<|endoftext|>"}), [FRUIT]),
    "a prompt in ChatML": (
        one({"prompt": f"<|im_start|>user\n{A[0]}<|im_end|>\n<|im_start|>assistant\n",
             "completion": f"{A[2]}<|im_end|>"}),
        [FRUIT],
    ),
    "a prompt of Llama 2": (
        one({"prompt": f"<s>[INST] {A[0]} [/INST]", "completion": f" {A[2]}</s>"}),
        [FRUIT],
    ),
    "Llama 2 in a text": (one({"text": f"<s>[INST] {A[0]} [/INST] {A[2]} </s>"}), [FRUIT]),
}  # fmt: skip

ROW_FAULTS = {
    "a number under an alias": (
        one({"question": "What is 2 + 2?", "answer": 4}),
        "'answer' is a number, but must be text",
    ),
    "a context that is a list": (
        one({"question": "Who?", "context": ["Anna sang."], "answer": "Anna"}),
        "'context' is a list, but must be text",
    ),
    "a first row without an instruction": (
        one({"input": "bread", "output": "pain"}, PLAIN),
        "line 1: 'instruction' is missing; keys found: 'input', 'output'; 'input' is not the",
    ),
    "a later row without an instruction": (
        one(PLAIN, {"input": "bread", "output": "pain"}),
        "line 2: 'instruction' is missing; keys found: 'input', 'output'; 'input' is not the",
    ),
    "two questions": (
        one({"instruction": "Answer.", "question": "Who?", "response": "Anna"}),
        "'instruction' and 'question' both hold the question: leave one of them out",
    ),
    "two answers": (
        one({"question": "Who?", "answer": "Anna", "response": "It was Anna."}),
        "'response' and 'answer' both hold the answer: leave one of them out",
    ),
    "the picture of a conversation": (
        one({"image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\nWhat is it?"},
                                                 {"from": "gpt", "value": "A fruit."}]}),
        "'image' holds a picture, video or sound, which can't be trained on here",
    ),
    "the pictures of a row": (
        one({**PLAIN, "images": ["a.jpg"]}),
        "'images' holds a picture, video or sound, which can't be trained on here",
    ),
    "a number as a prompt of messages": (
        one({"prompt": 1, "completion": [ANSWER]}),
        "'prompt' is a number, but must be text or messages",
    ),
    "a number of 5,000 digits": (
        b'{"instruction": "a", "output": "b", "id": ' + 5000 * b"9" + b"}\n" + one(PLAIN),
        "line 1: not JSON: a number has too many digits to be read",
    ),
    "an empty question in a conversation": (
        one({"messages": [{**USER, "content": ""}, ANSWER]}),
        "the question in 'messages' is empty",
    ),
    "names that differ only in case": (
        one({"Instruction": "a", "instruction": "b", "output": "c"}),
        "'Instruction' and 'instruction' are the same name: leave one out",
    ),
    "a key that appears twice": (
        b'{"instruction": "a", "output": "b", "output": "c"}\n' + one(PLAIN),
        "line 1: the key 'output' appears twice",
    ),
    "a key that appears twice in a message": (
        b'{"messages": [{"role": "user", "content": "a", "content": "b"}]}\n' + one(PLAIN),
        "line 1: in 'messages', the key 'content' appears twice",
    ),
    "a key that appears twice in an earlier turn": (
        b'{"instruction": "a", "output": "b", "history": [{"output": "c", "output": "d"}]}\n',
        "in 'history', the key 'output' appears twice",
    ),
    "an earlier turn without an answer": (
        one({**PLAIN, "history": [{"instruction": "x"}]}),
        "turn 1 of 'history' is not a pair of question and answer",
    ),
    "a turn that counts as a text": (
        one({**PLAIN, "history": [{"instruction": "x", "output": "y", "counts": "no"}]}),
        "'counts' is a text, but must be true or false",
    ),
    "text before the marks of ChatML": (
        one({"text": "Hey<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>"}),
        "'Hey' stands outside the marks of the conversation",
    ),
    "text between the marks of ChatML": (
        one({"text": "<|im_start|>user\na<|im_end|>\nHey<|im_start|>assistant\nb<|im_end|>"}),
        "'Hey' stands outside the marks of the conversation",
    ),
    "text before the marks of Llama 2": (
        one({"text": "<s>Hey [INST] a [/INST] b </s>"}),
        "'Hey' stands outside the marks of the conversation",
    ),
    "brackets nested 100,000 deep": (
        b'{"instruction": ' + 100_000 * b"[" + b"\n" + one(PLAIN),
        "not JSON: brackets within brackets, too deep to be read",
    ),
    "messages nested 100,000 deep": (
        b'{"messages": ' + 100_000 * b"[" + 100_000 * b"]" + b"}\n" + one(PLAIN),
        "not JSON: brackets within brackets, too deep to be read",
    ),
    "only text": (one({"text": "A story."}), "'text' alone is for pretraining: python -m ch07 pre"),
    "a preference pair": (
        one({"prompt": "Hi", "chosen": "Ho", "rejected": "No"}),
        "this is a preference pair: python -m ch07 prefer RUN ",
    ),
    "unknown names": (one({"title": "x", "body": "y"}), "are missing; keys found: 'title', 'body'"),
    "a tool's call": (
        one({"messages": [{"role": "user", "content": "x"},
                          {"role": "assistant", "tool_calls": [{}], "content": None}]}),
        "message 2 is a tool's call or answer, which can't be trained on here",
    ),
    "a picture": (
        one({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]},
                          {"role": "assistant", "content": "A cat"}]}),
        "message 1 has a part that is not text: 'image_url'",
    ),
    "an unknown role": (
        one({"messages": [{"role": "narrator", "content": "x"}]}),
        "message 1 has the role 'narrator'",
    ),
    "a chat without an answer": (
        one({"messages": [{"role": "user", "content": "x"}]}),
        "the conversation has no answer",
    ),
    "a chat of questions": (
        one({"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": "y"},
                          {"role": "assistant", "content": "z"}]}),
        "user and assistant don't take turns: user, user, assistant",
    ),
    "messages of a tree, one in each row": (
        one({"message_id": "2", "parent_id": "1", "text": "x", "role": "assistant"}),
        "each row is one message of a tree: give a file of whole conversations",
    ),
    "answers in Python's own form": (
        one({"question": "x", "answers": "{'text': ['A'], 'answer_start': [0]}"}),
        "'answers' is a list or object in Python's notation: write it as JSON",
    ),
    "messages that are a number": (one({"messages": 3}), "'messages': it is a number, but must be"),
}  # fmt: skip

FILE_FAULTS = {
    "an empty file": ("rows.json", b"", "the file is empty"),
    "blank lines": ("rows.json", b"\n \n", "the file is empty"),
    "an empty gzip": ("rows.gz", gzip.compress(b""), "the file is empty"),
    "a gzip that is cut": ("rows.gz", gzip.compress(LIST)[:-20], "the gzip file is cut short"),
    "a bzip2 that is cut": ("rows.bz2", bz2.compress(LIST)[:-20], "the bzip2 file is cut short"),
    "an xz that is cut": ("rows.xz", lzma.compress(LIST)[:-20], "the xz file is cut short"),
    "a zip of two files": (
        "my rows.zip",
        zipped(("a.json", LIST), ("b.json", LIST)),
        "is a zip of 2 files: unpack it, and give the folder or one of its files: unzip '",
    ),
    "a zip of nothing": ("rows.zip", zipped(), "zip"),
    "a zip that is cut": ("rows.zip", zipped(("a.json", LIST))[:-30], "the zip file is damaged"),
    "Latin-1": (
        "my rows.json",
        '[{"instruction": "caf\xe9"}]'.encode("latin-1"),
        "not UTF-8: byte 21 is 0xe9 (in line 1); save the file with UTF-8 encoding, or convert",
    ),
    "UTF-16 that is cut": ("a", LINES.decode().encode("utf-16")[:-1], "not UTF-16-LE"),
    "a SQLite database": ("rows.db", b"SQLite format 3\0" + bytes(90), "is a SQLite database: "),
    "a PDF": ("rows.pdf", b"%PDF-1.7", "is a PDF document: "),
    "a web page": ("rows.json", b"<!DOCTYPE html><html>", "is a web page, not the file itself"),
    "a pointer of Git LFS": (
        "rows.parquet",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "fetch the file itself: git lfs pull",
    ),
    "a pickle": ("rows.pkl", b"\x80\x04\x95", "is a pickle, which could run any code"),
    "an old workbook": ("rows.xls", b"\xd0\xcf\x11\xe0" + bytes(90), "older Office: open it, and"),
    "a tar archive": ("a.tar", bytes(257) + b"ustar\0" + bytes(249), "is a tar archive: unpack it"),
    "plain text": ("rows.txt", b"Dear all,\nhow are you?\n", "not JSON"),
    "a Parquet file that is cut": (
        "a",
        columnar("parquet")[:-9],
        "this Parquet file can't be read",
    ),
    "an Arrow file that is cut": ("a", columnar("file")[:99], "this Arrow file can't be read"),
    "a workbook that is cut": ("a.xlsx", workbook(CELLS)[:-30], "the zip file is damaged"),
    "a workbook without cells": ("a.xlsx", workbook([]), "no usable row"),
    "a workbook with a formula without a result": (
        "a.xlsx",
        workbook([["question", "answer"], ["What is 2 + 2?", "=2+2"]]),
        "row 2: the formula in the column 'answer' has no stored result: open the file in a",
    ),
    "a workbook with an error": (
        "a.xlsx",
        workbook([["question", "answer"], ["What is 2 / 0?", "#DIV/0!"]]),
        "row 2: the cell in the column 'answer' is the error #DIV/0!",
    ),
    "a sheet of OpenDocument": (
        "a.ods",
        zipped(
            ("mimetype", "application/vnd.oasis.opendocument.spreadsheet"), ("content.xml", "<x/>")
        ),
        "is an OpenDocument file: save it as CSV or .xlsx",
    ),
    "a document of Word": (
        "a.docx",
        zipped(("[Content_Types].xml", "<x/>"), ("word/document.xml", "<x/>")),
        "is a Word document: save it as CSV or .xlsx",
    ),
    "CSV with a column that appears twice": (
        "rows.csv",
        b"instruction,output,output\na,b,c\n",
        "the column 'output' appears twice",
    ),
    "CSV with an open quote": (
        "rows.csv",
        b'instruction,output\nSay it.,"never\nclosed\n',
        "line 2: a quote that begins a cell here is never closed",
    ),
    "CSV with a stray quote": (
        "rows.csv",
        b'instruction,output\nSay it.,"a" and b\n',
        'line 2: after the quote that ends a cell stands more text: write a quote in a cell as ""',
    ),
    "CSV with too many cells": (
        "rows.csv",
        b"instruction,output\nSay it.,a, b\n",
        "line 2: 3 cells, but the header names 2 columns",
    ),
    "CSV with too few cells": (
        "rows.csv",
        b"instruction,input,output\nSay it.,a\n",
        "line 2: 2 cells, but the header names 3 columns",
    ),
    "CSV with only a header": ("rows.csv", b"instruction,output\n", "no usable row"),
    "columns of different lengths": (
        "rows.json",
        text({"instruction": ["a", "b"], "output": ["c"]}),
        "the columns have different numbers of rows: 'instruction' 2, 'output' 1",
    ),
    "an object without rows": (
        "rows.json",
        text({"a": [1], "b": {"c": 1}}),
        "the top level is one object with the keys 'a', 'b'; expected a list of entries",
    ),
    "an object with two lists": (
        "rows.json",
        text({"one": ROWS, "two": ROWS}),
        "the top level is one object with the keys 'one', 'two'",
    ),
    "rows without names": (
        "rows.json",
        text([list(row) for row in ALL]),
        "expected an object, found a list (and 2 more: row 2, row 3)",
    ),
    "300 lines of one cause": (
        "rows.jsonl",
        b"\n".join(text({"question": "q", "answer": i}) for i in range(300)),
        "line 1: 'answer' is a number, but must be text (and 299 more: line 2, line 3,",
    ),
    "300 lines that are cut": (
        "rows.jsonl",
        LINES + b"\n".join(b'{"instruction": "%d' % i for i in range(300)),
        "line 4: not JSON: Unterminated string starting at: column 17",
    ),
}
