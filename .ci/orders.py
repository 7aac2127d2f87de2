#!/usr/bin/env python3
"""Orders from outside: gRPC's own client, which learns the contract by reflection.

    orders.py check ADDRESS                             each kind of order, and what it must answer
    orders.py load ADDRESS SECONDS RATE [WELL_FROM]     orders at a steady rate; prints how they ended
    orders.py chaos ADDRESS TEXT                        changes the faults of a user service

ORDERS_CA=FILE calls over TLS and believes that authority; ORDERS_CERT and ORDERS_KEY are what
the caller shows then.

`load` fails when an answer took longer than the deadline of the calls behind it and a
little more. What the orders say while a fault lasts is not judged, but those that start
WELL_FROM seconds after the first, or later, must all be created.
"""

import collections
import concurrent.futures
import math
import os
import pathlib
import re
import sys
import time
import uuid

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

ANSWER_MAX_S = 1.1


def method(channel, service, name):
    """A callable for one method, and the class of its requests."""
    pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    descriptor = pool.FindServiceByName(service).methods_by_name[name]
    request, response = (message_factory.GetMessageClass(kind) for kind in (descriptor.input_type, descriptor.output_type))
    call = channel.unary_unary(
        f"/{service}/{name}", request_serializer=request.SerializeToString, response_deserializer=response.FromString
    )
    return call, request


def order(request, user_id, *prices, quantity=1, order_id=None):
    """An order with an id of its own, unless it is given one."""
    if order_id is None:
        order_id = f"order-{uuid.uuid4()}"
    items = [{"product_id": f"product-{i}", "quantity": quantity, "price": price} for i, price in enumerate(prices)]
    return request(order_id=order_id, user_id=user_id, items=items)


def check(channel):
    call, request = method(channel, "order.OrderService", "CreateOrder")

    wanted = order(request, "user-123", 0.1, 0.1, 0.1)
    created = call(wanted, timeout=2)
    assert (created.status, created.error_message) == ("CREATED", ""), created
    assert created.user_name == "Иван Иванов", created
    assert created.total_amount == 0.3, "money is added exactly: %r" % created.total_amount

    assert call(wanted, timeout=2) == created, "the same again is answered as the first was"
    try:
        answer = call(order(request, "user-123", 0.1, order_id=wanted.order_id), timeout=2)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.ALREADY_EXISTS, error
    else:
        raise AssertionError(f"another order of the same id was answered: {answer}")

    for user_id in ("user-nobody", "user-789"):
        declined = call(order(request, user_id, 1.0), timeout=2)
        assert declined.status == "ERROR" and declined.error_message, declined

    malformed = {
        "no order id": order(request, "user-123", 1.0, order_id=""),
        "no user id": order(request, "", 1.0),
        "no items": order(request, "user-123"),
        "no quantity": order(request, "user-123", 1.0, quantity=0),
        "a negative price": order(request, "user-123", -1.0),
        "a price that is no number": order(request, "user-123", float("nan")),
    }
    for what, broken in malformed.items():
        try:
            answer = call(broken, timeout=2)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, (what, error)
        else:
            raise AssertionError(f"an order with {what} was answered: {answer}")
    print(f"one order created, once, two declined, {len(malformed)} malformed ones refused")


def load(channel, seconds, rate, well_from=math.inf):
    call, request = method(channel, "order.OrderService", "CreateOrder")

    def one(number):
        began = time.monotonic()
        try:
            answer = call(order(request, "user-123", 1.0), timeout=5)
            end = answer.status
            if end != "CREATED":  # times differ each time: counted as one
                end += ": " + re.sub(r"[\d.]+ ?m?s\b", "N ms", answer.error_message)
        except grpc.RpcError as error:
            end = error.code().name
        return number / rate, end, time.monotonic() - began

    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(max_workers=128) as pool:
        pending = []
        for number in range(int(seconds * rate)):
            time.sleep(max(0, start + number / rate - time.monotonic()))
            pending.append(pool.submit(one, number))
        done = [order.result() for order in pending]

    for end, count in collections.Counter(end for _, end, _ in done).most_common(8):
        print(f"{count:6} {end}")
    slowest = max(took for _, _, took in done)
    late = [(at, end) for at, end, _ in done if at >= well_from and end != "CREATED"]
    print(f"slowest answer: {slowest * 1000:.0f} ms")
    assert slowest <= ANSWER_MAX_S, f"an answer took {slowest:.3f} s"
    assert not late, f"not well again after {well_from} s: {late[:5]}"


def chaos(channel, text):
    call, request = method(channel, "chaos.v1.Chaos", "Set")
    print("chaos:", call(request(chaos=text), timeout=2).chaos)


def channel_to(address):
    if "ORDERS_CA" not in os.environ:
        return grpc.insecure_channel(address)
    names = ("ORDERS_CA", "ORDERS_KEY", "ORDERS_CERT")
    files = (pathlib.Path(os.environ[name]).read_bytes() if name in os.environ else None for name in names)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(*files))


def main(command, address, *arguments):
    with channel_to(address) as channel:
        if command == "check":
            check(channel)
        elif command == "load":
            load(channel, *map(float, arguments))
        elif command == "chaos":
            chaos(channel, arguments[0])
        else:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
