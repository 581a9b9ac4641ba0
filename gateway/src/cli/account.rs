//! `cedargate account`

use std::collections::BTreeSet;

use clap::Subcommand;

use super::failure::Failure;
use super::operate::{Target, table, text};
use super::out::say;
use super::password;
use crate::admin::control::{Hidden, Verb};

/// People's accounts: add, list, suspend, resume, unlock, password, roles, remove
///
/// Passwords are read from standard input, or asked for without showing them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: AccountVerb,
}

#[derive(Debug, Subcommand)]
enum AccountVerb {
    /// Give a person an account
    Add {
        #[command(flatten)]
        target: Target,
        /// What the person signs in as
        login: String,
        /// A role; again for more
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// A group; again for more
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
    },
    /// Show all accounts
    List {
        #[command(flatten)]
        target: Target,
    },
    /// End an account's sessions and let it do nothing until it is resumed
    Suspend(Named),
    /// Let a suspended account sign in again
    Resume(Named),
    /// End the wait and the lock after wrong passwords
    Unlock(Named),
    /// Give an account a new password and end its sessions
    Password(Named),
    /// Give an account these roles instead of those that it has
    Roles {
        #[command(flatten)]
        named: Named,
        /// A role; again for more, and without any it has none
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// A group instead of those that it has; again for more
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
        /// Leave all groups
        #[arg(long, conflicts_with = "groups")]
        no_groups: bool,
    },
    /// Remove an account and end its sessions
    Remove(Named),
}

#[derive(Debug, clap::Args)]
struct Named {
    #[command(flatten)]
    target: Target,
    /// The login, or the account's id
    account: String,
}

const COLUMNS: [(&str, &str); 6] = [
    ("LOGIN", "login"),
    ("ROLES", "roles"),
    ("GROUPS", "groups"),
    ("SUSPENDED", "suspended"),
    ("CREATED", "created"),
    ("ID", "id"),
];

pub(super) fn run(args: Args) -> Result<(), Failure> {
    match args.verb {
        AccountVerb::List { target } => {
            target.have(Verb::AccountList {}, |answer| say(table(answer, &COLUMNS).trim_end()))
        }
        AccountVerb::Add { target, login, roles, groups } => {
            let (roles, groups) = (set(roles), set(groups));
            let password = read_password()?;
            let verb = Verb::AccountAdd { login, password, roles, groups };
            target.have(verb, |answer| {
                say(format_args!("added {} ({})", text(answer, "login"), text(answer, "id")))
            })
        }
        AccountVerb::Suspend(named) => named.have("suspended", |account| Verb::AccountSuspend { account }),
        AccountVerb::Resume(named) => named.have("resumed", |account| Verb::AccountResume { account }),
        AccountVerb::Unlock(named) => named.have("unlocked", |account| Verb::AccountUnlock { account }),
        AccountVerb::Remove(named) => named.have("removed", |account| Verb::AccountRemove { account }),
        AccountVerb::Password(named) => {
            let password = read_password()?;
            named.have("new password for", |account| Verb::AccountSetPassword { account, password })
        }
        AccountVerb::Roles { named, roles, groups, no_groups } => {
            let groups = (no_groups || !groups.is_empty()).then(|| set(groups));
            let roles = set(roles);
            named.have("changed", |account| Verb::AccountSetRoles { account, roles, groups })
        }
    }
}

impl Named {
    fn have(self, done: &str, verb: impl FnOnce(String) -> Verb) -> Result<(), Failure> {
        let shown = self.account.clone();
        self.target.have(verb(self.account), |_| say(format_args!("{done} {shown}")))
    }
}

fn read_password() -> Result<Hidden, Failure> {
    Ok(Hidden::new(password::read_new()?.to_string()))
}

pub(super) fn set(names: Vec<String>) -> BTreeSet<String> {
    names.into_iter().collect()
}
