//! The keys: exactly 64 hex digits, random, each its own. None is ever invented here (threat 13).

use std::path::Path;

use toml::de::DeValue;
use zeroize::Zeroizing;

use super::fault::Place;
use super::reader::{Given, Reader, Section, Written};
use super::secret::Secret;
use super::secret_file;
use super::settings::Keys;

/// The secret that BotServer signs with when `JWT_SECRET` is not set: published in its source
/// (`src/main_module/server.rs`), so whoever can read forges administrators with it.
pub const BOTSERVER_DEV_SECRET: &str = "dev-secret-key-change-in-production-minimum-32-chars";

const NOT_HERE: &str = "write `file:/path` and put a new one there, mode 0600: this one has been seen";
const HEX_DIGITS: usize = 64;
const MAKE_ONE: &str =
    "make one with `openssl rand -hex 32`, or name a file that holds it: `file:/path` (mode 0600)";

/// A key with where it was written, for the comparison of all with all.
struct Placed {
    name: String,
    place: Place,
    text: Zeroizing<String>,
    bytes: Zeroizing<[u8; 32]>,
}

impl Placed {
    /// How another key's fault names this one.
    fn shown(&self) -> &str {
        match &self.place {
            Place::Variable(variable) => variable,
            Place::File { .. } => &self.name,
        }
    }
}

impl Reader<'_> {
    /// Reads `[keys]` and the variables that override it.
    pub(super) fn keys(&mut self, root: &mut Section<'_>) -> Option<Keys> {
        let mut section = self.section(root, "keys");
        let encryption = self.key(&mut section, "encryption", "BOTSERVER_ENCRYPTION_KEY");
        let previous =
            self.pick(&mut section, "previous_encryption", Some("BOTSERVER_PREVIOUS_ENCRYPTION_KEYS"));
        let previous: Vec<Placed> = self
            .list(previous)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|written| self.placed_key(written))
            .collect();
        let database = self.key(&mut section, "database", "DATABASE_ENCRYPTION_KEY");
        let jwt_secret = self.key(&mut section, "jwt_secret", "BOTSERVER_JWT_SECRET");
        self.finish(&section);
        if database.is_some() {
            self.notices.push(
                "DATABASE_ENCRYPTION_KEY is checked for its form; nothing is sealed with it yet".into(),
            );
        }
        self.distinct(encryption.iter().chain(&database).chain(&jwt_secret).chain(&previous));
        Some(Keys {
            encryption: Secret::new(*encryption?.bytes),
            previous_encryption: previous.iter().map(|key| Secret::new(*key.bytes)).collect(),
            database: Secret::new(*database?.bytes),
            jwt_secret: Secret::new(jwt_secret?.text.to_string()),
        })
    }

    fn key(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        variable: &'static str,
    ) -> Option<Placed> {
        let filed = section.peek(key).and_then(DeValue::as_str);
        if filed.is_some_and(|text| !text.starts_with("file:")) && self.is_set_to_something(variable) {
            // Overridden, and still a secret in a file that is shown around.
            let place = self.in_file(section.line_of(key, self));
            self.fault(place, format!("`{}` holds a secret itself", section.dotted(key)), NOT_HERE);
        }
        let Some(written) = self.pick(section, key, Some(variable)) else {
            // Set to bytes that are no text: that fault is already told.
            if !self.faults.iter().any(|fault| fault.place == Place::Variable(variable.to_owned())) {
                self.fault(
                    Place::Variable(variable.to_owned()),
                    "it is not set, and no key is ever invented",
                    MAKE_ONE,
                );
            }
            return None;
        };
        self.placed_key(written)
    }

    fn placed_key(&mut self, written: Written<'_>) -> Option<Placed> {
        let (name, place) = (written.name.clone(), written.place.clone());
        let text = self.secret_text(written)?;
        match decoded(&text) {
            Ok(bytes) => Some(Placed { name, place, text, bytes }),
            Err(message) => {
                self.fault(place, format!("{name} {message}"), MAKE_ONE);
                None
            }
        }
    }

    /// The text of a secret: from the environment, or from the file that is named. Never quoted in a fault.
    pub(super) fn secret_text(&mut self, written: Written<'_>) -> Option<Zeroizing<String>> {
        let in_configuration = matches!(written.value, Given::Toml(_));
        let text = self.text(Some(written))?;
        if let Some(path) = text.text.strip_prefix("file:") {
            return match secret_file::read(Path::new(path)) {
                Ok(secret) => Some(secret),
                Err(error) => {
                    let cause = std::error::Error::source(&error)
                        .map(|cause| format!(": {cause}"))
                        .unwrap_or_default();
                    let message = format!("{} names a file that is not taken: {error}{cause}", text.name);
                    self.fault(
                        text.place,
                        message,
                        "name a regular file of yours by its absolute path, mode 0600",
                    );
                    None
                }
            };
        }
        if in_configuration {
            // Configuration files are copied, committed and shown to colleagues.
            let message = format!("{} holds a secret itself", text.name);
            self.fault(text.place, message, NOT_HERE);
            return None;
        }
        Some(Zeroizing::new(text.text.to_owned()))
    }

    /// One key for two purposes gives whoever holds one purpose the other.
    fn distinct<'k>(&mut self, keys: impl Iterator<Item = &'k Placed>) {
        let mut seen: Vec<&Placed> = Vec::new();
        for key in keys {
            if let Some(twin) = seen.iter().find(|other| other.bytes == key.bytes) {
                let message = format!("{} is the same key as {}", key.name, twin.shown());
                self.fault(key.place.clone(), message, MAKE_ONE);
            }
            seen.push(key);
        }
    }
}

