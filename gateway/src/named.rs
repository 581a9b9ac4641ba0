//! Values that an upstream's answers have named to a session or key: a later request may use those of its own, and
//! nobody else's.
//!
//! BotServer takes a conversation's id from the query and checks no owner; it makes the id in an answer. The gateway
//! reads it there. What is named is kept in memory: after a restart a page asks for its conversation again, as it does
//! when it is opened.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use storage::Change;
use uuid::Uuid;

/// Values of one session or key; the oldest is forgotten. A person's conversations of one day.
const VALUES_MAX: usize = 32;
/// Sessions and keys that values are kept for; the one that was named to first is forgotten.
const CREDENTIALS_MAX: usize = 65_536;
/// Bytes of a value, at most; ids are UUIDs.
const VALUE_BYTES_MAX: usize = 128;
/// Bytes of an answer that is read, at most: it holds an id and little else.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// What was named, by the session or key that it was named to.
#[derive(Debug, Default)]
pub struct Named {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    values: HashMap<Uuid, VecDeque<(String, String)>>,
    order: VecDeque<Uuid>,
}

/// Reads an answer as it passes.
#[derive(Debug)]
pub struct Naming {
    credential: Uuid,
    names: Vec<String>,
    answer: Option<Vec<u8>>,
}

impl Named {
    /// Whether this value was named to this session or key.
    #[must_use]
    pub fn is_named(&self, credential: Uuid, name: &str, value: &str) -> bool {
        let state = self.state();
        let values = state.values.get(&credential);
        values.is_some_and(|values| values.iter().any(|(known, named)| known == name && named == value))
    }

    /// Forgets what was named to what has ended.
    pub fn changed(&self, change: Change) {
        if let Change::Session(id) | Change::ApiKey(id) | Change::AccessToken(id) = change {
            let mut state = self.state();
            if state.values.remove(&id).is_some() {
                state.order.retain(|known| *known != id);
            }
        }
    }

    fn name(&self, credential: Uuid, name: &str, value: &str) {
        let mut state = self.state();
        if !state.values.contains_key(&credential) {
            if state.order.len() >= CREDENTIALS_MAX
                && let Some(oldest) = state.order.pop_front()
            {
                state.values.remove(&oldest);
            }
            state.order.push_back(credential);
        }
        let values = state.values.entry(credential).or_default();
        values.retain(|(known, named)| known != name || named != value);
        if values.len() >= VALUES_MAX {
            values.pop_front();
        }
        values.push_back((name.to_owned(), value.to_owned()));
    }

    /// A list that was left between two changes by a panic names too little, never too much.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Naming {
    /// Reads the answer to who holds this credential.
    #[must_use]
    pub fn new(credential: Uuid, names: Vec<String>) -> Self {
        Self { credential, names, answer: Some(Vec::new()) }
    }

    /// Reads the next piece; with the last one its values are named, before the client has the whole answer.
    pub fn piece(&mut self, named: &Named, piece: &[u8], last: bool) {
        let Some(answer) = &mut self.answer else { return };
        if answer.len().saturating_add(piece.len()) > ANSWER_BYTES_MAX {
            self.answer = None;
            return;
        }
        answer.extend_from_slice(piece);
        if !last {
            return;
        }
        let answer = self.answer.take().unwrap_or_default();
        let Ok(Value::Object(members)) = serde_json::from_slice(&answer) else { return };
        for name in &self.names {
            match members.get(name) {
                Some(Value::String(value)) if value.len() <= VALUE_BYTES_MAX => {
                    named.name(self.credential, name, value);
                }
                Some(_) | None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: Uuid = Uuid::from_u128(1);
    const BOB: Uuid = Uuid::from_u128(2);

    fn read(named: &Named, pieces: &[&str]) {
        let mut naming = Naming::new(ADA, vec!["session_id".to_owned()]);
        for (at, piece) in pieces.iter().enumerate() {
            naming.piece(named, piece.as_bytes(), at + 1 == pieces.len());
        }
    }

    #[test]
    fn a_value_is_named_to_who_asked_and_until_that_ends() {
        let named = Named::default();
        read(&named, &["{\"session_id\": \"a", "b\", \"user_id\": \"u\"}", ""]);
        assert!(named.is_named(ADA, "session_id", "ab"));
        for (who, name, value) in [(BOB, "session_id", "ab"), (ADA, "user_id", "u"), (ADA, "session_id", "a")]
        {
            assert!(!named.is_named(who, name, value), "{who} {name} {value}");
        }
        named.changed(Change::Session(ADA));
        assert!(!named.is_named(ADA, "session_id", "ab"));
        assert!(named.state().order.is_empty());
    }

    #[test]
    fn nothing_is_named_by_what_is_no_small_object() {
        let named = Named::default();
        let long = "x".repeat(ANSWER_BYTES_MAX);
        let wide = format!("{{\"session_id\":\"{}\"}}", "x".repeat(VALUE_BYTES_MAX + 1));
        for answer in ["", "[]", "{\"session_id\":1}", "{\"session_id\":\"a\"", &long, &wide] {
            read(&named, &[answer]);
            read(&named, &[answer, " "]);
        }
        assert!(named.state().values.is_empty());
    }

    #[test]
    fn the_oldest_value_is_forgotten_first() {
        let named = Named::default();
        for number in 0..=VALUES_MAX {
            read(&named, &[&format!("{{\"session_id\":\"{number}\"}}")]);
        }
        assert!(!named.is_named(ADA, "session_id", "0"));
        assert!(named.is_named(ADA, "session_id", "1") && named.is_named(ADA, "session_id", "32"));
    }
}
