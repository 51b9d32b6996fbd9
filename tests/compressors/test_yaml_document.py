import time

import pytest

from compressors import yaml_document
from compressors.yaml_document import read_document
from utils.errors import InputError


def document_of(tmp_path, text, **options):
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return read_document(path, **options)


def refusal(tmp_path, content):
    """What is said of the file as a whole, without its path."""
    path = tmp_path / "file.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as error:
        read_document(path)
    return str(error.value).removeprefix(str(path)).removeprefix(": 1 error\n  ").strip()


def sentences(document):
    return [(problem.place, problem.line, problem.sentence) for problem in document.problems]


def test_data_is_read_by_the_rules_of_yaml_1_1(tmp_path):
    text = "a: 1\nb: [0.5, 1e-4, 1.0e-4, yes, ~]\nc: {d: 'x', e: \"y\"}\nf: 2020-01-01\n'1': 0x10\ng:\nh: =\n"
    assert document_of(tmp_path, text).data == {
        "a": 1,
        "b": [0.5, "1e-4", 1e-4, True, None],
        "c": {"d": "x", "e": "y"},
        "f": "2020-01-01",
        "1": 16,
        "g": None,
        "h": "=",
    }


def test_every_key_and_item_has_its_line(tmp_path):
    text = "# comment\na:\n  b: 1\n\n  c:\n    - x\n    -\n      d: 2\n"
    assert document_of(tmp_path, text).lines == {
        (): 2,
        ("a",): 2,
        ("a", "b"): 3,
        ("a", "c"): 5,
        ("a", "c", 0): 6,
        ("a", "c", 1): 8,
        ("a", "c", 1, "d"): 8,
    }


def test_an_alias_is_what_it_stands_for_with_the_lines_of_the_original(tmp_path):
    document = document_of(tmp_path, "a: &x\n  b: 1\nc: *x\n")
    assert document.data == {"a": {"b": 1}, "c": {"b": 1}}
    assert document.lines["c", "b"] == 2
    assert document.lines["c",] == 3


def test_merge_keys_give_what_the_mapping_itself_lacks(tmp_path):
    text = """
base: &base {a: 1, b: 2}
more: &more {b: 3, c: 4}
own: {<<: *base, b: 5}
both: {<<: [*base, *more], d: 6}
deep: &deep {<<: *more, e: 7}
deeper: {<<: *deep}
text: {'<<': 1}
"""
    data = document_of(tmp_path, text).data
    assert data["own"] == {"a": 1, "b": 5}
    assert data["both"] == {"a": 1, "b": 2, "c": 4, "d": 6}
    assert data["deeper"] == {"b": 3, "c": 4, "e": 7}
    assert data["text"] == {"<<": 1}


def test_a_merge_key_of_no_mapping_is_a_problem(tmp_path):
    document = document_of(tmp_path, "a: {<<: 3}\nb: {<<: [{c: 1}, x]}\n")
    assert document.data == {"a": {}, "b": {"c": 1}}
    assert [(problem.place, problem.line) for problem in document.problems] == [(("a", "<<"), 1), (("b", "<<"), 2)]


def test_duplicate_keys_are_problems_and_the_first_one_counts(tmp_path):
    document = document_of(tmp_path, "a: 1\nb:\n  c: 1\n  c: 2\na: 3\n")
    assert document.data == {"a": 1, "b": {"c": 1}}
    assert sentences(document) == [
        (("a",), 5, "is given twice, first in line 1"),
        (("b", "c"), 4, "is given twice, first in line 3"),
    ]


@pytest.mark.parametrize(
    ("key", "said"),
    [("1", "1"), ("yes", "true"), ("~", "null"), ("1.5", "1.5"), ("? [a]\n", "a list"), ("{}", "a map")],
)
def test_keys_that_are_not_text_are_problems(tmp_path, key, said):
    document = document_of(tmp_path, f"a: 1\n{key}: 2\n")
    assert document.data == {"a": 1}
    ((_, line, sentence),) = sentences(document)
    assert line == 2
    assert f"must be text, in quotes if need be. Received: {said}" in sentence


def test_whole_numbers_are_keys_where_they_are_asked_for(tmp_path):
    document = document_of(tmp_path, "inputs:\n  0: {1: x}\n  yes: y\n", number_keyed=("inputs",))
    assert document.data == {"inputs": {"0": {}}}
    assert [problem.place for problem in document.problems] == [("inputs", "true"), ("inputs", "0", "1")]


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['true']",
        "!!python/name:os.system",
        "!!python/tuple [1]",
        "!!set {a, b}",
        "!!binary aGk=",
        "!!timestamp 2020-01-01",
        "!mine {a: 1}",
        "!mine x",
    ],
)
def test_tags_of_objects_are_problems_and_make_nothing(tmp_path, value):
    document = document_of(tmp_path, f"a:\n  b: {value}\n")
    assert document.data == {"a": {"b": None}}
    (problem,) = document.problems
    assert (problem.place, problem.line, problem.is_unread) == (("a", "b"), 2, True)
    assert problem.sentence.startswith("must be plain")
    assert value.split()[0] in problem.sentence


