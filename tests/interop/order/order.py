#!/usr/bin/env python3
"""Asks a broker what the standards leave to it: orders, copies and choices. Prints one line for each question: its name and the answer.

Usage: order.py HOST PORT [WORD]; only questions with WORD in their names. Speaks raw MQTT, so that no client library hides an order.
"""
import itertools
import os
import socket
import struct
import sys
import time

HOST, PORT = sys.argv[1], int(sys.argv[2])
CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, PINGRESP, DISCONNECT = 2, 3, 4, 5, 6, 7, 9, 13, 14
NAMES = {CONNACK: "CONNACK", PUBACK: "PUBACK", PUBREC: "PUBREC", PUBREL: "PUBREL", PUBCOMP: "PUBCOMP", SUBACK: "SUBACK",
         DISCONNECT: "DISCONNECT"}
RUN, numbers = os.urandom(4).hex(), itertools.count(1)
QUESTIONS = []


def question(asked):
    QUESTIONS.append(asked)
    return asked


def text(value):
    return struct.pack(">H", len(value)) + value.encode()


def packet(first, body):
    length, out = len(body), b""
    while True:
        length, digit = divmod(length, 128)
        out += bytes([digit | (128 if length else 0)])
        if not length:
            return bytes([first]) + out + body


class Client:
    """A connection of MQTT 3.1.1 or 5.0 that acknowledges only what it is told to."""

    def __init__(self, name, version=4, clean=True, expiry_s=0, receive_maximum=0, will=None):
        self.version, self.received = version, b""
        self.socket = socket.create_connection((HOST, PORT), timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        flags, payload = 2 if clean else 0, text(f"{RUN}-{name}")
        if will:
            flags |= 4 | 1 << 3
            payload += (b"\0" if version == 5 else b"") + text(will) + text("will")
        properties = b""
        if version == 5:
            properties = b"\x11" + struct.pack(">I", expiry_s)
            properties += b"\x21" + struct.pack(">H", receive_maximum) if receive_maximum else b""
            properties = bytes([len(properties)]) + properties
        self.send(packet(0x10, text("MQTT") + bytes([version, flags]) + struct.pack(">H", 60) + properties + payload))
        assert self.next()[0] == "CONNACK"

    def send(self, *packets):
        self.socket.sendall(b"".join(packets))

    def none(self):
        return b"\0" if self.version == 5 else b""

    def publish(self, topic, payload, qos=0, number=0, retain=False):
        number = struct.pack(">H", number) if qos else b""
        return packet(0x30 | qos << 1 | retain, text(topic) + number + self.none() + payload.encode())

    def subscribe(self, *filters, number=1):
        filters = b"".join(text(name) + bytes([options]) for name, options in filters)
        return packet(0x82, struct.pack(">H", number) + self.none() + filters)

    @staticmethod
    def ack(kind, number):
        return packet(kind << 4 | (2 if kind == PUBREL else 0), struct.pack(">H", number))

    def next(self, seconds=5.0):
        """The next packet as (text, number); None after so many seconds, or at the end."""
        until = time.monotonic() + seconds
        while True:
            found = self.cut()
            if found:
                return found
            self.socket.settimeout(max(0.001, until - time.monotonic()))
            try:
                more = self.socket.recv(65536)
            except (TimeoutError, OSError):
                return None
            if not more:
                return None
            self.received += more

    def cut(self):
        data, length, shift, at = self.received, 0, 0, 1
        while True:
            if at >= len(data):
                return None
            length |= (data[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if not data[at - 1] & 128:
                break
        if len(data) < at + length:
            return None
        first, body, self.received = data[0], data[at:at + length], data[at + length:]
        kind = first >> 4
        if kind != PUBLISH:
            number = struct.unpack(">H", body[:2])[0] if kind in (PUBACK, PUBREC, PUBREL, PUBCOMP) else 0
            code = f" {body[0]:#x}" if kind == DISCONNECT and body else f" {number}" if number else ""
            return NAMES.get(kind, "?") + code, number
        at = 2 + struct.unpack(">H", body[:2])[0]
        qos, number = first >> 1 & 3, 0
        if qos:
            number, at = struct.unpack(">H", body[at:at + 2])[0], at + 2
        at += 1 + body[at] if self.version == 5 else 0
        marks = ("r" if first & 1 else "") + ("d" if first & 8 else "")
        return f"{body[at:].decode()}/{qos}{marks}", number

    def all(self, seconds=1.0):
        """Everything that comes until nothing did for so long, in order."""
        found = []
        while (one := self.next(seconds)) is not None:
            found.append(one)
        return found

    def texts(self, seconds=1.0):
        return " ".join(name for name, _ in self.all(seconds))

    def drop(self):
        """The connection breaks."""
        self.socket.close()


def topic():
    return f"order/{RUN}/{next(numbers)}"


def name():
    return f"c{next(numbers)}"


@question
def acknowledgements_of_mixed_qos():
    client, at = Client(name()), topic()
    client.send(client.publish(at, "a", 1, 1), client.publish(at, "b", 2, 2), client.publish(at, "c", 1, 3))
    return client.texts()


@question
def own_copy_and_puback():
    client, at = Client(name()), topic()
    client.send(client.subscribe((at, 0)))
    client.all()
    client.send(client.publish(at, "a", 1, 1))
    return client.texts()


@question
def copy_of_qos_2_before_pubrel():
    client, at, watcher = Client(name()), topic(), Client(name())
    watcher.send(watcher.subscribe((at, 0)))
    watcher.all()
    client.send(client.publish(at, "a", 2, 1))
    before = watcher.texts() or "nothing"
    client.send(client.ack(PUBREL, 1))
    return f"{before}, then {watcher.texts() or 'nothing'}"


@question
def suback_retained_live():
    client, at, other = Client(name()), topic(), Client(name())
    other.send(other.publish(at, "kept", 1, 1, True))
    other.all()
    client.send(client.subscribe((at, 1)), client.publish(at, "live"))
    return client.texts()


@question
def overlapping_filters():
    client, at = Client(name()), topic()
    client.send(client.subscribe((f"{at}/#", 0), (f"{at}/+", 1), (f"{at}/x", 0)))
    client.all()
    client.send(client.publish(f"{at}/x", "a", 2, 1), client.ack(PUBREL, 1))
    return " ".join(sorted(name for name, _ in client.all() if "/" in name))


@question
def overlapping_filters_and_retained():
    client, at = Client(name()), topic()
    client.send(client.publish(f"{at}/x", "kept", 0, 0, True))
    client.send(client.subscribe((f"{at}/#", 0), (f"{at}/+", 1)))
    return client.texts()


@question
def order_across_qos():
    client, at, publisher = Client(name()), topic(), Client(name())
    client.send(client.subscribe((at, 2)))
    client.all()
    publisher.send(*(publisher.publish(at, str(n), n % 3, n) for n in range(1, 7)))
    publisher.send(publisher.ack(PUBREL, 2), publisher.ack(PUBREL, 5))
    return client.texts()


@question
def redelivery():
    who, at, publisher = name(), topic(), Client(name())
    client = Client(who, clean=False)
    client.send(client.subscribe((at, 2)))
    client.all()
    for number, qos in enumerate([1, 2, 1, 2], 1):
        publisher.send(publisher.publish(at, str(number), qos, number))
        publisher.send(*([publisher.ack(PUBREL, number)] if qos == 2 else []))
    numbers_of = dict(client.all())
    # The first of QoS 2 is received, the rest is not acknowledged.
    client.send(client.ack(PUBREC, numbers_of["2/2"]))
    client.next()
    client.drop()
    time.sleep(0.3)
    publisher.send(publisher.publish(at, "5", 1, 9))
    publisher.all()
    return Client(who, clean=False).texts().replace(f"PUBREL {numbers_of['2/2']}", "PUBREL of 2")


@question
def group_of_one_online_and_one_kept():
    at, kept = topic(), name()
    client = Client(kept, clean=False)
    online, publisher = Client(name(), 5), Client(name())
    for member in (client, online):
        member.send(member.subscribe((f"$share/g/{at}", 1)))
        member.all()
    client.drop()
    time.sleep(0.3)
    publisher.send(*(publisher.publish(at, str(n), 1, n) for n in range(1, 5)))
    publisher.all()
    return f"online {len(online.all())}, kept {len(Client(kept, clean=False).all())}"


@question
def group_of_two_kept():
    at, kept = topic(), [name(), name()]
    for who in kept:
        client = Client(who, clean=False)
        client.send(client.subscribe((f"$share/g/{at}", 1)))
        client.all()
        client.drop()
    time.sleep(0.3)
    publisher = Client(name())
    publisher.send(*(publisher.publish(at, str(n), 1, n) for n in range(1, 5)))
    publisher.all()
    return f"{sum(len(Client(who, clean=False).all()) for who in kept)} of 4 kept"


@question
def group_beside_a_filter_of_its_own():
    client, at = Client(name(), 5), topic()
    client.send(client.subscribe((f"$share/g/{at}", 1), (at, 1)))
    client.all()
    client.send(client.publish(at, "a"))
    return client.texts()


@question
def group_and_retained():
    client, at = Client(name(), 5), topic()
    client.send(client.publish(at, "kept", 0, 0, True), client.subscribe((f"$share/g/{at}", 1)))
    return client.texts()


@question
def last_message_and_will():
    at, watcher = topic(), Client(name())
    watcher.send(watcher.subscribe((at, 1)))
    watcher.all()
    client = Client(name(), will=at)
    client.send(client.publish(at, "last", 1, 1))
    client.drop()
    return watcher.texts(1.0)


def take_over(version):
    at, who, watcher = topic(), name(), Client(name())
    watcher.send(watcher.subscribe((at, 1)))
    watcher.all()
    old = Client(who, version, clean=False, expiry_s=60, will=at)
    _new = Client(who, version, clean=False, expiry_s=60)
    told = old.texts() or "nothing"
    return f"old is told {told}, watcher {watcher.texts() or 'nothing'}"


@question
def take_over_3_1_1():
    return take_over(4)


@question
def take_over_5_0():
    return take_over(5)


@question
def retain_flag_of_live_messages():
    client, at = Client(name()), topic()
    client.send(client.subscribe((at, 0)))
    client.all()
    client.send(client.publish(at, "a", 0, 0, True), client.publish(at, "", 0, 0, True))
    return client.texts()


def answer(asked):
    """The answer; that there is none if the broker does not serve what the question needs, such as 5.0."""
    try:
        return asked()
    except (AssertionError, TypeError, KeyError, OSError) as refused:
        return f"not served ({type(refused).__name__})"


for asked in QUESTIONS:
    if len(sys.argv) < 4 or sys.argv[3] in asked.__name__:
        print(f"{asked.__name__}: {answer(asked)}", flush=True)
