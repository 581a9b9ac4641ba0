//! How one who behaves is served while others do not, or while something else is done.
//!
//! Looked at in rounds, whose median counts: at a percentile that ten requests decide, one moment in which the machine did
//! something else would be the figure.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::figures::Figure;
use crate::load::{self, Outcome, Target};
use crate::{Failure, cores::Cores};

/// How long a round is.
const ROUND: Duration = Duration::from_secs(2);
/// What is told of each round.
const PERCENTILES: [usize; 2] = [50, 99];

/// Who behaves, and how it is asked on its behalf.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    /// Where it runs.
    pub cores: Cores,
    /// Its connections.
    pub connections: u32,
    /// Its requests a second.
    pub rate: NonZeroU32,
}

impl Client {
    /// Looks how it is served, for so many rounds.
    ///
    /// # Errors
    /// An answer is late, cut or not a 200.
    pub(crate) fn look(&self, target: &Target, rounds: usize) -> Result<Vec<Outcome>, Failure> {
        let round = |_| load::open_loop(self.cores.load, target, self.connections, self.rate.get(), ROUND);
        (0..rounds).map(round).collect()
    }
}

/// The median of each look's percentiles, and the one without a name over the first.
///
/// # Errors
/// In one of the looks nobody was served.
pub(crate) fn told(name: &str, looks: &[(&str, &[Outcome])]) -> Result<Vec<Figure>, Failure> {
    let mut figures = Vec::new();
    for percent in PERCENTILES {
        let (mut first, mut during) = (None, None);
        for (look, rounds) in looks {
            let figure = median(format!("{name}.p{percent}{look}"), percent, rounds)?;
            first = first.or(Some((*look, figure.value)));
            during = during.or(look.is_empty().then_some(figure.value));
            figures.push(figure);
        }
        if let (Some((look, first)), Some(during)) = (first, during) {
            figures.push(Figure::once(format!("{name}.p{percent}_over{look}"), during / first, "ratio"));
        }
    }
    Ok(figures)
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of one run, far below 2^52")]
fn median(name: String, percent: usize, rounds: &[Outcome]) -> Result<Figure, Failure> {
    let rounds: Vec<f64> = rounds.iter().map(|round| round.percentile_us(percent) as f64).collect();
    let served = |figure: &Figure| figure.value > 0.0;
    Figure::median(name, &rounds, "us").filter(served).ok_or_else(|| "nobody was served".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(of: &[u64]) -> Vec<Outcome> {
        let round = |us: &u64| Outcome { latencies_us: vec![*us] };
        of.iter().map(round).collect()
    }

    #[test]
    fn one_bad_round_is_not_the_figure() {
        let (quiet, during) = (rounds(&[100, 90_000, 100]), rounds(&[150, 140, 70_000]));
        let figures = told("x", &[("_quiet", &quiet), ("", &during)]).unwrap();
        let told: Vec<_> = figures.iter().map(|it| (it.name.as_str(), it.value, it.spread)).collect();
        assert_eq!(
            told[3..],
            [
                ("x.p99_quiet", 100.0, Some((100.0, 90_000.0))),
                ("x.p99", 150.0, Some((140.0, 70_000.0))),
                ("x.p99_over_quiet", 1.5, None)
            ]
        );
    }

    #[test]
    fn nobody_served_is_no_figure() {
        let quiet = rounds(&[100]);
        assert!(told("x", &[("_quiet", &quiet), ("", &[])]).is_err());
        assert!(told("x", &[("_quiet", &quiet), ("", &[Outcome::default()])]).is_err());
    }
}
