import pytest

from worker.masking import masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://cams.example/gate.mp4", "https://cams.example/gate.mp4"),
        ("https://anna:hush@cams.example/gate.mp4", "https://anna:***@cams.example/gate.mp4"),
        ("https://token@cams.example/gate.mp4", "https://***@cams.example/gate.mp4"),
        ("redis://:hu:s@h@broker:6379/0", "redis://:***@broker:6379/0"),
        ("postgresql+psycopg://anna:hu/s?h#@db/videos", "postgresql+psycopg://anna:***@db/videos"),
        ("https://cams.example:8080/a@b.mp4", "https://cams.example:8080/a@b.mp4"),
        ("sqlite:////data/a@b/videomind.db", "sqlite:////data/a@b/videomind.db"),
        (
            "https://s3.example/b/k.mp4?X-Amz-Credential=AKIA%2F&X-Amz-Signature=f00&x=",
            "https://s3.example/b/k.mp4?X-Amz-Credential=***&X-Amz-Signature=***&x=",
        ),
        ("s3://bucket/key?versionId=3", "s3://bucket/key?versionId=***"),
        ("file:///videos/a%20b.mp4", "file:///videos/a%20b.mp4"),
        ("/videos/who?x=a@b.mp4", "/videos/who?x=a@b.mp4"),
        ("what? a=b, x@y", "what? a=b, x@y"),
    ],
)
def test_passwords_and_signatures_are_hidden_and_nothing_else(text: str, shown: str):
    assert masked(text) == shown


def test_every_url_in_a_text_is_masked():
    text = 'no "https://a:1@one.example/x?y=2" and (http://b:3@two.example): retry?z=4'
    assert masked(text) == (
        'no "https://a:***@one.example/x?y=***" and (http://b:***@two.example): retry?z=4'
    )
