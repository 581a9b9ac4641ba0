//! Questions that come together go together.
//!
//! Most of what a question costs a gateway is two calls of the system: one that sends it, one that receives its answer.
//! Where many requests ask within one moment, one call serves them all. Who asks alone goes alone, and at once: only where
//! [`UNDER_WAY_MAX`] pieces are unanswered of a server that is quick, and a piece is not full, is anything waited for.

use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, Pipeline, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{Fault, IN_FLIGHT_MAX, fault};

/// Questions that go together, at most: the first of them has its answer no sooner than the last.
const TOGETHER_MAX: usize = 32;

/// Pieces under way after which the next waits for an answer, and becomes a larger one meanwhile.
const UNDER_WAY_MAX: usize = 2;
/// How long it waits for that, at most; the clock of timers makes up to a millisecond more of it.
const ANSWER_WAIT: Duration = Duration::from_millis(1);
/// A server whose last piece took longer is slow, and that is no reason to be slower: nothing is waited for.
const QUICK: Duration = Duration::from_micros(500);

/// Where questions come together.
pub(crate) struct Together {
    next: mpsc::Sender<Asked>,
}

struct Asked {
    command: Cmd,
    told: oneshot::Sender<Result<Value, Fault>>,
}

impl Together {
    /// Over this connection, until this is dropped.
    pub(crate) fn over(connection: MultiplexedConnection) -> Self {
        let (next, asked) = mpsc::channel(IN_FLIGHT_MAX);
        tokio::spawn(send(connection, asked));
        Self { next }
    }

    /// Asks. Whoever gives up before it is a part of a piece has asked nothing.
    pub(crate) async fn ask(&self, command: Cmd) -> Result<Value, Fault> {
        let (told, answer) = oneshot::channel();
        self.next.send(Asked { command, told }).await.map_err(|_| Fault::Gone)?;
        answer.await.unwrap_or(Err(Fault::Gone))
    }

    /// Has a script do one thing. `command` is given the verb and what the verb calls the script by, which is its name: a
    /// server that was restarted, or that dropped the script, is sent its text.
    pub(crate) async fn run(
        &self,
        (name, text): (&str, &str),
        command: impl Fn(&str, &str) -> Cmd,
    ) -> Result<Value, Fault> {
        match self.ask(command("EVALSHA", name)).await {
            Err(Fault::Refused("NOSCRIPT")) => self.ask(command("EVAL", text)).await,
            answer => answer,
        }
    }
}

async fn send(connection: MultiplexedConnection, mut asked: mpsc::Receiver<Asked>) {
    let mut under_way = JoinSet::new();
    let mut took = Duration::ZERO;
    while let Some(first) = asked.recv().await {
        // Every request that can go on does so once before this does, and asks if that is what it comes to.
        tokio::task::yield_now().await;
        while let Some(Ok(ended)) = under_way.try_join_next() {
            took = ended;
        }
        let is_full = asked.len().saturating_add(1) >= TOGETHER_MAX;
        if under_way.len() >= UNDER_WAY_MAX && took <= QUICK && !is_full {
            took = match timeout(ANSWER_WAIT, under_way.join_next()).await {
                Ok(Some(Ok(ended))) => ended,
                Ok(Some(Err(_)) | None) | Err(_) => ANSWER_WAIT,
            };
        }
        let mut together = vec![first];
        while together.len() < TOGETHER_MAX
            && let Ok(next) = asked.try_recv()
        {
            together.push(next);
        }
        together.retain(|asked| !asked.told.is_closed());
        if !together.is_empty() {
            under_way.spawn(answered(connection.clone(), together));
        }
    }
}

/// How long it took.
async fn answered(mut connection: MultiplexedConnection, together: Vec<Asked>) -> Duration {
    let begun = Instant::now();
    let mut questions = Pipeline::with_capacity(together.len());
    let mut waiting = Vec::with_capacity(together.len());
    for Asked { command, told } in together {
        questions.add_command(command);
        waiting.push(told);
    }
    match connection.req_packed_commands(&questions, 0, waiting.len()).await {
        Ok(answers) => {
            for (told, answer) in waiting.into_iter().zip(answers) {
                // A server's error is the answer to one question, and says nothing of those beside it.
                let answer = if let Value::ServerError(error) = answer {
                    Err(fault(&error.into()))
                } else {
                    Ok(answer)
                };
                told.send(answer).ok();
            }
        }
        Err(error) => {
            let fault = fault(&error);
            waiting.into_iter().for_each(|told| drop(told.send(Err(fault))));
        }
    }
    begun.elapsed()
}

