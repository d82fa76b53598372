"""Asks again and again who has two addresses, by ARP and by Neighbour Discovery.

Every question comes from a hardware address of its own, so that an answer tells which question it
is for, however late it comes. Prints `ask NUMBER FAMILY SECONDS` and `answer NUMBER FAMILY OWNER`.
"""

import select
import socket
import struct
import sys
import time

PERIOD = 0.01
# Nobody has them: no neighbour's table is touched.
ASKER4 = socket.inet_aton("172.30.0.249")
ASKER6 = socket.inet_pton(socket.AF_INET6, "fd00:30::f9")
OURS = b"\x02\x51\x00"


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def arp(target, mac):
    ask = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + ASKER4 + bytes(6) + target
    return b"\xff" * 6 + mac + b"\x08\x06" + ask


def solicitation(target, mac):
    group = bytes.fromhex("ff0200000000000000000001ff") + target[13:]
    body = target + b"\x01\x01" + mac
    pseudo = ASKER6 + group + struct.pack("!II", 8 + len(body), 58)
    check = checksum(pseudo + struct.pack("!BBHI", 135, 0, 0, 0) + body)
    icmp = struct.pack("!BBHI", 135, 0, check, 0) + body
    ip = struct.pack("!IHBB", 0x60000000, len(icmp), 58, 255) + ASKER6 + group
    return b"\x33\x33" + group[12:] + mac + b"\x86\xdd" + ip + icmp


def answer(frame, target4, target6):
    """Family and owner, when a frame is an answer about one of the targets."""
    if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\x00\x02" and frame[28:32] == target4:
        return "IPv4", frame[22:28]
    if frame[12:14] == b"\x86\xdd" and frame[54] == 136 and frame[62:78] == target6:
        return "IPv6", frame[80:86]
    return None


def main(target4, target6):
    target4 = socket.inet_aton(target4)
    target6 = socket.inet_pton(socket.AF_INET6, target6)
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    wire.bind(("eth0", 0))
    number, due = 0, time.monotonic()
    while True:
        left = due - time.monotonic()
        if left <= 0:
            number, due = number + 1, time.monotonic() + PERIOD
            mac = OURS + number.to_bytes(3, "big")
            print(f"ask {number} IPv4 {time.time()}\nask {number} IPv6 {time.time()}", flush=True)
            wire.send(arp(target4, mac))
            wire.send(solicitation(target6, mac))
            continue
        if not select.select([wire], [], [], left)[0]:
            continue
        frame = wire.recv(2048)
        if frame[:3] == OURS and (found := answer(frame, target4, target6)):
            family, owner = found
            print(f"answer {int.from_bytes(frame[3:6], 'big')} {family} {owner.hex(':')}", flush=True)


main(*sys.argv[1:])
