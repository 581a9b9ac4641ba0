//! Asks the running gateway, or works on its store where none runs.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use storage::OpenError;

use super::failure::Failure;
use super::out::say;
use super::source::Source;
use crate::admin::control::{Client, ClientError, Code, Operator, Problem, Reply, Verb};
use crate::app::{self, RunError};
use crate::config::Config;

/// How long an answer may take: reading a large bundle anew takes seconds. A gateway that hangs is not one that is
/// absent.
const PATIENCE: Duration = Duration::from_secs(30);

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
        match runtime.block_on(self.done(verb, PATIENCE))? {
            Reply::Done(value) if self.json => say(value),
            Reply::Done(value) => tell(&value),
            Reply::Refused(problem) => return Err(refused(&problem)),
        }
        Ok(())
    }

    async fn done(&self, verb: Verb, patience: Duration) -> Result<Reply, Failure> {
        let data_dir = match &self.data_dir {
            Some(data_dir) => data_dir.clone(),
            None => {
                let file = self.source.file();
                Config::data_dir_of(file.as_deref()).map_err(|faults| Failure::configuration(&faults))?
            }
        };
        match Client::connect(&data_dir).await {
            Ok(mut client) => match tokio::time::timeout(patience, client.ask(&verb)).await {
                Ok(answer) => answer.map_err(|error| Failure::of(&error, UNSURE)),
                Err(_) => {
                    let message = format!("the gateway takes no notice for {} seconds", patience.as_secs());
                    Err(Failure::failed(message, UNSURE))
                }
            },
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

const UNSURE: &str = "look at the audit log whether it was done, then ask again";

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
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use serde_json::json;
    use storage::{Keyring, Mark, Store};

    use super::{Target, table};
    use crate::admin::control::{SOCKET_NAME, Verb};
    use crate::cli::source::Source;

    /// A data directory with a configuration that names its keys by file.
    fn house() -> (tempfile::TempDir, Target, [u8; 32]) {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let mut keys = String::new();
        for (key, first) in [("encryption", "8f"), ("database", "41"), ("jwt_secret", "c9")] {
            std::fs::write(
                at(key),
                format!("{first}3a1c9be07d45526e914fb8a2c3d6070b5ae8f19c24d37786e1fa4c0d9b3512"),
            )
            .unwrap();
            std::fs::set_permissions(at(key), std::fs::Permissions::from_mode(0o600)).unwrap();
            keys.push_str(&format!("{key} = \"file:{}\"\n", at(key).display()));
        }
        let text = format!("hosts = [{{ public_url = \"https://app.example\" }}]\n[keys]\n{keys}");
        std::fs::write(at("cedargate.toml"), text).unwrap();
        let source = Source { config: Some(at("cedargate.toml")) };
        let config = source.load().unwrap();
        let master = *config.keys.encryption.expose();
        (directory, Target { source, data_dir: None, json: false }, master)
    }

    #[tokio::test]
    async fn threat_18_a_gateway_that_hangs_is_not_one_that_is_absent() {
        const SHORT: Duration = Duration::from_millis(100);
        let (directory, target, master) = house();
        let data_dir = directory.path().join("data");
        let store = Store::open(&data_dir, &Keyring::from_master(&master), Mark::Production).unwrap();
        let failed = target.done(Verb::AccountList {}, SHORT).await.unwrap_err();
        assert!(format!("{failed:?}").contains("a gateway holds the store"), "{failed:?}");

        // Somebody listens and says nothing: the store is left alone, whether or not it is held.
        drop(store);
        let _deaf = std::os::unix::net::UnixListener::bind(data_dir.join(SOCKET_NAME)).unwrap();
        let failed = target.done(Verb::AccountList {}, SHORT).await.unwrap_err();
        assert!(format!("{failed:?}").contains("takes no notice"), "{failed:?}");
        assert!(!data_dir.join("audit").exists(), "nothing was opened");
    }

    #[tokio::test]
    async fn without_a_configuration_only_a_running_gateway_is_asked() {
        let directory = tempfile::tempdir().unwrap();
        let source = Source { config: None };
        let target = Target { source, data_dir: Some(directory.path().to_owned()), json: false };
        let failed = target.done(Verb::AccountList {}, Duration::from_secs(1)).await.unwrap_err();
        assert!(format!("{failed:?}").contains("no gateway answers"), "{failed:?}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

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
