use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

/// One call for the whole text.
fn at_once(bytes: &[u8]) -> (usize, Progress) {
    Chunked::default().advance(bytes)
}

fn check(bytes: &[u8], expected: Progress) {
    assert_eq!(at_once(bytes).1, expected, "{}", bytes.escape_ascii());
}

#[test]
fn what_the_rfc_writes_is_a_body() {
    for body in [
        b"0\r\n\r\n".as_slice(),
        b"000\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"00a\r\n0123456789\r\nA\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n",
        b"1;a\r\nx\r\n0;b=c\r\n\r\n",
        b"1 ; a = \"q \\\" \\\\ ;\" ;b\r\nx\r\n0\r\n\r\n",
        b"0\r\nX-Sum: 1\r\nEmpty:\r\n\r\n",
    ] {
        assert_eq!(at_once(body), (body.len(), Progress::End), "{}", body.escape_ascii());
    }
}

#[test]
fn what_another_reader_could_read_otherwise_is_a_fault() {
    for body in [
        b"\r\n\r\n".as_slice(),
        b";a\r\n",
        b" 1\r\n",
        b"+1\r\n",
        b"-1\r\n",
        b"0x1\r\n",
        b"g\r\n",
        b"1\n",
        b"1\r\r\n",
        b"1_0\r\n",
        b"1,1\r\n",
        b"0000000000000001\r\n",
        b"ffffffffffffffff\r\n",
        b"\xb2\r\n",
    ] {
        check(body, SIZE);
    }
    for body in [
        b"1;\r\n".as_slice(),
        b"1 \r\n",
        b"1 x\r\n",
        b"1;a \r\n",
        b"1;=b\r\n",
        b"1;a=\r\n",
        b"1;;a\r\n",
        b"1;a=\"b\r\n",
        b"1;a=\"\n\"\r\n",
        b"1;a=\"b\"c\r\n",
        b"1;a\nb\r\n",
        b"1;a b\r\n",
        b"1;\x00\r\n",
        b"1;a=b=c\r\n",
    ] {
        check(body, EXTENSION);
    }
    for body in [b"1\r\nxy".as_slice(), b"1\r\nx\n", b"1\r\nx\r\r", b"1\r\nx0\r\n\r\n"] {
        check(body, DATA_END);
    }
    for body in [
        b"0\r\nnonsense\r\n".as_slice(),
        b"0\r\n folded: a\r\n",
        b"0\r\nA : b\r\n",
        b"0\r\n: b\r\n",
        b"0\r\n\n",
        b"0\r\n\r\r",
        b"0\r\nA: b\n",
        b"0\r\nA: b\r\r",
        b"0\r\nA: \x00\r\n",
        b"0\r\nGET / HTTP/1.1\r\n",
    ] {
        check(body, TRAILER);
    }
}

#[test]
fn the_bounds_hold_to_the_byte() {
    check(b"00000000000000f\r\n", Progress::More);
    let extended = |length: usize| format!("1;{}\r\n", "a".repeat(length)).into_bytes();
    // The name and the CR that ends it.
    let longest = usize::try_from(EXTENSION_BYTES_MAX).unwrap() - 1;
    check(&extended(longest), Progress::More);
    check(&extended(longest + 1), EXTENSION);
    let trailed = |length: usize| format!("0\r\nA:{}\r\n", "b".repeat(length)).into_bytes();
    let longest = usize::try_from(TRAILER_BYTES_MAX).unwrap() - 4;
    check(&trailed(longest), Progress::More);
    check(&trailed(longest + 1), TRAILER);
    // Over all chunks together.
    let many = "1;aaaaaaa\r\nx\r\n".repeat(usize::try_from(EXTENSION_BYTES_MAX).unwrap() / 8 + 1);
    check(many.as_bytes(), EXTENSION);
}

#[test]
fn after_its_end_nothing_is_taken() {
    let mut body = Chunked::default();
    assert_eq!(body.advance(b"0\r\n\r\nGET / HTTP/1.1\r\n"), (5, Progress::End));
    assert_eq!(body.advance(b"GET"), (0, Progress::End));
    let mut body = Chunked::default();
    assert_eq!(body.advance(b"1\r\nxx"), (4, DATA_END));
    assert_eq!(body.advance(b"\r\n0\r\n\r\n"), (0, DATA_END));
}

