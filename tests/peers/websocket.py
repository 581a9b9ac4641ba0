"""An independent client and server of WebSockets (PyPI `websockets`), driven by lines of JSON.

`serve [CERTIFICATE KEY]` prints {"port": N} and then one line for each thing that happens to it. `drive` answers each line that it
reads with one line. Neither knows what is expected: the scenarios say that.
"""

import asyncio
import json
import ssl
import sys
import time

import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve


def say(**line):
    print(json.dumps(line), flush=True)


async def answer(socket):
    """Echoes, and does what it is told by texts that begin with `!`."""
    request = socket.request
    headers = [[name.lower(), value] for name, value in request.headers.raw_items()]
    say(event="open", path=request.path, headers=headers)
    try:
        async for message in socket:
            say(event="message", kind=type(message).__name__, size=len(message))
            match message.split(" ") if isinstance(message, str) else []:
                case ["!close", code, reason]:
                    await socket.close(int(code), reason)
                case ["!abort"]:
                    socket.transport.abort()
                case ["!send", size]:
                    await socket.send("x" * int(size))
                case ["!flood", count, size]:
                    for _ in range(int(count)):
                        await socket.send(b"x" * int(size))
                case ["!ping"]:
                    await (await socket.ping(b"from upstream"))
                    await socket.send("pong came")
                case ["!raw", data]:
                    socket.transport.write(bytes.fromhex(data))
                case _:
                    await socket.send(message)
    except websockets.ConnectionClosed:
        pass
    finally:
        say(event="closed", code=socket.close_code, reason=socket.close_reason)


def plain(connection, request):
    """Answers what is no handshake; with a conversation's id, as BotServer makes one."""
    if "upgrade" not in request.headers:
        body = {"user_id": "somebody", "session_id": "11111111-2222-3333-4444-555555555555", "status": "active"}
        return connection.respond(200, json.dumps(body))


async def run_server():
    def choose(connection, offered):
        return next((protocol for protocol in ["v2.chat", "v1.chat"] if protocol in offered), None)

    tls = None
    if sys.argv[2:]:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(*sys.argv[2:])
    async with serve(
        answer,
        "127.0.0.1",
        0,
        ssl=tls,
        process_request=plain,
        select_subprotocol=choose,
        ping_interval=None,
        max_size=None,
    ) as server:
        say(port=server.sockets[0].getsockname()[1])
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def do(sockets, order):
    match order["do"]:
        case "connect":
            opened = []
            where = {}
            if "port" in order:
                where = {"host": "127.0.0.1", "port": order["port"]}
                where["ssl"] = ssl.create_default_context(cafile=order["ca"])
            for _ in range(order.get("count", 1)):
                socket = await connect(
                    order["url"],
                    additional_headers=order.get("headers", {}),
                    origin=order.get("origin"),
                    subprotocols=order.get("subprotocols"),
                    ping_interval=None,
                    max_size=None,
                    proxy=None,
                    **where,
                )
                sockets.append(socket)
                opened.append(len(sockets) - 1)
            headers = [[name.lower(), value] for name, value in socket.response.headers.raw_items()]
            return {"id": opened[0], "headers": headers, "subprotocol": socket.subprotocol}
        case "send":
            message = order["text"] if "text" in order else b"x" * order["size"]
            if step := order.get("step"):
                message = [message[at : at + step] for at in range(0, len(message), step)]
            await sockets[order["id"]].send(message)
            return {}
        case "receive":
            message = await sockets[order["id"]].recv()
            if isinstance(message, str) and len(message) < 1000:
                return {"text": message}
            return {"size": len(message), "kind": type(message).__name__}
        case "ping":
            await (await sockets[order["id"]].ping(b"from client"))
            return {}
        case "rounds":
            for number in range(order["count"]):
                async with connect(
                    order["url"], additional_headers=order["headers"], origin=order["origin"], proxy=None
                ) as socket:
                    await socket.send(f"round {number}")
                    if await socket.recv() != f"round {number}":
                        return {"lost": number}
            return {"rounds": order["count"]}
        case "close":
            await sockets[order["id"]].close(order.get("code", 1000), order.get("reason", ""))
            return {}
        case "closed":
            socket = sockets[order["id"]]
            try:
                while True:
                    await socket.recv()
            except websockets.ConnectionClosed:
                pass
            return {"code": socket.close_code, "reason": socket.close_reason}
        case "all_closed":
            # Sockets that nobody reads from learn of their end all the same.
            await asyncio.gather(*(socket.wait_closed() for socket in sockets))
            codes = sorted({socket.close_code for socket in sockets})
            return {"codes": codes, "count": len(sockets), "at": time.time()}
        case "abort":
            sockets[order["id"]].transport.abort()
            return {}


async def run_client():
    sockets = []
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            said = await do(sockets, json.loads(line))
        except websockets.InvalidStatus as refused:
            said = {"status": refused.response.status_code, "body": (refused.response.body or b"").decode()}
        except websockets.ConnectionClosed as closed:
            said = {"closed": closed.rcvd.code if closed.rcvd else 1006}
        except Exception as error:
            said = {"error": f"{type(error).__name__}: {error}"}
        say(**said)


asyncio.run({"serve": run_server, "drive": run_client}[sys.argv[1]]())
