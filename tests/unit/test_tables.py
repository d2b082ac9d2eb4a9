"""Promises of tables: every value is taken as it stands in the file, and an error names file and row."""

import csv
import gzip
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqvae.data.sources import Row, TextSource, open_source
from seqvae.data.tables import TableSource
from seqvae.errors import SeqVAEError


@pytest.fixture
def table(tmp_path):
    """Writes a table and opens it."""

    def make(name: str, content: str | bytes, **columns):
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return open_source(tmp_path / name, **columns)

    return make


def parquet(path, columns: dict) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=3)


def failure(source) -> SeqVAEError:
    with pytest.raises(SeqVAEError) as caught:
        list(source.rows())
    return caught.value


@pytest.mark.parametrize(
    ("name", "is_table"),
    [
        ("a.jsonl", True),
        ("a.json", True),
        ("a.ndjson", True),
        ("a.csv", True),
        ("A.CSV", True),
        ("a.tsv.gz", True),
        ("A.CSV.GZ", True),
        ("a.parquet", True),
        ("a.txt", False),
        ("a.gz", False),
        ("csv", False),
        ("a.csv.bak", False),
    ],
)
def test_a_table_is_known_by_its_ending(name, is_table):
    assert type(open_source(name)) is (TableSource if is_table else TextSource)


def test_json_lines_are_rows_by_line(table):
    source = table("a.jsonl", '{"text": "one"}\n\n{"text": "caf\\u00e9", "more": [1]}\n{"text": " "}')
    assert list(source.rows()) == [Row(1, "one"), Row(3, "café"), Row(4, " ")]
    assert list(source.lines()) == [(1, "one"), (3, "café"), (4, " ")]


def test_a_text_that_looks_like_something_else_stays_a_text(table):
    """Readers that guess types make a date, a null or a number of these."""
    texts = ["2020-01-02", "NA", "null", "7", "True", "1e3"]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    assert [text for _, text in table("a.jsonl", lines).lines()] == texts
    assert [text for _, text in table("a.csv", "text\n" + "\n".join(texts)).lines()] == texts


def test_columns_are_chosen_by_name(table):
    source = table("a.csv", "id,review,stars\n1,fine,5\n2,bad,1\n", text_column="review", label_column="stars")
    assert list(source.rows()) == [Row(2, "fine", "5"), Row(3, "bad", "1")]
    assert source.labelled
    assert not table("b.csv", "text\nfine\n").labelled


def test_a_label_may_be_a_number_or_a_truth(table):
    lines = '{"text": "a", "y": 1}\n{"text": "b", "y": true}\n{"text": "c", "y": " x "}\n'
    assert [row.label for row in table("a.jsonl", lines, label_column="y").rows()] == ["1", "True", "x"]


@given(rows=st.lists(st.tuples(st.text(), st.text()).filter(lambda row: "\0" not in "".join(row)), min_size=1))
def test_any_text_survives_csv_but_for_its_line_breaks(tmp_path_factory, rows):
    rows = [("a" + one, two) for one, two in rows]
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([("text", "other"), *rows])
    expected = [one.strip("\r\n").replace("\r\n", " ").replace("\n", " ") if "\n" in one else one for one, _ in rows]
    # What ends a line of the file is \n or \r\n: inside a quoted field, too, they are the same.
    read = [text.replace("\r", "") for _, text in open_source(path).lines()]
    assert read == [text.replace("\r", "") for text in expected]


def test_a_record_of_several_lines_is_named_by_its_first(table):
    source = table("a.csv", 'text,n\n"one\ntwo",1\nthree,2\n')
    assert list(source.rows()) == [Row(2, "one two", joined=True), Row(4, "three")]


def test_in_tsv_a_quote_is_a_character(table):
    assert [text for _, text in table("a.tsv", 'text\tn\n"so\t1\nhe said "no"\t2\n').lines()] == ['"so', 'he said "no"']


def test_line_breaks_inside_a_text_become_spaces_and_are_marked(table):
    source = table("a.jsonl", '{"text": "a\\nb\\r\\nc\\n"}\n{"text": "d"}\n')
    assert list(source.rows()) == [Row(1, "a b c", joined=True), Row(2, "d")]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz"])
def test_a_packed_table_is_read(table, name):
    content = '{"text": "one"}\n' if "json" in name else "text\none\n"
    assert [text for _, text in table(name, gzip.compress(content.encode())).lines()] == ["one"]


def test_a_windows_table_is_read(table):
    assert [text for _, text in table("a.csv", b"\xef\xbb\xbftext,n\r\none,1\r\n").lines()] == ["one"]


def test_a_field_of_ten_megabytes_is_read(table):
    long = "x" * 10_000_000
    assert [len(text) for _, text in table("a.csv", f"text\n{long}\n").lines()] == [len(long)]


def test_parquet_is_read_by_row_whatever_the_name_of_the_file(tmp_path):
    path = tmp_path / "a[1]*.parquet"
    parquet(path, {"text": [f"text {row}" for row in range(7)], "y": list(range(7))})
    rows = list(open_source(path, label_column="y").rows())
    assert rows == [Row(row + 1, f"text {row}", str(row)) for row in range(7)]


