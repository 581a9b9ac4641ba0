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
