"""``pannier demo``: the whole road on real text, beside LlamaIndex's own stores.

Takes a folder of text (by default the reference documentation that ships inside
CPython: the help topics and the standard library's docstrings), splits it with
LlamaIndex, embeds it with a small real model, builds a ``VectorStoreIndex``,
persists it, opens it again in a fresh process and answers questions. Then does the
same with LlamaIndex's default stores, compares answers and files, and prints one
table.

Splitting and embedding are done once, since they are the same for both; each
storage step runs in its own process, whose peak memory is the kernel's figure.
Nothing is fetched: the model is read from the installed ``wordllama`` package.
Needs the extra: ``pip install 'pannier[demo]'``.
"""

from __future__ import annotations

import argparse
import ast
import filecmp
import gc
import importlib
import importlib.util
import json
import os
import pickle
import re
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import time
import warnings
from typing import Any, Callable, Iterator, Optional, Sequence

SIDES = {"LlamaIndex": "llama_index.core", "pannier": "pannier"}
INDEX_ID = "demo"
TOP_K = 3
TEXT_SUFFIXES = (".txt", ".md", ".rst", ".py", ".html", ".csv", ".json", ".org", ".tex", ".log")
LARGEST_FILE = 4 << 20
PYTHON_QUESTIONS = (
    "How do I read a text file line by line?",
    "What does the yield expression do?",
    "How can I run another program and capture its output?",
    "How does Python find a method in multiple base classes?",
    "How do I parse a date from a string?",
    "Which exception is raised when a key is not in a dictionary?",
)


class DemoError(Exception):
    """Something the person running the demo can act on; shown without a traceback."""


# ---------------------------------------------------------------------------
# Text
# ---------------------------------------------------------------------------


def python_topics() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The help topics of CPython (what ``help('yield')`` shows): (id, text, metadata)."""
    from pydoc_data.topics import topics

    for name, text in sorted(topics.items()):
        yield f"topic:{name}", text, {"title": name, "kind": "topic", "module": "", "line": 0}


def python_docstrings() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every docstring of the standard library, found by parsing: nothing is imported."""
    root = sysconfig.get_path("stdlib")
    for path in _library_files(root):
        module = os.path.relpath(path, root)[: -len(".py")].replace(os.sep, ".")
        module = module[: -len(".__init__")] if module.endswith(".__init__") else module
        with open(path, "rb") as f:
            source = f.read()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source)
        except (SyntaxError, ValueError):
            continue
        for qualname, node in _definitions(tree):
            text = ast.get_docstring(node)
            if text and len(text) > 30:
                line = getattr(node, "lineno", 1)
                name = f"{module}.{qualname}" if qualname else module
                yield f"{name}:{line}", text, {
                    "title": name,
                    "kind": type(node).__name__.replace("Def", "").replace("Async", "").lower(),
                    "module": module,
                    "line": line,
                }


def _library_files(root: str) -> Iterator[str]:
    skipped = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "pydoc_data"}
    for directory, names, files in os.walk(root):
        names[:] = sorted(n for n in names if n not in skipped and not n.startswith("config-"))
        for name in sorted(files):
            if name.endswith(".py"):
                yield os.path.join(directory, name)


def _definitions(tree: ast.AST) -> Iterator[tuple[str, Any]]:
    """(qualified name, node) of the module, its classes and its functions."""
    yield "", tree
    pending = [("", child) for child in ast.iter_child_nodes(tree)]
    while pending:
        prefix, node = pending.pop(0)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            prefix = f"{prefix}.{node.name}" if prefix else node.name
            yield prefix, node
        elif not isinstance(node, (ast.If, ast.Try, ast.With)):
            continue
        pending[:0] = [(prefix, child) for child in ast.iter_child_nodes(node)]


