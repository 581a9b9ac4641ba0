//! What comes together while answers are out, with a server that the test plays. Its clock stands still unless it is told to
//! go on, so that nothing here depends on how fast a machine is.

use std::collections::VecDeque;
use std::sync::Arc;

use redis::IntoConnectionInfo;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use super::*;

/// Turns that everything else has before the test looks: a question goes through four tasks and a socket.
const TURNS: usize = 64;

/// A server that answers each question with its own word, when it is told to.
struct Played {
    stream: UnixStream,
    read: Vec<u8>,
    unanswered: VecDeque<String>,
}

type Answer = Result<Value, Fault>;

async fn begun() -> (Played, Arc<Together>) {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let silent = redis::RedisConnectionInfo::default().set_skip_set_lib_name();
    let info = redis::ConnectionAddr::Unix(path).into_connection_info().unwrap().set_redis_settings(silent);
    let client = redis::Client::open(info).unwrap();
    let together = Together::over(client.get_multiplexed_async_connection().await.unwrap());
    let (stream, _) = listener.accept().await.unwrap();
    tokio::time::pause();
    (Played { stream, read: Vec::new(), unanswered: VecDeque::new() }, Arc::new(together))
}

/// Everything else does what it can without a moment going by.
async fn settled() {
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}

impl Played {
    /// What it has been asked since it looked last.
    async fn asked(&mut self) -> Vec<String> {
        settled().await;
        let mut bytes = [0; 65_536];
        while let Ok(count) = self.stream.try_read(&mut bytes) {
            assert_ne!(count, 0, "the connection has ended");
            self.read.extend(&bytes[..count]);
        }
        // `*2 $4 ECHO $length word`, in lines.
        let text = String::from_utf8(std::mem::take(&mut self.read)).unwrap();
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        let (questions, rest) = lines.as_chunks::<5>();
        assert!(rest.is_empty() && questions.iter().all(|question| question[2] == "ECHO"), "{text:?}");
        let words: Vec<String> = questions.iter().map(|question| question[4].to_owned()).collect();
        self.unanswered.extend(words.iter().cloned());
        words
    }

    /// Answers so many, in the order in which it was asked.
    async fn answers(&mut self, count: usize) {
        for word in self.unanswered.drain(..count).collect::<Vec<_>>() {
            self.stream.write_all(format!("${}\r\n{word}\r\n", word.len()).as_bytes()).await.unwrap();
        }
        settled().await;
    }
}

fn asks(together: &Arc<Together>, word: &str) -> JoinHandle<Answer> {
    let (together, mut command) = (Arc::clone(together), Cmd::new());
    command.arg("ECHO").arg(word);
    tokio::spawn(async move { together.ask(command).await })
}

fn word(text: &str) -> Answer {
    Ok(Value::BulkString(text.as_bytes().to_vec()))
}

/// What somebody was told by now.
async fn told(asking: &mut JoinHandle<Answer>) -> Option<Answer> {
    if asking.is_finished() { Some(asking.await.unwrap()) } else { None }
}

/// Two pieces that are out, and who waits for them.
async fn two_out(server: &mut Played, together: &Arc<Together>) -> [JoinHandle<Answer>; UNDER_WAY_MAX] {
    let first = asks(together, "first");
    assert_eq!(server.asked().await, ["first"], "who asks alone goes at once");
    let second = asks(together, "second");
    assert_eq!(server.asked().await, ["second"], "and so does the next");
    [first, second]
}

#[tokio::test]
async fn what_is_asked_while_a_quick_server_owes_answers_goes_together_when_one_is_there() {
    let (mut server, together) = begun().await;
    let began = Instant::now();
    let [mut first, mut second] = two_out(&mut server, &together).await;
    let mut later = ["a", "b", "c"].map(|word| asks(&together, word));
    assert!(server.asked().await.is_empty(), "nothing goes by itself that may go together");
    server.answers(1).await;
    assert_eq!((told(&mut first).await, told(&mut second).await), (Some(word("first")), None));
    assert_eq!(server.asked().await, ["a", "b", "c"], "in the order in which they were asked");
    server.answers(4).await;
    assert_eq!(told(&mut second).await, Some(word("second")));
    for (asking, text) in later.iter_mut().zip(["a", "b", "c"]) {
        assert_eq!(told(asking).await, Some(word(text)));
    }
    assert_eq!(began.elapsed(), Duration::ZERO, "no moment has gone by");
}

