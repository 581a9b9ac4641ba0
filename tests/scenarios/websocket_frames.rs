//! What a WebSocket may carry: frames by hand against the bridge, and what it makes of an upstream's.

use serde_json::json;
use tests::client::Lost;
use tests::gateway::{Gateway, Setup};
use tests::wait::{self, PATIENCE};
use tests::websocket::{PeerClient, PeerServer, RawSocket, connect, frame};

const WS: &str = "/ws";

/// What the record of the socket that was closed with this code says.
fn recorded(gateway: &Gateway, code: u16) -> serde_json::Value {
    wait::until(&format!("the record of a socket closed with {code}"), PATIENCE, || {
        gateway.audit().records().into_iter().find(|record| record["socket"]["close_code"] == code)
    })
}

#[test]
fn bad_frames_are_closed_with_the_code_that_says_why() {
    let server = PeerServer::start();
    let gateway = Setup::demo().upstream(&server.url()).start();
    let browser = gateway.signed_in("standard_user");
    let check = |bytes: &[u8], code: u16, reason: &str| {
        let mut socket = RawSocket::open(&gateway, &browser, WS);
        socket.send(bytes);
        assert_eq!(socket.closed(), (code, reason.to_owned()), "{bytes:02x?}");
        // The connection ends with it: nothing else is read from such a client.
        assert_eq!(socket.client().rest(PATIENCE), Some(Vec::new()), "{bytes:02x?}");
    };
    check(b"\x81\x05Hello", 1002, "not masked");
    check(&frame(0xc1, b"compressed"), 1002, "reserved bit");
    check(&frame(0x83, b""), 1002, "unknown opcode");
    check(&frame(0x80, b"x"), 1002, "nothing to continue");
    check(&[frame(0x01, b"a"), frame(0x81, b"b")].concat(), 1002, "message in a message");
    check(&frame(0x09, b"ping in pieces"), 1002, "control frame long or in pieces");
    check(&frame(0x89, &[0; 126]), 1002, "control frame long or in pieces");
    check(&frame(0x88, &[3]), 1002, "half a close code");
    check(&frame(0x88, &1005_u16.to_be_bytes()), 1002, "close code");
    check(&frame(0x81, b"\xc3\x28"), 1007, "text is not UTF-8");
    check(&frame(0x81, b"\xe2\x82"), 1007, "text is not UTF-8");
    check(b"\x82\xff\x00\x00\x00\x00\x10\x00\x00\x00\x01\x02\x03\x04", 1009, "message too large");
    // A request that was put behind the handshake is no frame.
    check(b"GET /api/rbac/roles HTTP/1.1\r\n\r\n", 1002, "reserved bit");
    let record = recorded(&gateway, 1007);
    assert_eq!(record["socket"]["closed_by"], "gateway", "{record:#}");
    assert_eq!(record["decision"]["detail"], "text is not UTF-8", "{record:#}");
}

#[test]
fn fragments_pings_and_messages_at_the_bound_pass() {
    let server = PeerServer::start();
    let gateway = Setup::demo().upstream(&server.url()).start();
    let browser = gateway.signed_in("standard_user");
    let mut client = PeerClient::start();
    let socket = client.connect(&gateway, &browser, WS);
    client.must(&json!({"do": "ping", "id": socket}));
    client.must(&json!({"do": "send", "id": socket, "text": "in pieces of three", "step": 3}));
    assert_eq!(client.must(&json!({"do": "receive", "id": socket}))["text"], "in pieces of three");
    let bound = 10 * 1024 * 1024;
    for size in [0, 1, 125, 126, 65_535, 65_536, bound] {
        client.must(&json!({"do": "send", "id": socket, "size": size}));
        assert_eq!(
            client.must(&json!({"do": "receive", "id": socket})),
            json!({"size": size, "kind": "bytes"})
        );
    }
    assert_eq!(client.echo(socket, "!ping"), "pong came");
    client.must(&json!({"do": "send", "id": socket, "size": bound + 1}));
    assert_eq!(client.closed(socket), (1009, "message too large".to_owned()));
    let largest = server.wait("the largest message", |event| event["size"] == bound);
    assert_eq!(largest["kind"], "bytes");

    // And the other way round, where the bound is the upstream's to keep.
    let socket = client.connect(&gateway, &browser, WS);
    client.must(&json!({"do": "send", "id": socket, "text": format!("!send {bound}")}));
    assert_eq!(client.must(&json!({"do": "receive", "id": socket}))["size"], bound);
    client.must(&json!({"do": "send", "id": socket, "text": format!("!send {}", bound + 1)}));
    assert_eq!(client.closed(socket), (1014, "the service is not understood".to_owned()));
}