def folder_texts(folder: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each text file below ``folder``, sorted by path; others are passed over."""
    for directory, names, files in os.walk(folder):
        names[:] = sorted(n for n in names if not n.startswith("."))
        for name in sorted(files):
            path = os.path.join(directory, name)
            if not name.lower().endswith(TEXT_SUFFIXES) or os.path.getsize(path) > LARGEST_FILE:
                continue
            with open(path, encoding="utf-8", errors="replace") as f:
                text = f.read()
            if text.strip():
                where = os.path.relpath(path, folder)
                yield where, text, {"title": where, "kind": "file", "bytes": os.path.getsize(path)}


def read_documents(folder: Optional[str]) -> list[Any]:
    """LlamaIndex ``Document`` objects of the folder, or of Python's own documentation."""
    from llama_index.core.schema import Document

    if folder is None:
        found = [*python_topics(), *python_docstrings()]
    else:
        if not os.path.isdir(folder):
            raise DemoError(f"{folder} is not a folder.")
        found = list(folder_texts(folder))
    if not found:
        raise DemoError(f"No text files ({', '.join(TEXT_SUFFIXES)}) below {folder}.")
    hidden = ["kind", "module", "line", "bytes"]
    return [
        Document(
            id_=name,
            text=text,
            metadata=metadata,
            excluded_embed_metadata_keys=hidden,
            excluded_llm_metadata_keys=hidden,
        )
        for name, text, metadata in found
    ]


# ---------------------------------------------------------------------------
# Model
# ---------------------------------------------------------------------------


def model_files() -> tuple[str, str]:
    """(weights, tokenizer) inside the installed ``wordllama`` package, which is not imported.

    Raises:
        DemoError: the package, or one of its files, is not there.
    """
    spec = importlib.util.find_spec("wordllama")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        weights = os.path.join(folder, "weights", "l2_supercat_256.safetensors")
        tokenizer = os.path.join(folder, "tokenizers", "l2_supercat_tokenizer_config.json")
        if os.path.exists(weights) and os.path.exists(tokenizer):
            return weights, tokenizer
    raise DemoError("The demo's embedding model is missing: pip install 'pannier[demo]'")


def load_tokenizer() -> Callable[[str], list[int]]:
    """The model's tokenizer as LlamaIndex wants one: text to token ids."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(model_files()[1])
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def load_model() -> Any:
    """The embedding model as a LlamaIndex ``BaseEmbedding``: the mean of its 256-d
    token vectors, normalised, float32."""
    import numpy as np
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import PrivateAttr
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    class WordVectors(BaseEmbedding):
        _vectors: Any = PrivateAttr()
        _tokenizer: Any = PrivateAttr()

        def __init__(self) -> None:
            super().__init__(model_name="l2_supercat_256", embed_batch_size=256)
            weights, tokenizer = model_files()
            (self._vectors,) = load_file(weights).values()
            self._tokenizer = Tokenizer.from_file(tokenizer)

        @classmethod
        def class_name(cls) -> str:
            return "WordVectors"

        def _mean(self, ids: list[int]) -> list[float]:
            total = self._vectors[ids].astype(np.float32).sum(axis=0)
            length = float(np.linalg.norm(total))
            return (total / np.float32(length) if length else total).tolist()

        def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
            encoded = self._tokenizer.encode_batch(texts, add_special_tokens=False)
            return [self._mean(e.ids) for e in encoded]

        def _get_text_embedding(self, text: str) -> list[float]:
            return self._get_text_embeddings([text])[0]

        def _get_query_embedding(self, query: str) -> list[float]:
            return self._get_text_embeddings([query])[0]

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return self._get_query_embedding(query)

    return WordVectors()


# ---------------------------------------------------------------------------
# What both sides share: nodes with embeddings, and questions
# ---------------------------------------------------------------------------


def split_sentences(text: str) -> list[str]:
    """Sentences with the white space after them; LlamaIndex's own way may want to fetch data."""
    return re.findall(r".+?(?:[.!?]+\s+|\Z)", text, re.S)


def split(documents: Sequence[Any], limit: Optional[int]) -> list[Any]:
    """Nodes of about 200 tokens; ids tell where they come from."""
    from llama_index.core.node_parser import SentenceSplitter

    splitter = SentenceSplitter(
        chunk_size=256,
        chunk_overlap=32,
        tokenizer=load_tokenizer(),
        chunking_tokenizer_fn=split_sentences,
        id_func=lambda i, document: f"{document.node_id}#{i}",
    )
    nodes: list[Any] = []
    for document in _progress(documents, "splitting"):
        nodes += splitter.get_nodes_from_documents([document])
        if limit is not None and len(nodes) >= limit:
            return nodes[:limit]
    return nodes


def embed(nodes: Sequence[Any], model: Any) -> None:
    """Gives each node its embedding."""
    from llama_index.core.schema import MetadataMode

    size = model.embed_batch_size
    for at in _progress(range(0, len(nodes), size), "embedding"):
        batch = nodes[at : at + size]
        texts = [node.get_content(metadata_mode=MetadataMode.EMBED) for node in batch]
        for node, vector in zip(batch, model.get_text_embedding_batch(texts)):
            node.embedding = vector


def choose_questions(asked: Sequence[str], folder: Optional[str], nodes: Sequence[Any]) -> list[str]:
    """What was asked; else the built-in questions, or for a folder the beginnings of six chunks."""
    if asked:
        return list(asked)
    if folder is None:
        return list(PYTHON_QUESTIONS)
    count = min(6, len(nodes))
    picked = [nodes[(2 * i + 1) * len(nodes) // (2 * count)] for i in range(count)]
    return [" ".join(node.text.split()[:12]) for node in picked]


def _progress(items: Sequence[Any], what: str) -> Any:
    from tqdm import tqdm

    return tqdm(items, desc=f"  {what}", file=sys.stderr, disable=not sys.stderr.isatty(), leave=False)


def prepare(args: argparse.Namespace, work: str) -> dict[str, Any]:
    """Reads, splits, embeds; leaves nodes and questions in ``work`` for both sides."""
    model_files()  # say at once if the model is missing
    start = time.perf_counter()
    documents = read_documents(args.folder)
    nodes = split(documents, args.limit)
    middle = time.perf_counter()
    model = load_model()
    embed(nodes, model)
    with open(os.path.join(work, "nodes.pickle"), "wb") as f:
        pickle.dump(nodes, f, pickle.HIGHEST_PROTOCOL)
    questions = choose_questions(args.ask, args.folder, nodes)
    with open(os.path.join(work, "questions.json"), "w", encoding="utf-8") as f:
        json.dump(questions, f)
    return {
        "documents": len(documents),
        "nodes": len(nodes),
        "dim": len(nodes[0].embedding),
        "split": middle - start,
        "embed": time.perf_counter() - middle,
    }


# ---------------------------------------------------------------------------
# Steps, each in a process of its own
# ---------------------------------------------------------------------------


def _memory_mb(field: str) -> float:
    """VmRSS or VmHWM of this process, from the kernel, in MB."""
    with open("/proc/self/status", encoding="ascii") as f:
        for line in f:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def _classes(side: str) -> tuple[Any, Any]:
    module = importlib.import_module(SIDES[side])
    return module.StorageContext, module.load_index_from_storage


def step_build(side: str, work: str) -> dict[str, Any]:
    """Builds the index from the prepared nodes and persists it."""
    from llama_index.core import VectorStoreIndex

    storage_context, _ = _classes(side)
    with open(os.path.join(work, "nodes.pickle"), "rb") as f:
        nodes = pickle.load(f)  # written by prepare(), a moment ago
    model = load_model()
    gc.collect()
    start = time.perf_counter()
    context = storage_context.from_defaults()
    index = VectorStoreIndex(nodes, storage_context=context, embed_model=model)
    index.set_index_id(INDEX_ID)
    built = time.perf_counter()
    context.persist(persist_dir=os.path.join(work, side))
    persisted = time.perf_counter()
    return {
        "build": built - start,
        "persist": persisted - built,
        "store": f"{type(context.docstore).__module__}.{type(context.docstore).__name__}",
    }


def step_ask(side: str, work: str) -> dict[str, Any]:
    """Opens what was persisted and answers the questions."""
    from llama_index.core.schema import QueryBundle

    storage_context, load_index = _classes(side)
    model = load_model()
    with open(os.path.join(work, "questions.json"), encoding="utf-8") as f:
        questions = json.load(f)
    bundles = [QueryBundle(q, embedding=model.get_query_embedding(q)) for q in questions]
    storage_context.from_defaults()  # what a first use imports is not the load's
    gc.collect()
    before = _memory_mb("VmRSS")
    start = time.perf_counter()
    context = storage_context.from_defaults(persist_dir=os.path.join(work, side))
    index = load_index(context, index_id=INDEX_ID, embed_model=model)
    loaded = time.perf_counter()
    retriever = index.as_retriever(similarity_top_k=TOP_K)
    answers, times = [], []
    for bundle in bundles:
        begin = time.perf_counter()
        found = retriever.retrieve(bundle)
        times.append(time.perf_counter() - begin)
        answers.append(
            [[n.node.node_id, float(n.score or 0.0).hex(), n.node.metadata, n.node.get_content()] for n in found]
        )
    return {
        "load": loaded - start,
        "first": times[0],
        "ask": statistics.median(times),
        "import_mb": before,
        "peak_mb": _memory_mb("VmHWM"),
        "resident_mb": _memory_mb("VmRSS"),
        "answers": answers,
    }


def run_step(step: str, side: str, work: str) -> dict[str, Any]:
    """Runs one step in a fresh interpreter and returns what it measured."""
    command = [sys.executable, "-m", "pannier.demo", "--step", step, "--side", side, "--work", work]
    os.sync()  # what one side left for the disk must not slow the other
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise DemoError(f"The step '{step}' of {side} failed (exit {done.returncode}).")
    return dict(json.loads(done.stdout.splitlines()[-1]))


# ---------------------------------------------------------------------------
# Comparing and telling
# ---------------------------------------------------------------------------


def directory_size(path: str) -> int:
    return sum(os.path.getsize(os.path.join(path, name)) for name in os.listdir(path))


def compare_files(left: str, right: str) -> tuple[bool, str]:
    """(identical, what to say): the same names with the same bytes?"""
    names = sorted(os.listdir(left))
    if names != sorted(os.listdir(right)):
        return False, f"other file names: {sorted(set(names) ^ set(os.listdir(right)))}"
    same, different, unread = filecmp.cmpfiles(left, right, names, shallow=False)
    if different or unread:
        return False, f"different: {', '.join(different + unread)}"
    return True, f"{len(same)} files"


def format_seconds(value: float) -> str:
    return f"{value * 1e3:.2f} ms" if value < 0.1 else f"{value:.2f} s"


def make_table(peer: dict[str, Any], ours: dict[str, Any]) -> str:
    """The table of both sides, one line a measurement."""

    def total(x: dict[str, Any]) -> float:
        return float(x["build"] + x["persist"] + x["load"] + x["first"])

    rows: list[tuple[str, float, float, Callable[[float], str]]] = [
        ("build the index", peer["build"], ours["build"], format_seconds),
        ("persist", peer["persist"], ours["persist"], format_seconds),
        ("load in a fresh process", peer["load"], ours["load"], format_seconds),
        ("first question", peer["first"], ours["first"], format_seconds),
        ("a question (median)", peer["ask"], ours["ask"], format_seconds),
        ("build to first answer", total(peer), total(ours), format_seconds),
        ("peak memory over imports", _over(peer, "peak_mb"), _over(ours, "peak_mb"), _format_mb),
        ("memory kept over imports", _over(peer, "resident_mb"), _over(ours, "resident_mb"), _format_mb),
        ("bytes on disk", peer["bytes"], ours["bytes"], lambda v: f"{v:,.0f}"),
    ]
    lines = [f"{'':<26}{'LlamaIndex':>16}{'pannier':>16}{'ratio':>10}"]
    for name, left, right, show in rows:
        ratio = "1 x" if left == right else f"{left / max(right, 1e-9):,.1f} x"
        lines.append(f"{name:<26}{show(left):>16}{show(right):>16}{ratio:>10}")
    return "\n".join(lines)


def _over(result: dict[str, Any], field: str) -> float:
    return max(float(result[field] - result["import_mb"]), 0.1)


def _format_mb(value: float) -> str:
    return f"{value:,.1f} MB"


def show_answers(questions: Sequence[str], answers: Sequence[Any]) -> None:
    """Each question with its best passages, shortened."""
    for question, found in zip(questions, answers):
        print(f"\n? {question}")
        for _, score, metadata, text in found:
            passage = textwrap.shorten(" ".join(text.split()), 96, placeholder=" ...")
            print(f"  {float.fromhex(score):.3f}  {metadata.get('title', '')}\n         {passage}")


def run_side(side: str, work: str) -> dict[str, Any]:
    result = run_step("build", side, work)
    print(f"  {side:<11} built in {format_seconds(result['build'])}", end="", flush=True)
    print(f", persisted in {format_seconds(result['persist'])}", end="", flush=True)
    result.update(run_step("ask", side, work))
    print(f", loaded in {format_seconds(result['load'])} by a fresh process", flush=True)
    result["bytes"] = directory_size(os.path.join(work, side))
    return result


def compare(args: argparse.Namespace, work: str) -> int:
    """The whole demo; returns the exit status."""
    source = args.folder or "Python's help topics and the standard library's docstrings"
    print(f"Reading {source}", flush=True)
    facts = prepare(args, work)
    print(
        f"  {facts['documents']:,} documents, {facts['nodes']:,} chunks, {facts['dim']} dimensions"
        f" (split {facts['split']:.1f} s, embedded {facts['embed']:.1f} s)\n"
        "Building, persisting, opening again"
    )
    peer = run_side("LlamaIndex", work)
    ours = run_side("pannier", work)
    if not ours["store"].startswith("pannier.") or peer["store"].startswith("pannier."):
        raise DemoError(f"The sides are mixed up: {peer['store']}, {ours['store']}.")
    with open(os.path.join(work, "questions.json"), encoding="utf-8") as f:
        show_answers(json.load(f), ours["answers"])
    same_answers = peer["answers"] == ours["answers"]
    same_files, detail = compare_files(os.path.join(work, "LlamaIndex"), os.path.join(work, "pannier"))
    print(f"\n{make_table(peer, ours)}\n")
    count = sum(map(len, ours["answers"]))
    print(f"same answers: {'yes' if same_answers else 'NO'} ({count} passages, scores to the last bit)")
    print(f"files byte-identical: {'yes' if same_files else 'NO'} ({detail})")
    return 0 if same_answers and same_files and count else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pannier demo",
        description="Build, persist, reopen and ask an index of real text, with pannier and with LlamaIndex's own stores.",
    )
    parser.add_argument("folder", nargs="?", help="folder of text (default: Python's own documentation)")
    parser.add_argument("--ask", action="append", default=[], metavar="QUESTION", help="ask this; may be repeated")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N chunks")
    parser.add_argument("--keep", metavar="DIR", help="leave the persisted indexes in DIR")
    parser.add_argument("--step", choices=("build", "ask"), help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=tuple(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Entry point of ``pannier demo``.

    Args:
        argv: arguments after ``demo``; ``sys.argv[1:]`` when None.

    Returns:
        int: 0 when both sides gave the same answers and the same files, 1 when they
        did not, 2 when the demo could not run.
    """
    args = _parser().parse_args(argv)
    if args.step:
        step = step_build if args.step == "build" else step_ask
        print(json.dumps(step(args.side, args.work)))
        return 0
    if args.limit is not None and args.limit < 1:
        _parser().error("--limit must be at least 1")
    work = args.keep or tempfile.mkdtemp(prefix="pannier-demo-")
    try:
        if args.keep:
            for side in SIDES:
                if os.path.exists(os.path.join(work, side)):
                    raise DemoError(f"{os.path.join(work, side)} exists already; name another folder.")
            os.makedirs(work, exist_ok=True)
        return compare(args, work)
    except DemoError as error:
        print(f"pannier demo: {error}", file=sys.stderr)
        return 2
    finally:
        if not args.keep:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
