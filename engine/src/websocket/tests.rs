use proptest::prelude::*;

use super::*;

/// One event, with its bytes owned.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Message(Kind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<Close>),
}

/// Reads everything, given in chunks of these sizes in turn; messages put together again.
fn read(from: Sender, bound: u64, bytes: &[u8], sizes: &[usize]) -> (Vec<Seen>, Result<(), Fault>) {
    let mut receiver = Receiver::new(from, bound);
    let (mut seen, mut message, mut held) = (Vec::new(), Vec::new(), Vec::new());
    let mut rest = bytes;
    let mut turns = sizes.iter().cycle();
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(rest.len().min(*turns.next().unwrap()));
        held.extend_from_slice(chunk);
        rest = after;
        loop {
            let (taken, event) = match receiver.next(&mut held) {
                Ok(Some(next)) => next,
                Ok(None) => break,
                Err(fault) => return (seen, Err(fault)),
            };
            match event {
                Event::Data(piece) => {
                    message.extend_from_slice(piece.payload);
                    if piece.last {
                        seen.push(Seen::Message(piece.kind, std::mem::take(&mut message)));
                    }
                }
                Event::Ping(payload) => seen.push(Seen::Ping(payload.to_vec())),
                Event::Pong(payload) => seen.push(Seen::Pong(payload.to_vec())),
                Event::Close(close) => seen.push(Seen::Close(close)),
            }
            held.drain(..taken);
        }
        assert!(held.len() < HEADER_BYTES_MAX + CONTROL_BYTES_MAX, "{} bytes held", held.len());
    }
    (seen, Ok(()))
}

fn from_server(bytes: &[u8]) -> (Vec<Seen>, Result<(), Fault>) {
    read(Sender::Server, 1000, bytes, &[usize::MAX])
}

fn fault(bytes: &[u8], expected: u16) {
    for sizes in [&[usize::MAX][..], &[1]] {
        let (_, outcome) = read(Sender::Server, 1000, bytes, sizes);
        assert_eq!(outcome.map_err(Fault::close_code), Err(expected), "{bytes:02x?}");
    }
}

#[test]
fn examples_of_the_rfc_are_read() {
    let hello = |kind| vec![Seen::Message(kind, b"Hello".to_vec())];
    assert_eq!(from_server(b"\x81\x05Hello"), (hello(Kind::Text), Ok(())));
    let masked = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(read(Sender::Client, 9, masked, &[1]), (hello(Kind::Text), Ok(())));
    assert_eq!(from_server(b"\x01\x03Hel\x80\x02lo"), (hello(Kind::Text), Ok(())));
    let between = from_server(b"\x01\x03Hel\x89\x01x\x80\x02lo").0;
    assert_eq!(between, [vec![Seen::Ping(b"x".to_vec())], hello(Kind::Text)].concat());
    assert_eq!(from_server(b"\x82\x00").0, [Seen::Message(Kind::Binary, Vec::new())]);
    assert_eq!(from_server(b"\x88\x00").0, [Seen::Close(None)]);
    assert_eq!(from_server(b"\x88\x04\x03\xe8hi").0, [Seen::Close(Some(Close::new(1000, "hi")))]);
}

#[test]
fn broken_frames_are_refused_with_their_code() {
    let protocol: [&[u8]; 17] = [
        b"\xc1\x00", // a reserved bit: what an extension would set
        b"\xa1\x00",
        b"\x91\x00",
        b"\x83\x00", // reserved opcodes
        b"\x8b\x00",
        b"\x81\x85",           // masked by a server
        b"\x09\x00",           // a ping in pieces
        b"\x89\x7e",           // a long ping
        b"\x80\x01a",          // nothing to continue
        b"\x01\x01a\x81\x01b", // a message in a message
        b"\x82\x7e\x00\x7d",   // 125 in the form of 126 and more
        b"\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff",
        b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00",
        b"\x88\x01\x03",     // half a code
        b"\x88\x02\x03\xed", // 1005 never travels
        b"\x88\x02\x03\xe7", // 999
        b"\x88\x02\x13\x88", // 5000
    ];
    for bytes in protocol {
        fault(bytes, 1002);
    }
    let (_, outcome) = read(Sender::Client, 9, b"\x81\x01a", &[1]);
    assert_eq!(outcome, Err(Fault::Protocol("not masked")), "a client must mask");
    for text in [
        &b"\x81\x01\xff"[..],
        b"\x81\x02\xc3\x28",
        b"\x81\x01\xc3",
        b"\x01\x01\xc3\x80\x01\x28",
        b"\x88\x03\x03\xe8\xff",
    ] {
        fault(text, 1007);
    }
    // One past the bound, whole or in pieces, and told by the header alone.
    fault(b"\x82\x7e\x03\xe9", 1009);
    fault(&[b"\x02\x7e\x03\xe8".as_slice(), &[0; 1000], b"\x80\x01"].concat(), 1009);
    assert!(from_server(&[b"\x82\x7e\x03\xe8".as_slice(), &[0; 1000]].concat()).1.is_ok());
}

