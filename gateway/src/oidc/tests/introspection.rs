//! What is believed of a provider's answer about an opaque token, how long, and how often it is asked.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use storage::Secret;
use storage::credentials::PersonError;

use super::super::access_token::{AccessFault, AccessToken, told};
use super::super::guesses::{BURST, EVERY_MS};
use super::super::introspection::{NotTold, QUESTIONS_MAX, REFUSED_MS, TOLD_MS};
use super::super::{Fault, HttpFault, Providers};
use super::standin::Standin;
use super::*;

const TOKEN: &str = "an-opaque-token-of-a-test";
const PATH: &str = "/introspect";

fn said(issuer: &str) -> Value {
    changed(
        access_claims(),
        &[("iss", json!(issuer)), ("active", json!(true)), ("token_type", json!("Bearer"))],
    )
}

fn judged(changes: &[(&str, Value)]) -> Result<AccessToken, AccessFault> {
    let claims = changed(said(ISSUER), changes);
    let settings = of_api(TokenTypes::Profile).access_tokens.unwrap();
    told(claims.as_object().unwrap(), ISSUER, &settings, NOW)
}

#[test]
fn an_answer_is_held_to_the_rules_of_a_token() {
    let seconds = NOW.0 / 1000;
    let whole = judged(&[]).unwrap();
    assert_eq!((whole.origin.issuer(), whole.origin.subject()), (ISSUER, "242424"));
    assert_eq!(whole.scopes, ["docs.*".to_owned()].into());
    let sound: [&[(&str, Value)]; 7] = [
        &[("iss", Value::Null)],
        &[("token_type", json!("bearer"))],
        &[("token_type", Value::Null), ("typ", json!("Bearer"))],
        &[("token_use", json!("access_token"))],
        &[("aud", json!([API, "other"]))],
        // It is asked about again soon, so a long life does no harm.
        &[("exp", json!(seconds + 400 * 24 * 3600))],
        &[("sid", json!("s1"))],
    ];
    for changes in sound {
        assert!(judged(changes).is_ok(), "{changes:?}");
    }
    use AccessFault::*;
    let broken: [(&[(&str, Value)], AccessFault); 19] = [
        (&[("active", json!(false))], Inactive),
        (&[("active", json!("true"))], Inactive),
        (&[("active", Value::Null)], Inactive),
        (&[("iss", json!("https://other.example"))], Issuer),
        (&[("iss", json!(7))], Issuer),
        (&[("aud", Value::Null)], Audience),
        (&[("aud", json!(CLIENT))], Audience),
        (&[("token_type", Value::Null)], OtherKind),
        (&[("token_type", json!("DPoP"))], OtherKind),
        (&[("token_use", json!("refresh_token"))], OtherKind),
        (&[("typ", json!("Refresh"))], OtherKind),
        (&[("nonce", json!("n"))], OtherKind),
        (&[("cnf", json!({}))], Bound),
        (&[("exp", Value::Null)], Time),
        (&[("iat", Value::Null)], Time),
        (&[("exp", json!(seconds - 60))], Expired),
        (&[("nbf", json!(seconds + 61))], NotYet),
        (&[("sub", Value::Null)], Subject(PersonError::Subject)),
        (&[("sub", json!(""))], Subject(PersonError::Subject)),
    ];
    for (changes, fault) in broken {
        assert_eq!(judged(changes), Err(fault), "{changes:?}");
    }
}

/// Providers of one that answers, and what it says.
async fn world() -> (Arc<Providers>, Standin) {
    let standin = Standin::start().await;
    let mut settings = of_api(TokenTypes::Profile);
    settings.issuer.clone_from(&standin.issuer);
    settings.client_secret = Some(Secret::new("a-secret".to_owned()));
    settings.access_tokens.as_mut().unwrap().introspection = true;
    standin.says_this(&said(&standin.issuer));
    (Arc::new(Providers::alone(&[settings])), standin)
}

fn address(number: u8) -> Option<IpAddr> {
    Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, number)))
}

#[tokio::test]
async fn an_answer_counts_for_a_while_and_the_same_answer_leaves_the_token_the_same() {
    let (providers, standin) = world().await;
    let ask = async |now| providers.introspected(TOKEN, address(1), now).await;
    let (first, notes) = ask(NOW).await.unwrap();
    assert_eq!(notes, ["provider corp may not assert these roles, left out: stranger"]);
    assert!(first.stands(UnixMillis(NOW.0 + TOLD_MS - 1)) && !first.stands(NOW.plus(TOLD_MS)));
    assert!(Arc::ptr_eq(&ask(NOW).await.unwrap().0, &first), "what stands is not asked about");
    assert_eq!(standin.asked(PATH), 1);
    let (again, notes) = ask(NOW.plus(TOLD_MS)).await.unwrap();
    assert!(Arc::ptr_eq(&again, &first) && first.stands(NOW.plus(TOLD_MS)) && notes.is_empty());
    // Another answer makes another token of the same id.
    standin.says_this(&changed(said(&standin.issuer), &[("roles", json!([]))]));
    let (other, _) = ask(NOW.plus(2 * TOLD_MS)).await.unwrap();
    assert!(!Arc::ptr_eq(&other, &first) && other.id == first.id && other.person.roles.is_empty());
    assert_eq!(standin.asked(PATH), 3);
    // It never counts past the token's own end: here ten seconds with the leeway.
    let (now, seconds) = (NOW.plus(3 * TOLD_MS), NOW.0 / 1000 + 3 * TOLD_MS / 1000);
    standin.says_this(&changed(said(&standin.issuer), &[("exp", json!(seconds - 50))]));
    let (short, _) = ask(now).await.unwrap();
    assert!(short.stands(now.plus(9_999)) && !short.stands(now.plus(10_000)));
}

