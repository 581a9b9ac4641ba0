//! What the script is asked, and what it answers.

use std::fmt::Write as _;

use engine::time::UnixMillis;
use redis::{Cmd, Value};
use uuid::Uuid;

use crate::Change;
use crate::keyring::{DIGEST_BYTES, Digest};
use crate::redis::{Fault, Link, Together};

/// Its text: attempts, endings and records, which answer to their own verbs alone, and then sessions.
pub(super) const TEXT: &str = concat!(
    include_str!("../../credentials/attempts/attempts.lua"),
    include_str!("../../endings/endings.lua"),
    include_str!("../../credentials/records/records.lua"),
    include_str!("sessions.lua")
);

/// A question, made ready before anything is waited for.
pub(crate) struct Question {
    base: String,
    words: Vec<Vec<u8>>,
}

/// A record and its last use as they are stored, and where.
pub(super) struct Stored {
    pub(super) place: Digest,
    pub(super) record: Vec<u8>,
    pub(super) touch: Vec<u8>,
}

/// A session that was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) id: Uuid,
    pub(super) place: Digest,
    /// Whether it was live until then.
    pub(super) was_live: bool,
}

impl Question {
    /// With this verb, at this moment.
    pub(super) fn new(prefix: &str, verb: &str, now: UnixMillis) -> Self {
        Self { base: base(prefix), words: vec![verb.into(), now.0.to_string().into()] }
    }

    /// With this verb, at the moment that it is for the server.
    pub(super) fn by_its_clock(prefix: &str, verb: &str) -> Self {
        Self { base: base(prefix), words: vec![verb.into(), Vec::new()] }
    }

    /// With one word more.
    pub(crate) fn with(mut self, word: impl Into<Vec<u8>>) -> Self {
        self.words.push(word.into());
        self
    }

    /// With a word for each.
    pub(crate) fn with_all<W: Into<Vec<u8>>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.words.extend(words.into_iter().map(Into::into));
        self
    }

    fn command(&self, verb: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(verb);
        command.arg(script).arg(1).arg(&self.base);
        for word in &self.words {
            command.arg(word.as_slice());
        }
        command
    }

    /// Asks it there.
    pub(super) async fn ask(&self, link: &Link) -> Result<Value, Fault> {
        self.ask_over(link.together(), &link.script).await
    }

    /// The same over one connection, where the script is known by this name.
    pub(super) async fn ask_over(&self, together: &Together, script: &str) -> Result<Value, Fault> {
        together.run((script, TEXT), |verb, script| self.command(verb, script)).await
    }
}

/// What every key begins with. What stands in braces says which node of a cluster has it: one, because a sign-in ends
/// sessions of its account under keys that nobody knows beforehand (decision 0020).
pub(crate) fn base(prefix: &str) -> String {
    format!("{prefix}:{{session}}")
}

/// Where endings are told.
pub(super) fn channel(prefix: &str) -> String {
    base(prefix) + ":ended"
}

/// The name of a session's key, which its record is sealed for.
pub(super) fn record_key(prefix: &str, place: &Digest) -> Vec<u8> {
    format!("{}:s:{}", base(prefix), hex(place)).into_bytes()
}

/// The name of the key that a session's hint is sealed for.
pub(super) fn hint_key(prefix: &str, id: Uuid) -> Vec<u8> {
    format!("{}:h:{id}", base(prefix)).into_bytes()
}

pub(crate) fn hex(digest: &Digest) -> String {
    let mut text = String::with_capacity(2 * DIGEST_BYTES);
    for byte in digest.as_bytes() {
        // Writing into a String does not fail.
        write!(text, "{byte:02x}").ok();
    }
    text
}

pub(super) fn unhex(text: &[u8]) -> Option<Digest> {
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_chunks::<2>();
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect();
    if rest.is_empty() { Digest::from_bytes(&bytes?) } else { None }
}

/// What is said on the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// The session of this place and public id has ended.
    Ended(Digest, Uuid),
    /// An account or a key is something else now.
    Changed(Uuid, Change),
    /// An identity provider has ended what is at this place.
    Marked(Digest),
}

/// Reads what was said: a place or what kind of record, and an id; or that something has ended elsewhere, and its place.
pub(super) fn said(text: &[u8]) -> Option<Said> {
    let text = std::str::from_utf8(text).ok()?;
    let (what, id) = text.split_once(' ')?;
    if what == "ending" {
        return unhex(id.as_bytes()).map(Said::Marked);
    }
    let id = Uuid::try_parse(id).ok()?;
    Some(match what {
        "account" => Said::Changed(id, Change::Account(id)),
        "apikey" => Said::Changed(id, Change::ApiKey(id)),
        place => Said::Ended(unhex(place.as_bytes())?, id),
    })
}

/// A session as it is stored, or none.
pub(super) fn stored(answer: &Value) -> Result<Option<Stored>, Fault> {
    if matches!(answer, Value::Nil) {
        return Ok(None);
    }
    let Value::Array(parts) = answer else { return Err(Fault::Nonsense) };
    match parts.as_slice() {
        [Value::BulkString(place), Value::BulkString(record), Value::BulkString(touch)] => {
            let place = unhex(place).ok_or(Fault::Nonsense)?;
            Ok(Some(Stored { place, record: record.clone(), touch: touch.clone() }))
        }
        _ => Err(Fault::Nonsense),
    }
}

