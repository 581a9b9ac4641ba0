//! What every adapter of sessions must do.

use std::collections::BTreeSet;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::Mark;
use crate::redis::server::Server;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const RULES: SessionRules =
    SessionRules { idle_ms: 30 * 60_000, absolute_ms: 8 * 3_600_000, per_account_max: 3 };

struct Case {
    name: &'static str,
    sessions: Arc<Sessions>,
    _home: Option<TempDir>,
    _server: Option<Arc<Server>>,
}

async fn adapters() -> Vec<Case> {
    let keyring = Keyring::from_master(&[1; 32]);
    let home = tempfile::tempdir().unwrap();
    let on_disk = Store::open(home.path(), &keyring, Mark::Production).unwrap();
    let in_memory = Store::in_memory(&keyring).unwrap();
    let server = Server::start();
    let shared = redis::testing::up(&server, &keyring, RULES).await;
    let nodes = Server::shared_cluster().await;
    let cluster = redis::testing::up(&nodes, &keyring, RULES).await;
    let case = |name, sessions| Case { name, sessions: Arc::new(sessions), _home: None, _server: None };
    vec![
        case("memory", Sessions::memory(keyring, RULES)),
        case("embedded", Sessions::embedded(in_memory, RULES)),
        Case { _home: Some(home), ..case("on disk", Sessions::embedded(on_disk, RULES)) },
        Case { name: "redis", sessions: shared, _home: None, _server: Some(Arc::new(server)) },
        Case { name: "a cluster", sessions: cluster, _home: None, _server: Some(nodes) },
    ]
}

fn new(account: u128) -> NewSession {
    NewSession {
        client: Some("192.0.2.1".parse().unwrap()),
        user_agent: Some("x".repeat(USER_AGENT_BYTES_MAX - 1) + "é"),
        ..NewSession::of(Uuid::from_u128(account), NOW)
    }
}

async fn create(sessions: &Sessions, account: u128, now: UnixMillis) -> CreatedSession {
    sessions.create(new(account), now).await.unwrap()
}

async fn is_found(sessions: &Sessions, created: &CreatedSession, now: UnixMillis) -> bool {
    sessions.find(&created.secret, now).await.unwrap().is_some()
}

#[tokio::test]
async fn a_session_is_found_by_its_secret_alone() {
    for Case { name, sessions, .. } in adapters().await {
        let (ada, bob) = (create(&sessions, 1, NOW).await, create(&sessions, 2, NOW).await);
        let found = sessions.find(&ada.secret, NOW).await.unwrap().unwrap();
        assert_eq!(found, ada.session, "{name}");
        assert_eq!(found.account, Uuid::from_u128(1), "{name}");
        assert_eq!(found.id.get_version_num(), 4, "{name}: the public id is random");
        assert_eq!(found.user_agent.map(|text| text.len()), Some(USER_AGENT_BYTES_MAX - 1), "{name}: cut");
        assert_ne!(*ada.secret.reveal(), *bob.secret.reveal(), "{name}");
        let stranger = SessionSecret::generate();
        assert_eq!(sessions.find(&stranger, NOW).await.unwrap(), None, "{name}");
    }
}

#[tokio::test]
async fn a_session_ends_by_time() {
    let (idle, absolute) = (RULES.idle_ms, RULES.absolute_ms);
    for Case { name, sessions, .. } in adapters().await {
        let unused = create(&sessions, 1, NOW).await;
        assert!(is_found(&sessions, &unused, NOW.plus(idle - 1)).await, "{name}: used in time");
        assert!(!is_found(&sessions, &unused, NOW.plus(idle)).await, "{name}: idle too long");

        let used = create(&sessions, 2, NOW).await;
        let mut now = NOW;
        while now.since(NOW) + idle / 2 < absolute {
            now = now.plus(idle / 2);
            let seen = sessions.find(&used.secret, now).await.unwrap().expect(name);
            assert!(sessions.touch(&seen, now).await.unwrap(), "{name}: a touch is due");
        }
        assert!(is_found(&sessions, &used, NOW.plus(absolute - 1)).await, "{name}: used all along");
        assert!(!is_found(&sessions, &used, NOW.plus(absolute)).await, "{name}: the absolute end");
    }
}