#[tokio::test]
async fn what_does_not_hold_is_refused_for_a_while_without_asking() {
    let (providers, standin) = world().await;
    let ask = async |now| providers.introspected(TOKEN, address(1), now).await.err();
    standin.says_this(&json!({"active": false}));
    let inactive = Some(NotTold::from(AccessFault::Inactive));
    assert_eq!(ask(NOW).await, inactive);
    assert_eq!(ask(UnixMillis(NOW.0 + REFUSED_MS - 1)).await, inactive);
    assert_eq!(standin.asked(PATH), 1);
    standin.says_this(&said(&standin.issuer));
    assert_eq!(ask(NOW.plus(REFUSED_MS)).await, None);
    // It ends there: what was believed is gone with the next answer.
    standin.says_this(&json!({"active": false}));
    assert_eq!(ask(NOW.plus(REFUSED_MS + TOLD_MS)).await, inactive);
    assert!(providers.presented.find(&super::super::presented::Digest::of(TOKEN)).is_none());
}

#[tokio::test]
async fn an_answer_that_is_none_makes_no_token_hold_and_none_invalid() {
    let (providers, standin) = world().await;
    let ask = async || providers.introspected(TOKEN, address(1), NOW).await.err();
    let twice = r#"{"active": false, "active": true, "token_type": "Bearer"}"#;
    for body in ["", "[]", "true", "{}", r#"{"active": "true"}"#, r#"{"active": 1}"#, "<html>", twice] {
        standin.says(move |_, _| (200, body.to_owned()));
        assert_eq!(ask().await, Some(NotTold::Fault(Fault::Introspection)), "{body}");
    }
    for status in [201, 204, 302, 400, 401, 403, 404, 429, 500, 503] {
        standin.says(move |_, _| (status, r#"{"active": false}"#.to_owned()));
        let what = "the introspection endpoint";
        let fault = Fault::Http { what, fault: HttpFault::Status(status) };
        assert_eq!(ask().await, Some(NotTold::Fault(fault.clone())), "{status}");
        assert!(!fault.tells_of_the_token());
    }
    standin.says(|_, _| (200, format!(r#"{{"active": false, "x": "{}"}}"#, "x".repeat(300_000))));
    let what = "the introspection endpoint";
    let fault = Fault::Http { what, fault: HttpFault::TooLarge };
    assert_eq!(ask().await, Some(NotTold::Fault(fault)));
    // None of them counts against the address.
    standin.says_this(&said(&standin.issuer));
    assert_eq!(ask().await, None);
}

#[tokio::test]
async fn a_crowd_with_one_token_is_one_question() {
    let (providers, standin) = world().await;
    let asks = (0..200).map(|number| {
        let providers = Arc::clone(&providers);
        tokio::spawn(async move { providers.introspected(TOKEN, address(number), NOW).await.unwrap().0.id })
    });
    let asks: Vec<_> = asks.collect();
    let mut ids = std::collections::HashSet::new();
    for ask in asks {
        ids.insert(ask.await.unwrap());
    }
    assert_eq!((ids.len(), standin.asked(PATH)), (1, 1));
}

/// The amplifier that this could be: every made-up token is a question until its address has made up too many.
#[tokio::test]
async fn made_up_tokens_are_asked_about_so_often_and_nobody_else_pays() {
    let (providers, standin) = world().await;
    let issuer = standin.issuer.clone();
    standin.says(move |_, form| {
        let answer = if form.contains("an-opaque") { said(&issuer) } else { json!({"active": false}) };
        (200, answer.to_string())
    });
    let asks = (0..1000).map(|number| {
        let providers = Arc::clone(&providers);
        let text = format!("made-up-token-number-{number}");
        tokio::spawn(async move { providers.introspected(&text, address(1), NOW).await.err() })
    });
    let (mut refused, mut held) = (0, 0);
    for ask in asks.collect::<Vec<_>>() {
        match ask.await.unwrap() {
            Some(NotTold::Guessing { retry_after_s }) => {
                held += 1;
                assert!(retry_after_s >= 1, "{retry_after_s}");
            }
            Some(NotTold::Fault(fault)) => {
                refused += 1;
                assert_eq!(fault, Fault::AccessToken(AccessFault::Inactive));
            }
            None => panic!("a made-up token holds"),
        }
    }
    let (burst, asked) = (usize::try_from(BURST).unwrap(), standin.asked(PATH));
    assert!((burst..burst + QUESTIONS_MAX).contains(&asked), "{asked}");
    assert_eq!((refused, held), (asked, 1000 - asked));
    // Its own token from there waits as well; what is known, and other addresses, do not.
    let (wait, one) = (NotTold::Guessing { retry_after_s: 0 }, address(1));
    let own = providers.introspected(TOKEN, one, NOW).await.err();
    assert!(own.as_ref().is_some_and(|held| std::mem::discriminant(held) == std::mem::discriminant(&wait)));
    assert!(providers.introspected(TOKEN, address(2), NOW).await.is_ok());
    let paid = NOW.plus(EVERY_MS * (asked as u64 + 1));
    assert!(providers.introspected("another-token-that-is-none", one, paid).await.is_err());
    assert_eq!(standin.asked(PATH), asked + 2);
}
