//! `cedargate token`

use std::io::Read as _;
use std::sync::Arc;

use clap::Subcommand;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::failure::Failure;
use super::oidc::{providers, runtime};
use super::out::{aside, say};
use super::source::Source;
use super::wrap::{printable, wrapped};
use crate::authn::bearer::{Form, classify};
use crate::clock;
use crate::oidc::access_token::AccessFault;
use crate::oidc::introspection::NotTold;
use crate::oidc::jose::{Jws, JwsFault, TOKEN_BYTES_MAX};
use crate::oidc::presented::Token;
use crate::oidc::{Fault, Providers};

/// Tokens: inspect
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: TokenVerb,
}

#[derive(Debug, Subcommand)]
enum TokenVerb {
    /// Say why an access token is refused, or who its bearer would be
    ///
    /// Reads the token from standard input, so that it stays out of the
    /// shell's history, and the providers from the configuration. It asks the
    /// token's provider for its keys, or about a token that is no JWT, and tells
    /// nobody else. Whether the account
    /// is suspended, or the provider has ended the session, is for the running
    /// gateway to know.
    Inspect(Inspect),
}

/// A token that holds, with notices, or why it does not.
type Verified = Result<(Arc<Token>, Vec<String>), Fault>;

#[derive(Debug, clap::Args)]
struct Inspect {
    #[command(flatten)]
    source: Source,
    /// The token; `-` or nothing reads standard input
    #[arg(value_name = "TOKEN", default_value = "-", hide_default_value = true)]
    token: String,
    /// Tell it as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    match args.verb {
        TokenVerb::Inspect(inspect) => inspect.run(),
    }
}

impl Inspect {
    fn run(self) -> Result<(), Failure> {
        let text = text(&self.token)?;
        let config = self.source.load()?;
        let providers = providers(&config)?;
        let (jws, verified) = match Jws::parse(&text) {
            Ok(jws) => {
                let verified = runtime()?.block_on(providers.verified(&text, clock::now()));
                (Some(jws), verified.map(|(token, notes)| (Arc::new(token), notes)))
            }
            Err(fault) => (None, opaque(&Arc::new(providers), &text, fault)?),
        };
        let header = jws.as_ref().map(|jws| {
            json!({"alg": format!("{:?}", jws.algorithm).to_uppercase(), "kid": jws.kid, "typ": jws.typ})
        });
        let claims = jws.as_ref().map(|jws| Value::Object(jws.claims.clone()));
        let refused = verified.as_ref().err().map(ToString::to_string);
        let (who, notes) = verified.ok().map(|(token, notes)| (identity(&token), notes)).unzip();
        if self.json {
            say(json!({
                "holds": refused.is_none(), "refused": refused, "header": header, "claims": claims,
                "identity": who, "notes": notes.unwrap_or_default(),
            }));
            return refused.map_or(Ok(()), |_| Err(Failure::silent()));
        }
        for (what, part) in [("header", header), ("claims", claims), ("identity", who)] {
            if let Some(part) = part {
                say(told(what, &part));
            }
        }
        for note in notes.unwrap_or_default() {
            say(wrapped(&format!("notice: {}", printable(&note)), 2));
        }
        match refused {
            None => Ok(()),
            Some(why) => Err(Failure::failed(
                wrapped(&format!("the token is refused: {}", printable(&why)), 2),
                "compare what it claims with the provider's entry; see docs/oidc.md",
            )),
        }
    }
}

/// What the provider says of a token that is no JWT, where one is asked about such.
fn opaque(providers: &Arc<Providers>, text: &str, fault: JwsFault) -> Result<Verified, Failure> {
    if !matches!(classify(format!("Bearer {text}").as_bytes()), Form::Opaque(_))
        || !providers.are_asked_about_tokens()
    {
        return Ok(Err(AccessFault::from(fault).into()));
    }
    let told = runtime()?.block_on(providers.introspected(text, None, clock::now()));
    Ok(told.map_err(|not_told| match not_told {
        NotTold::Fault(fault) => fault,
        // No address, nobody who guesses.
        NotTold::Guessing { .. } => AccessFault::Inactive.into(),
    }))
}

/// The token as it was given, without what people copy along.
fn text(argument: &str) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    if argument == "-" {
        let mut input = std::io::stdin().lock().take(TOKEN_BYTES_MAX as u64 * 2);
        let read = input.read_to_string(&mut text);
        read.map_err(|error| Failure::of(&error, "give the token as text on standard input"))?;
    } else {
        aside("notice: a token on the command line stays in the shell's history");
        text.push_str(argument);
    }
    let bare = text.trim();
    let bare = bare
        .get(..7)
        .filter(|scheme| scheme.eq_ignore_ascii_case("bearer "))
        .map_or(bare, |_| bare.get(7..).unwrap_or_default().trim_start());
    if bare.is_empty() {
        return Err(Failure::failed("no token was given", "pipe it in: `cedargate token inspect < FILE`"));
    }
    Ok(Zeroizing::new(bare.to_owned()))
}

fn identity(token: &Token) -> Value {
    json!({
        "account": token.person.origin.account_id(),
        "name": token.person.login.as_str(),
        "roles": token.person.roles,
        "groups": token.person.groups,
        "covers": token.token.scopes,
        "assurance": token.assurance,
        "ends": clock::rfc3339(token.token.times.ends),
        "record_id": token.id,
    })
}

/// Names and values, one a line.
fn told(what: &str, part: &Value) -> String {
    let mut lines = vec![format!("{what}:")];
    for (name, value) in part.as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        lines.push(wrapped(&format!("  {}: {}", printable(name), printable(&value)), 4));
    }
    lines.join("\n")
}
