//! Sessions that are known, and sessions that Redis is asked for.

use gateway::clock;
use storage::credentials::{Accounts, Login, Origin, Person};
use storage::sessions::{NewSession, SessionSecret, SessionView};

use super::house::House;
use super::{ROUNDS, each};
use crate::Failure;
use crate::figures::Figure;
use crate::stores::Stores;

/// Sessions that are looked up in turn: what one gateway keeps holds all of them.
const KNOWN: u32 = 1_000;
/// Sessions that are more than one gateway keeps (4,096), so that hardly one is known when its turn comes again.
const TOO_MANY: u32 = 16_384;
/// Look-ups that are timed together.
const HITS: u32 = 200_000;

/// Nanoseconds from a cookie's text to the session and its account, where both were read before.
///
/// # Errors
/// A session is not found.
pub(super) async fn known(house: &House) -> Result<Vec<Figure>, Failure> {
    let stores = house.stores("known", false).await?;
    let accounts = Accounts::new(stores.store.clone());
    let mut cookies = Vec::new();
    for number in 0..KNOWN {
        accounts.vouched(person(number)?, clock::now()).await?;
        cookies.push(begun(&stores, number).await?);
    }
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let (stores, accounts, cookies) = (&stores, &accounts, &cookies);
        let second = each(HITS, |number| async move {
            let session = found(stores, cookies, number).await?;
            let account = accounts.find(session.account).await?.ok_or("an account is not found")?;
            if account.suspended { Err("an account is suspended".into()) } else { Ok(()) }
        });
        rounds.push(second.await? * 1e9);
    }
    Ok(Figure::median("identity.session_hit_ns", &rounds, "ns").into_iter().collect())
}

/// Microseconds of a look-up that Redis is asked for, its round trip included.
///
/// # Errors
/// A session is not found.
pub(super) async fn asked(house: &House) -> Result<Vec<Figure>, Failure> {
    let stores = house.stores("asked", true).await?;
    let mut cookies = Vec::new();
    for number in 0..TOO_MANY {
        cookies.push(begun(&stores, number).await?);
    }
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let (stores, cookies) = (&stores, &cookies);
        let second = each(TOO_MANY, |number| async move { found(stores, cookies, number).await.map(drop) });
        rounds.push(second.await? * 1e6);
    }
    Ok(Figure::median("identity.session_redis_us", &rounds, "us").into_iter().collect())
}

/// The session of one of these cookies.
async fn found(stores: &Stores, cookies: &[String], number: u32) -> Result<SessionView, Failure> {
    let at = usize::try_from(number)? % cookies.len().max(1);
    let secret = cookies.get(at).and_then(|cookie| SessionSecret::parse(cookie)).ok_or("no cookie")?;
    stores.sessions.find(&secret, clock::now()).await?.ok_or_else(|| "a session is not found".into())
}

/// The cookie of a session of one of many people, begun now.
async fn begun(stores: &Stores, number: u32) -> Result<String, Failure> {
    let now = clock::now();
    let new = NewSession {
        user_agent: Some("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0".to_owned()),
        ..NewSession::of(person(number)?.origin.account_id(), now)
    };
    Ok(stores.sessions.create(new, now).await?.secret.reveal().to_string())
}

fn person(number: u32) -> Result<Person, Failure> {
    Ok(Person {
        origin: Origin::new("https://id.example", &format!("subject-{number}"))?,
        login: Login::parse(&format!("corp:person-{number}"))?,
        roles: ["standard_user".to_owned()].into(),
        groups: [].into(),
    })
}
