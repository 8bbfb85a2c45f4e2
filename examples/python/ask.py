"""Asks the demo's gateway three questions, waits until the last one's trace is stored, checks it, and prints its id.

What a person reads goes to stderr, the trace id alone to stdout. Exits 1 with a sentence when the trace is not what it should be.
"""

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

import httpx

QUESTIONS = ["Where is my order?", "How long does a refund take?", "Is my order on its way, and when does it arrive?"]
# The gateway's request and its two calls, the answerer's request with two chats and a tool between them, the scorer's request and its
# two checks.
EXPECTED_SPANS = 10
SERVICES = {"gateway", "answerer", "scorer"}
PATIENCE_SECONDS = 30.0

Span = dict[str, Any]


def fail(text: str) -> NoReturn:
    sys.exit(f"error: {text}")


def wait_for(what: str, attempt: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not attempt():
        if time.monotonic() > deadline:
            fail(f"after {PATIENCE_SECONDS:.0f} seconds {what}")
        time.sleep(0.1)


def is_up(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/healthz").is_success
    except httpx.TransportError:
        return False


def attributes(span: Span) -> dict[str, Any]:
    return {attribute["key"]: attribute["value"] for attribute in span["attributes"]}


def faults(spans: list[Span]) -> list[str]:
    """What is wrong with the trace, a sentence each."""
    found = [] if len(spans) == EXPECTED_SPANS else [f"it has {len(spans)} spans instead of {EXPECTED_SPANS}"]
    missing = SERVICES - {span["service_name"] for span in spans}
    if missing:
        found.append(f"there is no span of {', '.join(sorted(missing))}")
    known = {span["span_id"] for span in spans}
    roots = [span for span in spans if not span["parent_span_id"]]
    if [root["service_name"] for root in roots] != ["gateway"]:
        found.append(f"the one root should be the gateway's, and there are {len(roots)} roots")
    orphans = [span["span_name"] for span in spans if span["parent_span_id"] and span["parent_span_id"] not in known]
    if orphans:
        found.append(f"the parents of {', '.join(orphans)} are not in the trace")
    chats = [attributes(span) for span in spans if attributes(span).get("gen_ai.operation.name") == "chat"]
    if not chats or "gen_ai.usage.output_tokens" not in chats[0]:
        found.append("there is no GenAI span with its tokens")
    failed = [span for span in spans if span["status_code"] in (2, "ERROR", "Error", "error")]
    if not any(span["service_name"] == "scorer" for span in failed):
        found.append("the scorer's failed check is not marked as an error")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("gateway", "answerer", "server"):
        parser.add_argument(f"--{name}", required=True, metavar="URL")
    urls = parser.parse_args()

    with httpx.Client(timeout=10) as client:
        wait_for("the answerer does not answer", lambda: is_up(client, urls.answerer))
        wait_for("the gateway does not answer", lambda: is_up(client, urls.gateway))
        for question in QUESTIONS:
            reply = client.post(f"{urls.gateway}/ask", json={"question": question}).raise_for_status().json()
            print(f"  you:      {question}\n  gateway:  {reply['answer']} (relevance {reply['relevance']:.2f})", file=sys.stderr)
        trace_id = reply["trace_id"]

        login = client.get(f"{urls.server}/scouter/auth/login", headers={"Username": "guest", "Password": "guest"})
        bearer = {"Authorization": f"Bearer {login.raise_for_status().json()['token']}"}
        found = ["nothing of it is stored"]

        def is_complete() -> bool:
            answer = client.get(f"{urls.server}/scouter/trace/spans", params={"trace_id": trace_id}, headers=bearer)
            if answer.is_success:
                found[:] = faults(answer.json()["spans"])
            else:
                found[:] = [f"the server answered HTTP {answer.status_code}: {answer.text}"]
            return not found

        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_complete():
            if time.monotonic() > deadline:
                fail(f"after {PATIENCE_SECONDS:.0f} seconds trace {trace_id} is not as it should be: {'; '.join(found)}")
            time.sleep(0.1)
    print(trace_id)


if __name__ == "__main__":
    try:
        main()
    except httpx.HTTPError as error:
        fail(str(error))
