//! `cedargate policy explain`

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use engine::authz::AuthzRequest;
use engine::identity::{Identity, LOCAL_ISSUER, Principal, PrincipalKind};
use engine::limit::milliseconds;
use engine::path::CanonicalPath;
use engine::time::UnixMillis;
use engine::verify;
use http::Method;

use super::super::out::say;
use super::{Factors, Failure, Policies};
use crate::clock;

/// Tell why a request is permitted or refused
///
/// Example: cedargate policy explain --role viewer GET /api/docs/list
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    policies: Policies,
    /// A role of whoever asks; again for more. Without any, and without a
    /// group, nobody in particular asks
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// A group of whoever asks; again for more
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// A program asks, with an API key
    #[arg(long)]
    service: bool,
    /// A scope of the API key; again for more
    #[arg(long = "scope", value_name = "SCOPE", requires = "service")]
    scopes: Vec<String>,
    /// By what a provider says that the person was authenticated
    #[arg(long, value_name = "ACR", conflicts_with = "service")]
    acr: Option<String>,
    /// The same by its methods; again for more
    #[arg(long, value_name = "AMR", conflicts_with = "service")]
    amr: Vec<String>,
    /// How long ago that was, such as 90s or 10m, or `unknown` where nobody
    /// says; just now unless given
    #[arg(long, value_name = "AGE", conflicts_with = "service", value_parser = age)]
    age: Option<Age>,
    #[command(flatten)]
    factors: Factors,
    /// The address that it is asked from
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    client: IpAddr,
    /// It is asked without TLS
    #[arg(long)]
    plain: bool,
    /// GET, POST, …
    method: Method,
    /// The path, without a query
    path: String,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let bundle = args.policies.load()?;
    let path = CanonicalPath::parse(args.path.as_bytes()).map_err(|malformed| {
        Failure::failed(format!("the path is refused: {}", malformed.reason), "spell it as a client would")
    })?;
    let Some(matched) = bundle.routes().find(&args.method, &path) else {
        say("refused, because no route names it (404)");
        return Ok(());
    };
    let route = &matched.route;
    say(format_args!("route {} asks for {} on Module::\"{}\"", route.name, route.action, route.module));
    let now = clock::now();
    let identity = args.identity(now);
    let request = AuthzRequest {
        identity: &identity,
        action: &route.action,
        module: &route.module,
        hint: route.hint,
        parameters: &matched.parameters,
        class: &route.class,
        method: args.method.as_str(),
        client: args.client,
        tls: !args.plain,
        now,
    };
    say(verify::explain_on(&bundle, route, &request).trim_end());
    Ok(())
}

impl Args {
    fn identity(&self, now: UnixMillis) -> Identity {
        if self.roles.is_empty() && self.groups.is_empty() && !self.service {
            return Identity::Anonymous;
        }
        let set = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
        let kind = if self.service { PrincipalKind::Service } else { PrincipalKind::User };
        let every = || BTreeSet::from(["*".to_owned()]);
        let scopes = if self.service && self.scopes.is_empty() { every() } else { set(&self.scopes) };
        Identity::Known(Arc::new(Principal {
            roles: set(&self.roles),
            groups: set(&self.groups),
            scopes,
            assurance: self
                .factors
                .meant()
                .assurance(self.acr.as_deref(), self.amr.iter().map(String::as_str)),
            authenticated_at: match self.age {
                None => now,
                Some(Age::Known(age)) => UnixMillis(now.0.saturating_sub(age)),
                Some(Age::Unknown) => UnixMillis(0),
            },
            ..Principal::named(kind, LOCAL_ISSUER, "somebody", now)
        }))
    }
}

/// How long ago somebody was authenticated, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    Known(u64),
    Unknown,
}

fn age(text: &str) -> Result<Age, String> {
    match text {
        "unknown" => Ok(Age::Unknown),
        text => milliseconds(text)
            .map(Age::Known)
            .ok_or_else(|| "write digits and a unit (s, m, h, d), such as 90s, or `unknown`".to_owned()),
    }
}
