"""What the processes of a start say to each other: nothing is lost where one of them ends."""

from __future__ import annotations

import os

import pytest
from ssh_hook.errors import INTERNAL
from ssh_hook.start.channel import (
    EndOfMessagesError,
    Failed,
    Forked,
    HookEnd,
    KeysMade,
    KeysMissing,
    Message,
    NoAnswerError,
    Provisioned,
    Receiver,
    Run,
    Sender,
    Warned,
    decode,
    encode,
)

MESSAGES = [
    Forked(4711, 99),
    Warned("no-shell", "a b"),
    KeysMissing("no-keys", "a b"),
    KeysMade(),
    Provisioned("-p", "22"),
    Run(""),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_message_arrives_as_it_was(message: Message) -> None:
    arrived = decode(encode(message)[4:])
    assert (type(arrived), vars(arrived)) == (type(message), vars(message))


def test_text_with_a_nul_is_one_text() -> None:
    arrived = decode(encode(Failed("port-taken", "a\0b"))[4:])
    assert isinstance(arrived, Failed)
    assert arrived.text == "a\\0b"


def test_a_kind_that_is_none_arrives_as_internal() -> None:
    arrived = decode(b"Failed\0of-nobody\0text")
    assert isinstance(arrived, Failed)
    assert (arrived.kind, arrived.text) == (INTERNAL, "text")


def test_what_one_said_is_received_before_the_end_of_the_other() -> None:
    (provisioner, to_hook), (daemon, from_daemon), ready = os.pipe(), os.pipe(), os.pipe()
    end = HookEnd(Receiver(provisioner), Receiver(daemon), ready[0], Sender(ready[1]), Sender(ready[1]))
    try:
        Sender(from_daemon).send(Forked(4711, 99))
        os.close(to_hook)
        message = end.receive(1)
        assert isinstance(message, Forked)
        assert (message.pid, message.start_time) == (4711, 99)
        with pytest.raises(EndOfMessagesError):
            end.receive(1)
    finally:
        for descriptor in (provisioner, daemon, from_daemon, *ready):
            os.close(descriptor)


def test_silence_ends_with_the_time() -> None:
    pipes = [os.pipe() for _number in range(3)]
    end = HookEnd(Receiver(pipes[0][0]), Receiver(pipes[1][0]), pipes[2][0], Sender(pipes[2][1]), Sender(pipes[2][1]))
    try:
        with pytest.raises(NoAnswerError):
            end.receive(0.05)
        with pytest.raises(NoAnswerError):
            end.await_ready(0.05)
    finally:
        for pipe in pipes:
            for descriptor in pipe:
                os.close(descriptor)
