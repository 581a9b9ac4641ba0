mod server;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pingora_core::protocols::Stream;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::head::{end, request as read_request, response as read_response};
use super::incoming::{Incoming, length};
use super::*;
use crate::pipeline::headers::HeaderEdits;

const MINUTE: Duration = Duration::from_secs(60);

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn a_head_ends_with_its_first_empty_line() {
    for (bytes, expected) in [
        (b"".as_slice(), Err(0)),
        (b"GET / HTTP/1.1\r\n", Err(16)),
        (b"GET / HTTP/1.1\r\nA: b\r\n\r", Err(22)),
        (b"GET / HTTP/1.1\r\nA: b\r\n\r\n", Ok(24)),
        (b"GET / HTTP/1.1\r\nA: b\r\n\r\nmore\r\n\r\n", Ok(24)),
        (b"GET / HTTP/1.1\nA: b\n\nmore", Ok(21)),
        (b"GET / HTTP/1.1\r\n\r\r\n\r\n", Ok(21)),
    ] {
        assert_eq!(end(bytes, 0), expected, "{}", bytes.escape_ascii());
    }
}

/// Method, version and fields.
type Read<'a> = (&'a str, Version, &'a [(&'a str, &'a str)]);

#[test]
fn heads_of_requests_are_read_or_named() {
    let check = |bytes: &[u8], expected: Result<Read<'_>, &str>| {
        let mut head = RequestHead::default();
        let read = read_request(&bytes::Bytes::copy_from_slice(bytes), &mut head);
        let fields: Vec<(&str, &str)> = head
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), std::str::from_utf8(value.as_bytes()).unwrap()))
            .collect();
        let read = read.map(|strict| {
            assert_eq!(strict, !bytes.windows(2).any(|two| two[0] != b'\r' && two[1] == b'\n'));
            (head.method.as_str(), head.version, fields.as_slice())
        });
        assert_eq!(read, expected, "{}", bytes.escape_ascii());
    };
    let eleven = Version::HTTP_11;
    check(b"GET /a HTTP/1.1\r\n\r\n", Ok(("GET", eleven, &[])));
    check(b"PURGE * HTTP/1.0\r\nA:b\r\n\r\n", Ok(("PURGE", Version::HTTP_10, &[("a", "b")])));
    // What is judged later is read as it is: a target of any bytes, a line of any number of parts, values of any text.
    check(
        b"GET \xff<> x HTTP/1.1\r\nA: \t b c \t\r\na:\r\n\r\n",
        Ok(("GET", eleven, &[("a", "b c"), ("a", "")])),
    );
    check(b"GET /a HTTP/1.1\nA: b\n\n", Ok(("GET", eleven, &[("a", "b")])));
    check(b"G<T /a HTTP/1.1\r\n\r\n", Err("a method"));
    check(b" /a HTTP/1.1\r\n\r\n", Err("a method"));
    check(b"GET /a HTTP/2.0\r\n\r\n", Err("a version"));
    check(b"GET /a\r\n\r\n", Err("a version"));
    check(b"GET /a HTTP/1.1 \r\n\r\n", Err("a version"));
    check(b"GET /a HTTP/1.1\r\nno field\r\n\r\n", Err("a field without a colon"));
    check(b"GET /a HTTP/1.1\r\nA : b\r\n\r\n", Err("a field's name"));
    check(b"GET /a HTTP/1.1\r\n: b\r\n\r\n", Err("a field's name"));
    check(b"GET /a HTTP/1.1\r\nA: b\r\n c: d\r\n\r\n", Err("a field's name"));
    check(b"GET /a HTTP/1.1\r\nA: \x0cb\r\n\r\n", Err("a field's value"));
    check(b"GET /a HTTP/1.1\r\nA: b\x0c\r\n\r\n", Err("a field's value"));
    check(b"GET /a HTTP/1.1\r\nA: b\0\r\n\r\n", Err("a field's value"));
    check(b"GET /a HTTP/1.1\r\nA: b\rc\r\n\r\n", Err("a field's value"));
    let many = |count: usize| format!("GET /a HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count)).into_bytes();
    let read = |bytes: Vec<u8>| read_request(&bytes.into(), &mut RequestHead::default());
    assert_eq!(read(many(head::FIELDS_MAX)), Ok(true));
    assert!(read(many(head::FIELDS_MAX + 1)).is_err());
}

