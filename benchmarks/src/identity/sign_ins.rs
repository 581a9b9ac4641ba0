//! Signing in with a password: the attempt that is counted, the hash, and the session that begins.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use gateway::{clock, shared_sessions};
use storage::Secret;
use storage::credentials::{
    DeviceCookies, HashingGate, HashingGateSettings, Login, NewAccount, PasswordHash, PasswordVerifier,
    SignIn, SignInAttempt, SignInOutcome,
};
use storage::sessions::NewSession;

use super::house::House;
use crate::Failure;
use crate::figures::Figure;
use crate::stores::Stores;

/// People who sign in at once, over and over: enough to keep every core at hashing.
const PEOPLE: u32 = 16;
/// For how long.
const TIME: Duration = Duration::from_secs(10);
const PASSWORD: &str = "correct horse battery staple";

/// Sign-ins a second on all cores, with attempts and sessions in the gateway's own store, on disk, and in Redis where there
/// is one.
///
/// # Errors
/// Somebody is not let in.
pub(super) fn figures(house: &House) -> Result<Vec<Figure>, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut figures = Vec::new();
    for (name, in_redis) in [("identity.login_per_s", false), ("identity.login_redis_per_s", true)] {
        if in_redis && !house.has_redis() {
            continue;
        }
        let rate = runtime.block_on(async {
            let stores = house.stores(name, in_redis).await?;
            rate(&stores).await
        });
        match rate {
            Ok(rate) => figures.push(Figure::once(name, rate, "1/s")),
            // Hashing takes every core, the server's too: on a machine that is busy besides, it may be late.
            Err(failure) if in_redis => eprintln!("left out: {name}: {failure}{}", crate::causes(&*failure)),
            Err(failure) => return Err(failure),
        }
    }
    Ok(figures)
}

async fn rate(stores: &Stores) -> Result<f64, Failure> {
    let (accounts, _keys) = shared_sessions::credentials(&stores.store, &stores.sessions);
    let hash = PasswordHash::new(&Secret::new(PASSWORD.to_owned()))?;
    for number in 0..PEOPLE {
        let login = login(number)?;
        let new = NewAccount { login, password: hash.clone(), roles: [].into(), groups: [].into() };
        accounts.create(new, clock::now()).await?;
    }
    let attempts = shared_sessions::attempts(&stores.config, &stores.store, &stores.sessions)?;
    let sign_in = SignIn::new(
        accounts,
        attempts,
        HashingGate::new(HashingGateSettings::default()),
        DeviceCookies::new(stores.keyring.clone()),
        PasswordVerifier::new()?,
    );
    let begun = clock::instant();
    let people = (0..PEOPLE).map(|number| {
        let (sign_in, sessions) = (sign_in.clone(), stores.sessions.clone());
        tokio::spawn(async move {
            let mut done = 0_u32;
            while begun.elapsed() < TIME {
                let now = clock::now();
                let outcome = sign_in.attempt(attempt(number, &login(number)?), now).await?;
                let SignInOutcome::Accepted { account, .. } = outcome else {
                    return Err(Failure::from("somebody is not let in"));
                };
                let new = NewSession::of(account.id, now);
                sessions.create(new, now).await?;
                done += 1;
            }
            Ok(done)
        })
    });
    let people: Vec<_> = people.collect();
    let mut done = 0;
    for person in people {
        done += person.await??;
    }
    Ok(f64::from(done) / begun.elapsed().as_secs_f64())
}

/// Each from an address of their own: one address has a share of the queue.
fn attempt(number: u32, login: &Login) -> SignInAttempt<'_> {
    SignInAttempt {
        login: login.as_str(),
        password: Secret::new(PASSWORD.to_owned()),
        device_cookie: None,
        client: IpAddr::V4(Ipv4Addr::from_bits(number)),
    }
}

fn login(number: u32) -> Result<Login, Failure> {
    Ok(Login::parse(&format!("person-{number}"))?)
}
