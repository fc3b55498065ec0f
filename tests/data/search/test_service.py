from __future__ import annotations

import time
from typing import Any

import pytest
from tests.data.search.knn_server import Handler, address, service, true_answer

from edgeproof_configs.errors import EdgeproofError, UsageError
from edgeproof_data.search.service import KnnService, ServiceOptions, is_address

FAST = ServiceOptions("laion5B", timeout_seconds=1.0, retries=2, first_wait_seconds=0.01)


def test_ask__pages_through_results_without_addresses() -> None:
    with service() as (url, asked):
        found = KnnService(url, FAST).ask(290, text="cat")
    assert [hit.id for hit in found.hits] == list(range(3000, 3290))
    assert found.hits[289].url == address(3289)
    assert found.without_address == 0
    assert [path for path, _ in asked] == ["/knn-service", "/metadata"]
    first = asked[0][1]
    assert (first["text"], first["num_images"], first["num_result_ids"]) == ("cat", 100, 290)
    assert (first["indice_name"], first["modality"]) == ("laion5B", "image")
    assert first["deduplicate"] is first["use_safety_model"] is True
    assert asked[1][1]["ids"] == list(range(3100, 3290))


def test_ask__by_embedding_and_with_the_whole_address() -> None:
    with service() as (url, asked):
        found = KnnService(f"{url}/knn-service/", FAST).ask(2, embedding=[0.5, -1])
    assert [hit.id for hit in found.hits] == [7000, 7001]
    assert (asked[0][1]["text"], asked[0][1]["embedding_input"]) == (None, [0.5, -1.0])


def test_ask__tries_again_and_gives_up() -> None:
    def sometimes(handler: Handler, path: str, body: dict[str, Any]) -> None:
        if len(handler.asked) < 3:
            handler.send(b"busy", 503)
        else:
            true_answer(handler, path, body)

    with service(sometimes) as (url, asked):
        assert len(KnnService(url, FAST).ask(2, text="cat").hits) == 2
        assert len(asked) == 3
    with service(lambda handler, *_: handler.send(b"", 500)) as (url, asked):
        with pytest.raises(EdgeproofError, match=r"does not answer: HTTP 500 .* \(3 times\)"):
            KnnService(url, FAST).ask(2, text="cat")
        assert len(asked) == 3


def test_ask__nobody_there_and_slow_ones() -> None:
    with service() as (gone, _):
        pass
    with pytest.raises(EdgeproofError, match="does not answer"):
        KnnService(gone, FAST).ask(2, text="cat")

    def slow(handler: Handler, *_: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _place in range(60):
            try:
                handler.wfile.write(b" ")
            except OSError:
                return
            time.sleep(0.05)

    with service(slow) as (url, _), pytest.raises(EdgeproofError, match="no whole answer in 1 s"):
        KnnService(url, ServiceOptions(timeout_seconds=1.0, retries=0)).ask(2, text="cat")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"<html>moved to a new place</html>", "no JSON; it starts with '<html>moved"),
        (b"", "no JSON"),
        ({"error": "no such index"}, "a list of results was expected, it sent dict"),
        (["a"], "a result is str"),
        ([{"id": "7", "similarity": 0.3}], "a result has the id '7'"),
        ([{"id": 7, "similarity": "high"}], "the similarity of result 7 is 'high'"),
        ([{"id": 7, "similarity": True}], "the similarity of result 7 is True"),
        (b'[{"id": 7, "similarity": NaN}]', "is nan, which is no cosine"),
        ([{"id": 7, "similarity": 31.4}], "is 31.4, which is no cosine"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_ask__lies(value: Any, words: str) -> None:
    with service(lambda handler, *_: handler.send(value)) as (url, asked):
        with pytest.raises(EdgeproofError, match="no answer of a clip-retrieval service") as caught:
            KnnService(url, FAST).ask(3, text="cat")
        assert words in str(caught.value)
        assert len(asked) == 1


def test_ask__more_than_was_asked_for_doubles_and_bad_addresses() -> None:
    many = [{"id": place, "similarity": 0.3, "url": address(place)} for place in range(50)]
    odd = ["file:///etc/passwd", "javascript:alert(1)", "http://a b/c.jpg", None, 7]
    bad = [{"id": 100 + place, "similarity": 0.9, "url": url} for place, url in enumerate(odd)]

    def answer(handler: Handler, path: str, body: dict[str, Any]) -> None:
        handler.send([] if path == "/metadata" else [many[0], *bad, *many])

    with service(answer) as (url, _):
        found = KnnService(url, FAST).ask(10, text="cat")
    assert [hit.id for hit in found.hits] == [0, 1, 2, 3, 4]
    assert found.without_address == 5


@pytest.mark.parametrize("status", [301, 302, 308])
def test_ask__a_redirection_is_told(status: int) -> None:
    def away(handler: Handler, *_: Any) -> None:
        handler.send(b"", status, Location="http://127.0.0.1:9/elsewhere")

    with service(away) as (url, asked):
        with pytest.raises(EdgeproofError, match="which sends on to http://127"):
            KnnService(url, FAST).ask(2, text="cat")
        assert len(asked) == 1


def test_ask__an_endless_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeproof_data.search.service.MOST_BYTES", 1000)
    with (
        service(lambda handler, *_: handler.send(bytes(5_000))) as (url, _),
        pytest.raises(EdgeproofError, match="an answer of more than 0 MiB"),
    ):
        KnnService(url, FAST).ask(2, text="cat")


@pytest.mark.parametrize("url", ["ftp://a/b", "localhost:80", "http://", "http://a:99999/b", "http://a/\n"])
def test_is_address__others(url: str) -> None:
    assert not is_address(url)
    with pytest.raises(UsageError):
        KnnService(url)