def test_reading_parquet_says_nothing_and_writes_only_into_the_cache(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("SEQVAE_CACHE", str(tmp_path / "cache"))
    parquet(tmp_path / "a.parquet", {"text": ["a", "b"]})
    assert len(list(open_source(tmp_path / "a.parquet").rows())) == 2
    (tmp_path / "a.parquet").write_bytes(b"PAR1 cut")
    assert failure(open_source(tmp_path / "a.parquet")).code == "E322"
    assert capfd.readouterr() == ("", "")
    assert {path.name for path in tmp_path.iterdir()} == {"a.parquet", "cache"}


def test_text_and_other_tables_do_not_import_datasets(table):
    table("a.csv", "text\na\n")
    code = "import sys; from seqvae.data.sources import open_source; list(open_source(sys.argv[1]).rows()); "
    code += "print([name for name in ('datasets', 'pyarrow', 'pandas') if name in sys.modules])"
    import subprocess

    path = table("a.csv", "text\na\n").path
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("name", "content", "code", "line", "said"),
    [
        ("a.jsonl", '{"text": "a"}\n{"txt": "b"}\n', "E320", 2, "there is no column `text`"),
        ("a.csv", "id,txt\n1,a\n", "E320", 1, "there is no column `text`"),
        ("a.jsonl", '{"text": null}\n', "E321", 1, "is null"),
        ("a.jsonl", '{"text": ["a"]}\n', "E321", 1, "not text"),
        ("a.jsonl", '{"text": "a"}\nnonsense\n', "E322", 2, "not JSON"),
        ("a.jsonl", '{"text": "a"}\n"b"\n', "E322", 2, "not a JSON object"),
        ("a.json", '[{"text": "a"}]', "E322", 1, "one JSON list"),
        ("a.json", '[\n{"text": "a"}\n]', "E322", 1, "one JSON list"),
        ("a.jsonl", "[" * 100_000, "E322", 1, "one JSON list"),
        ("a.jsonl", '{"text": "\\ud800"}\n', "E303", 1, "surrogate"),
        ("a.jsonl", '{"text": "a\\u0000"}\n', "E304", 1, "NUL"),
        ("a.csv", "text,n\na\n", "E322", 2, "1 fields, but the header has 2"),
        ("a.csv", 'text\n"a\n', "E322", 2, "unexpected end"),
        ("a.csv", "text\na\rb\n", "E322", 2, "new-line"),
        ("a.csv", b"text\nok\ncaf\xe9\n", "E303", 3, "0xE9"),
        ("a.jsonl", "", "E302", None, "no sentences"),
        ("a.csv", "text\n", "E302", None, "no sentences"),
    ],
)
def test_a_bad_row_is_named(table, name, content, code, line, said):
    error = failure(table(name, content))
    assert (error.code, error.where.line) == (code, line)
    assert said in error.what
    assert name in str(error.where)


def test_a_missing_column_of_parquet_is_answered_with_those_that_are(tmp_path):
    parquet(tmp_path / "a.parquet", {"texts": ["a"], "y": [1]})
    error = failure(open_source(tmp_path / "a.parquet"))
    assert error.code == "E320"
    assert "did you mean `texts`? the columns are: texts, y" in error.hint
    assert failure(open_source(tmp_path / "a.parquet", text_column="y")).code == "E321"
    assert failure(open_source(tmp_path / "b.parquet")).code == "E301"


def test_a_parquet_file_without_rows_has_no_sentences(tmp_path):
    import pyarrow

    parquet(tmp_path / "a.parquet", {"text": pyarrow.array([], pyarrow.string())})
    assert failure(open_source(tmp_path / "a.parquet")).code == "E302"


@pytest.mark.parametrize(
    ("label", "code", "said"),
    [
        ("[1, 2]", "E321", "the label in column `y` is [1, 2] (list)"),
        ('{"a": 1}', "E321", "(dict), not one value"),
        ("NaN", "E326", "no label"),
    ],
)
def test_a_label_that_is_no_class_is_named(table, label, code, said):
    content = f'{{"text": "a", "y": 0.5}}\n{{"text": "b", "y": {label}}}\n'
    error = failure(table("a.jsonl", content, label_column="y"))
    assert (error.code, error.where.line) == (code, 2)
    assert said in error.what


def test_a_row_without_label_is_named(table):
    error = failure(table("a.csv", "text,y\na,1\nb,\n", label_column="y"))
    assert (error.code, error.where.line) == ("E326", 3)


def test_what_identifies_a_table_includes_its_columns(table):
    content = "text,other,y\na,b,1\n"
    sources = [
        table("a.csv", content),
        table("a.csv", content, text_column="other"),
        table("a.csv", content, label_column="y"),
        table("a.tsv", content),
    ]
    seen = [json.dumps(source.identity()) for source in sources]
    assert len(set(seen)) == len(seen)


def test_a_table_is_split_like_a_text(table):
    source = table("a.csv", "text,y\n" + "".join(f"t{row},{row}\n" for row in range(20)), label_column="y")
    kept, held = source.split(0.25)
    rows = sorted([*kept.rows(), *held.rows()])
    assert rows == list(source.rows())
    assert len(list(held.rows())) == 5
    assert all(row.text == f"t{row.label}" for row in rows)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("a.txt", {"label_column": "y"}, "a text file has no columns"),
        ("a.txt", {"text_column": "x"}, "a text file has no columns"),
        ("-", {"text_column": "x"}, "a text file has no columns"),
        ("a.csv", {"labels": True}, "a label file lies beside a text file"),
        ("hub:a/b", {"labels": "topic"}, "a label file lies beside a text file"),
    ],
)
def test_settings_for_another_kind_of_text_are_refused(name, settings, said):
    with pytest.raises(SeqVAEError, match=said) as caught:
        open_source(name, **settings)
    assert caught.value.code == "E223"