#[test]
fn no_extension_is_agreed_to_and_only_a_protocol_that_both_sides_name() {
    let server = PeerServer::start();
    let gateway = Setup::demo().upstream(&server.url()).start();
    let browser = gateway.signed_in("standard_user");
    let mut client = PeerClient::start();
    // The library offers permessage-deflate by itself.
    let mut order = connect(&gateway, &browser, WS);
    order["subprotocols"] = json!(["v1.chat", "other"]);
    let opened = client.must(&order);
    assert_eq!(opened["subprotocol"], "v1.chat", "{opened}");
    let headers = opened["headers"].as_array().expect("headers");
    assert!(!headers.iter().any(|header| header[0] == "sec-websocket-extensions"), "{opened}");
    for name in ["x-request-id", "x-content-type-options"] {
        assert!(headers.iter().any(|header| header[0] == name), "{name} in {opened}");
    }
    assert!(!headers.iter().any(|header| header[0] == "server"), "{opened}");
    let open = server.wait("the upstream's handshake", |event| event["event"] == "open");
    let sent = open["headers"].as_array().expect("headers");
    let value = |name: &str| sent.iter().find(|header| header[0] == name).map(|header| header[1].clone());
    assert_eq!(value("sec-websocket-extensions"), None, "{open}");
    assert_eq!(value("cookie"), None, "{open}");
    let token = value("authorization").expect("our identity");
    assert!(token.as_str().is_some_and(|token| token.starts_with("Bearer ey")), "{open}");
    assert_eq!(client.must(&connect(&gateway, &browser, WS))["subprotocol"], json!(null));
}

#[test]
fn a_client_that_says_too_much_is_let_go() {
    let server = PeerServer::start();
    let gateway = Setup::demo().upstream(&server.url()).start();
    let browser = gateway.signed_in("standard_user");
    let mut socket = RawSocket::open(&gateway, &browser, WS);
    socket.send(&frame(0x82, b"x").repeat(500));
    assert_eq!(socket.closed(), (1008, "too many messages".to_owned()));
    let mut socket = RawSocket::open(&gateway, &browser, WS);
    socket.send(&[frame(0x01, b"x"), frame(0x00, b"x").repeat(500)].concat());
    assert_eq!(socket.closed(), (1008, "too many messages".to_owned()), "dust");
}

#[test]
fn an_upstream_that_dies_lies_or_closes_is_told_to_the_client() {
    let mut server = PeerServer::start();
    let gateway = Setup::demo().upstream(&server.url()).start();
    let browser = gateway.signed_in("standard_user");
    let mut client = PeerClient::start();
    let mut check = |text: &str, code: u64, reason: &str| {
        let socket = client.connect(&gateway, &browser, WS);
        client.must(&json!({"do": "send", "id": socket, "text": text}));
        assert_eq!(client.closed(socket), (code, reason.to_owned()), "{text}");
    };
    check("!close 4001 away", 4001, "away");
    check("!abort", 1014, "the service is gone");
    check("!raw c1024142", 1014, "the service is not understood");
    let socket = client.connect(&gateway, &browser, WS);
    server.kill();
    assert_eq!(client.closed(socket), (1014, "the service is gone".to_owned()));
    let refused = client.ask(&connect(&gateway, &browser, WS));
    assert_eq!(refused["status"], 502, "{refused}");
    assert_eq!(recorded(&gateway, 4001)["socket"]["closed_by"], "upstream");
    let died = recorded(&gateway, 1014);
    assert_eq!(
        (&died["answer"]["end"], &died["socket"]["closed_by"]),
        (&json!("upstream_died"), &json!("upstream"))
    );
}

#[test]
fn a_client_that_vanishes_leaves_one_record_and_no_socket_behind() {
    let server = PeerServer::start();
    let gateway = Setup::demo().upstream(&server.url()).start();
    let browser = gateway.signed_in("standard_user");
    let mut client = PeerClient::start();
    let socket = client.connect(&gateway, &browser, WS);
    client.must(&json!({"do": "abort", "id": socket}));
    let closed = server.wait("the upstream's end", |event| event["event"] == "closed");
    assert_eq!(closed["code"], 1001, "{closed}");
    let records = wait::until("its record", PATIENCE, || {
        let of_it = |record: &serde_json::Value| record["answer"]["status"] == 101;
        let found: Vec<_> = gateway.audit().records().into_iter().filter(of_it).collect();
        (!found.is_empty()).then_some(found)
    });
    assert_eq!(records.len(), 1, "{records:#?}");
    assert_eq!(records[0]["answer"]["end"], "client_gone", "{records:#?}");
}

#[test]
fn a_reader_that_never_reads_stops_the_one_that_it_hears() {
    let server = PeerServer::start();
    let gateway = Setup::demo().upstream(&server.url()).start();
    let browser = gateway.signed_in("standard_user");
    let mut socket = RawSocket::open(&gateway, &browser, WS);
    // Far more than the buffers of all three machines' sockets hold together.
    socket.frame(0x81, b"!flood 64 1000000");
    let mut client = PeerClient::start();
    let other = client.connect(&gateway, &browser, WS);
    assert_eq!(client.echo(other, "not held up"), "not held up");
    // Read on, it all arrives.
    let mut bytes = 0;
    while bytes < 64_000_000 {
        match socket.receive() {
            Ok((_, payload)) => bytes += payload.len(),
            Err(lost @ (Lost::Closed(_) | Lost::Silent)) => panic!("{bytes} bytes, then {lost:?}"),
        }
    }
}