/// The items of a list.
pub(crate) fn list<T>(
    answer: &Value,
    item: impl Fn(&Value) -> Result<Option<T>, Fault>,
) -> Result<Vec<T>, Fault> {
    let Value::Array(items) = answer else { return Err(Fault::Nonsense) };
    items.iter().map(|value| item(value)?.ok_or(Fault::Nonsense)).collect()
}

/// A public id.
pub(crate) fn id(answer: &Value) -> Result<Option<Uuid>, Fault> {
    let Value::BulkString(text) = answer else { return Err(Fault::Nonsense) };
    Uuid::try_parse_ascii(text).map(Some).map_err(|_| Fault::Nonsense)
}

/// A session that was ended.
pub(super) fn gone(answer: &Value) -> Result<Option<Gone>, Fault> {
    let Value::Array(parts) = answer else { return Err(Fault::Nonsense) };
    match parts.as_slice() {
        [named, Value::BulkString(place), Value::Int(live)] => {
            let (id, place) = (id(named)?.ok_or(Fault::Nonsense)?, unhex(place).ok_or(Fault::Nonsense)?);
            Ok(Some(Gone { id, place, was_live: *live == 1 }))
        }
        _ => Err(Fault::Nonsense),
    }
}

/// A number that is not negative.
pub(crate) fn number(answer: &Value) -> Result<usize, Fault> {
    let Value::Int(number) = answer else { return Err(Fault::Nonsense) };
    usize::try_from(*number).map_err(|_| Fault::Nonsense)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keyring;
    use crate::keyring::Purpose;

    #[test]
    fn a_place_has_one_spelling() {
        let place = Keyring::from_master(&[1; 32]).digest(Purpose::SessionDigest, b"secret");
        let text = hex(&place);
        assert_eq!(unhex(text.as_bytes()), Some(place));
        for wrong in
            [text.to_uppercase(), text.clone() + "0", text.split_at(1).1.to_owned(), text.replace('0', "g")]
        {
            assert_eq!(unhex(wrong.as_bytes()), None, "{wrong}");
        }
        let id = Uuid::from_u128(7);
        assert_eq!(said(format!("{text} {id}").as_bytes()), Some(Said::Ended(place, id)));
        let (account, key) = (Change::Account(id), Change::ApiKey(id));
        assert_eq!(said(format!("account {id}").as_bytes()), Some(Said::Changed(id, account)));
        assert_eq!(said(format!("apikey {id}").as_bytes()), Some(Said::Changed(id, key)));
        assert_eq!(said(format!("ending {text}").as_bytes()), Some(Said::Marked(place)));
        for wrong in [
            "",
            "ending",
            &format!("ending {id}"),
            &format!("ending {text} "),
            " ",
            &text,
            &format!("{text} 7"),
            &format!("{text}  {id}"),
            &format!("x {id}"),
            &format!("Account {id}"),
            "account",
            "account 7",
        ] {
            assert_eq!(said(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(said(b"\xff \xff"), None);
    }

    #[test]
    fn answers_that_mean_nothing_are_no_answers() {
        let place = Keyring::from_master(&[1; 32]).digest(Purpose::SessionDigest, b"secret");
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let (at, id) = (text(&hex(&place)), text(&Uuid::from_u128(7).to_string()));
        assert!(stored(&Value::Nil).unwrap().is_none());
        let found = stored(&Value::Array(vec![at.clone(), text("r"), text("t")])).unwrap().unwrap();
        assert_eq!(
            (found.place, found.record.as_slice(), found.touch.as_slice()),
            (place, &b"r"[..], &b"t"[..])
        );
        for wrong in [
            Value::Okay,
            Value::Array(vec![]),
            Value::Array(vec![at.clone(), text("r"), Value::Nil]),
            Value::Array(vec![text("x"), text("r"), text("t")]),
        ] {
            assert_eq!(stored(&wrong).err(), Some(Fault::Nonsense), "{wrong:?}");
        }
        let ended = gone(&Value::Array(vec![id.clone(), at.clone(), Value::Int(1)])).unwrap();
        assert_eq!(ended, Some(Gone { id: Uuid::from_u128(7), place, was_live: true }));
        for wrong in [Value::Nil, Value::Array(vec![at, id, Value::Int(1)]), Value::Array(vec![])] {
            assert_eq!(gone(&wrong).err(), Some(Fault::Nonsense), "{wrong:?}");
        }
        assert_eq!(list(&Value::Nil, gone).err(), Some(Fault::Nonsense));
        assert_eq!(list(&Value::Array(vec![Value::Nil]), stored).err(), Some(Fault::Nonsense));
        assert_eq!((number(&Value::Int(3)), number(&Value::Int(-1))), (Ok(3), Err(Fault::Nonsense)));
    }
}
