"""The checks of every Python client: python checks.py CLIENT HOST PORT, where CLIENT names a module client_CLIENT.

Prints "NAME VERSION: N passed, M failed".
"""

import importlib
import os
import sys
import traceback

face = importlib.import_module("client_" + sys.argv[1])
Client = face.Client


def equal(got, expected):
    assert got == expected, "got {!r}, expected {!r}".format(got, expected)


def qos(version, scope):
    subscriber, publisher = Client(version, scope + "s"), Client(version, scope + "p")
    for level in (0, 1, 2):
        topic = "{}/{}".format(scope, level)
        subscriber.subscribe(topic, level)
        for sent in (0, 1, 2):
            publisher.publish(topic, sent, "Hello {}".format(sent))
            message = subscriber.message()
            equal(message[:4], (topic, b"Hello %d" % sent, min(sent, level), False))
    subscriber.unsubscribe(scope + "/0")
    publisher.publish(scope + "/0", 1, "unheard")
    publisher.publish(scope + "/1", 1, "end")
    equal(subscriber.texts(1), ["end"])
    subscriber.disconnect()
    publisher.disconnect()


def retained(version, scope):
    publisher = Client(version, scope + "p")
    publisher.publish(scope, 1, "first", retain=True)
    publisher.publish(scope, 1, "second", retain=True)
    for expected in (["second"], []):
        newcomer = Client(version, scope + "n")
        newcomer.subscribe(scope, 1)
        for text in expected:
            message = newcomer.message()
            equal((message.payload.decode(), message.retain), (text, True))
        publisher.publish(scope, 1, "live")
        message = newcomer.message()
        equal((message.payload.decode(), message.retain), ("live", False))
        newcomer.disconnect()
        publisher.publish(scope, 1, None, retain=True)
    publisher.disconnect()


def will(version, scope):
    watcher = Client(version, scope + "w")
    watcher.subscribe(scope, 1)
    Client(version, scope + "m", will=(scope, "wrong", 1)).disconnect()
    Client(version, scope + "m", will=(scope, "gone", 1)).vanish()
    equal(watcher.texts(1), ["gone"])
    watcher.disconnect()


def wildcards(version, scope):
    subscriber = Client(version, scope + "s")
    subscriber.subscribe(scope + "/+/x", 1)
    subscriber.subscribe(scope + "/tree/#", 1)
    for topic in ("a/y", "a/x", "tree", "tree/b/c", "end/x"):
        subscriber.publish(scope + "/" + topic, 1, "x")
    topics = [subscriber.message().topic[len(scope) + 1 :] for _ in range(4)]
    equal(topics, ["a/x", "tree", "tree/b/c", "end/x"])
    subscriber.disconnect()


def persistent(version, scope):
    # Whatever an earlier run has left ends here.
    Client(version, scope + "s").disconnect()
    sleeper = Client(version, scope + "s", clean=False, expiry_s=600)
    assert not sleeper.session_present
    sleeper.subscribe(scope, 2)
    sleeper.disconnect()
    publisher = Client(version, scope + "p")
    for level in (1, 2):
        for number in range(100):
            publisher.publish(scope, level, "{}-{}".format(level, number))
    sleeper = Client(version, scope + "s", clean=False, expiry_s=600)
    # Version 3.1 has no flag that would say so.
    assert sleeper.session_present or version == "3.1"
    equal(sleeper.texts(200), ["{}-{}".format(level, number) for level in (1, 2) for number in range(100)])
    publisher.publish(scope, 2, "live")
    equal(sleeper.texts(1), ["live"])
    sleeper.disconnect()
    publisher.disconnect()
    clean = Client(version, scope + "s")
    assert not clean.session_present
    clean.disconnect()


def large(version, scope):
    subscriber, publisher = Client(version, scope + "s"), Client(version, scope + "p")
    subscriber.subscribe(scope, 2)
    for level in (0, 1, 2):
        payload = os.urandom(1 << 20)
        publisher.publish(scope, level, payload)
        assert subscriber.message().payload == payload, "the payload was changed"
    subscriber.disconnect()
    publisher.disconnect()


def many_in_flight(version, scope):
    subscriber, publisher = Client(version, scope + "s"), Client(version, scope + "p")
    subscriber.subscribe(scope, 2)
    numbers = [str(number) for number in range(500)]
    for level in (1, 2):
        publisher.publish_all(scope, level, numbers)
        equal(subscriber.texts(500), numbers)
    # Had any come twice, it would come before this one.
    publisher.publish(scope, 1, "end")
    equal(subscriber.texts(1), ["end"])
    subscriber.disconnect()
    publisher.disconnect()


def take_over(version, scope):
    old = Client(version, scope)
    new = Client(version, scope)
    old.await_closed()
    old.abandon()
    new.subscribe(scope, 1)
    new.publish(scope, 1, "mine")
    equal(new.texts(1), ["mine"])
    new.disconnect()


def shared(scope):
    members = [Client("5.0", "{}{}".format(scope, number)) for number in range(3)]
    for member in members:
        member.subscribe("$share/group/" + scope, 1)
        member.subscribe(scope + "/end", 1)
    publisher = Client("5.0", scope + "p")
    for number in range(90):
        publisher.publish(scope, 1, str(number))
    publisher.publish(scope + "/end", 1, "end")
    everything = []
    for member in members:
        texts = []
        while not texts or texts[-1] != "end":
            texts += member.texts(1)
        assert 15 <= len(texts) - 1 <= 45, "not even: {}".format(len(texts) - 1)
        everything += texts[:-1]
        member.disconnect()
    equal(sorted(map(int, everything)), list(range(90)))
    publisher.disconnect()


def properties(scope):
    subscriber, publisher = Client("5.0", scope + "s"), Client("5.0", scope + "p")
    subscriber.subscribe(scope, 1)
    sent = {
        "content_type": "text/plain",
        "response_topic": "answer/here",
        "correlation_data": b"0815",
        "user_property": [("a", "1"), ("b", "2"), ("a", "3")],
        "message_expiry_interval": 60,
    }
    publisher.publish(scope, 1, "x", properties=sent)
    got = subscriber.message().properties
    left_s = got.pop("message_expiry_interval")
    assert 30 <= left_s <= 60, left_s
    sent.pop("message_expiry_interval")
    equal(got, sent)
    subscriber.disconnect()
    publisher.disconnect()


def main():
    passed = failed = 0
    every = (qos, retained, will, wildcards, persistent, large, many_in_flight, take_over) + face.CHECKS
    checks = [(check.__name__, version, check) for version in face.VERSIONS for check in every]
    checks += [(check.__name__, None, check) for check in (shared, properties)]
    for name, version, check in checks:
        scope = "{}-{}-{}".format(face.NAME.replace(" ", "-"), version or "5.0", name)
        try:
            check(version, scope) if version else check(scope)
            passed += 1
        except Exception:  # A check may fail in any way; the others are still run.
            failed += 1
            print("FAILED {} {}".format(name, version or "5.0"))
            traceback.print_exc(file=sys.stdout)
    print("{}: {} passed, {} failed".format(face.NAME, passed, failed), flush=True)
    # Threads of clients whose check failed must not keep the process.
    os._exit(1 if failed or not passed else 0)


main()
