//! Figures: a line of JSON each on standard output, a table for people on standard error.

use serde::Serialize;

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// Its name, dotted.
    pub name: String,
    /// Its value: for rounds, their median.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// The least and the most of its rounds, where there were rounds. Not part of the printed line.
    #[serde(skip)]
    pub spread: Option<(f64, f64)>,
}

impl Figure {
    /// A figure that was taken once.
    #[must_use]
    pub(crate) fn once(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, spread: None }
    }

    /// The median of rounds, with their spread; `None` where there was none.
    #[must_use]
    pub(crate) fn median(name: impl Into<String>, rounds: &[f64], unit: &'static str) -> Option<Self> {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (first, last) = (sorted.first()?, sorted.last()?);
        Some(Self { name: name.into(), value: middle(&sorted)?, unit, spread: Some((*first, *last)) })
    }
}

/// The middle of sorted values; the mean of the two middle ones where their number is even.
fn middle(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// Prints all of them, for programs and for people.
///
/// # Errors
/// A figure is no number.
pub(crate) fn print(figures: &[Figure]) -> Result<(), crate::Failure> {
    eprintln!("\n{:<44} {:>12}  {:<14} rounds from … to", "figure", "value", "unit");
    for figure in figures {
        println!("{}", serde_json::to_string(figure)?);
        let spread = figure
            .spread
            .map_or_else(String::new, |(least, most)| format!("{} … {}", rounded(least), rounded(most)));
        eprintln!("{:<44} {:>12}  {:<14} {spread}", figure.name, rounded(figure.value), figure.unit);
    }
    Ok(())
}

fn rounded(value: f64) -> String {
    if value.abs() >= 1000.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_and_says_its_spread() {
        let figure = |rounds: &[f64]| Figure::median("x", rounds, "us");
        assert!(figure(&[]).is_none());
        let odd = figure(&[9.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.value, odd.spread), (2.0, Some((1.0, 9.0))));
        assert_eq!(figure(&[4.0, 1.0, 2.0, 9.0]).unwrap().value, 3.0);
        assert_eq!(
            serde_json::to_string(&Figure::once("a.b", 1.5, "us")).unwrap(),
            r#"{"name":"a.b","value":1.5,"unit":"us"}"#
        );
    }
}
