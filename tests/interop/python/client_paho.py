"""paho-mqtt, by its interface of 1.6 as well as that of 2.x."""

import queue
import threading

import paho.mqtt
import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from face import HOST, PATIENCE_S, PORT, Face, Message

NAME = "paho-mqtt " + paho.mqtt.__version__
VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5.0": mqtt.MQTTv5}

# Names of properties: the checks' and paho's.
PROPERTIES = {
    "content_type": "ContentType",
    "correlation_data": "CorrelationData",
    "message_expiry_interval": "MessageExpiryInterval",
    "response_topic": "ResponseTopic",
    "user_property": "UserProperty",
}


def to_paho(properties):
    """Properties of a PUBLISH as paho takes them."""
    if not properties:
        return None
    result = Properties(PacketTypes.PUBLISH)
    for name, value in properties.items():
        setattr(result, PROPERTIES[name], value)
    return result


def from_paho(message):
    """A received message of paho's as the checks want it."""
    properties = getattr(message, "properties", None)
    found = {name: getattr(properties, theirs) for name, theirs in PROPERTIES.items() if hasattr(properties, theirs)}
    return Message(str(message.topic), message.payload, message.qos, bool(message.retain), found)


def code(reason):
    """The number of a reason, which is an object in one interface and a number in the other."""
    return getattr(reason, "value", reason)


def new(version, name, **arguments):
    if hasattr(mqtt, "CallbackAPIVersion"):
        arguments["callback_api_version"] = mqtt.CallbackAPIVersion.VERSION2
    return mqtt.Client(client_id=name, protocol=VERSIONS[version], **arguments)


class Client(Face):
    def __init__(self, version, name, clean=True, will=None, expiry_s=0):
        super().__init__()
        self.events = queue.Queue()
        self.client = new(version, name, **({} if version == "5.0" else {"clean_session": clean}))
        self.client.max_inflight_messages_set(100)
        # A connection that the broker has ended stays so.
        self.client.reconnect_delay_set(600, 600)
        self.client.on_message = lambda client, data, message: self.messages.put(from_paho(message))
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = self._on_subscribe
        self.client.on_unsubscribe = lambda *arguments: self.events.put(("unsubscribed", None))
        self.client.on_disconnect = lambda *arguments: self.closed.set()
        if will:
            self.client.will_set(*will)
        options = {}
        if version == "5.0":
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = expiry_s
            # paho takes this and then loses the topics of aliased messages, so the broker uses no alias by default.
            properties.TopicAliasMaximum = 10
            options = {"clean_start": clean, "properties": properties}
        self.client.connect(HOST, PORT, 60, **options)
        self.client.loop_start()
        reason, self.session_present = self._await_event("connected")
        assert reason == 0, "CONNACK says {}".format(reason)

    def _on_connect(self, client, data, flags, reason, *rest):
        present = flags["session present"] if isinstance(flags, dict) else flags.session_present
        self.events.put(("connected", (code(reason), bool(present))))

    def _on_subscribe(self, client, data, packet_id, granted, *rest):
        self.events.put(("subscribed", [code(reason) for reason in granted]))

    def _await_event(self, name):
        found, value = self.events.get(timeout=PATIENCE_S)
        assert found == name, "{} came, not {}".format(found, name)
        return value

    def subscribe(self, topic, qos):
        result, _ = self.client.subscribe(topic, qos)
        assert result == mqtt.MQTT_ERR_SUCCESS
        granted = self._await_event("subscribed")
        assert granted == [qos], "granted {} of {}".format(granted, qos)

    def unsubscribe(self, topic):
        self.client.unsubscribe(topic)
        self._await_event("unsubscribed")

    def publish(self, topic, qos, payload, retain=False, properties=None):
        """Publishes and waits until the broker has taken it over."""
        options = {"properties": to_paho(properties)} if properties else {}
        self._await_published([self.client.publish(topic, payload, qos, retain, **options)])

    def publish_all(self, topic, qos, payloads):
        """Publishes all of them before it waits for the broker to take them over."""
        self._await_published([self.client.publish(topic, payload, qos) for payload in payloads])

    @staticmethod
    def _await_published(infos):
        for info in infos:
            info.wait_for_publish(PATIENCE_S)
            assert info.is_published()

    def disconnect(self):
        self.client.disconnect()
        self.client.loop_stop()

    def vanish(self):
        """Closes without DISCONNECT."""
        self.client.socket().shutdown(2)
        self.await_closed()
        self.abandon()

    def abandon(self):
        """Ends the thread of a client whose connection is gone."""
        self.client.disconnect()
        self.client.loop_stop()


def readme_example(version, scope):
    """Subscribes in on_connect and prints in on_message, as the tour of the README does."""
    got = queue.Queue()
    subscribed = threading.Event()
    client = new(version, scope)
    client.on_connect = lambda client, *rest: client.subscribe(scope)
    client.on_subscribe = lambda *rest: subscribed.set()
    client.on_message = lambda client, data, message: got.put(message.payload.decode())
    client.connect(HOST, PORT, 60)
    thread = threading.Thread(target=client.loop_forever)
    thread.start()
    assert subscribed.wait(PATIENCE_S)
    client.publish(scope, "Hello MQTT")
    text = got.get(timeout=PATIENCE_S)
    assert text == "Hello MQTT", text
    client.disconnect()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


CHECKS = (readme_example,)
