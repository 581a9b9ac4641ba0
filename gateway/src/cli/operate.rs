//! Asks the running gateway, or works on its store where none runs.

use std::path::PathBuf;

use serde_json::Value;
use storage::OpenError;

use super::failure::Failure;
use super::source::Source;
use crate::admin::control::{Client, ClientError, Code, Operator, Problem, Reply, Verb};
use crate::app::{self, RunError};
use crate::config::Config;

/// Which gateway is meant.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Target {
    #[command(flatten)]
    source: Source,
    /// The data directory of the running gateway, instead of a configuration
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    data_dir: Option<PathBuf>,
    /// Tell the answer as JSON
    #[arg(long)]
    json: bool,
}

impl Target {
    /// Has a verb done and tells the answer: as JSON if that is wanted, otherwise by `tell`.
    pub(super) fn have(&self, verb: Verb, tell: impl FnOnce(&Value)) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| Failure::of(&error, "see whether the machine is out of files"))?;
        match runtime.block_on(self.done(verb))? {
            Reply::Done(value) if self.json => println!("{value}"),
            Reply::Done(value) => tell(&value),
            Reply::Refused(problem) => return Err(refused(&problem)),
        }
        Ok(())
    }

    async fn done(&self, verb: Verb) -> Result<Reply, Failure> {
        let data_dir = match &self.data_dir {
            Some(data_dir) => data_dir.clone(),
            None => {
                let file = self.source.file();
                Config::data_dir_of(file.as_deref()).map_err(|faults| Failure::configuration(&faults))?
            }
        };
        match Client::connect(&data_dir).await {
            Ok(mut client) => client
                .ask(&verb)
                .await
                .map_err(|error| Failure::of(&error, "look at the audit log, then ask again")),
            Err(error @ ClientError::NoAnswer { .. }) => self.directly(verb, &error).await,
            Err(error) => Err(Failure::of(&error, "ask again")),
        }
    }

    /// Silence does not say that no gateway runs, and a store without its gateway is nobody's to change: only
    /// whoever holds its lock works on it (threat 18).
    async fn directly(&self, verb: Verb, silence: &ClientError) -> Result<Reply, Failure> {
        if let Some(data_dir) = &self.data_dir {
            let remedy = format!(
                "start the gateway of {}, or name its configuration with --config",
                data_dir.display()
            );
            return Err(Failure::of(silence, remedy));
        }
        let config = self.source.load()?;
        let operator = Operator { uid: rustix::process::geteuid().as_raw() };
        let done = app::work_directly(&config, verb, operator).await;
        if let Err(RunError::Store(OpenError::Held { .. })) = done {
            return Err(Failure::failed(
                "a gateway holds the store, and does not answer on its control socket",
                "wait until it has started, or stop it; its log says what it does",
            ));
        }
        done.map_err(|error| Failure::run(&error))
    }
}

fn refused(problem: &Problem) -> Failure {
    let remedy = match problem.code {
        Code::Invalid => "mend what it names",
        Code::Forbidden => "let a policy permit it to you: `cedargate.*` actions on Module::\"cedargate\"",
        Code::NotFound => "see what there is: account list, key list, session list",
        Code::Conflict => "look at what is there, and decide which of the two is meant",
        Code::Unavailable => "look at the gateway's log and its /readyz",
        Code::NotRunning => "start the gateway first",
    };
    Failure::failed(&problem.message, remedy)
}

/// The text of a field of an answer, safe on a terminal: what a client sent may hold escapes.
pub(super) fn text(value: &Value, field: &str) -> String {
    const CHARS_MAX: usize = 48;
    let found = match value.get(field) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_str().unwrap_or_default()).collect::<Vec<_>>().join(",")
        }
        Some(Value::Null) | None => "-".to_owned(),
        Some(other @ (Value::Bool(_) | Value::Number(_) | Value::Object(_))) => other.to_string(),
    };
    found.chars().take(CHARS_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Rows of an answer in columns as wide as they need; the last one is not padded.
pub(super) fn table(value: &Value, columns: &[(&str, &str)]) -> String {
    let head = columns.iter().map(|(title, _)| (*title).to_owned()).collect::<Vec<_>>();
    let row = |value: &Value| columns.iter().map(|(_, field)| text(value, field)).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> =
        std::iter::once(head).chain(value.as_array().into_iter().flatten().map(row)).collect();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let mut shown = String::new();
    for row in &rows {
        let padded = row.iter().enumerate().map(|(column, cell)| {
            let width = if column + 1 == columns.len() { 0 } else { width(column).unwrap_or_default() };
            format!("{cell:width$}")
        });
        shown.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        shown.push('\n');
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::table;

    #[test]
    fn rows_stand_in_columns_and_escapes_do_not_reach_the_terminal() {
        let value = json!([
            { "id": "1", "roles": ["viewer", "guest_user"], "client": null },
            { "id": "22", "roles": [], "client": "\u{1b}[31mred\n" },
        ]);
        let shown = table(&value, &[("ID", "id"), ("ROLES", "roles"), ("CLIENT", "client")]);
        assert_eq!(
            shown,
            "ID  ROLES              CLIENT\n1   viewer,guest_user  -\n22                     \u{fffd}[31mred\u{fffd}\n"
        );
        assert_eq!(table(&json!([]), &[("ID", "id")]), "ID\n");
    }
}