/// The 32 bytes of a key, or what is wrong with its text, without the text.
fn decoded(text: &str) -> Result<Zeroizing<[u8; 32]>, &'static str> {
    if text == BOTSERVER_DEV_SECRET {
        return Err("is BotServer's development secret, which is published");
    }
    if is_placeholder(text) {
        return Err("is still a placeholder");
    }
    if text.len() != HEX_DIGITS || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("is not exactly 64 hex digits (256 bits)");
    }
    let mut bytes = Zeroizing::new([0u8; 32]);
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| "is not exactly 64 hex digits (256 bits)")?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| "is not exactly 64 hex digits (256 bits)")?;
    }
    if has_pattern(&text.to_ascii_lowercase().into_bytes(), &bytes) {
        return Err("is a pattern, not random");
    }
    Ok(bytes)
}

/// What guides and examples print where a key belongs.
fn is_placeholder(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let words =
        ["change", "example", "placeholder", "your-", "your_", "secret", "todo", "xxxx", "hex string"];
    text.starts_with(['[', '<', '$', '{']) || words.iter().any(|word| lower.contains(word))
}

/// Texts that repeat with a period of at most half their length, count up or down, or use few digits. A random key
/// does one of these with a probability below 2^-60.
fn has_pattern(digits: &[u8], bytes: &[u8; 32]) -> bool {
    let repeats = (1..=HEX_DIGITS / 2)
        .any(|period| digits.iter().zip(digits.iter().skip(period)).all(|(left, right)| left == right));
    let counts = |values: &[u8]| {
        let mut steps =
            values.iter().zip(values.iter().skip(1)).map(|(left, right)| right.wrapping_sub(*left));
        steps.next().is_some_and(|first| steps.all(|step| step == first))
    };
    let mut distinct = digits.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    repeats || counts(bytes) || distinct.len() < 6
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BOTSERVER_DEV_SECRET, decoded};

    #[test]
    fn only_64_random_hex_digits_are_a_key() {
        let check = |text: &str, expected: &str| match decoded(text) {
            Ok(_) => assert_eq!(expected, "", "{text} was taken"),
            Err(message) => assert!(!expected.is_empty() && message.contains(expected), "{text}: {message}"),
        };
        let good = "8f3a1c9be07d45526e914fb8a2c3d6070b5ae8f19c24d37786e1fa4c0d9b3512";
        let less = good.strip_prefix('8').unwrap();
        check(good, "");
        check(&good.to_uppercase(), "");
        check(less, "64 hex digits");
        check(&format!("{good}0"), "64 hex digits");
        check(&format!("g{}", less), "64 hex digits");
        check(&format!("+{}", less), "64 hex digits");
        check(&format!("0{less}").replacen('f', "x", 1), "64 hex digits");
        check(&format!("é{less}").replacen('f', "", 1), "64 hex digits");
        check(BOTSERVER_DEV_SECRET, "development secret");
        check("[256-bit hex string]", "placeholder");
        check("<your key>", "placeholder");
        check("${ENCRYPTION_KEY}", "placeholder");
        check("changeme", "placeholder");
        check("CHANGE-ME-CHANGE-ME-CHANGE-ME-CHANGE-ME-CHANGE-ME-CHANGE-ME-CHAN", "placeholder");
        check(&"0".repeat(64), "pattern");
        check(&"deadbeef".repeat(8), "pattern");
        check(&"0123456789abcdef".repeat(4), "pattern");
        check(&"0123456789ABCDEFfedcba9876543210".repeat(2), "pattern");
        check(&(0..32).map(|byte| format!("{byte:02x}")).collect::<String>(), "pattern");
        check(&(0..32).map(|byte| format!("{:02x}", 255 - byte)).collect::<String>(), "pattern");
        check("0101101001101010010101101001011010100101101001011010100101101001", "pattern");
    }

    proptest! {
        #[test]
        fn random_bytes_in_hex_are_a_key_and_come_back(bytes: [u8; 32]) {
            let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(decoded(&text).map(|key| *key), Ok(bytes));
        }
    }
}
