//! What a gateway's own timers say of each request, in its records.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::Failure;
use crate::process::pause;
use crate::witness::Hole;

/// Between two looks whether a record is there, and how often it is looked.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS: usize = 200;

/// The records of one gateway, read as they come.
pub(super) struct Records {
    file: PathBuf,
    /// Bytes that were read.
    read: u64,
}

impl Records {
    /// Of whatever is written from now on.
    ///
    /// # Errors
    /// The file is not there.
    pub(super) fn new(file: PathBuf) -> Result<Self, Failure> {
        let read = std::fs::metadata(&file)?.len();
        Ok(Self { file, read })
    }

    /// When and for how long the next so many requests were in this stage. Each has a record, once its answer is there or a
    /// moment later.
    ///
    /// # Errors
    /// There are not as many.
    pub(super) fn stages(&mut self, stage: &str, requests: usize) -> Result<Vec<Spent>, Failure> {
        let mut spent = Vec::with_capacity(requests);
        for _ in 0..LOOKS {
            for line in self.more()?.lines() {
                let record: Value = serde_json::from_str(line)?;
                if record.get("kind").and_then(Value::as_str) == Some("request") {
                    spent.extend(Spent::of(&record, stage));
                }
            }
            if spent.len() >= requests {
                return Ok(spent);
            }
            pause(LOOK);
        }
        Err(format!("{} of {requests} requests have a record of {stage}", spent.len()).into())
    }

    /// The lines that were written since.
    fn more(&mut self) -> Result<String, Failure> {
        let mut file = File::open(&self.file)?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // The last may not be whole yet.
        let whole = text.rfind('\n').map_or(0, |end| end.saturating_add(1));
        text.truncate(whole);
        self.read = self.read.saturating_add(u64::try_from(whole)?);
        Ok(text)
    }
}

/// What one request spent in a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spent {
    /// When it came there at the earliest, in microseconds of the system's clock: records tell the millisecond in which a
    /// request came.
    from: u64,
    /// For how many microseconds.
    pub(super) us: u64,
}

/// What is not known of [`Spent::from`], in microseconds.
const MILLISECOND: u64 = 1_000;

impl Spent {
    /// By a record, whose stages follow each other.
    fn of(record: &Value, wanted: &str) -> Option<Self> {
        let received = record.get("time")?.as_str()?.parse::<jiff::Timestamp>().ok()?;
        let mut from = u64::try_from(received.as_microsecond()).ok()?;
        for stage in record.get("stages_us")?.as_array()? {
            let us = stage.get(1)?.as_u64()?;
            if stage.get(0).and_then(Value::as_str) == Some(wanted) {
                return Some(Self { from, us });
            }
            from = from.saturating_add(us);
        }
        None
    }

    /// When it was and how long, for people.
    pub(super) fn told(self, holes: &[Hole]) -> String {
        let from =
            i64::try_from(self.from).ok().and_then(|from| jiff::Timestamp::from_microsecond(from).ok());
        let from = from.map_or_else(String::new, |from| format!("{from:.6}"));
        format!("{from} for {} us, its core there for {}", self.us, self.present(holes))
    }

    /// For how many microseconds of it its core was there: at most, whenever in its millisecond it began.
    pub(super) fn present(self, holes: &[Hole]) -> u64 {
        let away = |from: u64| -> u64 {
            holes.iter().map(|hole| hole.within(from, from.saturating_add(self.us))).sum()
        };
        self.us.saturating_sub(away(self.from).min(away(self.from.saturating_add(MILLISECOND))))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_stage_begins_where_those_before_it_end() {
        let record = json!({
            "time": "1970-01-01T00:00:02.000Z", "stages_us": [["receive", 5], ["spend", 7_000], ["forward", 100]],
        });
        let spent = Spent::of(&record, "spend").unwrap();
        assert_eq!(spent, Spent { from: 2_000_005, us: 7_000 });
        assert_eq!(Spent::of(&record, "identify"), None);
        // All of a hole counts where the stage surely had it, and the part that it surely had where not.
        let holes = |from, to| spent.present(&[Hole { from, to }]);
        for (from, to, present) in [
            (2_003_000, 2_005_000, 5_000),
            (2_006_005, 2_009_000, 6_000),
            (1_999_000, 2_002_005, 6_000),
            (2_007_005, 2_009_000, 7_000),
            (1_000_000, 3_000_000, 0),
        ] {
            assert_eq!(holes(from, to), present, "{from} to {to}");
        }
    }
}