def test_tags_of_plain_values_are_read(tmp_path):
    text = "a: !!str 1\nb: !!float 2\nc: !!seq [x]\nd: !!map {e: 1}\nf: !!int '3'\n"
    assert document_of(tmp_path, text).data == {"a": "1", "b": 2.0, "c": ["x"], "d": {"e": 1}, "f": 3}


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "1.0e+999"])
def test_numbers_that_are_not_finite_are_problems(tmp_path, value):
    document = document_of(tmp_path, f"a: {value}\n")
    assert sentences(document) == [(("a",), 1, f"must be a finite number. Received: {value}")]


@pytest.mark.parametrize("value", ["!!int x", "!!bool maybe", "!!float ''", "9" * 5000, "1" + ":1" * 100_000])
def test_values_that_are_none_of_their_type_are_problems(tmp_path, value):
    (problem,) = document_of(tmp_path, f"a: {value}\n").problems
    assert problem.sentence.startswith("must be a value of the type ")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("# only this\n", "it is empty"),
        ("a: 1\n\tb: 2\n", "line 2: not YAML: "),
        ("a: 1\nb: [1\n", "line 3: not YAML: "),
        ("a: 1\nb\n", "line 3: not YAML: "),
        ("a: 1\n---\nb: 2\n", "line 2: a second document begins; one is allowed"),
        ("a: *x\n", "line 1: the alias *x is used before its anchor"),
        ("a: &x [*x]\n", "line 1: the alias *x is used inside of what it stands for"),
        ("a: \x00", "not YAML: "),
        ("a: \x07", "not YAML: "),
        (b"\x80\x04\x95", "must be UTF-8 text; line 1 is not"),
        (b"a: 1\nb: \xff\n", "must be UTF-8 text; line 2 is not"),
        ("a: 1".encode("utf-16"), "must be UTF-8 text; line 1 is not"),
        ("%YAML 9.9\n---\na: 1\n", "line 1: not YAML: "),
    ],
)
def test_what_is_no_document_is_refused(tmp_path, content, expected):
    assert refusal(tmp_path, content).startswith(expected)


def test_a_tab_is_named_as_such(tmp_path):
    assert "the line has a tab, where only spaces may indent" in refusal(tmp_path, "a:\n\tb: 1\n")


def test_a_byte_order_mark_is_fine(tmp_path):
    (tmp_path / "file.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_document(tmp_path / "file.yaml").data == {"a": 1}


@pytest.mark.parametrize(("name", "reason"), [("", "Is a directory"), ("none.yaml", "No such file"), ("\0", "null")])
def test_what_is_no_file_is_refused(tmp_path, name, reason):
    with pytest.raises(InputError, match=reason):
        read_document(tmp_path / name)


# Limits


def doubling(lists, per_list=9):
    """Lists of aliases of the list before: `per_list ** lists` values in the end."""
    lines = [f"a0: &a0 [{', '.join(['x'] * per_list)}]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * per_list)}]" for i in range(1, lists)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (doubling(20), "there must be at most 20,000 values, aliases counted as their content"),
        (doubling(20).replace("[", "{<<: [").replace("]", "]}"), "there must be at most 20,000 values"),
        ("".join(f"k{i}: &a{i} [*a{i - 1}]\n" if i else "k0: &a0 [x]\n" for i in range(60)), "nested at most 50 deep"),
        ("a: " + "[" * 51 + "]" * 51, "values must be nested at most 50 deep"),
        ("[" * 500_000, "values must be nested at most 50 deep"),
        ("{" * 500_000, "values must be nested at most 50 deep"),
        ("? " * 300_000, "values must be nested at most 50 deep"),
        ("- " * 300_000, "values must be nested at most 50 deep"),
        ("- 1\n" * 20_000, "there must be at most 20,000 values"),
        ("".join(f"k{i}: &a{i} 1\n" for i in range(40_000)), "there must be at most 20,000 values"),
        ("# " + "x" * 1_000_000, "must be at most 1,000,000 bytes long"),
    ],
)
def test_limits_are_held_at_once(tmp_path, content, expected):
    start = time.process_time()
    assert expected in refusal(tmp_path, content)
    assert time.process_time() - start < 1


def test_two_megabytes_of_nested_anchors_are_refused_at_once(tmp_path):
    text = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 30)}]\n" if i else "a0: &a0 [x]\n" for i in range(8_000))
    assert len(text) > 2_000_000
    start = time.process_time()
    assert "must be at most 1,000,000 bytes" in refusal(tmp_path, text)
    assert "there must be at most 20,000 values" in refusal(tmp_path, text[:900_000].rpartition("\n")[0])
    assert time.process_time() - start < 1


def test_what_is_within_the_limits_is_read(tmp_path):
    assert len(document_of(tmp_path, "- 1\n" * 19_999).data) == 19_999
    assert document_of(tmp_path, "[" * 50 + "]" * 50).problems == []
    assert document_of(tmp_path, doubling(4, per_list=4)).problems == []


def test_without_the_c_library_the_same_is_read(tmp_path, monkeypatch):
    import yaml

    monkeypatch.setattr(yaml_document, "_Loader", yaml.SafeLoader)
    document = document_of(tmp_path, "a: &x [1, 'b', 0.5]\nc: {d: *x}\ne: .nan\n")
    assert document.data == {"a": [1, "b", 0.5], "c": {"d": [1, "b", 0.5]}, "e": None}
    assert document.lines["c", "d"] == 2
    assert refusal(tmp_path, "a: 1\n\tb: 2\n").startswith("line 2: not YAML: ")
    assert refusal(tmp_path, "a: \x00").startswith("not YAML: ")
