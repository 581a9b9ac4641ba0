use futures_util::FutureExt as _;
use http::HeaderMap;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::edge::framing::Framing;
use crate::edge::meter::HEAD_BYTES_MAX;
use crate::pipeline::headers::HeaderEdits;
use crate::proxy::http1::{Answer, Outgoing, ServerSession};

fn metered() -> (Metered, Arc<Meter>, tokio::io::DuplexStream) {
    metered_within(Connections::default())
}

fn metered_within(bounds: Connections) -> (Metered, Arc<Meter>, tokio::io::DuplexStream) {
    let (client, server) = tokio::io::duplex(4096);
    let meter = Arc::new(Meter::default());
    let refuse: Arc<Refuse> = Arc::new(|status| Bytes::from(format!("ours {status}")));
    (Metered::new(Box::new(server), meter.clone(), refuse, bounds), meter, client)
}

#[tokio::test]
async fn the_parsers_own_answer_never_leaves() {
    let (mut server, meter, mut client) = metered();
    server.write_all(b"HTTP/1.1 405 Method Not Allowed\r\nServer: Parser\r\n").await.unwrap();
    server.write_all(b"\r\n").await.unwrap();
    drop(server);
    let mut seen = String::new();
    client.read_to_string(&mut seen).await.unwrap();
    assert_eq!(seen, "ours 405");
    assert!(meter.told().is_none(), "nobody has told anything");
}

#[tokio::test]
async fn an_admitted_request_is_answered_as_written() {
    let (mut server, meter, mut client) = metered();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut buf = [0; 64];
    let read = server.read(&mut buf).await.unwrap();
    assert_eq!(read, 18);
    assert!(meter.begun().is_some());
    meter.with_head(|head| assert_eq!(head, b"GET / HTTP/1.1\r\n\r\n"));
    meter.admit(&HeaderMap::new());
    server.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    drop(server);
    let mut seen = String::new();
    client.read_to_string(&mut seen).await.unwrap();
    assert_eq!(seen, "HTTP/1.1 200 OK\r\n\r\n");
}

/// What the client has been sent so far.
fn sent(client: &mut tokio::io::DuplexStream) -> Vec<u8> {
    let mut seen = [0; 64];
    let read = client.read(&mut seen).now_or_never().map_or(0, Result::unwrap);
    seen.get(..read).unwrap_or_default().to_vec()
}

#[tokio::test]
async fn a_head_and_a_short_body_are_one_write_and_nothing_is_held_from_who_waits() {
    let (mut server, _meter, mut client) = admitted(Connections::default(), "0").await;
    server.write_all(b"head ").await.unwrap();
    assert_eq!(sent(&mut client), b"", "more may come");
    server.write_all(b"body").await.unwrap();
    server.flush().await.unwrap();
    assert_eq!(sent(&mut client), b"head body");
    server.write_all(b"event").await.unwrap();
    assert_eq!(sent(&mut client), b"");
    // The parser waits for its client to leave while an upstream takes its time.
    assert!(server.read(&mut [0; 1]).now_or_never().is_none());
    assert_eq!(sent(&mut client), b"event");
}

proptest! {
    #[test]
    fn what_is_written_arrives_whole_and_in_order_however_it_is_cut(
        writes in vec((0_usize..6_000, any::<bool>()), 0..12),
        pipe in 1_usize..5_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (seen, expected) = runtime.block_on(async {
            let (mut client, server) = tokio::io::duplex(pipe);
            let meter = Arc::new(Meter::default());
            meter.admit(&HeaderMap::new());
            let refuse: Arc<Refuse> = Arc::new(|_| Bytes::new());
            let mut server = Metered::new(Box::new(server), meter, refuse, Connections::default());
            let reading = tokio::spawn(async move {
                let mut seen = Vec::new();
                client.read_to_end(&mut seen).await.unwrap();
                seen
            });
            let mut expected = Vec::new();
            for ((length, flushes), letter) in writes.into_iter().zip(b'a'..) {
                let piece = vec![letter; length];
                server.write_all(&piece).await.unwrap();
                expected.extend(piece);
                if flushes {
                    server.flush().await.unwrap();
                }
            }
            AsyncWriteExt::shutdown(&mut server).await.unwrap();
            drop(server);
            (reading.await.unwrap(), expected)
        });
        prop_assert!(seen == expected, "{} of {}", seen.len(), expected.len());
    }
}

