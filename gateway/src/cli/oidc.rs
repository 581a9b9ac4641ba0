//! `cedargate oidc`

use std::fmt::Write as _;

use clap::Subcommand;
use serde_json::{Value, json};
use storage::Keyring;
use storage::endings::Endings;

use super::failure::Failure;
use super::out::say;
use super::source::Source;
use super::wrap::{printable, wrapped};
use crate::config::Config;
use crate::oidc::Providers;
use crate::oidc::check::{Finding, Verdict};
use crate::{random, tls};

/// Identity providers: check
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: OidcVerb,
}

#[derive(Debug, Subcommand)]
enum OidcVerb {
    /// Ask the providers whether anybody could sign in there
    ///
    /// Reads the configuration and the policies, then asks each provider for
    /// its metadata and keys, tries the client with a code that nobody was
    /// given, and begins a sign-in that shows nothing. Nobody is signed in.
    Check(Check),
}

#[derive(Debug, clap::Args)]
struct Check {
    #[command(flatten)]
    source: Source,
    /// Only the provider of this name
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Tell it as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    match args.verb {
        OidcVerb::Check(check) => check.run(),
    }
}

impl Check {
    fn run(&self) -> Result<(), Failure> {
        let (config, _) = super::check_config::checked(self.source.file().as_deref())
            .map_err(|faults| Failure::configuration(&faults))?;
        let origins: Vec<String> =
            config.hosts.iter().map(|host| host.public_url.as_str().to_owned()).collect();
        let providers = providers(&config)?;
        let known: Vec<&str> = providers.iter().map(|provider| &**provider.name()).collect();
        if let Some(name) = self.name.as_ref().filter(|name| !known.contains(&name.as_str())) {
            let message = format!("no provider is named `{}`", printable(name));
            return Err(Failure::failed(message, format!("name one of: {}", listed(&known))));
        }
        let wanted = |name: &str| self.name.as_ref().is_none_or(|wanted| wanted == name);
        let mut told = Vec::new();
        for provider in providers.iter().filter(|provider| wanted(provider.name())) {
            let found = runtime()?.block_on(provider.check(&origins));
            if !self.json {
                say(text(provider.name(), provider.issuer(), &found).trim_end());
            }
            told.push((provider.name().to_string(), found));
        }
        if told.is_empty() && !self.json {
            say("no provider is configured; docs/oidc.md says how");
        }
        let faults = told.iter().flat_map(|(_, found)| found);
        let faults = faults.filter(|found| found.verdict == Verdict::Fault).count();
        if self.json {
            let providers: Vec<Value> =
                told.iter().map(|(name, found)| json!({"name": name, "findings": found})).collect();
            say(json!({"well": faults == 0, "providers": providers}));
        }
        match faults {
            0 => Ok(()),
            _ if self.json => Err(Failure::silent()),
            1 => Err(Failure::failed("1 fault", "mend what it names, and check again")),
            _ => Err(Failure::failed(format!("{faults} faults"), "mend what they name, and check again")),
        }
    }
}

/// The configured providers, without a store: nobody signs in.
pub(super) fn providers(config: &Config) -> Result<Providers, Failure> {
    const LOG: &str = "run `cedargate check-config`";
    tls::install_provider(config.tls_min_version).map_err(|error| Failure::of(&error, LOG))?;
    let keyring = Keyring::from_master(&random::bytes());
    let store = storage::Store::in_memory(&keyring).map_err(|error| Failure::of(&error, LOG))?;
    let endings = Endings::open(store).map_err(|error| Failure::of(&error, LOG))?;
    Providers::new(&config.oidc, keyring, endings).map_err(|error| Failure::of(&error, LOG))
}

pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::of(&error, "see whether the machine is out of files"))
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "none is configured".to_owned() } else { names.join(", ") }
}

fn text(name: &str, issuer: &str, found: &[Finding]) -> String {
    let mut text = String::new();
    writeln!(text, "{}", wrapped(&format!("{name}: {issuer}"), 0)).ok();
    for Finding { step, verdict, message, remedy } in found {
        let verdict = match verdict {
            Verdict::Well => "well",
            Verdict::Notice => "notice",
            Verdict::Fault => "FAULT",
        };
        let message = printable(message);
        writeln!(text, "{}", wrapped(&format!("  {verdict:<7}{step:<9} {message}"), INDENT)).ok();
        if !remedy.is_empty() {
            let remedy = printable(remedy);
            writeln!(text, "{}", wrapped(&format!("{:INDENT$}remedy: {remedy}", ""), INDENT + 2)).ok();
        }
    }
    text
}

/// Columns before a message.
const INDENT: usize = 19;
