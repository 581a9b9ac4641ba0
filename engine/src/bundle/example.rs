//! Requests as clients could send them, for checks at load and for the verbs that show what policy does.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use smol_str::SmolStr;
use uuid::Uuid;

use crate::authz::AuthzRequest;
use crate::identity::{Identity, Principal, PrincipalKind, Scheme};
use crate::route::{ParamType, Parameter, Parameters, Route};
use crate::time::UnixMillis;

/// Parameters of the path and the query with their types.
pub(crate) fn typed(route: &Route) -> impl Iterator<Item = (&str, &ParamType)> {
    let path = route.parameters.iter().map(|(name, kind)| (name.as_ref(), kind));
    path.chain(route.query.iter().map(|(name, kind)| (name.as_ref(), kind)))
}

/// A value of each parameter.
pub(crate) fn example_parameters(route: &Route) -> Parameters {
    typed(route).map(|(name, kind)| (SmolStr::new(name), kind.example().into())).collect()
}

/// A request on a route as a client could send it.
pub(crate) fn example<'a>(
    route: &'a Route,
    identity: &'a Identity,
    parameters: &'a [Parameter],
) -> AuthzRequest<'a> {
    AuthzRequest {
        identity,
        action: &route.action,
        module: &route.module,
        hint: route.hint,
        parameters,
        class: &route.class,
        method: route.method.as_str(),
        client: EXAMPLE_CLIENT,
        tls: true,
        now: EXAMPLE_TIME,
    }
}

/// A documentation address (RFC 5737): no network of any operator.
pub(crate) const EXAMPLE_CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// 2026-01-07T12:00:00Z, a Wednesday at noon.
pub(crate) const EXAMPLE_TIME: UnixMillis = UnixMillis(1_767_787_200_000);

/// A principal with these roles and groups and the weakest proof.
pub(crate) fn example_principal(
    kind: PrincipalKind,
    roles: BTreeSet<String>,
    groups: BTreeSet<String>,
) -> Principal {
    let is_service = kind == PrincipalKind::Service;
    Principal {
        kind,
        id: Uuid::from_u128(0x9f1c_4d2e_0b7a_4e56_8d3f_6a5b_4c3d_2e1f),
        name: "example".to_owned(),
        roles,
        groups,
        scopes: if is_service { BTreeSet::from(["*".to_owned()]) } else { BTreeSet::new() },
        scheme: if is_service { Scheme::ApiKey } else { Scheme::Session },
        assurance: 1,
        authenticated_at: EXAMPLE_TIME,
        credential_id: None,
        expires_at: None,
        suspended: false,
    }
}
