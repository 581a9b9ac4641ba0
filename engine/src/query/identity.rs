//! Query names that say who someone is.

/// The names by which BotServer takes an identity, a tenant or a credential from a query, and the one under
/// which RFC 6750 lets a token travel (threat 2). On every route they are refused unless the route declares
/// that the client sets them.
pub const IDENTITY_NAMES: [&str; 9] = [
    "user_id",
    "session_id",
    "attendant_id",
    "token",
    "access_token",
    "org_id",
    "organization_id",
    "orgId",
    "bot_id",
];

/// Folded [`IDENTITY_NAMES`], and the British spelling.
const FOLDED: [&str; 9] = [
    "userid",
    "sessionid",
    "attendantid",
    "token",
    "accesstoken",
    "orgid",
    "organizationid",
    "organisationid",
    "botid",
];

/// By which frameworks let a query change the method, folded: policy decides by the method on the wire.
const METHOD_FOLDED: [&str; 4] = ["method", "xhttpmethodoverride", "xhttpmethod", "xmethodoverride"];

/// Whether a decoded name is one of [`IDENTITY_NAMES`] in any spelling that some server takes for it:
/// letter case, `-`, `_`, `.`, spaces or nothing between the words, and the bracket forms of lists
/// (`user_id[]`, `user_id[0]`, and `user[id`, which PHP reads as `user_id`).
#[must_use]
pub fn is_identity_name(name: &str) -> bool {
    let is_known = |spelling: &str| FOLDED.contains(&fold(spelling).as_str());
    is_known(name) || name.split_once('[').is_some_and(|(base, _)| is_known(base))
}

/// Whether a decoded name asks for another method. `method` alone is an ordinary word, `_method` is not.
pub(super) fn is_method_name(name: &str) -> bool {
    let folded = fold(name);
    METHOD_FOLDED.contains(&folded.as_str()) && !(folded == "method" && name.starts_with(char::is_alphabetic))
}

/// Letters and digits in lower case. Through upper case first, so that letters with two lower-case forms (`ſ`,
/// the Kelvin sign) meet their plain ones.
fn fold(name: &str) -> String {
    name.chars()
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .filter(|character| character.is_alphanumeric())
        .collect()
}
