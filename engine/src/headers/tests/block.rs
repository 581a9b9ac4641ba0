use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::inspect_block;

#[test]
fn a_block_is_judged_as_it_was_sent() {
    let check = |block: &str, reason: Option<&str>| {
        let read = inspect_block(block.as_bytes()).err().map(|malformed| malformed.reason);
        assert_eq!(read, reason, "{block:?}");
    };
    check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", None);
    check("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", None);
    check("GET / HTTP/1.1\r\n\r\n", None);
    check("POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n", None);
    check("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", None);
    check("GET / HTTP/1.1\r\nA:\r\n\r\n", None);
    for (block, reason) in [
        (
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "framing.both_lengths",
        ),
        ("POST / HTTP/1.1\r\ntransfer-encoding: x\r\nCONTENT-LENGTH: 1\r\n\r\n", "framing.both_lengths"),
        (
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "framing.content_length_repeated",
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "framing.transfer_encoding",
        ),
        ("", "framing.lines"),
        ("GET / HTTP/1.1\r\n", "framing.lines"),
        ("GET / HTTP/1.1\n\n", "framing.lines"),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", "framing.lines"),
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", "framing.lines"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", "framing.lines"),
        ("GET / HTTP/1.1\r\nHost: a\rB: c\r\n\r\n", "framing.lines"),
        ("GET / HTTP/1.1\r\nHost: a\r\n B: c\r\n\r\n", "framing.lines"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\tB: c\r\n\r\n", "framing.lines"),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "framing.lines"),
        ("GET / HTTP/1.1\r\nContent-Length : 1\r\n\r\n", "framing.lines"),
        ("GET / HTTP/1.1\r\n: a\r\n\r\n", "framing.lines"),
        ("GET / HTTP/1.1\r\nHost\r\n\r\n", "framing.lines"),
        ("GET / HTTP/1.1\r\nHost: a\0\r\n\r\n", "framing.lines"),
        ("GET /a b HTTP/1.1\r\n\r\n", "framing.lines"),
        ("GET  / HTTP/1.1\r\n\r\n", "framing.lines"),
        ("GET / HTTP/1.1 \r\n\r\n", "framing.lines"),
        ("GET\t/ HTTP/1.1\r\n\r\nx", "framing.lines"),
        ("GET /\r\n\r\n", "framing.lines"),
        ("GET / HTTP/1.1\r\nA: b\r\n\r\nC: d\r\n\r\n", "framing.lines"),
    ] {
        check(block, Some(reason));
    }
}

/// The same rules, a line after the other and a byte after the other.
fn by_lines(block: &[u8]) -> bool {
    let mut rest = block;
    while let Some(after) = rest.strip_prefix(b"\r\n") {
        rest = after;
    }
    let Some(lines) = rest.strip_suffix(b"\r\n") else { return false };
    let (mut lengths, mut codings) = (0, 0);
    for (at, line) in lines.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let Some(line) = line.strip_suffix(b"\r\n") else { return false };
        if line.is_empty() || line.iter().any(|byte| matches!(byte, 0 | b'\r')) {
            return false;
        }
        if at == 0 {
            let parts: Vec<&[u8]> = line.split(u8::is_ascii_whitespace).collect();
            if parts.len() != 3 || parts.iter().any(|part| part.is_empty()) {
                return false;
            }
            continue;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return false };
        let name = line[..colon].to_ascii_lowercase();
        if name.is_empty() || name.iter().any(u8::is_ascii_whitespace) {
            return false;
        }
        lengths += usize::from(name == b"content-length");
        codings += usize::from(name == b"transfer-encoding");
    }
    matches!((lengths, codings), (0 | 1, 0) | (0, 1))
}

proptest! {
    #[test]
    fn a_block_is_judged_in_one_walk_as_by_its_lines(
        pieces in vec(
            select(vec![
                "GET / HTTP/1.1\r\n", "GET /a b HTTP/1.1\r\n", "\r\n", "\r", "\n", "\0", " ", ":", "a", "A: b\r\n", "A:\r\n",
                "Content-Length: 1\r\n", "transfer-encoding: x\r\n", " c: d\r\n", "a b: c\r\n",
            ]),
            0..9,
        ),
        well_begun in any::<bool>(),
    ) {
        let begin = if well_begun { "GET / HTTP/1.1\r\n" } else { "" };
        let block = format!("{begin}{}\r\n", pieces.concat());
        prop_assert_eq!(inspect_block(block.as_bytes()).is_ok(), by_lines(block.as_bytes()), "{}", block.escape_debug());
    }
}
