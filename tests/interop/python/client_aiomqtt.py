"""aiomqtt, which lives in asyncio and is built upon paho-mqtt."""

import asyncio
import importlib.metadata
import logging

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from client_paho import from_paho, to_paho
from face import HOST, PATIENCE_S, PORT, Face, run

NAME = "aiomqtt " + importlib.metadata.version("aiomqtt")
VERSIONS = {"3.1.1": aiomqtt.ProtocolVersion.V311, "5.0": aiomqtt.ProtocolVersion.V5}
CHECKS = ()

# It warns of more than ten calls that wait, which is what one check is for.
LOGGER = logging.getLogger("quiet")
LOGGER.setLevel(logging.CRITICAL)


class WithFlags(aiomqtt.Client):
    """aiomqtt keeps to itself whether the broker had the session: this listens in, and changes nothing."""

    session_present = False

    def _on_connect(self, client, userdata, flags, reason_code, properties=None):
        self.session_present = flags.session_present
        super()._on_connect(client, userdata, flags, reason_code, properties)


class Client(Face):
    def __init__(self, version, name, clean=True, will=None, expiry_s=0):
        super().__init__()
        if version == "5.0":
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = expiry_s
            options = {"clean_start": clean, "properties": properties}
        else:
            options = {"clean_session": clean}
        if will:
            options["will"] = aiomqtt.Will(*will)
        run(self._connect(identifier=name, protocol=VERSIONS[version], **options))
        self.session_present = self.client.session_present

    async def _connect(self, **options):
        self.client = WithFlags(
            HOST, PORT, timeout=PATIENCE_S, logger=LOGGER, max_inflight_messages=100, **options
        )
        # The messages of a session that was kept come before anyone could ask for them: the client queues them.
        await self.client.__aenter__()
        self.pump = asyncio.ensure_future(self._pump())

    async def _pump(self):
        try:
            async for message in self.client.messages:
                self.messages.put(from_paho(message))
        except aiomqtt.MqttError:
            self.closed.set()

    def subscribe(self, topic, qos):
        granted = [getattr(reason, "value", reason) for reason in run(self.client.subscribe(topic, qos))]
        assert granted == [qos], "granted {} of {}".format(granted, qos)

    def unsubscribe(self, topic):
        run(self.client.unsubscribe(topic))

    def publish(self, topic, qos, payload, retain=False, properties=None):
        """Publishes and waits until the broker has taken it over."""
        run(self.client.publish(topic, payload, qos, retain, to_paho(properties)))

    def publish_all(self, topic, qos, payloads):
        """Publishes all of them before it waits for the broker to take them over."""

        async def all_of_them():
            await asyncio.gather(*(self.client.publish(topic, payload, qos) for payload in payloads))

        run(all_of_them())

    def disconnect(self):
        run(self.client.__aexit__(None, None, None))
        self.await_closed()

    def vanish(self):
        """Closes without DISCONNECT."""
        self.client._client.socket().shutdown(2)
        self.await_closed()

    def abandon(self):
        """Nothing is left of a client whose connection is gone."""
