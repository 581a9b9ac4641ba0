//! What a gateway's own timers say of each request, in its records.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::Failure;
use crate::load::{Answer, Outcome};
use crate::process::pause;

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

    /// How long this stage took for the next so many requests, in microseconds. Each has a record, once its answer is there
    /// or a moment later.
    ///
    /// # Errors
    /// There are not as many.
    pub(super) fn stages(&mut self, stage: &str, requests: usize) -> Result<Outcome, Failure> {
        let mut spent = Vec::with_capacity(requests);
        for _ in 0..LOOKS {
            for line in self.more()?.lines() {
                let record: Value = serde_json::from_str(line)?;
                if record.get("kind").and_then(Value::as_str) == Some("request") {
                    spent.extend(stage_us(&record, stage).map(|latency_us| Answer { status: 0, latency_us }));
                }
            }
            if spent.len() >= requests {
                return Ok(Outcome::of(&spent));
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

fn stage_us(record: &Value, wanted: &str) -> Option<u64> {
    let stages = record.get("stages_us")?.as_array()?;
    let stage = stages.iter().find(|stage| stage.get(0).and_then(Value::as_str) == Some(wanted))?;
    stage.get(1)?.as_u64()
}
