//! The session cookie that a connection has presented last.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use storage::sessions::SessionSecret;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// What a connection has presented last. A browser sends its cookie with everything that it asks, over a few connections:
/// reading it and digesting its secret costs more than comparing it does.
///
/// It says whose secret that is and nothing of whether it still holds, and lives as long as its connection, whose last head
/// is kept as long.
#[derive(Default)]
pub struct Recall(Mutex<Option<Presented>>);

struct Presented {
    value: Zeroizing<Vec<u8>>,
    secret: Arc<SessionSecret>,
}

impl Recall {
    /// The secret that a cookie's value spells; `None` where that is none of ours.
    pub(super) fn secret(&self, value: &[u8]) -> Option<Arc<SessionSecret>> {
        let mut presented = self.presented();
        if let Some(known) = presented.as_ref().filter(|known| known.value.ct_eq(value).into()) {
            return Some(Arc::clone(&known.secret));
        }
        let secret = Arc::new(SessionSecret::parse(std::str::from_utf8(value).ok()?)?);
        *presented = Some(Presented { value: Zeroizing::new(value.to_vec()), secret: Arc::clone(&secret) });
        Some(secret)
    }

    /// Nothing more is asked over the connection.
    pub fn forget(&self) {
        *self.presented() = None;
    }

    /// Nothing under this lock can be left half done.
    fn presented(&self) -> MutexGuard<'_, Option<Presented>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Recall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recall").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_recalls_its_last_cookie_and_takes_no_other_for_it() {
        let recall = Recall::default();
        let value = |letter: char| format!("{}A", letter.to_string().repeat(42));
        let find = |text: &str| recall.secret(text.as_bytes());
        let spelt = |secret: &SessionSecret| secret.reveal().to_string();
        let (one, other) = (value('A'), value('B'));
        let first = find(&one).unwrap();
        assert_eq!(spelt(&first), one);
        assert!(Arc::ptr_eq(&first, &find(&one).unwrap()), "the same cookie again");
        for none in ["", "A", &"A".repeat(42), &format!("{one}A"), &value('!')] {
            assert!(find(none).is_none(), "{none}");
        }
        assert!(Arc::ptr_eq(&first, &find(&one).unwrap()), "what is no secret takes nobody's place");
        assert_eq!(spelt(&find(&other).unwrap()), other);
        let again = find(&one).unwrap();
        assert!(!Arc::ptr_eq(&first, &again), "one is kept");
        recall.forget();
        assert!(!Arc::ptr_eq(&again, &find(&one).unwrap()), "and none after the end");
    }
}