/// What a correct encoder may write for some chunks, with an extension and trailers now and then.
fn encoded() -> impl Strategy<Value = Vec<u8>> {
    let extension = select(vec!["", "", "", ";a", ";a=b", " ; a = \"b;\\\"\"", ";a;b=\"\""]);
    let chunk = (vec(any::<u8>(), 1..40), 0_usize..3, any::<bool>(), extension);
    let trailers = select(vec!["", "", "X-Sum: 12\r\n", "A:\r\nB: \u{e9} c\r\n"]);
    (vec(chunk, 0..6), trailers, 1_usize..4).prop_map(|(chunks, trailers, zeros)| {
        let mut wire = Vec::new();
        for (data, zeros, upper, extension) in chunks {
            let size = if upper { format!("{:X}", data.len()) } else { format!("{:x}", data.len()) };
            wire.extend(format!("{}{size}{extension}\r\n", "0".repeat(zeros)).into_bytes());
            wire.extend(&data);
            wire.extend(b"\r\n");
        }
        wire.extend(format!("{}\r\n{trailers}\r\n", "0".repeat(zeros)).into_bytes());
        wire
    })
}

/// Where a body ends, by a second reader that sees the whole text at once and was written by the grammar alone.
fn end_of(mut wire: &[u8]) -> Option<usize> {
    let length = wire.len();
    loop {
        let end = wire.windows(2).position(|pair| pair == b"\r\n")?;
        let line = std::str::from_utf8(&wire[..end]).ok()?;
        let digits = line.trim_end_matches(|character: char| !character.is_ascii_hexdigit());
        if digits != line || line.is_empty() || line.len() > 15 {
            return None;
        }
        let size = usize::from_str_radix(line, 16).ok()?;
        wire = &wire[end + 2..];
        if size == 0 {
            break;
        }
        if wire.len() < size + 2 || &wire[size..size + 2] != b"\r\n" {
            return None;
        }
        wire = &wire[size + 2..];
    }
    wire.starts_with(b"\r\n").then(|| length - wire.len() + 2)
}

proptest! {
    #[test]
    fn what_an_encoder_writes_ends_where_it_ends_for_any_cuts(
        wire in encoded(),
        after in vec(any::<u8>(), 0..20),
        cuts in vec(any::<Index>(), 0..8),
    ) {
        let all: Vec<u8> = [wire.as_slice(), after.as_slice()].concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(all.len() + 1)).collect();
        cuts.push(all.len());
        cuts.sort_unstable();
        let (mut check, mut taken, mut from) = (Chunked::default(), 0, 0);
        let mut progress = Progress::More;
        for cut in cuts {
            let (more, now) = check.advance(&all[from..cut]);
            (taken, from, progress) = (taken + more, cut, now);
        }
        prop_assert_eq!((taken, progress), (wire.len(), Progress::End));
    }

    #[test]
    fn any_cuts_lead_to_the_same_answer(wire in mangled(), cut in any::<Index>()) {
        let whole = at_once(&wire);
        let (first, second) = wire.split_at(cut.index(wire.len() + 1));
        let mut check = Chunked::default();
        let (taken, _) = check.advance(first);
        let (more, progress) = check.advance(second);
        prop_assert_eq!((taken + more, progress), whole);
    }

    #[test]
    fn a_second_reader_agrees_on_what_is_accepted(wire in plain()) {
        let expected = end_of(&wire);
        let found = match at_once(&wire) {
            (taken, Progress::End) => Some(taken),
            _ => None,
        };
        prop_assert_eq!(found, expected, "{}", wire.escape_ascii());
    }
}

/// An encoder's text with a byte changed, left out or put in.
fn mangled() -> impl Strategy<Value = Vec<u8>> {
    let spoilt = select(b"\r\n;:=\" \t0aG\x00-+".to_vec());
    (encoded(), any::<Index>(), spoilt, 0..4).prop_map(|(mut wire, at, byte, how)| {
        let at = at.index(wire.len());
        match how {
            0 => wire[at] = byte,
            1 => wire.insert(at, byte),
            2 => drop(wire.remove(at)),
            _ => {}
        }
        wire
    })
}

/// Texts of the bytes that matter, without extensions and trailers, near to what is accepted.
fn plain() -> impl Strategy<Value = Vec<u8>> {
    let piece = select(vec![
        "0",
        "1",
        "2",
        "a",
        "\r\n",
        "\r\n",
        "1\r\nx\r\n",
        "0\r\n\r\n",
        "2\r\n\r\n\r\n",
        "\n",
        "\r",
        "x",
        " ",
        "-",
    ]);
    vec(piece, 0..8).prop_map(|pieces| pieces.concat().into_bytes())
}
