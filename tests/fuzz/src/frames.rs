//! Frames of WebSockets.

use engine::websocket::{CONTROL_BYTES_MAX, Event, HEADER_BYTES_MAX, Kind, Receiver, Sender, Writer};

const MESSAGE_BYTES_MAX: u64 = 4096;

/// However they are cut, bytes are read as the same messages; a reader keeps no more than one header and control
/// frame; no message is over its bound; a text is UTF-8; what is passed on is read as what was read.
pub fn websocket(bytes: &[u8]) {
    for from in [Sender::Client, Sender::Server] {
        let whole = read(from, bytes, bytes.len().max(1));
        for step in [1, 2, 7] {
            assert_eq!(read(from, bytes, step), whole, "cut at {step}");
        }
        let passed_on = read(Sender::Server, &whole.passed, usize::MAX);
        assert_eq!(passed_on.messages, whole.messages, "passed on");
        assert!(!passed_on.is_broken, "what is passed on is well-formed");
    }
}

#[derive(Debug, Default)]
struct Read {
    messages: Vec<(Kind, Vec<u8>)>,
    /// As it would leave, in whatever pieces it came.
    passed: Vec<u8>,
    is_broken: bool,
}

impl PartialEq for Read {
    fn eq(&self, other: &Self) -> bool {
        (&self.messages, self.is_broken) == (&other.messages, other.is_broken)
    }
}

fn read(from: Sender, bytes: &[u8], step: usize) -> Read {
    let (mut receiver, mut writer) = (Receiver::new(from, MESSAGE_BYTES_MAX), Writer::default());
    let (mut read, mut message, mut held) = (Read::default(), Vec::new(), Vec::new());
    for chunk in bytes.chunks(step) {
        held.extend_from_slice(chunk);
        loop {
            let (taken, event) = match receiver.next(&mut held) {
                Ok(Some(next)) => next,
                Ok(None) => break,
                Err(_) => {
                    read.is_broken = true;
                    return read;
                }
            };
            if let Event::Data(piece) = event {
                message.extend_from_slice(piece.payload);
                writer.data(piece.kind, piece.payload, piece.last, None, &mut read.passed);
                assert!(message.len() as u64 <= MESSAGE_BYTES_MAX);
                if piece.last {
                    assert!(piece.kind == Kind::Binary || std::str::from_utf8(&message).is_ok());
                    read.messages.push((piece.kind, std::mem::take(&mut message)));
                }
            }
            held.drain(..taken);
        }
        assert!(held.len() < HEADER_BYTES_MAX + CONTROL_BYTES_MAX);
    }
    read
}
