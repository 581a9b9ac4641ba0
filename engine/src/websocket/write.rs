//! Pieces of messages become frames.

use super::frame::{CONTROL_BYTES_MAX, Header, Opcode, mask};
use super::{Close, Kind};

/// Writes frames to one side. Masks are arguments, because they are random.
#[derive(Clone, Copy, Debug, Default)]
pub struct Writer {
    in_message: bool,
}

impl Writer {
    /// Writes bytes of a message as a frame of their own.
    pub fn data(&mut self, kind: Kind, payload: &[u8], last: bool, key: Option<[u8; 4]>, out: &mut Vec<u8>) {
        let opcode = match (self.in_message, kind) {
            (true, _) => Opcode::Continuation,
            (false, Kind::Text) => Opcode::Text,
            (false, Kind::Binary) => Opcode::Binary,
        };
        self.in_message = !last;
        frame(Header { fin: last, opcode, mask: key, length: payload.len() as u64 }, payload, out);
    }

    /// Writes a ping.
    pub fn ping(payload: &[u8], key: Option<[u8; 4]>, out: &mut Vec<u8>) {
        control(Opcode::Ping, payload, key, out);
    }

    /// Writes a pong.
    pub fn pong(payload: &[u8], key: Option<[u8; 4]>, out: &mut Vec<u8>) {
        control(Opcode::Pong, payload, key, out);
    }

    /// Writes a close frame; nothing may be written after it.
    pub fn close(close: Option<&Close>, key: Option<[u8; 4]>, out: &mut Vec<u8>) {
        let mut payload = Vec::new();
        if let Some(close) = close {
            payload.extend_from_slice(&close.code.to_be_bytes());
            payload.extend_from_slice(close.reason.as_bytes());
        }
        control(Opcode::Close, &payload, key, out);
    }
}

fn control(opcode: Opcode, payload: &[u8], key: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let payload = payload.get(..CONTROL_BYTES_MAX).unwrap_or(payload);
    frame(Header { fin: true, opcode, mask: key, length: payload.len() as u64 }, payload, out);
}

fn frame(header: Header, payload: &[u8], out: &mut Vec<u8>) {
    header.write(out);
    let at = out.len();
    out.extend_from_slice(payload);
    if let (Some(key), Some(written)) = (header.mask, out.get_mut(at..)) {
        mask(key, 0, written);
    }
}