#[tokio::test]
async fn each_has_its_own_answer_as_soon_as_its_piece_has() {
    let (mut server, together) = begun().await;
    let mut out: Vec<JoinHandle<Answer>> = two_out(&mut server, &together).await.into();
    let names: Vec<String> = (0..40).map(|number| format!("question-{number}")).collect();
    out.extend(names.iter().map(|name| asks(&together, name)));
    // A piece that is full waits for nothing, and what is left of it does.
    assert_eq!(server.asked().await, names[..TOGETHER_MAX]);
    server.answers(UNDER_WAY_MAX).await;
    assert_eq!(server.asked().await, names[TOGETHER_MAX..]);
    // All but the last answer of the full piece are no answer to anybody in it: they come as one.
    server.answers(TOGETHER_MAX - 1).await;
    assert!(out[UNDER_WAY_MAX..].iter().all(|asking| !asking.is_finished()));
    server.answers(1).await;
    for (asking, name) in out[UNDER_WAY_MAX..].iter_mut().zip(&names[..TOGETHER_MAX]) {
        assert_eq!(told(asking).await, Some(word(name)));
    }
    assert!(out[UNDER_WAY_MAX + TOGETHER_MAX..].iter().all(|asking| !asking.is_finished()));
    server.answers(names.len() - TOGETHER_MAX).await;
    for (asking, name) in out[UNDER_WAY_MAX..].iter_mut().zip(&names).skip(TOGETHER_MAX) {
        assert_eq!(told(asking).await, Some(word(name)));
    }
}

#[tokio::test]
async fn a_server_that_answers_nothing_is_waited_for_once() {
    let (mut server, together) = begun().await;
    let _out = two_out(&mut server, &together).await;
    let _third = asks(&together, "third");
    assert!(server.asked().await.is_empty());
    // The clock of timers goes by whole milliseconds, and begins the next one.
    tokio::time::advance(ANSWER_WAIT + Duration::from_millis(1)).await;
    assert_eq!(server.asked().await, ["third"], "as long as anything is waited for");
    for name in ["fourth", "fifth"] {
        let _asking = asks(&together, name);
        assert_eq!(server.asked().await, [name], "and the next not at all");
    }
}

#[tokio::test]
async fn a_slow_server_is_waited_for_no_longer_and_a_quick_one_again() {
    let (mut server, together) = begun().await;
    let slow = QUICK + Duration::from_micros(1);
    for (took, goes) in [(Duration::ZERO, false), (QUICK, false), (slow, true), (Duration::ZERO, false)] {
        let _one = asks(&together, "one");
        assert_eq!(server.asked().await, ["one"]);
        tokio::time::advance(took).await;
        server.answers(1).await;
        let _out = two_out(&mut server, &together).await;
        let _third = asks(&together, "third");
        let expected: &[&str] = if goes { &["third"] } else { &[] };
        assert_eq!(server.asked().await, expected, "the last took {took:?}");
        // All that is left, before the next round.
        for _ in 0..2 {
            let owed = server.unanswered.len();
            server.answers(owed).await;
            server.asked().await;
        }
        assert!(server.unanswered.is_empty());
    }
}

#[tokio::test]
async fn nobody_waits_for_a_question_that_was_given_up() {
    let (mut server, together) = begun().await;
    let [mut first, second] = two_out(&mut server, &together).await;
    let given_up = asks(&together, "given up");
    let mut kept = asks(&together, "kept");
    assert!(server.asked().await.is_empty());
    given_up.abort();
    server.answers(1).await;
    assert_eq!(server.asked().await, ["kept"], "what was given up before it was sent is not asked");
    // Whoever is gone while the server thinks takes nobody's answer along.
    second.abort();
    assert!(second.await.is_err_and(|ended| ended.is_cancelled()));
    server.answers(2).await;
    assert_eq!(told(&mut first).await, Some(word("first")));
    assert_eq!(told(&mut kept).await, Some(word("kept")));
    // A piece of which all were given up is none.
    let _out = two_out(&mut server, &together).await;
    let both = ["a", "b"].map(|word| asks(&together, word));
    assert!(server.asked().await.is_empty());
    both.iter().for_each(JoinHandle::abort);
    server.answers(2).await;
    assert!(server.asked().await.is_empty());
    let mut last = asks(&together, "last");
    assert_eq!(server.asked().await, ["last"]);
    server.answers(1).await;
    assert_eq!(told(&mut last).await, Some(word("last")));
}
