//! `cedargate policy diff`

use std::path::{Path, PathBuf};

use engine::bundle::{Bundle, BundleFault};
use engine::verify::diff::{self, Change, How, Kind, Said};
use serde_json::json;

use super::super::out::say;
use super::super::wrap::{printable, wrapped};
use super::{Failure, Policies};
use crate::config::settings::Limits;
use crate::in_force::loosenings;

/// Tell how one policies directory differs from another
///
/// Policies, routes, limits, and what schema and entities declare, as they
/// decide: comments, order and the names of files are no difference. Then what
/// loosens, which a reload leaves to a person. Of limits that a directory does
/// not name it takes the usual ones, and not those of a configuration.
///
/// Exit code 1 means that they differ.
///
/// Example: cedargate policy diff /etc/cedargate/policies new-policies
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Tell it as one JSON object
    #[arg(long)]
    json: bool,
    /// The policies directory to begin with
    old: PathBuf,
    /// The one to compare it with
    new: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let (old, new) = (loaded(&args.old, args.json)?, loaded(&args.new, args.json)?);
    let changes = diff::diff(&old, &new);
    let loosens = loosenings(&Limits::default(), &old, &new);
    if args.json {
        say(json!({
            "old": old.id().as_str(),
            "new": new.id().as_str(),
            "different": !changes.is_empty(),
            "changes": changes,
            "loosens": loosens,
        }));
    } else {
        say(format_args!("old {}\nnew {}", old.id(), new.id()));
        say(shown(&changes, &loosens));
    }
    if changes.is_empty() { Ok(()) } else { Err(Failure::silent()) }
}

/// The bundle of a directory. Of two, a fault says in which it is.
fn loaded(directory: &Path, silently: bool) -> Result<Bundle, Failure> {
    let policies = Policies { directory: directory.to_owned() };
    let loaded = if silently { policies.load_silently() } else { policies.load_telling() };
    loaded.map_err(|faults| {
        let placed = |BundleFault { file, line, message, remedy }| {
            let is_whole = directory.as_os_str() == file.as_str();
            let file = if is_whole { file } else { directory.join(file).display().to_string() };
            BundleFault { file, line, message, remedy }
        };
        Failure::policies(&faults.into_iter().map(placed).collect::<Vec<_>>())
    })
}

/// The changes of each kind under its heading, and then what loosens.
fn shown(changes: &[Change], loosens: &[String]) -> String {
    if changes.is_empty() {
        return "nothing that decides differs".to_owned();
    }
    let mut lines = Vec::new();
    for of_kind in changes.chunk_by(|one, other| one.kind == other.kind) {
        lines.extend(of_kind.first().map(|change| format!("\n{}", heading(change.kind))));
        of_kind.iter().for_each(|change| told(change, &mut lines));
    }
    if !loosens.is_empty() {
        lines.push("\nloosens: a reload waits for a person (`cedargate bundle reload --accept`)".to_owned());
        lines.extend(loosens.iter().map(|sentence| line(2, "! ", sentence)));
    }
    let count = |how| changes.iter().filter(|change| change.how == how).count();
    let [added, removed, changed] = [How::Added, How::Removed, How::Changed].map(count);
    lines.push(format!("\n{added} added, {removed} removed, {changed} changed"));
    lines.join("\n")
}

const fn heading(kind: Kind) -> &'static str {
    match kind {
        Kind::Guardrail => "guardrails",
        Kind::Grant => "grants",
        Kind::Route => "routes",
        Kind::Limit => "limits",
        Kind::Action => "actions",
        Kind::Type => "entity types",
        Kind::Entity => "entities",
        Kind::Schema => "schema",
    }
}

fn told(Change { name, how, said, .. }: &Change, lines: &mut Vec<String>) {
    let mark = match how {
        How::Added => "+ ",
        How::Removed => "- ",
        How::Changed => "~ ",
    };
    lines.push(line(2, mark, name));
    for Said { what, before, after } in said {
        match (before, after) {
            _ if *what == "text" => texts(before.as_deref(), after.as_deref(), lines),
            (Some(before), Some(after)) => lines.push(line(6, "", &format!("{what}: {before} -> {after}"))),
            (None, Some(value)) | (Some(value), None) if *how != How::Changed => {
                lines.push(line(6, "", &format!("{what}: {value}")));
            }
            (None, Some(value)) => lines.push(line(4, "+ ", &format!("{what}: {value}"))),
            (Some(value), None) => lines.push(line(4, "- ", &format!("{what}: {value}"))),
            (None, None) => {}
        }
    }
}

/// The lines of a policy from the first that differs to the last that does.
fn texts(before: Option<&str>, after: Option<&str>, lines: &mut Vec<String>) {
    let of = |text: Option<&str>| text.unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    let (mut before, mut after) = (of(before), of(after));
    let same = before.iter().zip(&after).take_while(|(one, other)| one == other).count();
    before.drain(..same);
    after.drain(..same);
    while before.last().is_some() && before.last() == after.last() {
        before.pop();
        after.pop();
    }
    lines.extend(before.iter().map(|text| line(4, "- ", text)));
    lines.extend(after.iter().map(|text| line(4, "+ ", text)));
}

/// A line, with its mark before it, that fits a terminal and steers none.
fn line(indent: usize, mark: &str, text: &str) -> String {
    wrapped(&format!("{}{mark}{}", " ".repeat(indent), printable(text)), indent + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(what: &'static str, before: Option<&str>, after: Option<&str>) -> Said {
        Said { what, before: before.map(str::to_owned), after: after.map(str::to_owned) }
    }

    #[test]
    fn changes_are_told_in_lines_that_fit_a_terminal_and_steer_none() {
        let change = |kind, name: &str, how, said| Change { kind, name: name.to_owned(), how, said };
        let (before, after) =
            ("@id(\"a\")\npermit (\n  principal\n);", "@id(\"a\")\npermit (\n  \u{1b}[31m\n);");
        let long = "x ".repeat(60);
        let changes = [
            change(Kind::Guardrail, "a", How::Changed, vec![said("text", Some(before), Some(after))]),
            change(Kind::Guardrail, "b", How::Removed, vec![said("text", Some("@id(\"b\")\nforbid;"), None)]),
            change(
                Kind::Route,
                "GET /a",
                How::Changed,
                vec![
                    said("cost", Some("1"), Some("20")),
                    said("audited", Some("true"), None),
                    said("names", None, Some("id")),
                ],
            ),
            change(Kind::Route, "GET /b", How::Added, vec![said("names", None, Some(&long))]),
            change(
                Kind::Schema,
                "context of a, b",
                How::Changed,
                vec![
                    said("context", Some("c: Long"), Some("c?: Long")),
                    said("context", None, Some("d: Bool")),
                ],
            ),
        ];
        let shown = shown(&changes, &["route `GET /a` is no longer recorded".to_owned()]);
        let expected = format!(
            "
guardrails
  ~ a
    -   principal
    +   \u{fffd}[31m
  - b
    - @id(\"b\")
    - forbid;

routes
  ~ GET /a
      cost: 1 -> 20
    - audited: true
    + names: id
  + GET /b
      names: {}
          {}

schema
  ~ context of a, b
      context: c: Long -> c?: Long
    + context: d: Bool

loosens: a reload waits for a person (`cedargate bundle reload --accept`)
  ! route `GET /a` is no longer recorded

1 added, 1 removed, 3 changed",
            "x ".repeat(34).trim_end(),
            "x ".repeat(26).trim_end()
        );
        assert_eq!(shown, expected);
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
        assert_eq!(super::shown(&[], &[]), "nothing that decides differs");
    }
}