#[cfg(test)]
mod played;
#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use redis::IntoConnectionInfo;
    use tokio::io::AsyncReadExt;

    use super::super::server::{PATIENCE, Server};
    use super::*;

    async fn begun() -> (Server, Arc<Together>) {
        let server = Server::start();
        server.listens().await;
        let together = Arc::new(Together::over(server.connection().await));
        (server, together)
    }

    fn command(words: &[&str]) -> Cmd {
        let mut command = Cmd::new();
        command.arg(words);
        command
    }

    /// How often the server has read from anybody.
    async fn reads(asking: &mut MultiplexedConnection) -> u64 {
        let text: String = command(&["INFO", "stats"]).query_async(asking).await.unwrap();
        let read = text.lines().find_map(|line| line.strip_prefix("total_reads_processed:"));
        read.unwrap().trim().parse().unwrap()
    }

    #[tokio::test]
    async fn what_is_asked_in_one_moment_goes_in_few_pieces_and_each_has_its_own_answer() {
        let (server, together) = begun().await;
        server.say(&["RPUSH", "list", "one"]).await;
        let mut administrator = server.connection().await;
        let before = reads(&mut administrator).await;
        let mut asking = JoinSet::new();
        for number in 0..TOGETHER_MAX * 2 {
            let together = Arc::clone(&together);
            asking.spawn(async move {
                let number = number.to_string();
                let command = if number.ends_with('7') {
                    command(&["GET", "list"])
                } else {
                    command(&["ECHO", &number])
                };
                (number, together.ask(command).await)
            });
        }
        for (number, answer) in asking.join_all().await {
            let expected = if number.ends_with('7') {
                Err(Fault::Refused("WRONGTYPE"))
            } else {
                Ok(Value::BulkString(number.into_bytes()))
            };
            assert_eq!(answer, expected);
        }
        // The question how many there were is one more.
        let pieces = reads(&mut administrator).await - before - 1;
        assert!(pieces <= 2, "{pieces}: what goes as two may be read as one, and never as more");
    }

    #[tokio::test]
    async fn what_was_given_up_before_it_was_sent_is_not_asked() {
        let (_server, together) = begun().await;
        tokio::select! {
            biased;
            answer = together.ask(command(&["INCR", "counted"])) => panic!("asked at once: {answer:?}"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(together.ask(command(&["GET", "counted"])).await, Ok(Value::Nil));
    }

    #[tokio::test]
    async fn a_server_that_answers_nothing_is_asked_all_the_same() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("socket");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let silent = redis::RedisConnectionInfo::default().set_skip_set_lib_name();
        let info =
            redis::ConnectionAddr::Unix(path).into_connection_info().unwrap().set_redis_settings(silent);
        let client = redis::Client::open(info).unwrap();
        let together = Arc::new(Together::over(client.get_multiplexed_async_connection().await.unwrap()));
        let (mut server, _) = listener.accept().await.unwrap();
        let mut asking = JoinSet::new();
        for number in 0..=UNDER_WAY_MAX {
            let (text, together) = (format!("question-{number}"), Arc::clone(&together));
            let expected = text.clone().into_bytes();
            asking.spawn(async move { together.ask(command(&["ECHO", &text])).await });
            let mut heard = Vec::new();
            let hears = async {
                while !heard.windows(expected.len()).any(|words| words == expected) {
                    assert_ne!(server.read_buf(&mut heard).await.unwrap(), 0);
                }
            };
            timeout(PATIENCE, hears).await.unwrap();
        }
        assert!(asking.try_join_next().is_none());
    }

    #[tokio::test]
    async fn everybody_is_told_that_the_server_is_gone() {
        let (mut server, together) = begun().await;
        server.signal(rustix::process::Signal::STOP);
        let mut asking = JoinSet::new();
        for _ in 0..3 {
            let together = Arc::clone(&together);
            asking.spawn(async move { together.ask(command(&["ECHO", "here"])).await });
        }
        server.kill();
        assert!(asking.join_all().await.into_iter().all(|answer| answer == Err(Fault::Gone)));
        assert_eq!(together.ask(command(&["ECHO", "here"])).await, Err(Fault::Gone));
    }
}
