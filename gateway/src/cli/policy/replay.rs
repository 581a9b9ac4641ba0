//! `cedargate policy replay`

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use engine::bundle::Bundle;
use engine::verify::{Outcome, Replay, Said, replay};
use serde_json::{Value, json};

use super::super::out::say;
use super::super::progress::Progress;
use super::{Failure, Policies};

/// Bytes of one line that are read as a record: a thousand times what most have.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// Decide again what an audit file records, and tell what differs
///
/// Each decision is made again from its record alone: who asked, with the roles
/// of that moment, for what, and what policy has looked at. Of records that the
/// bundle looks at more of than they hold, that is told instead of a guess.
///
/// Exit code 1 means that a decision differs, or that there was none to replay.
///
/// Example: cedargate policy replay data/audit/audit.jsonl --bundle new-policies
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    policies: Policies,
    /// Tell of each record as one JSON object on a line
    #[arg(long)]
    json: bool,
    /// A file of audit records; - for standard input
    file: PathBuf,
}

/// What the records came to.
#[derive(Default)]
struct Counts {
    same: u64,
    differs: u64,
    not_replayed: u64,
    no_decision: u64,
    /// Of those that were decided again, how many another bundle had decided.
    other_bundle: u64,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let bundle = if args.json {
        args.policies.load_silently().map_err(|faults| Failure::policies(&faults))?
    } else {
        args.policies.load()?
    };
    let unreadable = |error: io::Error| {
        let message = format!("{}: {error}", args.file.display());
        Failure::failed(message, "name a file of the audit directory, or - for standard input")
    };
    let (input, bytes): (Box<dyn Read>, _) = if args.file.as_os_str() == "-" {
        (Box::new(io::stdin().lock()), None)
    } else {
        let file = File::open(&args.file).map_err(unreadable)?;
        let bytes = file.metadata().map(|metadata| metadata.len()).ok();
        (Box::new(file), bytes)
    };
    let mut lines = Lines { input: BufReader::new(input), read: 0 };
    let (mut counts, mut progress) = (Counts::default(), Progress::begin());
    while let Some(line) = lines.next().map_err(unreadable)? {
        let told = match line {
            Line::Whole(line) => replay(&bundle, &line),
            Line::Long => long(),
        };
        counts.count(&told, &bundle);
        if args.json || !matches!(told.outcome, Outcome::Same(_) | Outcome::NoDecision { .. }) {
            progress.clear();
            if args.json { say(in_json(&told, &bundle)) } else { say(for_people(&told)) }
        }
        let done = counts.same + counts.differs + counts.not_replayed + counts.no_decision;
        progress.at(lines.read, bytes, &format!("{done} records"));
    }
    progress.clear();
    counts.conclude(args.json)
}

impl Counts {
    fn count(&mut self, told: &Replay, bundle: &Bundle) {
        let count = match told.outcome {
            Outcome::Same(_) => &mut self.same,
            Outcome::Differs { .. } => &mut self.differs,
            Outcome::NotReplayed { .. } => &mut self.not_replayed,
            Outcome::NoDecision { .. } => &mut self.no_decision,
        };
        *count += 1;
        let replayed = matches!(told.outcome, Outcome::Same(_) | Outcome::Differs { .. });
        self.other_bundle += u64::from(replayed && told.bundle != bundle.id().as_str());
    }

    fn conclude(&self, in_json: bool) -> Result<(), Failure> {
        let Self { same, differs, not_replayed, no_decision, other_bundle } = self;
        if !in_json {
            say(format_args!(
                "{same} same, {differs} differ, {not_replayed} cannot be replayed, {no_decision} without a decision"
            ));
            if *other_bundle > 0 {
                say(format_args!("{other_bundle} of them were decided by another bundle"));
            }
        }
        if *differs > 0 {
            let message = format!("{differs} decisions differ");
            return Err(Failure::failed(message, "look whether the change of the policies means them"));
        }
        if *same == 0 {
            let remedy = "name a file of the audit directory that has decisions";
            return Err(Failure::failed("no decision was replayed", remedy));
        }
        Ok(())
    }
}

fn for_people(told: &Replay) -> String {
    let Replay { request_id, time, asked, outcome, .. } = told;
    let what = match outcome {
        Outcome::Same(said) => format!("same: {said}"),
        Outcome::Differs { was, is } => format!("differs: was {was}, is {is}"),
        Outcome::NotReplayed { why } => format!("cannot be replayed: {why}"),
        Outcome::NoDecision { why } => format!("no decision: {why}"),
    };
    let about = [time, request_id, asked].into_iter().filter(|part| !part.is_empty());
    let about = about.map(String::as_str).collect::<Vec<_>>().join(" ");
    // A path may hold what steers a terminal where it was refused before it was canonical.
    let about: String = about.chars().filter(|character| !character.is_control()).collect();
    if about.is_empty() { what } else { format!("{about}: {what}") }
}