#[test]
fn close_codes_are_those_that_travel() {
    for code in [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4401, 4999] {
        assert!(is_close_code(code), "{code}");
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
        assert!(!is_close_code(code), "{code}");
    }
    assert_eq!(Close::new(1000, &"ä".repeat(100)).reason.len(), 122, "cut at a character");
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        (65_500_usize..65_600).prop_map(|length| vec![b'x'; length]),
    ]
}

fn message() -> impl Strategy<Value = Seen> {
    prop_oneof![
        payload().prop_map(|payload| Seen::Message(Kind::Binary, payload)),
        "\\PC{0,200}".prop_map(|text| Seen::Message(Kind::Text, text.into_bytes())),
        proptest::collection::vec(any::<u8>(), 0..=125).prop_map(Seen::Ping),
        proptest::collection::vec(any::<u8>(), 0..=125).prop_map(Seen::Pong),
    ]
}

/// Writes as this side would, messages in pieces of `step` bytes.
fn write(seen: &[Seen], key: Option<[u8; 4]>, step: usize) -> Vec<u8> {
    let (mut writer, mut out) = (Writer::default(), Vec::new());
    for one in seen {
        match one {
            Seen::Message(kind, payload) => {
                let mut pieces = payload.chunks(step).peekable();
                if pieces.peek().is_none() {
                    writer.data(*kind, b"", true, key, &mut out);
                }
                while let Some(piece) = pieces.next() {
                    writer.data(*kind, piece, pieces.peek().is_none(), key, &mut out);
                }
            }
            Seen::Ping(payload) => Writer::ping(payload, key, &mut out),
            Seen::Pong(payload) => Writer::pong(payload, key, &mut out),
            Seen::Close(close) => Writer::close(close.as_ref(), key, &mut out),
        }
    }
    out
}

proptest! {
    #[test]
    fn what_is_written_is_read_however_it_is_cut(
        messages in proptest::collection::vec(message(), 1..8),
        key in any::<Option<[u8; 4]>>(),
        step in 1_usize..70_000,
        sizes in proptest::collection::vec(1_usize..5_000, 1..8),
    ) {
        let from = if key.is_some() { Sender::Client } else { Sender::Server };
        let bytes = write(&messages, key, step.max(7));
        prop_assert_eq!(read(from, u64::MAX, &bytes, &sizes), (messages, Ok(())));
    }

    #[test]
    fn the_cut_never_changes_what_is_seen(bytes in proptest::collection::vec(any::<u8>(), 0..200), size in 1_usize..9) {
        for from in [Sender::Client, Sender::Server] {
            let whole = read(from, 500, &bytes, &[usize::MAX]);
            let cut = read(from, 500, &bytes, &[size]);
            // A fault in what is left of a frame may be met before the end of what stands before it.
            prop_assert_eq!(&whole.0, &cut.0);
            prop_assert_eq!(whole.1, cut.1);
        }
    }

    #[test]
    fn text_is_judged_like_std_however_it_is_cut(bytes in proptest::collection::vec(any::<u8>(), 0..40), text in "\\PC{0,20}", size in 1_usize..5) {
        for bytes in [bytes, text.into_bytes()] {
            let mut utf8 = Utf8::default();
            let outcome = bytes.chunks(size).try_for_each(|piece| utf8.piece(piece)).and_then(|()| utf8.end());
            prop_assert_eq!(outcome.is_ok(), std::str::from_utf8(&bytes).is_ok());
        }
    }
}