#[tokio::test]
async fn a_touch_is_rare_compares_and_never_creates() {
    for Case { name, sessions, .. } in adapters().await {
        let created = create(&sessions, 1, NOW).await;
        let seen = created.session.clone();
        let soon = NOW.plus(RULES.touch_every_ms() - 1);
        assert!(!sessions.touch(&seen, soon).await.unwrap(), "{name}: not due");
        let due = NOW.plus(RULES.touch_every_ms());
        assert!(sessions.touch(&seen, due).await.unwrap(), "{name}: due");
        let now_seen = sessions.find(&created.secret, due).await.unwrap().unwrap();
        assert_eq!((now_seen.touched_at, now_seen.idle_end), (due, due.plus(RULES.idle_ms)), "{name}");
        let later = due.plus(RULES.idle_ms / 2);
        assert!(!sessions.touch(&seen, later).await.unwrap(), "{name}: somebody touched since it was read");

        sessions.end(seen.id, later).await.unwrap().expect(name);
        assert!(!sessions.touch(&now_seen, later).await.unwrap(), "{name}: a touch after the end");
        assert!(!is_found(&sessions, &created, later).await, "{name}: does not bring it back");
        let expired = create(&sessions, 2, NOW).await;
        let past = NOW.plus(RULES.idle_ms);
        assert!(!sessions.touch(&expired.session, past).await.unwrap(), "{name}: nor one that is past");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_end_wins_over_every_touch_that_races_it() {
    for Case { name, sessions, .. } in adapters().await {
        for round in 0..20 {
            let created = create(&sessions, round, NOW).await;
            let touches = (0..4_u64).map(|at| {
                let (sessions, seen) = (Arc::clone(&sessions), created.session.clone());
                tokio::spawn(async move { sessions.touch(&seen, NOW.plus(60_000 + at)).await.unwrap() })
            });
            let touches: Vec<_> = touches.collect();
            sessions.end(created.session.id, NOW.plus(60_000)).await.unwrap();
            let mut won = 0;
            for touch in touches {
                won += u32::from(touch.await.unwrap());
            }
            assert!(won <= 1, "{name}: of touches that read the same, one writes");
            assert!(!is_found(&sessions, &created, NOW.plus(60_000)).await, "{name}");
        }
        assert_eq!(sessions.list(None, NOW).await.unwrap(), [], "{name}");
    }
}

#[tokio::test]
async fn sessions_end_by_id_and_by_account() {
    for Case { name, sessions, .. } in adapters().await {
        let (first, second) = (create(&sessions, 1, NOW).await, create(&sessions, 1, NOW.plus(1)).await);
        let other = create(&sessions, 2, NOW.plus(2)).await;
        let ids = |list: Vec<SessionView>| list.iter().map(|session| session.id).collect::<Vec<_>>();
        let all = [&first, &second, &other].map(|created| created.session.id);
        assert_eq!(ids(sessions.list(None, NOW.plus(2)).await.unwrap()), all, "{name}: oldest first");
        assert_eq!(sessions.count(NOW.plus(2)).await.unwrap(), 3, "{name}");
        assert_eq!(sessions.count(NOW.plus(RULES.idle_ms)).await.unwrap(), 2, "{name}: idle too long");
        let ada = Uuid::from_u128(1);
        assert_eq!(ids(sessions.list(Some(ada), NOW.plus(2)).await.unwrap()), all[..2], "{name}");

        let ended = sessions.end(first.session.id, NOW.plus(3)).await.unwrap();
        assert_eq!(ended.as_ref(), Some(&first.session), "{name}");
        assert_eq!(sessions.end(first.session.id, NOW.plus(3)).await.unwrap(), None, "{name}: once only");
        assert_eq!(sessions.end(Uuid::nil(), NOW).await.unwrap(), None, "{name}: unknown");
        assert!(!is_found(&sessions, &first, NOW.plus(3)).await, "{name}");
        assert!(is_found(&sessions, &second, NOW.plus(3)).await, "{name}");

        let third = create(&sessions, 1, NOW.plus(4)).await;
        let ended: BTreeSet<_> = sessions.end_all(ada, NOW.plus(5)).await.unwrap().into_iter().collect();
        assert_eq!(ended, BTreeSet::from([second.session.id, third.session.id]), "{name}");
        assert_eq!(sessions.list(Some(ada), NOW.plus(5)).await.unwrap(), [], "{name}");
        assert!(is_found(&sessions, &other, NOW.plus(5)).await, "{name}: another account's");
    }
}

#[tokio::test]
async fn one_session_too_many_ends_the_oldest() {
    for Case { name, sessions, .. } in adapters().await {
        let mut created = Vec::new();
        for at in 0..3 {
            created.push(create(&sessions, 1, NOW.plus(at)).await);
        }
        assert!(created.iter().all(|created| created.displaced.is_empty()), "{name}");
        let other = create(&sessions, 2, NOW).await;
        let fourth = create(&sessions, 1, NOW.plus(3)).await;
        assert_eq!(fourth.displaced, [created[0].session.id], "{name}");
        assert!(!is_found(&sessions, &created[0], NOW.plus(3)).await, "{name}");
        assert!(is_found(&sessions, &created[1], NOW.plus(3)).await, "{name}");
        assert!(is_found(&sessions, &other, NOW.plus(3)).await, "{name}: another account's");

        let later = NOW.plus(RULES.idle_ms + 10);
        let fresh = create(&sessions, 1, later).await;
        assert!(fresh.displaced.is_empty(), "{name}: what has ended by time is in nobody's way");
    }
}

#[tokio::test]
async fn a_sweep_removes_what_has_ended_and_nothing_else() {
    for Case { name, sessions, .. } in adapters().await {
        let old = create(&sessions, 1, NOW).await;
        let young = create(&sessions, 1, NOW.plus(RULES.idle_ms - 1)).await;
        assert_eq!(sessions.sweep(NOW.plus(RULES.idle_ms - 1)).await.unwrap(), 0, "{name}");
        let now = NOW.plus(RULES.idle_ms);
        assert_eq!(sessions.sweep(now).await.unwrap(), 1, "{name}");
        assert_eq!(sessions.sweep(now).await.unwrap(), 0, "{name}: once");
        assert!(!is_found(&sessions, &old, NOW).await, "{name}: it is gone, whatever the clock says");
        assert!(is_found(&sessions, &young, now).await, "{name}");
        assert_eq!(
            sessions.sweep(NOW.plus(RULES.absolute_ms * 2)).await.unwrap(),
            1,
            "{name}: tombstones too"
        );
    }
}

#[tokio::test]
async fn who_asks_again_finds_by_public_id_what_lives_and_is_told_what_ends() {
    for Case { name, sessions, .. } in adapters().await {
        let (kept, ended) = (create(&sessions, 1, NOW).await, create(&sessions, 1, NOW).await);
        let mut told = sessions.changes().listen();
        sessions.end(ended.session.id, NOW).await.unwrap();
        assert_eq!(told.try_recv(), Ok(Change::Session(ended.session.id)), "{name}");
        assert_eq!(sessions.live(ended.session.id, NOW).await.unwrap(), None, "{name}: it has ended");
        let found = sessions.live(kept.session.id, NOW).await.unwrap();
        assert_eq!(found.as_ref(), Some(&kept.session), "{name}");
        let end = kept.session.idle_end;
        assert_eq!(sessions.live(kept.session.id, end).await.unwrap(), None, "{name}: idle too long");
        sessions.end_all(Uuid::from_u128(1), NOW).await.unwrap();
        assert_eq!(told.try_recv(), Ok(Change::Session(kept.session.id)), "{name}");
    }
}

#[tokio::test]
async fn what_a_provider_ends_is_ended_by_its_name_and_by_the_account_and_nothing_else() {
    let at = |issuer: &str, sid: &str| ProviderSession::new(issuer, sid).unwrap();
    for Case { name, sessions, .. } in adapters().await {
        let made = async |account: u128, provider: Option<ProviderSession>| {
            sessions.create(NewSession { provider, ..new(account) }, NOW).await.unwrap()
        };
        let ada = Uuid::from_u128(1);
        let one = made(1, Some(at("a", "s1"))).await;
        let other = made(1, Some(at("a", "s2"))).await;
        let nameless = made(1, None).await;
        let neighbour = made(2, Some(at("a", "s1"))).await;
        let elsewhere = made(3, Some(at("as", "1"))).await;
        assert_eq!(one.session.provider.as_deref(), Some(&at("a", "s1")), "{name}");
        let found = sessions.find(&one.secret, NOW).await.unwrap();
        assert_eq!(found.as_ref(), Some(&one.session), "{name}: it is remembered");

        let mut told = sessions.changes().listen();
        let end = async |ended| {
            let ended = sessions.end_elsewhere(ended, NOW).await.unwrap();
            ended.into_iter().collect::<BTreeSet<_>>()
        };
        let ids =
            |created: &[&CreatedSession]| created.iter().map(|one| one.session.id).collect::<BTreeSet<_>>();
        assert_eq!(end(EndedElsewhere::Session(at("b", "s1"))).await, ids(&[]), "{name}: another provider's");
        assert_eq!(end(EndedElsewhere::Session(at("a", "s"))).await, ids(&[]), "{name}: another name");
        let ended = end(EndedElsewhere::SessionOf(at("a", "s1"), ada)).await;
        assert_eq!(ended, ids(&[&one, &nameless]), "{name}: of the account, those without a name as well");
        for created in [&one, &nameless] {
            assert!(!is_found(&sessions, created, NOW).await, "{name}");
        }
        let heard: BTreeSet<_> = [told.try_recv(), told.try_recv()]
            .into_iter()
            .map(|change| match change {
                Ok(Change::Session(id)) => id,
                other => panic!("{name}: {other:?}"),
            })
            .collect();
        assert_eq!(heard, ids(&[&one, &nameless]), "{name}: whoever is open is told");
        assert_eq!(end(EndedElsewhere::Session(at("a", "s1"))).await, ids(&[&neighbour]), "{name}");
        assert_eq!(end(EndedElsewhere::Account(ada)).await, ids(&[&other]), "{name}");
        assert!(is_found(&sessions, &elsewhere, NOW).await, "{name}: `a` and `s1` spell no other pair");
        assert_eq!(end(EndedElsewhere::Session(at("as", "1"))).await, ids(&[&elsewhere]), "{name}");
        assert_eq!(end(EndedElsewhere::Session(at("as", "1"))).await, ids(&[]), "{name}: once");
        let over = made(4, Some(at("a", "s4"))).await;
        let later = NOW.plus(RULES.idle_ms);
        let ended = sessions.end_elsewhere(EndedElsewhere::Session(at("a", "s4")), later).await.unwrap();
        assert!(ended.is_empty() && !is_found(&sessions, &over, NOW).await, "{name}: over by time already");
    }
}

#[tokio::test]
async fn a_hint_is_kept_with_its_session_and_goes_with_it_however_that_ends() {
    let hint = |text: &str| SignOutHint::new(text).unwrap();
    for Case { name, sessions, .. } in adapters().await {
        let provider = ProviderSession::new("a", "s1");
        let made = async |account: u128, now: UnixMillis| {
            let new = NewSession {
                hint: Some(hint(&account.to_string())),
                provider: provider.clone(),
                ..new(account)
            };
            sessions.create(new, now).await.unwrap().session.id
        };
        let kept = async |id: Uuid| {
            let hint = sessions.hint(id, NOW).await.unwrap();
            hint.map(|hint| hint.reveal().to_owned())
        };
        let (one, other) = (made(1, NOW).await, made(2, NOW).await);
        let bare = create(&sessions, 3, NOW).await.session.id;
        assert_eq!((kept(one).await, kept(other).await), (Some("1".into()), Some("2".into())), "{name}");
        assert_eq!((kept(bare).await, kept(Uuid::nil()).await), (None, None), "{name}");
        sessions.replace_hint(one, hint("newer"), NOW).await.unwrap();
        sessions.replace_hint(bare, hint("later"), NOW).await.unwrap();
        assert_eq!(
            (kept(one).await, kept(bare).await),
            (Some("newer".into()), Some("later".into())),
            "{name}"
        );

        sessions.end(one, NOW).await.unwrap().expect(name);
        sessions.replace_hint(one, hint("late"), NOW).await.unwrap();
        sessions.replace_hint(Uuid::nil(), hint("late"), NOW).await.unwrap();
        assert_eq!((kept(one).await, kept(Uuid::nil()).await), (None, None), "{name}: none comes back");
        assert_eq!(kept(other).await, Some("2".into()), "{name}: another session's");
        sessions.end_all(Uuid::from_u128(3), NOW).await.unwrap();
        sessions.end_elsewhere(EndedElsewhere::Session(provider.clone().unwrap()), NOW).await.unwrap();
        assert_eq!((kept(bare).await, kept(other).await), (None, None), "{name}");
        let oldest = made(4, NOW).await;
        for at in 1..=RULES.per_account_max as u64 {
            made(4, NOW.plus(at)).await;
        }
        assert_eq!(kept(oldest).await, None, "{name}: one too many");
        let idle = made(5, NOW).await;
        sessions.sweep(NOW.plus(RULES.idle_ms)).await.unwrap();
        assert_eq!(kept(idle).await, None, "{name}: swept");
    }
}

#[test]
fn a_session_at_a_provider_has_a_name_within_bounds() {
    for (sid, is_name) in [(0, false), (1, true), (SID_BYTES_MAX, true), (SID_BYTES_MAX + 1, false)] {
        assert_eq!(ProviderSession::new("a", &"s".repeat(sid)).is_some(), is_name, "{sid}");
    }
}
