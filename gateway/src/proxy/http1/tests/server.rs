use super::*;

/// A client that has sent these bytes, and stays.
fn server(bytes: &[u8]) -> (ServerSession, DuplexStream) {
    let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
    futures_util::FutureExt::now_or_never(theirs.write_all(bytes)).unwrap().unwrap();
    (ServerSession::new(Box::new(ours), MINUTE), theirs)
}

async fn answered(session: &mut ServerSession, status: u16, body: Outgoing, length: Option<u64>) {
    let answer = Answer {
        status: StatusCode::from_u16(status).unwrap(),
        reason: None,
        headers: &headers(&[
            ("connection", "upgrade"),
            ("content-length", "7"),
            ("date", "then"),
            ("x-a", "b"),
        ]),
        edits: &HeaderEdits::default(),
        body,
        length,
    };
    session.answers(&answer).await.unwrap();
}

/// All that a client has been sent, but the date.
async fn said(theirs: &mut DuplexStream) -> String {
    let mut wire = vec![0; 4096];
    let read = theirs.read(&mut wire).await.unwrap();
    let text = String::from_utf8(wire[..read].to_vec()).unwrap();
    let (before, after) = text.split_once("date: ").unwrap();
    format!("{before}{}", after.split_once("\r\n").unwrap().1)
}

#[test]
fn what_an_answer_says_of_its_hop_is_ours() {
    const OK: &str = "HTTP/1.1 200 OK\r\nx-a: b\r\n";
    run(async {
        for (request, status, body, length, expected) in [
            (
                "GET / HTTP/1.1\r\n\r\n",
                200,
                Outgoing::Length(2),
                None,
                format!("{OK}content-length: 2\r\nconnection: keep-alive\r\n\r\nok"),
            ),
            (
                "GET / HTTP/1.1\r\n\r\n",
                200,
                Outgoing::Chunked,
                None,
                format!(
                    "{OK}transfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n2\r\nok\r\n0\r\n\r\n"
                ),
            ),
            (
                "GET / HTTP/1.1\r\n\r\n",
                200,
                Outgoing::None,
                Some(0),
                format!("{OK}content-length: 0\r\nconnection: keep-alive\r\n\r\n"),
            ),
            (
                "HEAD / HTTP/1.1\r\n\r\n",
                200,
                Outgoing::Length(2),
                None,
                format!("{OK}content-length: 2\r\nconnection: keep-alive\r\n\r\n"),
            ),
            (
                "GET / HTTP/1.1\r\n\r\n",
                204,
                Outgoing::None,
                None,
                "HTTP/1.1 204 No Content\r\nx-a: b\r\nconnection: keep-alive\r\n\r\n".into(),
            ),
            (
                "GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
                200,
                Outgoing::Length(2),
                None,
                format!("{OK}content-length: 2\r\nconnection: close\r\n\r\nok"),
            ),
            // What is left of a body would be read as a request.
            (
                "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
                200,
                Outgoing::Length(2),
                None,
                format!("{OK}content-length: 2\r\nconnection: close\r\n\r\nok"),
            ),
        ] {
            let (mut session, mut theirs) = server(request.as_bytes());
            assert!(session.arrives().await.unwrap());
            answered(&mut session, status, body, length).await;
            if body != Outgoing::None {
                session.say(b"ok").await.unwrap();
            }
            session.said().await.unwrap();
            assert_eq!(said(&mut theirs).await, expected, "{request}");
            assert_eq!(session.goes_on().await.unwrap(), expected.contains("keep-alive"), "{request}");
        }
    });
}

#[test]
fn a_refused_body_is_read_away_where_that_was_promised() {
    run(async {
        let (mut session, mut theirs) = server(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n123");
        assert!(session.arrives().await.unwrap());
        session.drains();
        answered(&mut session, 403, Outgoing::None, Some(0)).await;
        assert!(said(&mut theirs).await.contains("keep-alive"));
        theirs.write_all(b"456789").await.unwrap();
        assert!(session.goes_on().await.unwrap());
        theirs.write_all(b"GET /next HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(session.arrives().await.unwrap());
        assert_eq!(session.head().method, Method::GET);
    });
}

#[tokio::test(start_paused = true)]
async fn who_does_not_ask_read_or_answer_is_waited_for_and_no_longer() {
    let (mut session, _theirs) = server(b"");
    let begin = tokio::time::Instant::now();
    assert!(!session.arrives().await.unwrap(), "nobody asked");
    assert_eq!(begin.elapsed(), MINUTE);

    let (mut session, _theirs) = server(b"GET / HTTP/1.1\r\n\r\n");
    assert!(session.arrives().await.unwrap());
    answered(&mut session, 200, Outgoing::Length(200_000), None).await;
    let begin = tokio::time::Instant::now();
    let error = session.say(&[b'x'; 200_000]).await.unwrap_err();
    assert_eq!(error.etype(), &pingora_core::ErrorType::WriteTimedout);
    assert_eq!(begin.elapsed().as_secs(), 195, "a KiB a second");

    let mut asked = upstream(Vec::new(), false);
    let begin = tokio::time::Instant::now();
    assert_eq!(asked.answer().await.unwrap_err().etype(), &pingora_core::ErrorType::ReadTimedout);
    assert_eq!(begin.elapsed(), MINUTE);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_trickles_is_let_go_of_and_one_that_keeps_the_rate_is_not() {
    const STEP: usize = 32;
    let whole = [0; 8 * 1024];
    for (rate, keeps) in [(512, false), (2048, true)] {
        let (ours, mut theirs) = tokio::io::duplex(STEP);
        let mut session = ServerSession::new(Box::new(ours), MINUTE);
        let reader = tokio::spawn(async move {
            theirs.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            let every = Duration::from_secs(1) * STEP as u32 / rate;
            while theirs.read(&mut [0; STEP]).await.unwrap() > 0 {
                tokio::time::sleep(every).await;
            }
        });
        assert!(session.arrives().await.unwrap());
        answered(&mut session, 200, Outgoing::Length(whole.len() as u64), None).await;
        let outcome = session.say(&whole).await.map_err(|error| error.etype().clone());
        let expected = if keeps { Ok(()) } else { Err(pingora_core::ErrorType::WriteTimedout) };
        assert_eq!(outcome, expected, "{rate} bytes a second");
        drop(session);
        reader.await.unwrap();
    }
}