fn in_json(told: &Replay, bundle: &Bundle) -> Value {
    let said = |said: &Said| json!({ "outcome": said.word, "policies": said.policies });
    let mut line = json!({
        "request_id": told.request_id,
        "time": told.time,
        "asked": told.asked,
        "bundle": told.bundle,
        "same_bundle": told.bundle == bundle.id().as_str(),
    });
    let (word, more) = match &told.outcome {
        Outcome::Same(is) => ("same", vec![("is", said(is))]),
        Outcome::Differs { was, is } => ("differs", vec![("was", said(was)), ("is", said(is))]),
        Outcome::NotReplayed { why } => ("not_replayed", vec![("why", json!(why))]),
        Outcome::NoDecision { why } => ("no_decision", vec![("why", json!(why))]),
    };
    if let Some(members) = line.as_object_mut() {
        members.insert("result".to_owned(), json!(word));
        members.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }
    line
}

/// What is told of a line that is longer than any record.
fn long() -> Replay {
    let none = String::new;
    let why = format!("the line is no record: it has more than {LINE_BYTES_MAX} bytes");
    let outcome = Outcome::NotReplayed { why };
    Replay { request_id: none(), time: none(), asked: none(), bundle: none(), outcome }
}

/// Lines, each bounded, however long they are.
struct Lines<R> {
    input: BufReader<R>,
    read: u64,
}

enum Line {
    Whole(String),
    Long,
}

impl<R: Read> Lines<R> {
    /// The next line that is not empty.
    fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let mut line = Vec::new();
            let bytes = self.input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? as u64;
            self.read = self.read.saturating_add(bytes);
            if bytes == 0 {
                return Ok(None);
            }
            if bytes == LINE_BYTES_MAX && !line.ends_with(b"\n") && self.skip()? {
                return Ok(Some(Line::Long));
            }
            let text = String::from_utf8_lossy(&line);
            if !text.trim().is_empty() {
                return Ok(Some(Line::Whole(text.trim_end().to_owned())));
            }
        }
    }

    /// Passes over the rest of a line; whether there was more of it.
    fn skip(&mut self) -> io::Result<bool> {
        let mut more = false;
        loop {
            let held = self.input.fill_buf()?;
            if held.is_empty() {
                return Ok(more);
            }
            let end = held.iter().position(|byte| *byte == b'\n');
            more |= end != Some(0);
            let used = end.map_or(held.len(), |end| end + 1);
            self.input.consume(used);
            self.read = self.read.saturating_add(used as u64);
            if end.is_some() {
                return Ok(more);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of this input: their text, or `None` of one that is too long.
    fn lines(input: &[u8]) -> Vec<Option<String>> {
        let mut lines = Lines { input: BufReader::with_capacity(7, input), read: 0 };
        let mut found = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            found.push(match line {
                Line::Whole(line) => Some(line),
                Line::Long => None,
            });
        }
        assert_eq!(lines.read, input.len() as u64);
        found
    }

    #[test]
    fn lines_are_read_whole_or_not_at_all() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(lines(b""), []);
        assert_eq!(lines(b"\n\r\n  \n"), []);
        assert_eq!(lines(b"one\ntwo"), [some("one"), some("two")]);
        assert_eq!(lines(b"\xff\n"), [some("\u{fffd}")]);
        let max = usize::try_from(LINE_BYTES_MAX).unwrap();
        let (fits, long) = ("x".repeat(max), "x".repeat(max + 1));
        assert_eq!(lines(format!("{fits}\nend\n").as_bytes()), [some(&fits), some("end")]);
        assert_eq!(lines(fits.as_bytes()), [some(&fits)]);
        assert_eq!(lines(format!("{long}\nend").as_bytes()), [None, some("end")]);
        assert_eq!(lines(format!("{long}{long}").as_bytes()), [None]);
    }

    #[test]
    fn what_is_told_to_people_steers_no_terminal() {
        let told = Replay {
            request_id: "id".to_owned(),
            time: "time".to_owned(),
            asked: "GET /\u{1b}[31m".to_owned(),
            bundle: String::new(),
            outcome: Outcome::NotReplayed { why: "reason".to_owned() },
        };
        assert_eq!(for_people(&told), "time id GET /[31m: cannot be replayed: reason");
        assert!(for_people(&long()).starts_with("cannot be replayed: the line is no record"));
    }
}
