//! Accounts and keys of which replicas have to have what must last.

use super::records::key;
use super::shared_records::suspend;
use super::*;
use crate::StoreError;
use crate::redis::{Fault, Standing};
use crate::sessions::redis::testing::{follows, reaches, wanting_replicas};

#[tokio::test]
async fn what_one_gateway_had_stays_there_until_a_replica_has_it() {
    let server = Server::start();
    let sessions = wanting_replicas(server.place(), &keyring(), SESSIONS);
    reaches(&sessions, |standings| standings.now == Standing::Up).await;
    let shared = (Accounts::shared(&sessions).unwrap(), ApiKeys::shared(&sessions).unwrap());
    let store = Store::in_memory(&keyring()).unwrap();
    let own = (Accounts::new(store.clone()), ApiKeys::new(store.clone()));
    let ada = own.0.create(account("ada"), NOW).await.unwrap();
    let made = own.1.create(key("importer", None), NOW).await.unwrap();
    // Also when all of it is there already, by the first time.
    for times in 1..=2 {
        let unkept = [own.0.bring(&shared.0).await, own.1.bring(&shared.1).await];
        for unkept in unkept {
            assert!(matches!(unkept, Err(StoreError::Shared(Fault::Unkept))), "{times}: {unkept:?}");
        }
        assert_eq!(Own::of(&store, NOW).await.unwrap(), Own { accounts: 1, keys: 1 }, "{times}");
    }
    let replica = Server::start();
    follows(&replica, &server, &sessions).await;
    assert_eq!((own.0.bring(&shared.0).await.unwrap(), own.1.bring(&shared.1).await.unwrap()), (1, 1));
    assert!(Own::of(&store, NOW).await.unwrap().is_empty());
    assert_eq!(shared.0.find(ada.id).await.unwrap().as_deref(), Some(&ada));
    assert_eq!(shared.1.find(made.text.expose(), NOW).await.unwrap().as_ref(), Some(&made.key));
}

/// Nothing is left to be read of who was removed, and yet it is known whether that lasts.
#[tokio::test]
async fn a_removal_that_is_said_again_waits_for_the_replicas_again() {
    let server = Server::start();
    let sessions = wanting_replicas(server.place(), &keyring(), SESSIONS);
    reaches(&sessions, |standings| standings.now == Standing::Up).await;
    let accounts = Accounts::shared(&sessions).unwrap();
    let ada = accounts.create(account("ada"), NOW).await.unwrap();
    let unkept = accounts.remove(ada.id).await;
    assert!(matches!(unkept, Err(StoreError::Shared(Fault::Unkept))), "{unkept:?}");
    assert_eq!(accounts.find(ada.id).await.unwrap(), None);
    let again = accounts.settled().await;
    assert!(matches!(again, Err(StoreError::Shared(Fault::Unkept))), "{again:?}");
    let replica = Server::start();
    follows(&replica, &server, &sessions).await;
    assert!(accounts.settled().await.unwrap(), "and now it has it");
    let own = Accounts::new(Store::in_memory(&keyring()).unwrap());
    assert!(!own.settled().await.unwrap(), "nobody is waited for");
}

/// Whoever was second has done nothing yet, which no word about replicas may hide.
#[tokio::test]
async fn what_was_said_to_be_done_was_done_by_each_of_many_at_once_whoever_keeps_it() {
    const AT_ONCE: usize = 8;
    let (server, replica) = (Server::start(), Server::start());
    let sessions = wanting_replicas(server.place(), &keyring(), SESSIONS);
    reaches(&sessions, |standings| standings.now == Standing::Up).await;
    let accounts = Accounts::shared(&sessions).unwrap();
    let ada = accounts.create(account("ada"), NOW).await.unwrap();
    for is_kept in [false, true] {
        if is_kept {
            follows(&replica, &server, &sessions).await;
        }
        let before = accounts.find(ada.id).await.unwrap().unwrap().version;
        let mut changing = tokio::task::JoinSet::new();
        for _ in 0..AT_ONCE {
            let (accounts, id) = (accounts.clone(), ada.id);
            changing.spawn(async move { accounts.change(id, suspend()).await });
        }
        for changed in changing.join_all().await {
            match changed {
                Ok(Some(account)) => assert!(account.suspended && is_kept, "{account:?}"),
                Err(error) => assert!(error.was_done() && !is_kept, "{error:?}"),
                Ok(None) => panic!("she is there"),
            }
        }
        let after = accounts.find(ada.id).await.unwrap().unwrap();
        assert!(after.suspended);
        assert_eq!(after.version, before + AT_ONCE as u64, "kept: {is_kept}");
    }
}
