"""gmqtt, which lives in asyncio and has a protocol of its own."""

import asyncio
import importlib.metadata
import logging

import gmqtt
from gmqtt.mqtt.constants import MQTTv50, MQTTv311
from gmqtt.storage import PersistentStorage

from face import HOST, PORT, Face, Message, run

NAME = "gmqtt " + importlib.metadata.version("gmqtt")
VERSIONS = {"3.1.1": MQTTv311, "5.0": MQTTv50}
CHECKS = ()

# It warns of connections that end, which is what some checks are for.
logging.getLogger("gmqtt").setLevel(logging.CRITICAL)


class Client(Face):
    def __init__(self, version, name, clean=True, will=None, expiry_s=0):
        super().__init__()
        self.answers = {}
        self.unacknowledged = PersistentStorage()
        options = {"will_message": gmqtt.Message(will[0], will[1], qos=will[2])} if will else {}
        if version == "5.0":
            options["session_expiry_interval"] = expiry_s
        run(self._connect(VERSIONS[version], name, clean_session=clean, **options))

    async def _connect(self, version, name, **options):
        self.client = gmqtt.Client(name, persistent_storage=self.unacknowledged, **options)
        # A connection that the broker has ended stays so; 0 would still try, and -1 for ever.
        self.client.set_config({"reconnect_retries": -2})
        self.client.on_connect = self._on_connect
        self.client.on_message = self._on_message
        self.client.on_disconnect = lambda *arguments: self.closed.set()
        self.client.on_subscribe = lambda client, packet_id, granted, properties: self._answer(packet_id, granted)
        self.client.on_unsubscribe = lambda client, packet_id, reasons: self._answer(packet_id, reasons)
        await self.client.connect(HOST, PORT, version=version)

    def _on_connect(self, client, session_present, reason, properties):
        self.session_present = bool(session_present)

    def _on_message(self, client, topic, payload, qos, properties):
        retain = bool(properties.pop("retain"))
        # All are lists here, as if any could be there more than once.
        found = {
            name: value if name == "user_property" else value[0] for name, value in properties.items() if name != "dup"
        }
        self.messages.put(Message(topic, payload, qos, retain, found))
        return 0

    def _answer(self, packet_id, reasons):
        self.answers.pop(packet_id).set_result(list(reasons))

    async def _answered(self, packet_id):
        self.answers[packet_id] = asyncio.get_running_loop().create_future()
        return await self.answers[packet_id]

    def subscribe(self, topic, qos):
        async def subscribe():
            return await self._answered(self.client.subscribe(topic, qos))

        granted = run(subscribe())
        assert granted == [qos], "granted {} of {}".format(granted, qos)

    def unsubscribe(self, topic):
        async def unsubscribe():
            await self._answered(self.client.unsubscribe(topic))

        run(unsubscribe())

    def publish(self, topic, qos, payload, retain=False, properties=None):
        """Publishes and waits until the broker has taken it over."""

        async def publish():
            self.client.publish(topic, payload, qos, retain, **(properties or {}))
            await self.unacknowledged.wait_empty()

        run(publish())

    def publish_all(self, topic, qos, payloads):
        """Publishes as many of them as the broker's Receive Maximum allows before it waits."""

        async def publish():
            for payload in payloads:
                try:
                    self.client.publish(topic, payload, qos)
                except OverflowError:
                    # It does not queue: past the Receive Maximum it refuses, and the caller has to come again.
                    await self.unacknowledged.wait_empty()
                    self.client.publish(topic, payload, qos)
            await self.unacknowledged.wait_empty()

        run(publish())

    def disconnect(self):
        run(self.client.disconnect())

    def vanish(self):
        """Closes without DISCONNECT."""

        async def abort():
            self.client._connection._transport.abort()

        run(abort())
        self.await_closed()

    def abandon(self):
        """Nothing is left of a client whose connection is gone."""