#[test]
fn heads_of_answers_are_read_or_named() {
    let check = |line: &str, expected: Result<(u16, Version, Option<&str>), &str>| {
        let mut head = ResponseHead::default();
        let read = read_response(&format!("{line}\r\nA: b\r\n\r\n").into(), &mut head);
        let reason = head.reason.as_deref().map(|reason| std::str::from_utf8(reason).unwrap());
        assert_eq!(read.map(|()| (head.status.as_u16(), head.version, reason)), expected, "{line}");
    };
    let eleven = Version::HTTP_11;
    check("HTTP/1.1 200 OK", Ok((200, eleven, None)));
    check("HTTP/1.0 404 Not Found", Ok((404, Version::HTTP_10, None)));
    check("HTTP/1.1 200 Fine by me", Ok((200, eleven, Some("Fine by me"))));
    check("HTTP/1.1 200 ", Ok((200, eleven, Some(""))));
    check("HTTP/1.1 200", Ok((200, eleven, Some(""))));
    check("HTTP/1.1 999 ", Ok((999, eleven, None)));
    for (line, fault) in [
        ("HTTP/1.1 99 x", "a status"),
        ("HTTP/1.1 2000 x", "a status"),
        ("HTTP/1.1 +20 x", "a status"),
        ("HTTP/1.1 200 \u{7}", "a reason"),
        ("HTTP/2.0 200 OK", "a version"),
        ("HTTP/1.1  200 OK", "a status"),
        ("ICY 200 OK", "a version"),
        ("", "a status line"),
    ] {
        check(line, Err(fault));
    }
}

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

#[test]
fn a_length_is_one_number_however_often_it_is_said() {
    let of = |values: &[&'static str]| {
        length(&headers(&values.iter().map(|value| ("content-length", *value)).collect::<Vec<_>>()))
    };
    assert_eq!(of(&[]), Ok(None));
    assert_eq!(of(&["17"]), Ok(Some(17)));
    assert_eq!(of(&["017"]), Ok(Some(17)));
    assert_eq!(of(&["17", "17"]), Ok(Some(17)));
    assert_eq!(of(&["17, 17"]), Ok(Some(17)));
    for values in [
        ["17", "18"].as_slice(),
        &["17, 18"],
        &[""],
        &["17,"],
        &["+17"],
        &["-1"],
        &["1e3"],
        &["0x1"],
        &["18446744073709551616"],
    ] {
        assert!(of(values).is_err(), "{values:?}");
    }
}

#[test]
fn a_connection_goes_on_as_its_version_and_its_headers_say() {
    for (version, value, expected) in [
        (Version::HTTP_11, None, true),
        (Version::HTTP_10, None, false),
        (Version::HTTP_11, Some("close"), false),
        (Version::HTTP_11, Some("x, Close"), false),
        (Version::HTTP_11, Some("keep-alive, close"), false),
        (Version::HTTP_11, Some("upgrade"), true),
        (Version::HTTP_10, Some("Keep-Alive"), true),
        (Version::HTTP_10, Some("closed"), false),
    ] {
        let headers = headers(&value.map(|value| ("connection", value)).into_iter().collect::<Vec<_>>());
        assert_eq!(incoming::goes_on(version, &headers), expected, "{version:?} {value:?}");
    }
}

fn field() -> impl Strategy<Value = (HeaderName, HeaderValue)> {
    let name = select(vec!["accept", "cookie", "x-a", "x-b", "x-request-id", "set-cookie"]);
    (name, "[ -~]{0,8}").prop_map(|(name, value)| (name.parse().unwrap(), value.trim().parse().unwrap()))
}

fn edits() -> impl Strategy<Value = HeaderEdits> {
    (vec(field(), 0..4), vec(field(), 0..4), vec(field(), 0..3)).prop_map(|(remove, set, append)| {
        let mut edits = HeaderEdits::default();
        remove.into_iter().for_each(|(name, _)| edits.remove(name));
        set.into_iter().for_each(|(name, value)| edits.set(name, value));
        append.into_iter().for_each(|(name, value)| edits.append(name, value));
        edits
    })
}

/// What a map holds, without the order of different names.
fn sorted(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let mut all: Vec<_> = headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    all.sort_by(|one, other| one.0.as_str().cmp(other.0.as_str()));
    all
}

/// How a body is framed on the wire, by hand.
#[derive(Clone, Copy, Debug)]
enum Framed {
    Length,
    Chunked(usize),
    UntilClose,
}

