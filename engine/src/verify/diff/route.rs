//! What a row says, by the keys of its file.

use smol_str::SmolStr;

use crate::path::Leniencies;
use crate::route::{Accept, Fact, ParamType, Route};

/// All that it says; what holds unless something is said is left out where it is nothing.
pub(super) fn said(route: &Route) -> Vec<(&'static str, String)> {
    // Taken apart, so that a key that is added is compared too.
    let Route {
        name: _,
        method: _,
        pattern: _,
        parameters,
        module,
        recorded: _,
        hint: _,
        target,
        action,
        accept,
        step_up,
        class,
        cost,
        conceal,
        audited,
        websocket,
        body_bytes_max,
        deadline_s,
        leniencies,
        legacy_bearer_drop,
        sandbox,
        service_worker,
        client_sets,
        sets,
        named,
        names,
        query,
        cookies_up,
        cookies_down,
        headers_allowed,
        destinations,
        read_only,
    } = route;
    let flag = |set: bool| if set { "true".to_owned() } else { String::new() };
    let number = |value: Option<String>| value.unwrap_or_default();
    let all = [
        ("module", module.to_string()),
        ("target", target.to_string()),
        ("action", action.to_string()),
        ("kind", if *read_only { "read" } else { "write" }.to_owned()),
        ("accept", credentials(*accept)),
        ("class", class.to_string()),
        ("cost", cost.to_string()),
        ("step_up", number(step_up.map(|asks| asks.to_string()))),
        ("conceal", flag(*conceal)),
        ("audited", flag(*audited)),
        ("websocket", flag(*websocket)),
        ("body_bytes_max", number(body_bytes_max.map(|bytes| bytes.to_string()))),
        ("deadline_s", number(deadline_s.map(|seconds| seconds.to_string()))),
        ("parameters", types(parameters)),
        ("query", types(query)),
        ("leniencies", spelt_leniencies(*leniencies)),
        ("legacy_bearer", if *legacy_bearer_drop { "drop".to_owned() } else { String::new() }),
        ("sandbox", flag(*sandbox)),
        ("service_worker", flag(*service_worker)),
        ("client_sets", client_sets.join(", ")),
        ("sets", sets.iter().map(|(name, fact)| set(name, *fact)).collect::<Vec<_>>().join(", ")),
        ("named", named.join(", ")),
        ("names", names.join(", ")),
        ("cookies_up", cookies_up.join(", ")),
        ("cookies_down", cookies_down.join(", ")),
        ("headers_allowed", headers_allowed.join(", ")),
        ("destinations", destinations.join(", ")),
    ];
    super::told(all)
}

fn credentials(accept: Accept) -> String {
    let Accept { anonymous, session, api_key, access_token } = accept;
    listed([
        (anonymous, "anonymous"),
        (session, "session"),
        (api_key, "api_key"),
        (access_token, "access_token"),
    ])
}

fn spelt_leniencies(leniencies: Leniencies) -> String {
    let Leniencies { encoded_slash, semicolon, encoded_percent, url_in_tail, repeated_query } = leniencies;
    listed([
        (encoded_slash, "encoded_slash"),
        (semicolon, "semicolon"),
        (encoded_percent, "encoded_percent"),
        (url_in_tail, "url_in_tail"),
        (repeated_query, "repeated_query"),
    ])
}

fn listed<const N: usize>(flags: [(bool, &'static str); N]) -> String {
    let set = flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| name);
    set.collect::<Vec<_>>().join(", ")
}

fn types(parameters: &[(SmolStr, ParamType)]) -> String {
    let typed = parameters.iter().map(|(name, kind)| match kind {
        ParamType::Uuid => format!("{name} uuid"),
        ParamType::Int => format!("{name} int"),
        ParamType::Slug => format!("{name} slug"),
        ParamType::Text => format!("{name} text"),
        ParamType::Enum(values) => format!("{name} {}", values.join("|")),
    });
    typed.collect::<Vec<_>>().join(", ")
}

fn set(name: &str, fact: Fact) -> String {
    match fact {
        Fact::Principal => format!("{name} = principal"),
    }
}
