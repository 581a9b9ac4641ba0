//! Reads one value: a number, a duration, a choice, a list. Out of bounds is a fault, never rounded.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use engine::limit::{self, RATE_COUNT_MAX, Rate, milliseconds};
use toml::de::DeValue;

use super::fault::Place;
use super::reader::{Given, Reader, Written, printable};

/// The text of a value with its place, both taken from what somebody wrote.
pub(super) struct Text<'d> {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) text: &'d str,
}

impl<'e> Reader<'e> {
    /// Text that is not empty and has no white space around it.
    pub(super) fn text<'d>(&mut self, written: Option<Written<'d>>) -> Option<Text<'d>> {
        let Written { name, place, value } = written?;
        let text = match value {
            Given::Text(text) => text,
            Given::Toml(DeValue::String(text)) => text.as_ref(),
            Given::Toml(other) => {
                self.wrong_type(&name, place, other, "a string");
                return None;
            }
        };
        if text.is_empty() {
            self.fault(place, format!("{name} is empty"), "give it a value, or leave it out");
            return None;
        }
        if text.trim() != text {
            self.fault(place, format!("{name} has white space around its value"), "remove the white space");
            return None;
        }
        Some(Text { name, place, text })
    }

    /// `true` or `false`, and nothing that merely looks like it.
    pub(super) fn boolean(&mut self, written: Option<Written<'_>>) -> Option<bool> {
        let written = written?;
        if let Given::Toml(DeValue::Boolean(value)) = written.value {
            return Some(*value);
        }
        if let Given::Toml(other) = written.value {
            self.wrong_type(&written.name, written.place, other, "true or false");
            return None;
        }
        let text = self.text(Some(written))?;
        match text.text {
            "true" => Some(true),
            "false" => Some(false),
            other => {
                let message = format!("`{}` is neither true nor false", printable(other));
                self.fault(text.place, message, "write `true` or `false`");
                None
            }
        }
    }

    /// A whole number within bounds.
    pub(super) fn number(
        &mut self,
        written: Option<Written<'_>>,
        bounds: RangeInclusive<u64>,
    ) -> Option<u64> {
        let written = written?;
        let (name, place) = (written.name.clone(), written.place.clone());
        let parsed = match written.value {
            Given::Toml(DeValue::Integer(number)) => {
                i128::from_str_radix(number.as_str(), number.radix()).ok()
            }
            Given::Toml(other) => {
                self.wrong_type(&name, place, other, "a whole number");
                return None;
            }
            // A sign is no digit: `+5` is refused like `-5`.
            Given::Text(_) => {
                let text = self.text(Some(written))?;
                digits(text.text).map(i128::from)
            }
        };
        let within = parsed.and_then(|number| u64::try_from(number).ok()).filter(|n| bounds.contains(n));
        if within.is_none() {
            let message = format!("{name} is not a whole number from {} to {}", bounds.start(), bounds.end());
            self.fault(place, message, format!("give one from {} to {}", bounds.start(), bounds.end()));
        }
        within
    }

    /// A duration within bounds: `"90s"` in the file, whole seconds in the environment.
    pub(super) fn duration(
        &mut self,
        written: Option<Written<'_>>,
        bounds: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let written = written?;
        let seconds = matches!(written.value, Given::Text(_));
        let text = self.text(Some(written))?;
        let read = if seconds { digits(text.text).map(Duration::from_secs) } else { duration(text.text) };
        let within = read.filter(|duration| bounds.contains(duration));
        if within.is_none() {
            let (from, to) = (spelt(*bounds.start()), spelt(*bounds.end()));
            let form =
                if seconds { "whole seconds, for example 900" } else { "for example \"15m\" or \"90s\"" };
            let message = format!("{} is not a duration from {from} to {to}", text.name);
            self.fault(text.place, message, format!("give one from {from} to {to}: {form}"));
        }
        within
    }

    /// A rate: `"100/1m"` in the file; in the environment a count in the period that the variable means.
    pub(super) fn rate(&mut self, written: Option<Written<'_>>, period: Duration) -> Option<Rate> {
        let written = written?;
        if matches!(written.value, Given::Text(_)) {
            let count = self.number(Some(written), 1..=RATE_COUNT_MAX.into())?;
            return checked_rate(count, period);
        }
        let text = self.text(Some(written))?;
        let parsed = text.text.parse().ok();
        if parsed.is_none() {
            let message = format!("{} is not a rate", text.name);
            let remedy = format!(
                "write a count from 1 to {RATE_COUNT_MAX} and a period from 1s to 24h, for example \"100/1m\""
            );
            self.fault(text.place, message, remedy);
        }
        parsed
    }

    /// The same, or `"none"` in the file: no limit, of which the start tells. A variable of the environment takes none away.
    pub(super) fn rate_or_none(&mut self, written: Option<Written<'_>>, period: Duration) -> Option<Rate> {
        if let Some(Written { value: Given::Toml(value), name, .. }) = &written
            && let DeValue::String(text) = value
            && text.as_ref() == "none"
        {
            self.notices.push(format!("{name} is \"none\": it limits nobody"));
            return Some(Rate::NONE);
        }
        self.rate(written, period)
    }

    /// One of the given words.
    pub(super) fn choice<T: Copy>(&mut self, written: Option<Written<'_>>, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(written)?;
        let found = words.iter().find(|(word, _)| *word == text.text).map(|(_, value)| *value);
        if found.is_none() {
            let known = words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(" or ");
            let message = format!("{} is `{}`, which is not known", text.name, printable(text.text));
            self.fault(text.place, message, format!("write {known}"));
        }
        found
    }

    /// Something that parses itself; `example` shows its form.
    pub(super) fn parsed<T: FromStr>(
        &mut self,
        written: Option<Written<'_>>,
        what: &str,
        example: &str,
    ) -> Option<T> {
        let text = self.text(written)?;
        let parsed = text.text.parse().ok();
        if parsed.is_none() {
            let message = format!("{} is `{}`, which is not {what}", text.name, printable(text.text));
            self.fault(text.place, message, format!("write {what}, for example {example}"));
        }
        parsed
    }

    /// An address and a port to listen on; 0 takes any free one.
    pub(super) fn socket_address(&mut self, written: Option<Written<'_>>) -> Option<SocketAddr> {
        self.parsed(written, "an IP address with a port", "127.0.0.1:8080 or [::1]:8080")
    }

    /// A path. In the file, a relative one starts from the file's directory; in the environment, from where
    /// the gateway is started.
    pub(super) fn path(&mut self, written: Option<Written<'_>>) -> Option<PathBuf> {
        let written = written?;
        let filed = matches!(written.value, Given::Toml(_));
        let text = self.text(Some(written))?;
        if text.text.contains('\0') {
            self.fault(text.place, format!("{} is no path", text.name), "remove the NUL");
            return None;
        }
        Some(if filed { self.beside_file(text.text) } else { PathBuf::from(text.text) })
    }

    /// A path as the file means it.
    pub(super) fn beside_file(&self, path: &str) -> PathBuf {
        self.file.parent().map_or_else(|| PathBuf::from(path), |directory| directory.join(path))
    }

    /// The items of a list: an array of strings in the file, commas in the environment.
    pub(super) fn list<'d>(&mut self, written: Option<Written<'d>>) -> Option<Vec<Written<'d>>> {
        let Written { name, place, value } = written?;
        let item = |value| Written { name: name.clone(), place: place.clone(), value };
        match value {
            Given::Text(text) if text.trim().is_empty() => Some(Vec::new()),
            // People write a space after a comma.
            Given::Text(text) => Some(text.split(',').map(|part| item(Given::Text(part.trim()))).collect()),
            Given::Toml(DeValue::Array(array)) => Some(
                array
                    .iter()
                    .map(|value| Written {
                        name: name.clone(),
                        place: self.in_file(Some(self.line(&value.span()))),
                        value: Given::Toml(value.get_ref()),
                    })
                    .collect(),
            ),
            Given::Toml(other) => {
                self.wrong_type(&name, place, other, "a list");
                None
            }
        }
    }
}

fn checked_rate(count: u64, period: Duration) -> Option<Rate> {
    Some(Rate { count: u32::try_from(count).ok()?, period_ms: u64::try_from(period.as_millis()).ok()? })
}

/// A number in digits alone.
fn digits(text: &str) -> Option<u64> {
    let only_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if only_digits { text.parse().ok() } else { None }
}

/// Digits and one unit: `500ms`, `90s`, `15m`, `24h`, `30d`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    milliseconds(text).map(Duration::from_millis)
}

/// A duration in the largest unit that divides it.
pub(super) fn spelt(duration: Duration) -> String {
    limit::spelt(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