fn answer_of(body: &[u8], framed: Framed) -> Vec<u8> {
    let mut wire = b"HTTP/1.1 200 OK\r\n".to_vec();
    match framed {
        Framed::Length => {
            wire.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
            wire.extend(body);
        }
        Framed::Chunked(size) => {
            wire.extend(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in body.chunks(size) {
                wire.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                wire.extend(chunk);
                wire.extend(b"\r\n");
            }
            wire.extend(b"0\r\n\r\n");
        }
        Framed::UntilClose => {
            wire.extend(b"\r\n");
            wire.extend(body);
        }
    }
    wire
}

fn cut(all: &[u8], cuts: &[Index]) -> Vec<Vec<u8>> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(all.len() + 1)).collect();
    cuts.extend([0, all.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|ends| all[ends[0]..ends[1]].to_vec()).filter(|piece| !piece.is_empty()).collect()
}

fn client(stream: DuplexStream) -> ClientSession {
    let stream: Stream = Box::new(stream);
    ClientSession::new(stream, MINUTE, MINUTE)
}

/// An answer in pieces, each once the one before it was taken; whether the upstream closes then.
fn upstream(pieces: Vec<Vec<u8>>, closes: bool) -> ClientSession {
    let (ours, mut theirs) = tokio::io::duplex(64);
    tokio::spawn(async move {
        for piece in pieces {
            theirs.write_all(&piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        if !closes {
            std::future::pending::<()>().await;
        }
    });
    client(ours)
}

async fn body_of(asked: &mut ClientSession) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(piece) = asked.piece().await.unwrap() {
        body.extend_from_slice(&piece);
    }
    body
}

proptest! {
    #[test]
    fn what_is_written_of_a_head_is_what_its_changes_make_of_it(
        fields in vec(field(), 0..6),
        edits in edits(),
    ) {
        let mut came = HeaderMap::new();
        for (name, value) in fields {
            came.append(name, value);
        }
        let wire = request(&Method::GET, "/", &came, &edits, Outgoing::None);
        let mut read = RequestHead::default();
        read_request(&wire.into(), &mut read).unwrap();
        edits.apply(&mut came);
        prop_assert_eq!(sorted(&read.headers), sorted(&came));
    }

    #[test]
    fn an_answer_is_read_whole_however_it_is_framed_and_cut(
        body in vec(any::<u8>(), 0..300),
        framed in prop_oneof![
            Just(Framed::Length), Just(Framed::UntilClose), (1_usize..80).prop_map(Framed::Chunked),
        ],
        cuts in vec(any::<Index>(), 0..10),
        interim in any::<bool>(),
    ) {
        let mut wire = if interim { b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n".to_vec() } else { Vec::new() };
        wire.extend(answer_of(&body, framed));
        let closes = matches!(framed, Framed::UntilClose);
        run(async {
            let mut asked = upstream(cut(&wire, &cuts), closes);
            asked.answer().await.unwrap();
            if interim {
                assert_eq!(asked.head().status, StatusCode::EARLY_HINTS);
                asked.answer().await.unwrap();
            }
            assert_eq!(asked.head().status, StatusCode::OK);
            assert_eq!(body_of(&mut asked).await, body);
            assert!(asked.is_done());
            assert_eq!(asked.may_be_asked_again() , !closes);
        });
    }

    #[test]
    fn a_body_arrives_as_it_was_written(pieces in vec(vec(any::<u8>(), 1..100), 0..6), chunked in any::<bool>()) {
        let whole = pieces.concat();
        let body = if chunked { Outgoing::Chunked } else { Outgoing::Length(whole.len() as u64) };
        let framing = if chunked {
            headers(&[("transfer-encoding", "chunked")])
        } else {
            HeaderMap::from_iter([(header::CONTENT_LENGTH, HeaderValue::from(whole.len()))])
        };
        run(async {
            let (ours, mut theirs) = tokio::io::duplex(100_000);
            let mut asked = client(ours);
            asked.ask(b"", body, false).await.unwrap();
            for piece in &pieces {
                asked.send(piece).await.unwrap();
            }
            asked.sent().await.unwrap();
            drop(asked);
            let mut wire = bytes::BytesMut::new();
            while theirs.read_buf(&mut wire).await.unwrap() > 0 {}
            let (mut incoming, mut read) = (Incoming::of_request(&framing), Vec::new());
            while let incoming::Taken::Piece(piece) = incoming.take(&mut wire).unwrap() {
                read.extend_from_slice(&piece);
            }
            assert!(incoming.is_done() && wire.is_empty());
            assert_eq!(read, whole);
        });
    }
}

#[test]
fn neither_more_nor_less_is_sent_than_was_announced() {
    run(async {
        for (announced, pieces, expected) in [
            (3, vec!["ab", "c"], Ok(())),
            (3, vec!["ab", "cd"], Err("more")),
            (3, vec!["ab"], Err("less")),
            (0, vec!["a"], Err("more")),
        ] {
            let (ours, _theirs) = tokio::io::duplex(1024);
            let mut asked = client(ours);
            asked.ask(b"", Outgoing::Length(announced), false).await.unwrap();
            let mut outcome = Ok(());
            for piece in pieces {
                outcome = outcome.and(asked.send(piece.as_bytes()).await.map_err(|_| "more"));
            }
            let outcome = match outcome {
                Ok(()) => asked.sent().await.map_err(|_| "less"),
                failed => failed,
            };
            assert_eq!(outcome, expected, "{announced}");
        }
    });
}

/// The head of an answer; whether only a head is asked for; how its body goes on; and whether its connection does.
const FRAMINGS: [(&str, bool, Result<Outgoing, ()>, bool); 17] = [
    ("200 OK\r\nContent-Length: 0", false, Ok(Outgoing::None), true),
    ("200 OK\r\nContent-Length: 9", true, Ok(Outgoing::None), true),
    ("200 OK\r\nTransfer-Encoding: chunked", true, Ok(Outgoing::None), true),
    ("204 No Content", false, Ok(Outgoing::None), true),
    ("204 No Content\r\nContent-Length: 9", false, Ok(Outgoing::None), false),
    ("304 Not Modified\r\nContent-Length: 9", false, Ok(Outgoing::None), true),
    ("200 OK\r\nContent-Length: 0\r\nConnection: close", false, Ok(Outgoing::None), false),
    ("200 OK\r\nContent-Length: 9", false, Ok(Outgoing::Length(9)), false),
    ("200 OK\r\nContent-Length: 9, 9", false, Ok(Outgoing::Length(9)), false),
    ("200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked", false, Ok(Outgoing::Chunked), false),
    ("200 OK\r\nTransfer-Encoding: gzip", false, Err(()), false),
    ("200 OK\r\nTransfer-Encoding: gzip, chunked", false, Err(()), false),
    ("200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", false, Err(()), false),
    ("200 OK", false, Ok(Outgoing::Chunked), false),
    ("200 OK\r\nContent-Length: 9\r\nContent-Length: 8", false, Err(()), false),
    ("200 OK\r\nContent-Length: nine", false, Err(()), false),
    ("204 No Content\r\nContent-Length: nine", false, Err(()), false),
];

#[test]
fn an_answers_framing_is_read_once_and_said_anew() {
    run(async {
        for (head, head_only, framing, again) in FRAMINGS {
            let (ours, mut theirs) = tokio::io::duplex(1024);
            let mut asked = client(ours);
            asked.ask(b"x", Outgoing::None, head_only).await.unwrap();
            theirs.write_all(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes()).await.unwrap();
            let read = asked.answer().await.map_err(|_| ());
            assert_eq!(read.map(|()| asked.framing()), framing, "{head}");
            assert_eq!(asked.may_be_asked_again(), again, "{head}");
        }
    });
}

#[test]
fn an_answer_that_ends_early_is_broken_and_one_that_is_too_long_is_the_last() {
    run(async {
        for wire in [
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
        ] {
            let mut asked = upstream(vec![wire.into()], true);
            asked.answer().await.unwrap();
            assert_eq!(asked.piece().await.unwrap().as_deref(), Some(&b"abc"[..]), "{wire}");
            assert!(asked.piece().await.is_err(), "{wire}");
        }
        let mut asked = upstream(
            vec![b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n".into()],
            false,
        );
        asked.answer().await.unwrap();
        assert_eq!(body_of(&mut asked).await, b"ok");
        assert!(!asked.may_be_asked_again());
        let mut asked =
            upstream(vec![b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\n".into()], false);
        asked.answer().await.unwrap();
        assert!(asked.piece().await.is_err());
        let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(200_000));
        assert!(upstream(vec![endless.into()], false).answer().await.is_err());
    });
}
