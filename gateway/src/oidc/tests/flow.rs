//! Flows: what opens, for whom, and which are let go.

use proptest::prelude::*;
use storage::Keyring;

use super::super::flow::{
    FLOW_LIFETIME_MS, FLOWS_BYTES_MAX, FLOWS_MAX, Flow, FlowId, RANDOM_BYTES, Raise, let_go,
};
use super::*;
use crate::pages::return_to::ReturnTo;

const HERE: &str = "https://a.example";

fn ring(byte: u8) -> Keyring {
    Keyring::from_master(&[byte; 32])
}

fn flow(byte: u8) -> Flow {
    Flow::begin(NOW, &[byte; RANDOM_BYTES], "corp", ReturnTo::parse("/x?y=1"))
}

#[test]
fn a_flow_opens_with_its_key_at_its_origin_under_its_name() {
    let made = flow(1);
    let cookie = made.seal(&ring(1), HERE).unwrap();
    assert!(cookie.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    let opened = Flow::open(&ring(1), HERE, made.id(), &cookie).unwrap();
    assert_eq!((opened.provider(), opened.begun()), ("corp", NOW));
    assert_eq!(opened.return_to().map(ReturnTo::as_str), Some("/x?y=1"));
    assert_eq!((opened.state(), opened.nonce()), (made.state(), made.nonce()));
    assert_eq!(*opened.verifier(), *made.verifier());
    assert!(Flow::open(&ring(2).with_old(&[1; 32]), HERE, made.id(), &cookie).is_some(), "a rotated key");
    assert!(Flow::open(&ring(2), HERE, made.id(), &cookie).is_none());
    assert!(Flow::open(&ring(1), "https://b.example", made.id(), &cookie).is_none());
    assert!(Flow::open(&ring(1), HERE, flow(2).id(), &cookie).is_none());
}

#[test]
fn what_a_flow_is_to_confirm_comes_back_with_it() {
    use engine::route::StepUp;
    for (assurance, max_age_s) in [(1, Some(30)), (2, None), (2, Some(u32::MAX))] {
        let asks = StepUp { assurance, max_age_s, services: false };
        let raise = Raise { session: uuid::Uuid::from_u128(7), asks };
        let made = flow(1).raising(Some(raise));
        let cookie = made.seal(&ring(1), HERE).unwrap();
        let opened = Flow::open(&ring(1), HERE, made.id(), &cookie).unwrap();
        assert_eq!(opened.raise(), Some(&raise));
        assert_eq!((opened.provider(), opened.return_to()), ("corp", made.return_to()));
        assert_eq!(opened.state(), made.state());
    }
    let made = flow(1);
    let opened = Flow::open(&ring(1), HERE, made.id(), &made.seal(&ring(1), HERE).unwrap()).unwrap();
    assert_eq!(opened.raise(), None);
}

#[test]
fn what_is_sent_to_the_provider_is_derived_and_never_alike() {
    let (made, other) = (flow(1), flow(2));
    let said = [made.state(), made.nonce(), made.verifier().to_string(), made.challenge()];
    for (at, one) in said.iter().enumerate() {
        // RFC 7636, section 4.1: 43 to 128 characters of these.
        assert!((43..=128).contains(&one.len()), "{one}");
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{one}");
        assert!(said.iter().skip(at + 1).all(|another| another != one));
    }
    assert!(made.is_state(&made.state()) && !made.is_state(&other.state()) && !made.is_state(""));
    assert_eq!(FlowId::of_state(&made.state()).as_ref(), Some(made.id()));
    let digest = ring::digest::digest(&ring::digest::SHA256, made.verifier().as_bytes());
    assert_eq!(made.challenge(), URL_SAFE_NO_PAD.encode(digest));
    for text in ["", "0", "0123456789abcdeF", "0123456789abcde/", "0123456789abcdef0", "ää"] {
        assert_eq!(FlowId::parse(text), None, "{text}");
    }
    assert_eq!(FlowId::of_state("0123456789abcdeä"), None);
}

#[test]
fn a_flow_is_over_after_ten_minutes() {
    let made = flow(1);
    let check = |now: u64, over| assert_eq!(made.is_over(UnixMillis(now)), over, "{now}");
    check(NOW.0, false);
    check(NOW.0 + FLOW_LIFETIME_MS - 1, false);
    check(NOW.0 + FLOW_LIFETIME_MS, true);
    check(NOW.0 - FLOW_LIFETIME_MS, false);
    check(NOW.0 - FLOW_LIFETIME_MS - 1, true);
}

proptest! {
    /// No text opens that we did not seal, and no bit of one that we did can be changed.
    #[test]
    fn only_what_we_sealed_opens(text in "[A-Za-z0-9_-]{0,300}", bit: prop::sample::Index) {
        let made = flow(1);
        prop_assert!(Flow::open(&ring(1), HERE, made.id(), &text).is_none());
        let mut sealed = URL_SAFE_NO_PAD.decode(made.seal(&ring(1), HERE).unwrap()).unwrap();
        let at = bit.index(sealed.len() * 8);
        sealed[at / 8] ^= 1 << (at % 8);
        prop_assert!(Flow::open(&ring(1), HERE, made.id(), &URL_SAFE_NO_PAD.encode(sealed)).is_none());
    }

    /// Whatever a browser holds, what stays and the new one are within both bounds, the oldest go first, and none goes
    /// that need not.
    #[test]
    fn the_oldest_are_let_go(flows in proptest::collection::vec((0_u64..1000, 1_usize..3000), 0..12), bytes in 1_usize..3000) {
        let held: Vec<_> = flows.iter().enumerate().map(|(at, (begun, size))| {
            (UnixMillis(*begun * 16 + at as u64), FlowId::parse(&format!("{at:016x}")).unwrap(), *size)
        }).collect();
        let gone = let_go(held.clone(), bytes);
        let (left, kept): (Vec<_>, Vec<_>) = held.iter().partition(|(_, id, _)| gone.contains(id));
        let size: usize = kept.iter().map(|(_, _, size)| size).sum();
        prop_assert!(kept.len() < FLOWS_MAX && (kept.is_empty() || size + bytes <= FLOWS_BYTES_MAX));
        for (begun, _, _) in &left {
            prop_assert!(kept.iter().all(|(other, _, _)| other >= begun));
        }
        if let Some((_, _, next)) = left.iter().max_by_key(|(begun, _, _)| *begun) {
            prop_assert!(kept.len() + 2 > FLOWS_MAX || size + bytes + next > FLOWS_BYTES_MAX);
        }
    }
}
