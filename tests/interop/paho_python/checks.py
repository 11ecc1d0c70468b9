"""paho-mqtt against the broker at HOST PORT: python checks.py HOST PORT.

Works with the interfaces of paho-mqtt 1.6 and 2.x; prints "paho-mqtt X: N passed, M failed".
"""

import os
import queue
import sys
import threading
import traceback

import paho.mqtt
import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

HOST, PORT = sys.argv[1], int(sys.argv[2])
PATIENCE_S = 20
RELEASE = paho.mqtt.__version__
VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5.0": mqtt.MQTTv5}


def code(reason):
    """The number of a reason, which is an object in one interface and a number in the other."""
    return getattr(reason, "value", reason)


class Client:
    """A connected client whose events are queues, so that everything is awaited and nothing slept for."""

    def __init__(self, version, name, clean=True, will=None, expiry_s=0):
        self.version = version
        self.messages = queue.Queue()
        self.events = queue.Queue()
        arguments = {"client_id": name, "protocol": VERSIONS[version]}
        if version != "5.0":
            arguments["clean_session"] = clean
        if hasattr(mqtt, "CallbackAPIVersion"):
            arguments["callback_api_version"] = mqtt.CallbackAPIVersion.VERSION2
        self.client = mqtt.Client(**arguments)
        self.client.max_inflight_messages_set(100)
        self.client.on_message = lambda client, data, message: self.messages.put(message)
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = lambda *arguments: self.events.put(("subscribed", arguments[2]))
        self.client.on_unsubscribe = lambda *arguments: self.events.put(("unsubscribed", arguments[2]))
        self.client.on_disconnect = lambda *arguments: self.events.put(("disconnected", arguments))
        if will:
            self.client.will_set(*will)
        options = {}
        if version == "5.0":
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = expiry_s
            options = {"clean_start": clean, "properties": properties}
        self.client.connect(HOST, PORT, 60, **options)
        self.client.loop_start()
        self.session_present = self.await_event("connected")

    def _on_connect(self, client, data, flags, reason, *rest):
        present = flags["session present"] if isinstance(flags, dict) else flags.session_present
        assert code(reason) == 0, "CONNACK says {}".format(reason)
        self.events.put(("connected", present))

    def await_event(self, name):
        while True:
            found, value = self.events.get(timeout=PATIENCE_S)
            if found == name:
                return value

    def subscribe(self, topic, qos):
        result, _ = self.client.subscribe(topic, qos)
        assert result == mqtt.MQTT_ERR_SUCCESS
        self.await_event("subscribed")

    def unsubscribe(self, topic):
        self.client.unsubscribe(topic)
        self.await_event("unsubscribed")

    def publish(self, topic, qos, payload, retain=False, properties=None):
        """Publishes and waits until the broker has taken it over."""
        options = {"properties": properties} if properties else {}
        info = self.client.publish(topic, payload, qos, retain, **options)
        info.wait_for_publish(PATIENCE_S)
        assert info.is_published()

    def message(self):
        return self.messages.get(timeout=PATIENCE_S)

    def texts(self, count):
        return [self.message().payload.decode() for _ in range(count)]

    def disconnect(self):
        self.client.disconnect()
        self.client.loop_stop()

    def vanish(self):
        """Closes without DISCONNECT."""
        self.client.on_disconnect = None
        self.client.socket().shutdown(2)
        self.client.loop_stop()


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
            equal((message.topic, message.payload, message.qos), (topic, b"Hello %d" % sent, min(sent, level)))
    subscriber.unsubscribe(scope + "/0")
    publisher.publish(scope + "/0", 1, "unheard")
    publisher.publish(scope + "/1", 1, "end")
    equal(subscriber.texts(1), ["end"])
    subscriber.disconnect()
    publisher.disconnect()


def readme_example(version, scope):
    """Subscribes in on_connect and prints in on_message, as the tour of the README does."""
    got = queue.Queue()
    subscribed = threading.Event()
    arguments = {"protocol": VERSIONS[version], "client_id": scope}
    if hasattr(mqtt, "CallbackAPIVersion"):
        arguments["callback_api_version"] = mqtt.CallbackAPIVersion.VERSION2
    client = mqtt.Client(**arguments)
    client.on_connect = lambda client, *rest: client.subscribe(scope)
    client.on_subscribe = lambda *rest: subscribed.set()
    client.on_message = lambda client, data, message: got.put(message.payload.decode())
    client.connect(HOST, PORT, 60)
    thread = threading.Thread(target=client.loop_forever)
    thread.start()
    assert subscribed.wait(PATIENCE_S)
    client.publish(scope, "Hello MQTT")
    equal(got.get(timeout=PATIENCE_S), "Hello MQTT")
    client.disconnect()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


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
    for level in (1, 2):
        sent = [publisher.client.publish(scope, str(number), level) for number in range(500)]
        for info in sent:
            info.wait_for_publish(PATIENCE_S)
        equal(subscriber.texts(500), [str(number) for number in range(500)])
    subscriber.disconnect()
    publisher.disconnect()


def take_over(version, scope):
    old = Client(version, scope)
    old.client.reconnect_delay_set(60, 60)
    new = Client(version, scope)
    old.await_event("disconnected")
    old.client.loop_stop()
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
    sent = Properties(PacketTypes.PUBLISH)
    sent.ContentType = "text/plain"
    sent.ResponseTopic = "answer/here"
    sent.CorrelationData = b"0815"
    sent.UserProperty = [("a", "1"), ("b", "2"), ("a", "3")]
    sent.MessageExpiryInterval = 60
    publisher.publish(scope, 1, "x", properties=sent)
    got = subscriber.message().properties
    equal((got.ContentType, got.ResponseTopic, got.CorrelationData), ("text/plain", "answer/here", b"0815"))
    equal(got.UserProperty, [("a", "1"), ("b", "2"), ("a", "3")])
    assert 55 <= got.MessageExpiryInterval <= 60
    subscriber.disconnect()
    publisher.disconnect()


def main():
    passed = failed = 0
    every = (qos, readme_example, retained, will, wildcards, persistent, large, many_in_flight, take_over)
    checks = [(check.__name__, version, check) for version in VERSIONS for check in every]
    checks += [(check.__name__, None, check) for check in (shared, properties)]
    for name, version, check in checks:
        scope = "paho-{}-{}-{}".format(RELEASE, version or "5.0", name)
        try:
            check(version, scope) if version else check(scope)
            passed += 1
        except Exception:  # A check may fail in any way; the others are still run.
            failed += 1
            print("FAILED {} {}".format(name, version or ""))
            traceback.print_exc()
    print("paho-mqtt {}: {} passed, {} failed".format(RELEASE, passed, failed), flush=True)
    # Threads of clients whose check failed must not keep the process.
    os._exit(1 if failed or not passed else 0)


main()
