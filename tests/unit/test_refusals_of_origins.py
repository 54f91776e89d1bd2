"""What is said of an origin's refusal tells no secret that the refusal holds."""

from __future__ import annotations

import pytest

from waystation.errors import Redirected
from waystation.origin.http_answers import Refusal, error_of, redirected

SHOWN = "https://bucket.example/folder/key"


@pytest.mark.parametrize(
    "location",
    [
        SHOWN,
        f"{SHOWN}?X-Amz-Credential=AK%2F1&X-Amz-Signature=0abc",
        f"{SHOWN}?first=1\r\nsecond?third=a@b",
        f"{SHOWN}#token=0abc",
        "https://user:0abc@bucket.example/folder/key",
        "https://user:0abc@more@bucket.example/folder/key?x@y",
    ],
)
def test_where_a_redirect_leads_is_shown_without_what_opens_the_door_there(location: str) -> None:
    error = error_of("app/a", Refusal(302, location=location))
    assert isinstance(error, Redirected)
    assert str(error) == f"the origin redirects 'app/a' to {SHOWN} (302), and no redirect is followed"


def test_a_redirect_to_nowhere_is_called_so() -> None:
    assert "to nowhere" in str(redirected("the bucket 'b'", 301, "?X-Amz-Signature=0abc"))
