//! One question to several, who may be slow or hang: whom it waits for, and for how long.

use std::collections::HashMap;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};

use super::{ASK, Unfound};

/// Those who have been asked and have not answered, by their number. Dropped, nobody is asked any longer.
pub(super) struct Asking<T> {
    under_way: JoinSet<Result<T, Unfound>>,
    numbers: HashMap<Id, usize>,
}

impl<T> Default for Asking<T> {
    fn default() -> Self {
        Self { under_way: JoinSet::new(), numbers: HashMap::new() }
    }
}

impl<T: Send + 'static> Asking<T> {
    /// Whether this one is still asked. It is not asked again meanwhile: a handshake that takes its time would never end.
    pub(super) fn is_under_way(&self, number: usize) -> bool {
        self.numbers.values().any(|asked| *asked == number)
    }

    pub(super) fn ask(
        &mut self,
        number: usize,
        answer: impl Future<Output = Result<T, Unfound>> + Send + 'static,
    ) {
        let asked = self.under_way.spawn(answer);
        self.numbers.insert(asked.id(), number);
    }

    /// What they answer, in the order of their numbers, and why one of the others did not. As long as nobody has, all of them
    /// are waited for, until then at most; and from the first answer on for [`ASK`], so that one that hangs holds up nobody
    /// who was told. Who has not answered by the end is asked on.
    pub(super) async fn answers(&mut self, mut until: Instant) -> (Vec<(usize, T)>, Unfound) {
        let (mut answers, mut silence) = (Vec::new(), Unfound::Silent);
        while let Ok(Some(ended)) = timeout_at(until, self.under_way.join_next_with_id()).await {
            let Some((number, answer)) = self.ended(ended) else { continue };
            match answer {
                Ok(answer) => {
                    if answers.is_empty() {
                        until = until.min(Instant::now() + ASK);
                    }
                    answers.push((number, answer));
                }
                Err(Unfound::Silent) => {}
                Err(why) => silence = why,
            }
        }
        answers.sort_by_key(|(number, _)| *number);
        (answers, silence)
    }

    /// What has been answered by now; nobody is waited for.
    pub(super) fn answered(&mut self) -> Vec<(usize, T)> {
        let mut answers = Vec::new();
        while let Some(ended) = self.under_way.try_join_next_with_id() {
            if let Some((number, Ok(answer))) = self.ended(ended) {
                answers.push((number, answer));
            }
        }
        answers
    }

    fn ended(
        &mut self,
        ended: Result<(Id, Result<T, Unfound>), JoinError>,
    ) -> Option<(usize, Result<T, Unfound>)> {
        let (id, answer) = match ended {
            Ok(ended) => ended,
            Err(error) => (error.id(), Err(Unfound::Silent)),
        };
        self.numbers.remove(&id).map(|number| (number, answer))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Each of these answers after so many milliseconds, or hangs.
    fn asked(each: &[(Option<u64>, Result<(), Unfound>)]) -> Asking<()> {
        let mut asking = Asking::default();
        for (number, (after, answer)) in each.iter().copied().enumerate() {
            asking.ask(number, async move {
                match after {
                    Some(after) => tokio::time::sleep(Duration::from_millis(after)).await,
                    None => std::future::pending().await,
                }
                answer
            });
        }
        asking
    }

    #[tokio::test(start_paused = true)]
    async fn all_have_a_moment_from_the_first_answer_on_and_until_then_all_the_time_that_there_is() {
        const UNTIL: u64 = 2_000;
        let ask = u64::try_from(ASK.as_millis()).unwrap();
        let (yes, hangs) = (|after| (Some(after), Ok(())), (None, Ok(())));
        let no = |after, why| (Some(after), Err(why));
        for (each, answered, silence, took) in [
            (&[yes(1), yes(3), yes(2)][..], &[0, 1, 2][..], Unfound::Silent, 3),
            (&[yes(5), hangs, hangs], &[0], Unfound::Silent, 5 + ask),
            (&[yes(5), yes(5 + ask - 1), yes(5 + ask + 1)], &[0, 1], Unfound::Silent, 5 + ask),
            (&[hangs, yes(400), yes(401)], &[1, 2], Unfound::Silent, 400 + ask),
            (&[hangs, yes(UNTIL - 1), yes(UNTIL + 1)], &[1], Unfound::Silent, UNTIL),
            (&[hangs, hangs, hangs], &[], Unfound::Silent, UNTIL),
            // Who refuses says nothing, and another may be slow.
            (&[no(1, Unfound::Login), yes(400), no(3, Unfound::Silent)], &[1], Unfound::Login, 400),
            (&[no(1, Unfound::Unknown), no(2, Unfound::Silent)], &[], Unfound::Unknown, 2),
            (&[no(1, Unfound::Unknown), hangs], &[], Unfound::Unknown, UNTIL),
            (&[], &[], Unfound::Silent, 0),
        ] {
            let begun = Instant::now();
            let (answers, why) = asked(each).answers(begun + Duration::from_millis(UNTIL)).await;
            let numbers: Vec<usize> = answers.into_iter().map(|(number, ())| number).collect();
            assert_eq!((numbers.as_slice(), why), (answered, silence), "{each:?}");
            assert_eq!(begun.elapsed().as_millis(), u128::from(took), "{each:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_not_answered_is_asked_on_and_not_anew() {
        let mut asking =
            asked(&[(Some(1), Ok(())), (Some(1_400), Ok(())), (Some(1_400), Err(Unfound::Login))]);
        asking.ask(3, async { panic!("it cannot be helped") });
        let under_way = |asking: &Asking<()>| [0, 1, 2, 3].map(|number| asking.is_under_way(number));
        assert_eq!(under_way(&asking), [true, true, true, true]);
        assert_eq!(asking.answers(Instant::now() + ASK).await, (vec![(0, ())], Unfound::Silent));
        assert_eq!(under_way(&asking), [false, true, true, false]);
        asking.ask(0, std::future::pending());
        assert_eq!(asking.answers(Instant::now() + 5 * ASK).await, (vec![(1, ())], Unfound::Login));
        assert_eq!(under_way(&asking), [true, false, false, false]);
        asking.ask(1, async { Ok(()) });
        asking.ask(2, async { Err(Unfound::Login) });
        tokio::time::sleep(ASK).await;
        assert_eq!(asking.answered(), [(1, ())]);
        assert_eq!(under_way(&asking), [true, false, false, false]);
    }
}
