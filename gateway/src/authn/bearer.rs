//! What an `Authorization` header is, by its form alone. Nothing here believes anything.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::refusal::Answer;
use engine::route::StepUp;
use http::HeaderValue;
use serde_json::Value;

use crate::config::providers::Provider;

/// How our API keys begin.
pub const API_KEY_PREFIX: &str = "cgk_";

/// The issuer under which we sign identities for BotServer; nobody else may speak in its name.
const OWN_UPSTREAM_ISSUER: &str = "general-bots";

/// The longest value that is looked into, in bytes. An access token of a real provider stays under this.
const BEARER_BYTES_MAX: usize = 8 * 1024;

/// The form of an `Authorization` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form<'h> {
    /// One of our API keys, whole, prefix included.
    ApiKey(&'h str),
    /// What BotServer's web client sends: `gb_<uuid>_<seconds>`. Anything so formed is a user there, so it is
    /// never passed on.
    Legacy,
    /// Three parts, as a signed token has; nothing of it is read yet.
    Token(&'h str),
    /// Text of another form that could be a token (RFC 6750, section 2.1): 16 to [`OPAQUE_BYTES_MAX`] characters. What it is,
    /// nobody but its issuer can say.
    Opaque(&'h str),
    /// Anything else, other schemes included.
    Unknown,
}

/// The shortest opaque token: less than 16 characters can be guessed, and no provider writes so few.
const OPAQUE_BYTES_MIN: usize = 16;
/// The longest opaque token that a provider is asked about; those of real providers have some hundred characters.
pub const OPAQUE_BYTES_MAX: usize = 2048;

/// Sorts one header value.
#[must_use]
pub fn classify(value: &[u8]) -> Form<'_> {
    let Some(token) = bearer_token(value) else { return Form::Unknown };
    if token.starts_with(API_KEY_PREFIX) {
        Form::ApiKey(token)
    } else if token.starts_with("gb_") {
        Form::Legacy
    } else if token.bytes().filter(|byte| *byte == b'.').count() == 2 {
        Form::Token(token)
    } else if is_opaque(token) {
        Form::Opaque(token)
    } else {
        Form::Unknown
    }
}

/// What goes with a refusal that asks for a credential (RFC 6750, section 3); `presented` where the request had an
/// `Authorization` header, which did not hold. Which part of it did not is for the record alone.
#[must_use]
pub fn challenge(answer: &Answer, presented: bool) -> HeaderValue {
    HeaderValue::from_static(if presented && answer.code == "credential_rejected" {
        "Bearer realm=\"cedargate\", error=\"invalid_token\""
    } else {
        "Bearer realm=\"cedargate\""
    })
}

/// What goes with a refusal for a proof that is too weak or too old (RFC 9470, section 3). A level has a name at each provider;
/// where there are several, each of them is a way.
#[must_use]
pub fn step_up(asks: &StepUp, providers: &[Provider]) -> HeaderValue {
    let mut said = "Bearer realm=\"cedargate\", error=\"insufficient_user_authentication\", \
                    error_description=\"A stronger or more recent authentication is needed\""
        .to_owned();
    if asks.assurance > 1 {
        let mut names: Vec<&str> = Vec::new();
        for name in providers.iter().flat_map(|provider| &provider.second_factor.acr) {
            // Names are parted by spaces, and stand between quotes.
            let plain = name.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
            if plain && !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        if !names.is_empty() {
            said.push_str(&format!(", acr_values=\"{}\"", names.join(" ")));
        }
    }
    if let Some(seconds) = asks.max_age_s {
        said.push_str(&format!(", max_age=\"{seconds}\""));
    }
    HeaderValue::from_str(&said).unwrap_or(HeaderValue::from_static("Bearer realm=\"cedargate\""))
}

/// A `b64token`: see RFC 6750, section 2.1.
fn is_opaque(token: &str) -> bool {
    let bare = token.trim_end_matches('=');
    let spelt = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    (OPAQUE_BYTES_MIN..=OPAQUE_BYTES_MAX).contains(&token.len())
        && !bare.is_empty()
        && bare.bytes().all(spelt)
}

fn bearer_token(value: &[u8]) -> Option<&str> {
    if value.len() > BEARER_BYTES_MAX {
        return None;
    }
    let (scheme, token) = std::str::from_utf8(value).ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start_matches(' '))
}

/// Whether it is a token that only we could have meant for an upstream, or that is signed with a shared key: a key that we
/// share with an upstream would mint these back at us (threat 8). Read without verifying it: enough to name it in the
/// record, it is refused either way.
#[must_use]
pub fn is_own_upstream_token(token: &str) -> bool {
    let mut parts = token.split('.');
    let (Some(header), Some(claims), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let json = |part: &str| -> Option<Value> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok()?).ok()
    };
    let text = |value: &Option<Value>, name: &str| -> Option<String> {
        value.as_ref()?.get(name)?.as_str().map(str::to_owned)
    };
    let (header, claims) = (json(header), json(claims));
    let symmetric = text(&header, "alg").is_some_and(|alg| alg.to_ascii_uppercase().starts_with("HS"));
    symmetric
        || [&header, &claims]
            .into_iter()
            .any(|part| text(part, "iss").as_deref() == Some(OWN_UPSTREAM_ISSUER))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(header: &str, claims: &str) -> String {
        format!("Bearer {}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_challenge_for_more_names_what_is_asked_for_and_by_which_names() {
        let provider = |acr: &[&str]| {
            let mut provider = crate::oidc::tests::of_api(crate::config::providers::TokenTypes::Profile);
            provider.second_factor.acr = acr.iter().map(|name| (*name).to_owned()).collect();
            provider
        };
        let check = |assurance, max_age_s, providers: &[Provider], rest: &str| {
            let asks = StepUp { assurance, max_age_s, services: false };
            let challenge = step_up(&asks, providers);
            let expected = format!(
                "Bearer realm=\"cedargate\", error=\"insufficient_user_authentication\", \
                 error_description=\"A stronger or more recent authentication is needed\"{rest}"
            );
            assert_eq!(challenge.to_str().unwrap(), expected);
        };
        let (one, other) = (provider(&["2", "urn:mfa"]), provider(&["urn:mfa", "phr"]));
        check(2, None, &[one.clone(), other], ", acr_values=\"2 urn:mfa phr\"");
        check(2, Some(300), std::slice::from_ref(&one), ", acr_values=\"2 urn:mfa\", max_age=\"300\"");
        check(1, Some(30), &[one], ", max_age=\"30\"");
        check(2, None, &[], "");
        // What cannot stand there is left out, not mended.
        check(2, None, &[provider(&["a\"b", "a b", "ä", "a\\", "a\r\nx: y"])], "");
    }

    #[test]
    fn threat_08_forms() {
        let own = token(r#"{"alg":"HS256","typ":"JWT"}"#, r#"{"iss":"general-bots","sub":"x"}"#);
        let symmetric = token(r#"{"alg":"hs512"}"#, r#"{"iss":"https://idp.example"}"#);
        let asymmetric_own = token(r#"{"alg":"RS256"}"#, r#"{"iss":"general-bots"}"#);
        let own_in_header = token(r#"{"alg":"none","iss":"general-bots"}"#, "{}");
        let foreign = token(r#"{"alg":"RS256"}"#, r#"{"iss":"https://idp.example"}"#);
        let check =
            |value: &str, expected: Form<'_>| assert_eq!(classify(value.as_bytes()), expected, "{value}");
        check("Bearer cgk_abc", Form::ApiKey("cgk_abc"));
        check("bearer   cgk_abc ", Form::ApiKey("cgk_abc"));
        check("BEARER gb_0b0f_17", Form::Legacy);
        for (value, is_own) in [
            (&own, true),
            (&symmetric, true),
            (&asymmetric_own, true),
            (&own_in_header, true),
            (&foreign, false),
        ] {
            let text = value.strip_prefix("Bearer ").unwrap();
            check(value, Form::Token(text));
            assert_eq!(is_own_upstream_token(text), is_own, "{text}");
        }
        check("Bearer ..", Form::Token(".."));
        assert!(!is_own_upstream_token("..") && !is_own_upstream_token("a.b.c.d"));
        for unknown in
            ["", "Bearer", "Bearer ", "Basic YTpi", "cgk_abc", "Bearer xyz", "Bearer a.b", "Bearer a.b.c.d"]
        {
            check(unknown, Form::Unknown);
        }
        let long = "a".repeat(OPAQUE_BYTES_MAX);
        for opaque in ["0123456789abcdef", "-._~+/0123456789==", "a.b.c.d.0123456789", &long] {
            check(&format!("Bearer {opaque}"), Form::Opaque(opaque));
        }
        for odd in [
            "0123456789abcde",
            "================",
            "0123456789=abcdef",
            "0123456789abcde,",
            "0123456789 abcdef",
        ] {
            check(&format!("Bearer {odd}"), Form::Unknown);
        }
        check(&format!("Bearer {long}a"), Form::Unknown);
        check("Basic 0123456789abcdef", Form::Unknown);
        assert_eq!(classify(b"Bearer \xff"), Form::Unknown);
        assert_eq!(classify(format!("Bearer gb_{}", "a".repeat(BEARER_BYTES_MAX)).as_bytes()), Form::Unknown);
    }

    proptest! {
        /// No bytes panic, and only what says so is an API key.
        #[test]
        fn any_bytes_have_a_form(value in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Form::ApiKey(key) = classify(&value) {
                prop_assert!(key.starts_with(API_KEY_PREFIX));
            }
        }

        /// A token in our upstream name is seen, whatever else it claims.
        #[test]
        fn own_tokens_are_seen(alg in "[A-Za-z0-9]{1,8}", sub in "[a-z0-9-]{0,40}") {
            let value = token(
                &format!(r#"{{"alg":"{alg}"}}"#),
                &format!(r#"{{"sub":"{sub}","iss":"general-bots"}}"#),
            );
            prop_assert!(is_own_upstream_token(value.strip_prefix("Bearer ").unwrap()));
        }
    }
}