#[tokio::test]
async fn a_client_that_still_sends_gets_its_answer_first() {
    let (mut server, meter, mut client) = metered();
    client.write_all(b"POST / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(server.read(&mut [0; 64]).await.unwrap(), 19);
    meter.admit(&HeaderMap::from_iter([(http::header::CONTENT_LENGTH, "9999999".parse().unwrap())]));
    server.write_all(b"HTTP/1.1 413 Payload Too Large\r\n\r\n").await.unwrap();
    meter.linger();
    drop(server);
    // More than the pipe holds: without anybody who reads, this would not come to its end.
    client.write_all(&vec![b'x'; 64 * 1024]).await.unwrap();
    let mut seen = String::new();
    client.read_to_string(&mut seen).await.unwrap();
    assert!(seen.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn the_head_is_bounded_and_starts_anew() {
    let (mut server, meter, mut client) = metered();
    tokio::spawn(async move { client.write_all(&vec![b'a'; HEAD_BYTES_MAX + 500]).await });
    let mut all = Vec::new();
    server.read_to_end(&mut all).await.unwrap();
    assert_eq!(all.len(), HEAD_BYTES_MAX + 500);
    assert_eq!(meter.with_head(<[u8]>::len), HEAD_BYTES_MAX);
    meter.reset();
    assert!(meter.begun().is_none());
    assert!(meter.with_head(<[u8]>::is_empty));
}

/// A request with this head, admitted; its client.
async fn admitted(bounds: Connections, length: &str) -> (Metered, Arc<Meter>, tokio::io::DuplexStream) {
    let (mut server, meter, mut client) = metered_within(bounds);
    client.write_all(b"POST / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(server.read(&mut [0; 64]).await.unwrap(), 19);
    meter.admit(&HeaderMap::from_iter([(http::header::CONTENT_LENGTH, length.parse().unwrap())]));
    (server, meter, client)
}

fn quick() -> Connections {
    let moment = Duration::from_millis(20);
    Connections { body_grace: moment, stall: moment, ..Connections::default() }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_late_and_can_still_be_told() {
    let (mut server, meter, mut client) = admitted(quick(), "9").await;
    client.write_all(b"12").await.unwrap();
    assert_eq!(server.read(&mut [0; 64]).await.unwrap(), 2);
    assert_eq!(server.read(&mut [0; 64]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(meter.late(), Some(Late::Body));
    server.write_all(b"HTTP/1.1 408").await.unwrap();
    drop(server);
    let mut seen = String::new();
    client.read_to_string(&mut seen).await.unwrap();
    assert_eq!(seen, "HTTP/1.1 408");
}

#[tokio::test]
async fn a_head_that_does_not_end_is_late_from_its_first_byte_on() {
    let bounds = Connections { head: Duration::from_millis(20), ..Connections::default() };
    let (mut server, meter, mut client) = metered_within(bounds);
    // Nobody waits for one that has not begun, here.
    assert_eq!(server.read(&mut [0; 64]).now_or_never().map(Result::unwrap), None);
    client.write_all(b"GET / HT").await.unwrap();
    assert_eq!(server.read(&mut [0; 64]).await.unwrap(), 8);
    assert_eq!(server.read(&mut [0; 64]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(meter.late(), Some(Late::Head));
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_late() {
    let (mut server, meter, _client) = admitted(quick(), "0").await;
    // More than the pipe holds.
    server.write_all(&[0; 8192]).await.unwrap();
    let written = server.flush().await;
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(meter.late(), Some(Late::Reader));
}

#[tokio::test]
async fn a_request_past_the_routes_deadline_is_late_while_it_waits_for_its_answer() {
    let (mut server, meter, mut client) = admitted(Connections::default(), "0").await;
    meter.ends_by(crate::clock::instant());
    assert_eq!(server.read(&mut [0; 1]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(meter.late(), Some(Late::Route));
    server.write_all(b"HTTP/1.1 504").await.unwrap();
    server.flush().await.unwrap();
    let mut seen = [0; 12];
    client.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"HTTP/1.1 504");
    meter.reset();
    assert_eq!(meter.late(), None, "the next request has its own time");
}

/// What a parser that stands in the proxy's place saw: target and body of each request, and how it ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    requests: Vec<(String, Vec<u8>)>,
    broken: Option<&'static str>,
}

/// The target in a request line.
fn target(head: &[u8]) -> String {
    let line = head.trim_ascii_start().split(|byte| *byte == b' ').nth(1);
    String::from_utf8(line.unwrap_or_default().to_vec()).unwrap()
}

/// Serves as the proxy does until the connection ends.
async fn serve(metered: Metered, meter: Arc<Meter>) -> Seen {
    let mut seen = Seen::default();
    let mut session = ServerSession::new(Box::new(metered), Duration::from_secs(60));
    loop {
        meter.reset();
        if !matches!(session.arrives().await, Ok(true)) {
            return seen;
        }
        meter.admit(&session.head().headers);
        let mut body = Vec::new();
        loop {
            match session.piece().await {
                Ok(Some(bytes)) => body.extend_from_slice(&bytes),
                Ok(None) => break,
                Err(_) => {
                    seen.broken = Some(meter.body_fault().unwrap_or("not the framing"));
                    return seen;
                }
            }
        }
        // As the proxy does while its upstream thinks: what comes after the request must not end it.
        tokio::select! {
            biased;
            left = session.leaves() => assert_eq!(left.etype(), &pingora_core::ErrorType::ConnectionClosed),
            () = tokio::task::yield_now() => {}
        }
        seen.requests.push((meter.with_head(target), body));
        let answer = Answer {
            status: http::StatusCode::NO_CONTENT,
            reason: None,
            headers: &HeaderMap::new(),
            edits: &HeaderEdits::default(),
            body: Outgoing::None,
            length: None,
        };
        session.answers(&answer).await.unwrap();
        session.said().await.unwrap();
        if !session.goes_on().await.unwrap_or(false) {
            return seen;
        }
    }
}

/// What is seen when a client sends these pieces, each once the one before it was taken, and then leaves.
fn seen_of(pieces: Vec<Vec<u8>>) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (metered, meter, client) = metered();
        let (mut answers, mut client) = tokio::io::split(client);
        tokio::spawn(async move { tokio::io::copy(&mut answers, &mut tokio::io::sink()).await });
        tokio::spawn(async move {
            for piece in pieces {
                if client.write_all(&piece).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
        });
        serve(metered, meter).await
    })
}

fn cut(all: &[u8], cuts: &[Index]) -> Vec<Vec<u8>> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(all.len() + 1)).collect();
    cuts.extend([0, all.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|ends| all[ends[0]..ends[1]].to_vec()).filter(|piece| !piece.is_empty()).collect()
}

/// One request as its bytes, and what must be seen of it.
fn request() -> impl Strategy<Value = (Vec<u8>, (String, Vec<u8>))> {
    let target = "/[a-z]{1,8}";
    let blank = select(vec!["", "", "\r\n", "\n"]);
    // Bodies that look like requests: only their place tells them apart.
    let body = prop_oneof![
        vec(any::<u8>(), 0..200),
        Just(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        Just(b"0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n".to_vec()),
    ];
    (blank, target, body, 0..3).prop_map(|(blank, target, body, how)| {
        let mut wire = blank.as_bytes().to_vec();
        let body = if how == 0 { Vec::new() } else { body };
        let framing = match how {
            0 => String::new(),
            1 => format!("Content-Length: {}\r\n", body.len()),
            _ => "Transfer-Encoding: chunked\r\n".to_owned(),
        };
        wire.extend(format!("POST {target} HTTP/1.1\r\nHost: a\r\n{framing}\r\n").into_bytes());
        match how {
            2 => {
                for chunk in body.chunks(70) {
                    wire.extend(format!("{:x};a=b\r\n", chunk.len()).into_bytes());
                    wire.extend(chunk);
                    wire.extend(b"\r\n");
                }
                wire.extend(b"0\r\nX-Trailer: 1\r\n\r\n");
            }
            _ => wire.extend(&body),
        }
        (wire, (target, body))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn requests_sent_ahead_are_seen_as_if_sent_one_by_one(
        requests in vec(request(), 1..8),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let all: Vec<u8> = requests.iter().flat_map(|(wire, _)| wire.clone()).collect();
        let expected: Vec<_> = requests.into_iter().map(|(_, seen)| seen).collect();
        let seen = seen_of(cut(&all, &cuts));
        // A client that leaves while its last request is under way is gone; the ones before it are not concerned.
        prop_assert_eq!(seen, Seen { requests: expected, broken: None });
    }

    #[test]
    fn a_broken_chunk_ends_the_body_and_what_follows_is_no_request(
        before in vec(request(), 0..3),
        chunks in select(vec![
            "1\r\nx\r\n\r\n", "\r\n\r\n", "1\nx\n0\n\n", "0\r\nnonsense\r\n\r\n", "1;\r\nx\r\n0\r\n\r\n",
            "+1\r\nx\r\n0\r\n\r\n", "1\r\nxy\r\n0\r\n\r\n", "0\r\n\n", "0 \r\n\r\n",
        ]),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let mut all: Vec<u8> = before.iter().flat_map(|(wire, _)| wire.clone()).collect();
        all.extend(b"POST /broken HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        all.extend(chunks.bytes());
        all.extend(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        let seen = seen_of(cut(&all, &cuts));
        let expected: Vec<_> = before.into_iter().map(|(_, seen)| seen).collect();
        prop_assert_eq!(seen.requests, expected);
        prop_assert!(seen.broken.is_some_and(|fault| fault != "not the framing"), "{:?}", seen.broken);
    }
}

#[test]
fn a_head_whose_end_the_parser_sees_elsewhere_ends_the_connection() {
    // The parser takes a bare LF for the end of a line, so it sees a head where there is none for us.
    let seen = seen_of(vec![b"GET /a HTTP/1.1\nHost: a\n\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()]);
    assert!(seen.requests.len() <= 1, "{seen:?}");
}

#[test]
fn only_one_reading_of_the_length_is_a_framing() {
    let of = |lines: &[(&'static str, &'static str)]| {
        let headers: HeaderMap =
            lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        Framing::of(&headers)
    };
    assert_eq!(of(&[]), Framing::Length(0));
    assert_eq!(of(&[("content-length", "17")]), Framing::Length(17));
    assert_eq!(of(&[("transfer-encoding", "Chunked")]), Framing::Chunked);
    for lines in [
        [("content-length", "+1")].as_slice(),
        &[("content-length", "")],
        &[("content-length", "1, 1")],
        &[("content-length", "18446744073709551616")],
        &[("content-length", "1"), ("content-length", "1")],
        &[("content-length", "1"), ("transfer-encoding", "chunked")],
        &[("transfer-encoding", "gzip, chunked")],
        &[("transfer-encoding", "identity")],
        &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
    ] {
        assert_eq!(of(lines), Framing::Unknown, "{lines:?}");
    }
}
